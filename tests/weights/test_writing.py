"""Files that appear whole or not at all, and entries that pack as they are written."""

import contextlib
from pathlib import Path

import numpy as np
import pytest

from gemstead.errors import WeightsError
from gemstead.weights import writing
from gemstead.weights.formats import TABLE
from gemstead.weights.writing import Entry, entry_from_array, whole_file


def test_a_file_appears_only_when_its_block_ends_well(tmp_path: Path) -> None:
    path = tmp_path / "m"
    path.write_bytes(b"old")
    with contextlib.suppress(KeyError), whole_file(path) as file:
        file.write(b"new")
        assert path.read_bytes() == b"old"
        raise KeyError
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
    with whole_file(path) as file:
        file.write(b"new")
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_cannot_be_written_to(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"cannot write .*no such file"), whole_file(tmp_path / "a" / "m"):
        pass
    (tmp_path / "m").mkdir()
    with pytest.raises(WeightsError, match="cannot write"), whole_file(tmp_path / "m") as file:
        file.write(b"x")
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


@pytest.mark.parametrize("shape", [(6, 64), (2, 3, 64), (64,)])
@pytest.mark.parametrize("name", ["f32", "bf16", "q4_0"])
def test_entries_pack_a_few_rows_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shape: tuple[int, ...], name: str
) -> None:
    monkeypatch.setattr(writing, "_CHUNK_VALUES", 128)
    values = np.random.default_rng(0).normal(size=shape)
    entry = entry_from_array("t", values, name)
    with (tmp_path / "m").open("wb") as file:
        entry.write_to(file)
    want = TABLE[name].pack(values.astype(np.float32)).tobytes()
    assert (tmp_path / "m").read_bytes() == want
    assert entry.nbytes == len(want)


def test_chunks_of_another_size_are_refused(tmp_path: Path) -> None:
    entry = Entry("t", (2, 32), TABLE["q8_0"], lambda: [np.zeros(34, np.uint8), np.zeros(33, np.uint8)])
    with (
        (tmp_path / "m").open("wb") as file,
        pytest.raises(WeightsError, match="67 bytes, its shape needs 68"),
    ):
        entry.write_to(file)
    with pytest.raises(WeightsError, match="multiple of 32"):
        _ = entry_from_array("t", np.zeros((2, 33)), "q8_0").nbytes
