"""Random models: what is written opens and decodes, holds the formats asked for, and streams."""

from __future__ import annotations

import make_random
import numpy as np
import pytest

import gemstead
from gemstead.spec.tensors import text_tensors
from gemstead.spec.variants import VARIANTS
from gemstead.types import SamplingParams
from gemstead.weights import writing
from gemstead.weights.store import open_store

TINY = sorted(name for name in VARIANTS if name.startswith("tiny-"))


@pytest.mark.parametrize("variant", TINY)
def test_a_tiny_model_decodes(variant, tmp_path, capsys):
    path = tmp_path / "m.gguf"
    make_random.main([variant, "q4_0", str(path)])
    assert f"{path.stat().st_size:,} bytes" in capsys.readouterr().out
    with gemstead.open(path, backend="reference") as model:
        assert model.spec.layers == VARIANTS[variant].layers
        ids = model.tokenizer.encode("the end\n")
        assert model.tokenizer.decode(ids) == "the end\n"
        out = model.generate([2, *ids], SamplingParams(max_tokens=4, temperature=0.0))
        assert 1 <= len(out) <= 4
        assert np.isfinite(model.logits([2, *ids])).all()


@pytest.mark.parametrize("recipe", ["f32", "f16", "bf16", "q8_0", "q4_0", "q4_k_m"])
def test_formats(recipe, tmp_path):
    path = tmp_path / "m.gguf"
    make_random.main(["tiny-26b", recipe, str(path)])
    with open_store(path) as store:
        found = {name: tensor.format for name, tensor in store.tensors.items()}
        assert all(tensor.is_finite() for tensor in store.tensors.values())
    assert found["norm"] == found["layers.0.router.proj"] == "f32"
    body = {"q4_k_m": "q5_0", "q4_0": "q4_0"}.get(recipe, recipe)  # 64 values hold no block of 256
    assert found["layers.0.self_attn.q_proj"] == body
    assert found["embed_tokens"] == {"q4_0": "q8_0", "q4_k_m": "q8_0"}.get(recipe, recipe)


def test_the_same_seed_gives_the_same_file(tmp_path):
    files = [tmp_path / name for name in ("a.gguf", "b.gguf", "c.gguf")]
    for file, seed in zip(files, ("1", "1", "2"), strict=True):
        make_random.main(["tiny-12b", "q8_0", str(file), "--seed", seed])
    first, second, other = (file.read_bytes() for file in files)
    assert first == second != other


def test_a_vocabulary_of_another_file(tmp_path):
    first, second = tmp_path / "a.gguf", tmp_path / "b.gguf"
    make_random.main(["tiny-e2b", "q8_0", str(first)])
    make_random.main(["tiny-e4b", "f16", str(second), "--vocab", str(first)])
    with open_store(first) as one, open_store(second) as two:
        assert one.vocabulary() == two.vocabulary()


def test_nothing_is_left_of_a_file_that_could_not_be_written(tmp_path, monkeypatch):
    monkeypatch.setattr(writing.os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "no space")))
    with pytest.raises(gemstead.GemsteadError):
        make_random.main(["tiny-e2b", "q8_0", str(tmp_path / "m.gguf")])
    assert list(tmp_path.iterdir()) == []


def test_a_tensor_is_written_piece_by_piece():
    row = next(row for row in text_tensors(VARIANTS["31b"]) if row.name == "layers.0.mlp.down_proj")
    tiles: dict[str, np.ndarray] = {}
    entry = make_random.entry(row, "q4_0", tiles, np.random.default_rng(0))
    sizes = [chunk.nbytes for chunk in entry.chunks()]
    assert sum(sizes) == entry.nbytes > 60e6
    assert max(sizes) <= tiles["q4_0"].nbytes < 1e6
