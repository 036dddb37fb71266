"""Every value of a model is looked at."""

import numpy as np
import pytest

from gemstead.spec.variants import DRAFTERS, VARIANTS
from gemstead.weights.model_file import write_model_gguf
from gemstead.weights.soundness import faulty_values
from gemstead.weights.store import open_store
from support.weight_files import random_tensors, save_gguf


@pytest.mark.parametrize("spec", [VARIANTS["tiny-26b"], DRAFTERS["tiny-e2b"]], ids=lambda spec: spec.name)
@pytest.mark.parametrize("name", ["f32", "q4_0"])
def test_a_sound_model_is_read_whole(tmp_path, monkeypatch, spec, name) -> None:
    monkeypatch.setattr("gemstead.weights.tensor._CHUNK_VALUES", 100)
    save_gguf(tmp_path / "m.gguf", spec, name)
    heard: list[int] = []
    with open_store(tmp_path / "m.gguf") as store:
        assert faulty_values(store, heard.append) == []
        assert sum(heard) == store.total_bytes


def test_faults_are_named(tmp_path) -> None:
    spec, path = VARIANTS["tiny-31b"], tmp_path / "m.gguf"
    tensors = random_tensors(spec)
    tensors["layers.0.mlp.up_proj"][:] = 0
    write_model_gguf(path, spec, tensors)
    with open_store(path) as store:
        raw = np.memmap(path, np.uint8, "r+")
        at = store.tensors["layers.1.mlp.down_proj"].parts[0].start
        raw[at + 400 : at + 408].view("<f4")[:] = [np.nan, -np.inf]
        raw.flush()
        assert faulty_values(store) == [
            "layers.0.mlp.up_proj holds only zeros: a hole where a download stopped, or a tensor that was "
            "never filled",
            "layers.1.mlp.down_proj holds 2 values that are NaN or infinite",
        ]
