"""Tensors: slices, gathers, joined parts, index tensors."""

from pathlib import Path

import numpy as np
import pytest

from gemstead.errors import WeightsError
from gemstead.weights.gguf import GgufFile, read_gguf
from gemstead.weights.gguf_write import write_gguf
from gemstead.weights.tensor import Tensor
from gemstead.weights.writing import entry_from_array

RNG = np.random.default_rng(0)
MATRIX = RNG.normal(size=(10, 64)).astype(np.float32)
EXPERTS = RNG.normal(size=(4, 6, 32)).astype(np.float32)


@pytest.fixture
def file(tmp_path: Path) -> GgufFile:
    """Stored tensors of one, two and three axes in several formats."""
    values = {"matrix": MATRIX, "vector": MATRIX[0], "gate": EXPERTS[:, :2], "up": EXPERTS[:, 2:]}
    formats = {"matrix": "q4_0", "vector": "q8_0", "gate": "q8_0", "up": "f16"}
    entries = [entry_from_array(name, value, formats[name]) for name, value in values.items()]
    entries.append(entry_from_array("narrow", np.array([3, 1, 2]), "i32"))
    entries.append(entry_from_array("wide", np.array([2**40, -1]), "i64"))
    write_gguf(tmp_path / "m.gguf", {}, entries)
    return read_gguf(tmp_path / "m.gguf")


def named(file: GgufFile, *names: str, shape: tuple[int, ...] | None = None) -> Tensor:
    parts = [file.tensors[name] for name in names]
    return Tensor(names[0], shape or parts[0].shape, parts)


def test_slices_and_gathers_are_parts_of_the_whole(file: GgufFile) -> None:
    matrix = named(file, "matrix")
    whole = matrix.float32()
    assert whole.dtype == np.float32
    assert np.abs(whole - MATRIX).max() < 0.5
    np.testing.assert_array_equal(matrix.float32(3, 7), whole[3:7])
    assert matrix.float32(5, 5).shape == (0, 64)
    for index in ([0, 9, 9, 1], [], [[1, 2], [3, 4]]):
        where = np.array(index, dtype=np.int64)
        np.testing.assert_array_equal(matrix.rows(where), whole[where])
    assert (matrix.format, matrix.nbytes) == ("q4_0", 10 * 2 * 18)
    assert [view.shape for view in matrix.raw()] == [(10, 36)]


def test_vectors(file: GgufFile) -> None:
    vector = named(file, "vector")
    np.testing.assert_array_equal(vector.float32(40, 50), vector.float32()[40:50])
    np.testing.assert_array_equal(vector.rows([63, 0]), vector.float32()[[63, 0]])


def test_joined_experts(file: GgufFile) -> None:
    experts = named(file, "gate", "up", shape=(4, 6, 32))
    whole = experts.float32()
    np.testing.assert_allclose(whole, EXPERTS, atol=0.02)
    np.testing.assert_array_equal(experts.float32(1, 3), whole[1:3])
    np.testing.assert_array_equal(experts.rows([3, 0]), whole[[3, 0]])
    assert experts.format == "q8_0+f16"
    assert experts.nbytes == 4 * (2 * 34 + 4 * 64)
    assert [view.shape for view in experts.raw()] == [(4, 2, 34), (4, 4, 64)]


def test_results_are_the_caller_s_own(file: GgufFile) -> None:
    matrix = named(file, "matrix")
    first = matrix.float32()
    first += 1
    assert not np.array_equal(first, matrix.float32())


def test_indices(file: GgufFile) -> None:
    assert named(file, "narrow").int64().tolist() == [3, 1, 2]
    assert named(file, "wide").int64().tolist() == [2**40, -1]
    assert named(file, "wide").int64().dtype == np.int64
    with pytest.raises(WeightsError, match="vector is q8_0"):
        named(file, "vector").int64()


@pytest.mark.parametrize(("start", "stop"), [(-1, 2), (3, 2), (0, 11)])
def test_rows_outside_are_refused(file: GgufFile, start: int, stop: int) -> None:
    with pytest.raises(IndexError, match="matrix has 10 rows"):
        named(file, "matrix").float32(start, stop)
    with pytest.raises(IndexError, match="matrix has 10 rows"):
        named(file, "matrix").rows([-1])
    with pytest.raises(IndexError, match="matrix has 10 rows"):
        named(file, "matrix").rows([0, 10])
