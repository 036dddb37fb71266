"""The name of a model's files: the same while they are, another when they are not."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from tests.support.memory_store import MemoryStore

from gemstead.spec.variants import VARIANTS
from gemstead.weights.fingerprint import fingerprint
from gemstead.weights.model_file import write_model_gguf
from gemstead.weights.store import open_store

SPEC = VARIANTS["tiny-e2b"]


def of(path: Path, *more: str) -> str:
    with open_store(path) as store:
        return fingerprint(store, *more)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    arrays = {n: t.values for n, t in MemoryStore(SPEC, seed=1).tensors.items()}
    write_model_gguf(tmp_path / "m.gguf", SPEC, arrays, "q8_0")
    return tmp_path / "m.gguf"


def test_the_same_files_and_purposes_have_the_same_name(path: Path) -> None:
    assert of(path, "a") == of(path, "a")
    assert len(of(path)) == 40
    assert len({of(path), of(path, "a"), of(path, "b"), of(path, "a", "b")}) == 4


def test_another_time_is_another_name(path: Path) -> None:
    first, when = of(path), path.stat().st_mtime_ns
    os.utime(path, ns=(when, when + 1))
    assert of(path) != first
    os.utime(path, ns=(when, when))
    assert of(path) == first


def test_other_values_have_another_name_even_at_the_same_time(path: Path) -> None:
    first, when = of(path), path.stat().st_mtime_ns
    arrays = {n: t.values for n, t in MemoryStore(SPEC, seed=1).tensors.items()}
    arrays["layers.0.mlp.up_proj"] = arrays["layers.0.mlp.up_proj"] + 1
    write_model_gguf(path, SPEC, arrays, "q8_0")
    os.utime(path, ns=(when, when))
    assert of(path) != first
