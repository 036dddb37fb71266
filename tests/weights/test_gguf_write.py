"""Files of the GGUF writer as the gguf package and our reader see them."""

from pathlib import Path

import gguf
import numpy as np
import pytest
from gguf import GGUFValueType

from gemstead.errors import WeightsError
from gemstead.weights.formats import TABLE
from gemstead.weights.gguf import read_gguf
from gemstead.weights.gguf_write import Number, write_gguf
from gemstead.weights.writing import entry_from_array

METADATA = {
    "general.architecture": "gemma4",
    "k.u32": 7,
    "k.i32": -7,
    "k.u64": 2**40,
    "k.i64": -(2**40),
    "k.f32": 1e-6,
    "k.bool": True,
    "k.text": "grüß\ngott",
    "k.u16": Number("H", 3),
    "k.strings": ["a", "", "ü" * 200],
    "k.bools": [True, False, True],
    "k.ints": [1, -2, 3],
    "k.longs": [2**40, 1],
    "k.floats": [0.5, 2],
    "k.empty": [],
}
TYPES = {
    "k.u32": GGUFValueType.UINT32,
    "k.i32": GGUFValueType.INT32,
    "k.u64": GGUFValueType.UINT64,
    "k.i64": GGUFValueType.INT64,
    "k.f32": GGUFValueType.FLOAT32,
    "k.bool": GGUFValueType.BOOL,
    "k.text": GGUFValueType.STRING,
    "k.u16": GGUFValueType.UINT16,
    "k.strings": GGUFValueType.STRING,
    "k.bools": GGUFValueType.BOOL,
    "k.ints": GGUFValueType.INT32,
    "k.longs": GGUFValueType.UINT64,
    "k.floats": GGUFValueType.FLOAT32,
}


def test_the_gguf_package_and_we_read_what_we_write(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    path = tmp_path / "m.gguf"
    writable = [name for name, row in TABLE.items() if row.pack_blocks is not None]
    values = {name: rng.normal(size=(2, 3, 512)).astype(np.float32) for name in writable}
    entries = [entry_from_array(f"t.{name}", value, name) for name, value in values.items()]
    entries.append(entry_from_array("odd", np.arange(5, dtype=np.float32), "f32"))
    entries.append(entry_from_array("ids", np.array([5, 4, 3]), "i32"))
    write_gguf(path, METADATA, entries)

    theirs = gguf.GGUFReader(path)
    for key, kind in TYPES.items():
        assert theirs.fields[key].types[-1] == kind
    for key in (k for k in METADATA if k != "k.empty"):
        assert theirs.fields[key].contents() == pytest.approx(
            METADATA[key].value if key == "k.u16" else METADATA[key]
        )
    for tensor in theirs.tensors[: len(writable)]:
        name = tensor.name.removeprefix("t.")
        assert tensor.data.tobytes() == TABLE[name].pack(values[name]).tobytes()
        assert tensor.shape.tolist() == [512, 3, 2]

    ours = read_gguf(path)
    assert ours.metadata["general.alignment"] == 32
    for key, value in METADATA.items():
        got = ours.metadata[key]
        want = value.value if isinstance(value, Number) else value
        assert (got.tolist() if key == "k.strings" else got) == want
    assert ours.tensors["ids"].raw().view("<i4").tolist() == [5, 4, 3]
    assert ours.tensors["t.q4_k"].shape == (2, 3, 512)
    ours.close()


def test_writing_refuses_what_gguf_cannot_hold(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    good = entry_from_array("a", np.zeros(4, np.float32), "f32")
    with pytest.raises(WeightsError, match="'a' occurs twice"):
        write_gguf(path, {}, [good, good])
    with pytest.raises(WeightsError, match="list of int, str"):
        write_gguf(path, {"k": [1, "a"]}, [])  # type: ignore[dict-item]
    with pytest.raises(WeightsError, match="of type dict"):
        write_gguf(path, {"k": {}}, [])  # type: ignore[dict-item]
    with pytest.raises(WeightsError, match="integers from"):
        write_gguf(path, {"k": 2**64}, [])
    with pytest.raises(WeightsError, match="1 to 4 axes"):
        write_gguf(path, {}, [entry_from_array("a", np.zeros((1,) * 5, np.float32), "f32")])
    assert list(tmp_path.iterdir()) == []
