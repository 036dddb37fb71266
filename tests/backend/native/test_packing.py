"""Packing on several threads and from the file it is kept in: the same bits, once per machine."""

from __future__ import annotations

import numpy as np
import pytest
from tests.support.blocks import random_blocks
from tests.support.memory_store import MemoryStore

from gemstead.backend.native import packing
from gemstead.backend.native.library import address, library
from gemstead.spec.variants import VARIANTS
from gemstead.weights import formats
from gemstead.weights.model_file import write_model_gguf
from gemstead.weights.store import open_store


@pytest.fixture(scope="module", params=["tiny-e2b", "tiny-26b"])
def file(request, tmp_path_factory):
    spec = VARIANTS[request.param]
    path = tmp_path_factory.mktemp("packing") / "m.gguf"
    arrays = {n: t.values for n, t in MemoryStore(spec, seed=3).tensors.items()}
    write_model_gguf(path, spec, arrays, "q4_0")
    return path


def packed(path, threads):
    with open_store(path) as store:
        names = [name for name, tensor in store.tensors.items() if len(tensor.shape) > 1]
        return {name: np.array(piece) for name, piece in packing.pieces(store, names, threads).items()}


def test_threads_change_nothing(file) -> None:
    one, three = packed(file, 1), packed(file, 3)
    assert one.keys() == three.keys()
    assert len(one) > 10
    assert all((one[name] == three[name]).all() for name in one)


def test_the_second_opening_packs_nothing(file, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("GEMSTEAD_CACHE", str(tmp_path))
    monkeypatch.setattr(packing, "_KEPT_BYTES", 0)
    first = packed(file, 2)
    assert len(list((tmp_path / "packed").iterdir())) == 1
    monkeypatch.setattr(packing, "_pack", lambda tensor: pytest.fail(f"{tensor.name} was packed again"))
    second = packed(file, 2)
    assert all((first[name] == second[name]).all() for name in first)


def test_an_empty_setting_keeps_nothing(file, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("GEMSTEAD_CACHE", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(packing, "_KEPT_BYTES", 0)
    assert packed(file, 2)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["q5_0", "iq4_nl"])
def test_integers_with_a_scale_become_q8_0_and_no_value_moves(name) -> None:
    rows, columns = 16, 96
    row = formats.get(name)
    raw = random_blocks(name, rows * columns // 32, seed=2).reshape(rows, -1)
    strip = np.zeros(library().gs_packed_bytes(row.ggml_type, rows, columns), np.uint8)
    assert library().gs_pack(row.ggml_type, address(raw), rows, columns, address(strip)) == 0
    blocks = strip.reshape(columns // 32, 544)
    values = blocks[:, :512].view(np.int8).reshape(-1, 8, 16, 4).transpose(2, 0, 1, 3).reshape(rows, -1, 32)
    scales = blocks[:, 512:].copy().view("<f2").astype(np.float32).T[..., None]
    assert np.array_equal((values * scales).reshape(rows, columns), row.unpack(raw).reshape(rows, columns))
