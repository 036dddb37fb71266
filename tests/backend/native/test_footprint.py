"""What the engine will hold, told beforehand, beside what it holds then: the same bytes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tests.backend.native.test_backend import SPECS
from tests.support.memory_store import MemoryStore
from tests.support.paging import Runner

from gemstead.backend import open_backend
from gemstead.backend.native.footprint import Work, angle_bytes, held_weights, work_bytes
from gemstead.backend.native.library import library
from gemstead.backend.native.packing import pieces
from gemstead.backend.native.weights import matrices_of
from gemstead.spec.tensors import drafter_tensors
from gemstead.spec.variants import DRAFTERS, VARIANTS
from gemstead.weights.model_file import write_model_gguf
from gemstead.weights.store import open_store

ROWS, STEPS = 96, 3
FEW_ROWS = (48, 56)  # with 2 and with 4 query heads a K/V head


@pytest.fixture(params=[(n, k) for n in ("e-type", "k-is-v", "moe") for k in ("q4_0", "q6_k", "bf16")])
def store(request, tmp_path):
    name, kind = request.param
    arrays = {n: t.values for n, t in MemoryStore(SPECS[name]).tensors.items()}
    write_model_gguf(tmp_path / "m.gguf", SPECS[name], arrays, kind)
    with open_store(tmp_path / "m.gguf") as opened:
        yield opened


def formats_of(store):
    return {name: tensor.format for name, tensor in store.tensors.items()}


def test_packed_weights_take_what_was_told(store):
    held, multiplied = held_weights(store.spec, formats_of(store)), matrices_of(store.spec)
    names = [name for name in multiplied if name in store.tensors]
    assert held.packed == sum(piece.nbytes for piece in pieces(store, names, 1).values())
    plain = [t for t in store.tensors.values() if len(t.shape) > 1 and t.name in names]
    plain = [t for t in plain if t.format in ("bf16", "f32")]
    vectors = [t for t in store.tensors.values() if len(t.shape) == 1]
    assert held.plain == sum(t.nbytes for t in plain) + sum(t.nbytes + 4 * t.shape[0] for t in vectors)


def test_tables_are_looked_up_by_row(store):
    held = held_weights(store.spec, formats_of(store))
    whole = {name: store.tensors[name].nbytes for name in store.tensors if name.startswith("embed_tokens")}
    if store.tensors["embed_tokens"].format == "bf16":
        del whole["embed_tokens"]  # the head reads all of it
    assert [table.rows * table.row_bytes for table in held.tables] == list(whole.values())


def test_keys_made_from_values_cost_angles():
    assert angle_bytes(VARIANTS["e2b"], 8192) == 0
    assert angle_bytes(VARIANTS["31b"], 8192) == 8192 * 512  # docs/adr/0007


def test_a_drafter_is_held_whole_but_for_its_table():
    spec = DRAFTERS["e2b"]
    held = held_weights(spec, {row.name: "bf16" for row in drafter_tensors(spec)})
    assert held.packed == 0
    assert 2 * 40e6 < held.resident + sum(t.rows * t.row_bytes for t in held.tables) < 2 * 90e6


def test_work_takes_what_was_told(store):
    """A prompt, steps, and chunks just small enough that their keys are shared out among the threads."""
    spec = store.spec
    backend = open_backend("native", store, threads=2)
    try:
        runner = Runner(backend, page_tokens=16)
        ids = np.random.default_rng(1).integers(0, 4000, ROWS)
        runner.step({0: ids}, "last")
        for token in range(STEPS):
            runner.step({0: [token]})
        for sequence, rows in enumerate(FEW_ROWS, 1):
            runner.step({sequence: ids[:rows]}, "last")
        held = library().gs_work_bytes(backend._model)
    finally:
        backend.close()
    work = Work(rows=ROWS, logit_rows=1, sequences=1, context_tokens=ROWS + STEPS, threads=2)
    told = work_bytes(spec, formats_of(store), work)
    if spec.layers[0].moe is None:
        assert held == told
    else:  # how many rows meet in one expert is not known beforehand
        assert held <= told <= 1.35 * held


def open_files():
    """How many; 0 where the system does not say."""
    return len(list(Path("/proc/self/fd").glob("*")))


def test_rows_of_tables_are_read_from_the_file_and_close_with_the_backend(store):
    """The same bits as from the map, where the file's name means another file by now."""
    logits = []
    for renamed in (False, True):
        if renamed:
            store.path.rename(store.path.with_suffix(".moved"))
        before = open_files()
        backend = open_backend("native", store, threads=1)
        table = backend._weights.spec.embed_tokens
        assert (table.file == 0) == renamed
        logits.append(Runner(backend, page_tokens=16).step({0: range(5, 40)})[0].values_RV)
        backend.close()
        assert open_files() == before
    assert np.array_equal(*logits)
