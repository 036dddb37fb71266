"""safetensors.py against the safetensors package, both ways, and against damaged files."""

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from gemstead.errors import WeightsError
from gemstead.weights.formats import TABLE
from gemstead.weights.locate import locate
from gemstead.weights.safetensors import INDEX_NAME, read_safetensors, read_sharded, write_safetensors
from gemstead.weights.writing import Entry, entry_from_array
from support.weight_files import safetensors


def test_reads_what_the_safetensors_package_wrote(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    want = {
        "a": rng.normal(size=(3, 5)).astype(np.float32),
        "b": rng.normal(size=(2, 3, 4)).astype(np.float16),
        "c": np.array(2.5, dtype=np.float32),
        "d": np.arange(7, dtype=np.int64),
        "e": rng.normal(size=(9,)),
        "f": np.arange(3, dtype=np.int32),
    }
    save_file(want, tmp_path / "m.safetensors", metadata={"format": "pt"})
    file = read_safetensors(tmp_path / "m.safetensors")
    assert file.metadata == {"format": "pt"}
    assert set(file.tensors) == set(want)
    for name, tensor in file.tensors.items():
        assert tensor.shape == want[name].shape
        got = tensor.format.unpack(tensor.raw()).reshape(tensor.shape)
        np.testing.assert_array_equal(got, want[name].astype(np.float32))
    file.close()


def test_the_safetensors_package_reads_what_we_write(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    values = {"a": rng.normal(size=(3, 5)).astype(np.float32), "é": np.arange(4, dtype=np.float32)}
    ids = np.array([2**40, -1, 3])
    entries = [entry_from_array(name, value, "f32") for name, value in values.items()]
    entries += [entry_from_array("ids", ids, "i64"), entry_from_array("half", values["a"], "f16")]
    entries.append(entry_from_array("brain", values["a"], "bf16"))
    path = tmp_path / "m.safetensors"
    write_safetensors(path, entries, {"format": "pt"})
    with safe_open(path, "np") as file:
        assert file.metadata() == {"format": "pt"}
        for name, value in values.items():
            np.testing.assert_array_equal(file.get_tensor(name), value)
        np.testing.assert_array_equal(file.get_tensor("ids"), ids)
        np.testing.assert_array_equal(file.get_tensor("half"), values["a"].astype(np.float16))
    back = read_safetensors(path)
    brain = back.tensors["brain"]
    np.testing.assert_allclose(brain.format.unpack(brain.raw()).reshape(3, 5), values["a"], rtol=2**-8)
    back.close()
    assert [p.name for p in tmp_path.iterdir()] == ["m.safetensors"]


@pytest.mark.parametrize("magic", [b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x1f\x8b"])
def test_a_header_as_long_as_another_kind_begins(tmp_path: Path, magic: bytes) -> None:
    header = json.dumps({"a": one()}).encode().ljust(int.from_bytes(magic, "little"))
    path = tmp_path / "m.safetensors"
    path.write_bytes(safetensors(header, 16))
    (tmp_path / "config.json").write_text("{}")
    assert locate(path).weights == path
    file = read_safetensors(path)
    assert list(file.tensors) == ["a"]
    file.close()


def test_writing_refuses_what_the_format_cannot_hold(tmp_path: Path) -> None:
    good = entry_from_array("a", np.zeros((2, 32), np.float32), "f32")
    with pytest.raises(WeightsError, match="as q8_0 to safetensors"):
        write_safetensors(tmp_path / "m", [entry_from_array("a", np.zeros((2, 32), np.float32), "q8_0")])
    with pytest.raises(WeightsError, match="'a' occurs twice"):
        write_safetensors(tmp_path / "m", [good, good])
    short = Entry("a", (4,), TABLE["f32"], lambda: [np.zeros(12, np.uint8)])
    with pytest.raises(WeightsError, match="12 bytes, its shape needs 16"):
        write_safetensors(tmp_path / "m", [short])
    assert list(tmp_path.iterdir()) == []


def one(dtype: Any = "F32", shape: Any = (4,), offsets: Any = (0, 16), **more: Any) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets, **more}


FAULTS: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "is empty"),
    "five bytes": (b"abcde", "too short"),
    "header larger than the file": (safetensors({}, length=100), "header should be 100 bytes"),
    "header of 2^63 bytes": (safetensors({}, length=2**63), "cut short"),
    "header of 2^64-1 bytes": (safetensors({}, length=2**64 - 1), "cut short"),
    "header too long to believe": (safetensors(b"{}" + b" " * (5 << 20)), "believable"),
    "lfs pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS"),
    "pickle": (b"\x80\x02}q\x00." + bytes(20), "pickle"),
    "gguf": (b"GGUF" + bytes(20), "GGUF"),
    "header is no JSON": (safetensors(b"{abc}", 16), "not valid JSON"),
    "header is a list": (safetensors([], 16), "not an object"),
    "name twice": (safetensors(b'{"a":{},"a":{}}', 16), "occurs twice"),
    "name not UTF-8": (safetensors(b'{"\xff":{}}', 16), "not UTF-8"),
    "entry is a number": (safetensors({"a": 3}), "exactly dtype"),
    "field missing": (safetensors({"a": {"dtype": "F32", "shape": [4]}}, 16), "exactly dtype"),
    "field too many": (safetensors({"a": one(order="C")}, 16), "exactly dtype"),
    "unknown dtype": (safetensors({"a": one("F31")}, 16), "dtype 'F31'"),
    "dtype we do not read": (safetensors({"a": one("F8_E4M3", (16,))}, 16), "F8_E4M3"),
    "dtype is a list": (safetensors({"a": one(["F32"])}, 16), "dtype"),
    "shape is a number": (safetensors({"a": one(shape=4)}, 16), "shape 4"),
    "negative dimension": (safetensors({"a": one(shape=(-4,))}, 16), "integers above 0"),
    "dimension 0": (safetensors({"a": one(shape=(0,), offsets=(0, 0))}), "integers above 0"),
    "dimension true": (safetensors({"a": one(shape=(True, 4))}, 16), "integers above 0"),
    "dimension 4.0": (safetensors({"a": one(shape=(4.0,))}, 16), "integers above 0"),
    "nine dimensions": (safetensors({"a": one(shape=(1,) * 9, offsets=(0, 4))}, 4), "up to 8"),
    "dimension 2^63": (safetensors({"a": one(shape=(2**63,))}, 16), "needs 36893488147419103232"),
    "product that overflows to 16": (safetensors({"a": one(shape=(2**62 + 1, 4))}, 16), "needs"),
    "offsets are three": (safetensors({"a": one(offsets=(0, 8, 16))}, 16), "two integers"),
    "negative offset": (safetensors({"a": one(offsets=(-16, 0))}, 16), "two integers"),
    "offset 2^64": (safetensors({"a": one(offsets=(2**64 - 16, 2**64))}, 16), "claims the bytes"),
    "offset past the end": (safetensors({"a": one(offsets=(16, 32))}, 16), "claims the bytes 16 to 32"),
    "offsets backwards": (safetensors({"a": one(offsets=(16, 0))}, 16), "claims the bytes 16 to 0"),
    "offsets too narrow": (safetensors({"a": one(offsets=(0, 12))}, 12), "needs 16"),
    "cut short": (safetensors({"a": one()}, 15), "of 15; it needs 16"),
    "overlap": (safetensors({"a": one(), "b": one(offsets=(8, 24))}, 24), "overlap"),
    "same place": (safetensors({"a": one(), "b": one()}, 16), "overlap"),
    "hole": (safetensors({"a": one(), "b": one(offsets=(20, 36))}, 36), "4 data bytes belong to no tensor"),
    "bytes left over": (safetensors({"a": one()}, 20), "4 data bytes belong to no tensor"),
    "metadata is a list": (safetensors({"__metadata__": [], "a": one()}, 16), "__metadata__"),
    "metadata holds a number": (safetensors({"__metadata__": {"a": 1}}), "__metadata__"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_are_named(tmp_path: Path, fault: str) -> None:
    raw, says = FAULTS[fault]
    path = tmp_path / "m.safetensors"
    path.write_bytes(raw)
    started = time.perf_counter()
    with pytest.raises(WeightsError, match=says):
        read_safetensors(path)
    assert time.perf_counter() - started < 1


def test_the_pieces_make_a_good_file(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    header = {
        "__metadata__": {"x": "y"},
        "b": one(offsets=(16, 32)),
        "a": one(),
        "s": one("F32", (), (32, 36)),
    }
    path.write_bytes(safetensors(header, 36))
    file = read_safetensors(path)
    assert {name: tensor.shape for name, tensor in file.tensors.items()} == {"a": (4,), "b": (4,), "s": ()}
    file.close()


def shards(folder: Path, weight_map: Any, files: dict[str, list[str]]) -> Path:
    """Shard files holding the named tensors, and an index saying `weight_map`."""
    for file, names in files.items():
        save_file({name: np.full(3, len(name), np.float32) for name in names}, folder / file)
    (folder / INDEX_NAME).write_text(json.dumps({"weight_map": weight_map}))
    return folder / INDEX_NAME


def test_shards_are_read_together(tmp_path: Path) -> None:
    weight_map = {"a": "1.safetensors", "b": "2.safetensors", "c": "1.safetensors"}
    index = shards(tmp_path, weight_map, {"1.safetensors": ["a", "c"], "2.safetensors": ["b"]})
    file = read_sharded(index)
    assert set(file.tensors) == {"a", "b", "c"}
    assert [path.name for path in file.paths] == ["1.safetensors", "2.safetensors"]
    assert load_file(file.paths[1])["b"].tolist() == [1, 1, 1]
    file.close()


@pytest.mark.parametrize(
    "name",
    [
        "../m.safetensors",
        "/etc/m.safetensors",
        "sub/m.safetensors",
        "..\\m.safetensors",
        "..",
        "",
        INDEX_NAME,
        "m.bin",
        "a\x00.safetensors",
        "é" * 200 + ".safetensors",
        "\ud800.safetensors",
    ],
)
def test_an_index_cannot_lead_out_of_its_folder(tmp_path: Path, name: str) -> None:
    (tmp_path / "in").mkdir()
    save_file({"a": np.zeros(3, np.float32)}, tmp_path / "m.safetensors")
    with pytest.raises(WeightsError, match="only plain names"):
        read_sharded(shards(tmp_path / "in", {"a": name}, {}))


def test_an_index_that_contradicts_its_files(tmp_path: Path) -> None:
    files = {"1.safetensors": ["a", "c"], "2.safetensors": ["b"]}
    with pytest.raises(WeightsError, match=r"missing are: 3.safetensors"):
        read_sharded(shards(tmp_path, {"a": "1.safetensors", "d": "3.safetensors"}, files))
    with pytest.raises(WeightsError, match="do not hold: b, z"):
        read_sharded(
            shards(tmp_path, {"a": "1.safetensors", "b": "1.safetensors", "z": "2.safetensors"}, files)
        )
    files["2.safetensors"].append("a")
    with pytest.raises(WeightsError, match="'a' is both in"):
        read_sharded(shards(tmp_path, {"a": "1.safetensors", "b": "2.safetensors"}, files))
    for weight_map in (None, {}, [], "1.safetensors"):
        with pytest.raises(WeightsError, match="no weight_map"):
            read_sharded(shards(tmp_path, weight_map, {}))
    with pytest.raises(WeightsError, match="names the file"):
        read_sharded(shards(tmp_path, {"a": 3, "b": None}, {}))
    with pytest.raises(WeightsError, match="at most 1000"):
        read_sharded(shards(tmp_path, {f"t{i}": f"{i}.safetensors" for i in range(1001)}, {}))


def test_shards_that_are_links(tmp_path: Path) -> None:
    """Links are followed (the hub's cache is made of them); circles are refused."""
    (tmp_path / "blobs").mkdir()
    (tmp_path / "model").mkdir()
    save_file({"a": np.zeros(3, np.float32)}, tmp_path / "blobs" / "abc")
    link = tmp_path / "model" / "1.safetensors"
    link.symlink_to("../blobs/abc")
    index = shards(tmp_path / "model", {"a": "1.safetensors"}, {})
    read_sharded(index).close()
    link.unlink()
    link.symlink_to("1.safetensors")
    with pytest.raises(WeightsError, match=r"circle|missing"):
        read_sharded(index)
    link.unlink()
    link.symlink_to(INDEX_NAME)
    with pytest.raises(WeightsError, match="header should be"):
        read_sharded(index)
