"""Importance of columns: what is measured. That it helps is shown in tests/recipes/test_calibration.py."""

from __future__ import annotations

import numpy as np
import pytest

import gemstead
from gemstead.backend.reference.weights import Weights
from gemstead.engine.importance import measure_importance
from gemstead.spec.variants import VARIANTS
from gemstead.weights.store import open_store
from support.weight_files import save_folder


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
