"""gguf.py and gguf_values.py against files the gguf package wrote, and against damaged ones."""

import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from gguf import GGMLQuantizationType, GGUFWriter

from gemstead.errors import WeightsError
from gemstead.weights.gguf import read_gguf
from gemstead.weights.gguf_write import write_gguf
from support.weight_files import array, container, entry, key, text

SHARED = Path(__file__).resolve().parents[3] / "shared"
REAL_VOCABULARY = SHARED / "gemma4" / "tokenizer" / "ggml-vocab-gemma-4.gguf"


def theirs(path: Path, *, split: int = 0) -> dict[str, np.ndarray]:
    """A file written by the gguf package: all metadata types, a few formats; the tensors' values."""
    rng = np.random.default_rng(0)
    writer = GGUFWriter(path, "gemma4", split_max_tensors=split)
    writer.add_name("a model")
    writer.add_uint32("k.u32", 7)
    writer.add_int32("k.i32", -7)
    writer.add_float32("k.f32", 1e-6)
    writer.add_bool("k.bool", True)
    writer.add_uint64("k.u64", 2**40)
    writer.add_int8("k.i8", -3)
    writer.add_uint16("k.u16", 65535)
    writer.add_float64("k.f64", 0.1)
    writer.add_array("k.strings", ["ä", "", "b" * 300])
    writer.add_array("k.bools", [True, False])
    writer.add_array("k.ints", [1, -2, 3])
    writer.add_array("k.floats", [0.5, 1.5])
    tensors: dict[str, np.ndarray] = {}
    for index, kind in enumerate(("F32", "F16", "Q8_0", "Q4_0", "BF16")):
        values = rng.normal(size=(3, 4 + index, 64)).astype(np.float32)
        qtype = GGMLQuantizationType[kind]
        packed = gguf.quants.quantize(values, qtype)
        writer.add_tensor(f"t.{kind}", packed, raw_dtype=None if kind in ("F32", "F16") else qtype)
        tensors[f"t.{kind}"] = gguf.quants.dequantize(packed, qtype)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return tensors


def test_reads_what_the_gguf_package_wrote(tmp_path: Path) -> None:
    want = theirs(tmp_path / "m.gguf")
    file = read_gguf(tmp_path / "m.gguf")
    meta = file.metadata
    assert meta["general.architecture"] == "gemma4"
    assert meta["general.name"] == "a model"
    assert (meta["k.u32"], meta["k.i32"], meta["k.u64"], meta["k.i8"], meta["k.u16"]) == (
        7,
        -7,
        2**40,
        -3,
        65535,
    )
    assert meta["k.f32"] == 1e-6
    assert meta["k.f64"] == 0.1
    assert meta["k.bool"] is True
    assert meta["k.strings"].tolist() == ["ä", "", "b" * 300]
    assert (meta["k.bools"], meta["k.ints"], meta["k.floats"]) == ([True, False], [1, -2, 3], [0.5, 1.5])
    assert list(file.tensors) == list(want)
    for name, tensor in file.tensors.items():
        assert tensor.shape == want[name].shape
        got = tensor.format.unpack(tensor.raw()).reshape(tensor.shape)
        np.testing.assert_array_equal(got, want[name])
    file.close()
    with pytest.raises(WeightsError, match="has been closed"):
        file.tensors["t.F32"].raw()


@pytest.mark.parametrize("part", [1, 2, 3])
def test_any_part_opens_the_whole_model(tmp_path: Path, part: int) -> None:
    want = theirs(tmp_path / "m.gguf", split=2)
    assert len(list(tmp_path.iterdir())) == 3
    file = read_gguf(tmp_path / f"m-{part:05d}-of-00003.gguf")
    assert set(file.tensors) == set(want)
    assert file.metadata["general.name"] == "a model"
    file.close()


def test_missing_parts_are_listed(tmp_path: Path) -> None:
    theirs(tmp_path / "m.gguf", split=2)
    (tmp_path / "m-00001-of-00003.gguf").unlink()
    (tmp_path / "m-00003-of-00003.gguf").unlink()
    with pytest.raises(WeightsError, match=r"m-00001-of-00003.gguf, m-00003-of-00003.gguf"):
        read_gguf(tmp_path / "m-00002-of-00003.gguf")


def test_parts_that_are_not_what_their_names_say(tmp_path: Path) -> None:
    theirs(tmp_path / "m.gguf", split=2)
    names = [tmp_path / f"m-{k:05d}-of-00003.gguf" for k in (1, 2, 3)]
    names[2].unlink()
    names[2].symlink_to(names[1].name)
    with pytest.raises(WeightsError, match="should be part 3 of 3"):
        read_gguf(names[0])
    lone = tmp_path / "lone.gguf"
    lone.write_bytes(names[1].read_bytes())
    with pytest.raises(WeightsError, match="part of a model split in 3"):
        read_gguf(lone)
    lone.rename(tmp_path / "m-00004-of-00003.gguf")
    with pytest.raises(WeightsError, match="parts count from 1"):
        read_gguf(tmp_path / "m-00004-of-00003.gguf")
    names[1].rename(tmp_path / "m-00002-of-99999.gguf")
    with pytest.raises(WeightsError, match="at most to 1000"):
        read_gguf(tmp_path / "m-00002-of-99999.gguf")


@pytest.mark.parametrize("name", ["count", "no"])
@pytest.mark.parametrize("value", [1.0, 0.0, True, False, "1", [1], -1])
def test_split_numbers_of_another_type(tmp_path: Path, name: str, value: Any) -> None:
    write_gguf(tmp_path / "m.gguf", {f"split.{name}": value}, [])
    with pytest.raises(WeightsError, match=rf"part 1 of 1 by its name, but says inside: .*split\.{name} = "):
        read_gguf(tmp_path / "m.gguf")


def test_a_tensor_in_two_parts(tmp_path: Path) -> None:
    theirs(tmp_path / "m.gguf", split=3)
    first, second = (tmp_path / f"m-{k:05d}-of-00002.gguf" for k in (1, 2))
    raw = second.read_bytes()
    assert raw.count(b"t.Q4_0") == 1
    second.write_bytes(raw.replace(b"t.Q4_0", b"t.Q8_0"))
    with pytest.raises(WeightsError, match=r"'t.Q8_0' is also in"):
        read_gguf(first)


HUGE = 2**63
NAMED_FAULTS: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "is empty"),
    "three bytes": (b"GGU", "no GGUF file"),
    "only magic": (b"GGUF", "the version needs 4 bytes"),
    "another magic": (b"ABCD" + bytes(60), "begins with b'ABCD'"),
    "lfs pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS pointer"),
    "zip": (b"PK\x03\x04" + bytes(60), "pickle"),
    "version 1": (container(version=1), "version 1"),
    "version 4": (container(version=4), "version 4"),
    "big endian": (container(version=3 << 24), "big-endian"),
    "2^63 tensors": (container(counts=(HUGE, 0)), "announces 9223372036854775808 tensors"),
    "2^64-1 keys": (container(counts=(0, 2**64 - 1)), "metadata keys"),
    "more tensors than bytes": (container(counts=(50, 0)), "announces 50 tensors"),
    "keys cut off": (container(counts=(0, 4), data=64), "occurs twice"),
    "key of 2^63 bytes": (container(keys=(struct.pack("<Q", HUGE),), data=64), "metadata key 0"),
    "key of 2,000 bytes": (container(keys=(key("a" * 2000, 4, bytes(4)),)), "at most 1024"),
    "name of 2,000 bytes": (container(tensors=(entry("a" * 2000, (4,)),)), "at most 1024"),
    "key not UTF-8": (container(keys=(key(b"\xff\xfe", 4, bytes(4)),)), "not UTF-8"),
    "value not UTF-8": (container(keys=(key("a", 8, text(b"\xc3\x28")),)), "the value of 'a' is not UTF-8"),
    "key twice": (container(keys=(key("a", 4, bytes(4)), key("a", 4, bytes(4)))), "'a' occurs twice"),
    "unknown value type": (container(keys=(key("a", 13, bytes(8)),)), "type number 13"),
    "boolean of 2": (container(keys=(key("a", 7, b"\x02"),)), "boolean of value 2"),
    "booleans of 9": (container(keys=(key("a", 9, array(7, 3, b"\x00\x09\x01")),)), "other than 0 and 1"),
    "nested array": (container(keys=(key("a", 9, array(9, 1, array(4, 0))),)), "nested arrays"),
    "array of unknown type": (container(keys=(key("a", 9, array(77, 1)),)), "type number 77"),
    "array of 2^63 numbers": (container(keys=(key("a", 9, array(4, HUGE)),)), "needs 36893488147419103232"),
    "array of 2^61+1 doubles": (container(keys=(key("a", 9, array(12, 2**61 + 1)),)), "needs"),
    "array of 2^60 strings": (container(keys=(key("a", 9, array(8, 2**60)),)), "needs"),
    "string past the end": (container(keys=(key("a", 8, struct.pack("<Q", 1000)),)), "needs 1000 bytes"),
    "array string of 2^64-1": (
        container(keys=(key("a", 9, array(8, 1, struct.pack("<Q", 2**64 - 1))),)),
        "runs past the end",
    ),
    "array string of 2^63-9": (
        container(keys=(key("a", 9, array(8, 3, struct.pack("<QQ", 0, HUGE - 9))),)),
        "runs past the end",
    ),
    "alignment 0": (container(keys=(key("general.alignment", 4, bytes(4)),)), "powers of two"),
    "alignment 24": (container(keys=(key("general.alignment", 4, struct.pack("<I", 24)),)), "powers of two"),
    "alignment 2^31": (
        container(keys=(key("general.alignment", 4, struct.pack("<I", 2**31)),)),
        "powers of two",
    ),
    "alignment text": (container(keys=(key("general.alignment", 8, text("32")),)), "'32'"),
    "alignment true": (container(keys=(key("general.alignment", 7, b"\x01"),)), "True"),
    "name not UTF-8": (container(tensors=(entry(b"\xff", (4,)),)), "not UTF-8"),
    "tensor twice": (
        container(tensors=(entry("t", (4,)), entry("t", (4,), 0, 32))),
        "'t' occurs twice",
    ),
    "no dimensions": (container(tensors=(entry("t", ()),)), "0 dimensions"),
    "five dimensions": (container(tensors=(entry("t", (1, 1, 1, 1, 1)),)), "5 dimensions"),
    "2^32-1 dimensions": (
        container(tensors=(text("t") + struct.pack("<I", 2**32 - 1) + bytes(40),)),
        "4294967295 dimensions",
    ),
    "dimension 0": (container(tensors=(entry("t", (4, 0)),)), "at least 1"),
    "dimension 2^63": (container(tensors=(entry("t", (HUGE,)),)), "at least 1 and believable"),
    "product that overflows 64 bits to 0": (
        container(tensors=(entry("t", (2**32, 2**32)),)),
        "believable",
    ),
    "product that overflows 64 bits to 4": (
        container(tensors=(entry("t", (2**62 + 1, 4)),)),
        "believable",
    ),
    "unknown tensor type": (container(tensors=(entry("t", (32,), 999),)), "type number 999"),
    "tensor type we do not read": (container(tensors=(entry("t", (32,), 39),)), r"t \(MXFP4\)"),
    "removed tensor type": (container(tensors=(entry("t", (32,), 31),)), "type number 31"),
    "half a block": (container(tensors=(entry("t", (48,), 8),)), "not a multiple of 32"),
    "offset unaligned": (container(tensors=(entry("t", (4,), 0, 8),)), "not a multiple of 32"),
    "offset past the end": (container(tensors=(entry("t", (4,), 0, 64),)), "cut short"),
    "offset 2^64-32": (container(tensors=(entry("t", (4,), 0, 2**64 - 32),)), "cut short"),
    "cut short": (container(tensors=(entry("t", (16,)),), data=63), "cut short"),
    "overlap": (container(tensors=(entry("t", (16,)), entry("u", (8,), 0, 32))), "overlap"),
    "same place": (container(tensors=(entry("t", (16,)), entry("u", (16,)))), "overlap"),
}


@pytest.mark.parametrize("fault", NAMED_FAULTS)
def test_faults_are_named(tmp_path: Path, fault: str) -> None:
    raw, says = NAMED_FAULTS[fault]
    path = tmp_path / "m.gguf"
    path.write_bytes(raw)
    started = time.process_time()  # of this process: what else the machine does is no fault of ours
    with pytest.raises(WeightsError, match=says):
        read_gguf(path)
    assert time.process_time() - started < 1


def test_the_pieces_make_a_good_file(tmp_path: Path) -> None:
    """So that the faults above are the only fault of their files."""
    path = tmp_path / "m.gguf"
    keys = (key("a", 9, array(8, 2, text("x") + text("y"))), key("b", 7, b"\x01"))
    for version in (2, 3):
        path.write_bytes(
            container(keys=keys, tensors=(entry("t", (4, 2)), entry("u", (8,), 0, 32)), version=version)
        )
        file = read_gguf(path)
        assert file.tensors["t"].shape == (2, 4)
        assert file.metadata["a"].tolist() == ["x", "y"]
        assert file.metadata["b"] is True
        file.close()


@pytest.mark.skipif(not REAL_VOCABULARY.exists(), reason=f"needs {REAL_VOCABULARY}")
def test_opening_the_real_vocabulary_is_quick(rss_mb: Callable[[], float]) -> None:
    before = rss_mb()
    started = time.process_time()
    file = read_gguf(REAL_VOCABULARY)
    assert time.process_time() - started < 1
    assert rss_mb() - before < 150
    assert len(file.metadata["tokenizer.ggml.tokens"]) == 262_144
    assert len(file.metadata["tokenizer.ggml.merges"]) == 514_906
    file.close()
