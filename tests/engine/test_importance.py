"""Importance of columns: what is measured, and that quantizing with it comes nearer to the source."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import gemstead
from gemstead import pebble
from gemstead.backend.reference.weights import Weights
from gemstead.engine.importance import measure_importance
from gemstead.spec.variants import VARIANTS
from gemstead.weights.quantize import Conversion
from gemstead.weights.store import open_store
from support.weight_files import save_folder

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("variant", ["tiny-e2b", "tiny-12b", "tiny-26b"])
def test_every_matrix_gets_the_mean_square_of_its_inputs(tmp_path, monkeypatch, variant) -> None:
    """Against the plain backend, listened to from outside."""
    save_folder(tmp_path / "m", VARIANTS[variant])
    heard: dict[str, list[np.ndarray]] = {}
    plain, ids = Weights.linear, [2, *range(30, 60)]

    def listen(self, name, x_TI, *span):
        heard.setdefault(name, []).append(x_TI)
        return plain(self, name, x_TI, *span)

    with gemstead.open(tmp_path / "m", backend="reference") as model:
        monkeypatch.setattr(Weights, "linear", listen)
        model.logits(ids)
        monkeypatch.undo()
    read: list[int] = []
    with open_store(tmp_path / "m") as store:
        found = measure_importance(store, [ids], 1, read.append)
        multiplied = {n for n, t in store.tensors.items() if len(t.shape) > 1} - {"embed_tokens_per_layer"}
        assert set(found) == multiplied
        for name in (n for n in multiplied if "experts" in n):
            assert found[name].shape == (store.tensors[name].shape[0], store.tensors[name].shape[-1])
    assert sum(read) == len(ids)
    for name, inputs in heard.items():
        if name != "embed_tokens":
            mean = np.square(np.concatenate(inputs)).mean(axis=0)
            np.testing.assert_allclose(found[name], (mean / mean.mean() + 0.01) / 1.01, rtol=1e-3)
    for importance in found.values():
        np.testing.assert_allclose(importance.mean(axis=-1), 1, rtol=1e-3)
        assert (importance > 0).all()


def windows(text: str, count: int) -> list[list[int]]:
    with gemstead.open() as model:
        ids = model.tokenizer.encode(text)[:count]
    return [[2, *ids[i : i + 255]] for i in range(0, len(ids), 255)]


@pytest.mark.parametrize("mixture", ["q4_0", "q4_1", "q4_k_m"])
def test_calibrated_is_nearer_to_the_source_on_other_text(tmp_path, mixture) -> None:
    """pebble, calibrated by one guide and measured on another."""
    calibration = windows((ROOT / "docs/guides/answers.md").read_text(), 1024)
    held_out = windows((ROOT / "docs/guides/models.md").read_text(), 512)

    def scores(path) -> np.ndarray:
        with gemstead.open(path, backend="reference") as model:
            found = np.concatenate([model.logits(ids) for ids in held_out]).astype(np.float64)
        found -= found.max(-1, keepdims=True)
        return found - np.log(np.exp(found).sum(-1, keepdims=True))

    source, divergence = scores(pebble.path()), []
    with open_store(pebble.path()) as store:
        for importance in (None, measure_importance(store, calibration, 1)):
            path = tmp_path / f"{importance is None}.gguf"
            Conversion(store, path, mixture).run(importance=importance)
            divergence.append((np.exp(source) * (source - scores(path))).sum(-1).mean())
    print(f"{mixture}: KL {divergence[0]:.4f} plain, {divergence[1]:.4f} calibrated")
    assert divergence[1] < divergence[0]
