"""The values of a GGUF's metadata: what stays in the file, what is decoded when."""

import struct
import time
from contextlib import closing
from pathlib import Path

import pytest
from gguf import GGUFValueType

from gemstead.errors import WeightsError
from gemstead.weights import gguf_values
from gemstead.weights.gguf import read_gguf
from support.weight_files import array, container, key, text


@pytest.mark.parametrize("chunk", [1 << 20, 1, 3])
@pytest.mark.parametrize("wrong", [b"\xff", b"\xc3", b"\xa9", b"\xed\xa0\x80", b"x" * 200 + b"\xff"])
def test_a_string_array_that_is_not_utf8_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong: bytes, chunk: int
) -> None:
    monkeypatch.setattr(gguf_values, "_TEXT_CHUNK", chunk)
    path = tmp_path / "m.gguf"
    path.write_bytes(container(keys=(key("a", 9, array(8, 3, text("x") + text(wrong) + text("é"))),)))
    with pytest.raises(WeightsError, match="string 1 of an array is not UTF-8"):
        read_gguf(path)
    good = ["é" * 100, "😀", "x" * 64, "ü" * 64]  # 128 bytes and more: their lengths are no ASCII bytes
    path.write_bytes(container(keys=(key("a", 9, array(8, 4, b"".join(map(text, good)))),)))
    file = read_gguf(path)
    assert file.metadata["a"].tolist() == good
    file.close()


@pytest.mark.parametrize("chunk", [1 << 20, 100, 9])
@pytest.mark.parametrize("few", [1, 3, 4096])
def test_many_strings_at_once_end_where_they_end_one_by_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, few: int, chunk: int
) -> None:
    monkeypatch.setattr(gguf_values, "_TEXT_CHUNK", chunk)
    monkeypatch.setattr(gguf_values, "_FEW", few)
    strings = [
        "a",
        "",
        "\x00" * 8,
        "b" * 255,
        "c" * 256,
        "\x07" + "\x00" * 7 + "d",
        "",
        "",
        "é" * 300,
        "e",
        "f\x00",
    ]
    strings += [f"{i}" * (i % 7) for i in range(300)]
    path = tmp_path / "m.gguf"
    whole = array(8, len(strings), b"".join(map(text, strings)))
    path.write_bytes(container(keys=(key("a", 9, whole), key("b", 4, struct.pack("<I", 7)))))
    file = read_gguf(path)
    assert file.metadata["a"].tolist() == strings
    assert file.metadata["b"] == 7
    file.close()
    for told in (2 * len(strings), 10**6):  # more than there are
        longer = array(8, told, b"".join(map(text, strings)))
        path.write_bytes(container(keys=(key("a", 9, longer),)))
        with pytest.raises(WeightsError, match="damaged"):
            read_gguf(path)


@pytest.mark.parametrize("strings", [[bytes(255)] * 8_000, [b""] * 200_000, [b"x" * 300, b""] * 50_000])
def test_strings_that_mislead_the_look_cost_no_more_than_one_by_one(
    tmp_path: Path, strings: list[bytes]
) -> None:
    path = tmp_path / "m.gguf"
    together = array(8, len(strings), b"".join(map(text, strings)))
    path.write_bytes(container(keys=(key("a", 9, together),)))
    before = time.process_time()
    with closing(read_gguf(path)) as file:
        assert len(file.metadata["a"]) == len(strings)
    assert time.process_time() - before < 2
    path.write_bytes(container(keys=[key(f"k{i}", 9, array(8, 1, text(bytes(255)))) for i in range(5_000)]))
    with closing(read_gguf(path)) as file:
        assert len(file.metadata) == 5_000
    assert time.process_time() - before < 4


def test_long_arrays_stay_in_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gguf_values, "_EAGER_VALUES", 5)
    path = tmp_path / "m.gguf"
    numbers = struct.pack("<4i", 1, -2, 3, 4)
    path.write_bytes(container(keys=(key("a", 9, array(5, 4, numbers)), key("b", 9, array(5, 4, numbers)))))
    file = read_gguf(path)
    assert file.metadata["a"] == [1, -2, 3, 4]
    assert len(file.metadata["b"]) == 4
    assert file.metadata["b"].tolist() == [1, -2, 3, 4]
    file.close()


def test_every_value_type_of_the_format_is_known() -> None:
    known = set(gguf_values.SCALARS) | {gguf_values.STRING, gguf_values.ARRAY}
    assert known == {kind.value for kind in GGUFValueType}


def test_a_single_reads_as_the_decimal_it_stands_for(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    raw = [struct.pack("<f", value) for value in (1e-6, 0.1, 16777216.0, float("inf"))]
    path.write_bytes(container(keys=tuple(key(f"k{i}", 6, x) for i, x in enumerate(raw))))
    file = read_gguf(path)
    assert list(file.metadata.values()) == [1e-6, 0.1, 16777216.0, float("inf")]
    file.close()


def test_strings_are_found_without_decoding(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    inner = text("b")  # the bytes of one string inside another: no place of its own
    strings = [text("aa"), text(b"x" + inner), text("é"), text("b"), text(""), text("b")]
    path.write_bytes(container(keys=(key("a", 9, array(8, len(strings), b"".join(strings))),)))
    file = read_gguf(path)
    found = file.metadata["a"]
    assert (found.index("aa"), found.index("b"), found.index("")) == (0, 3, 4)
    assert "b" in found
    assert "c" not in found
    assert 3 not in found
    for absent in ("c", "a", "x"):
        with pytest.raises(ValueError, match="not in the array"):
            found.index(absent)
    file.close()


def test_a_string_array_is_a_sequence(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(container(keys=(key("a", 9, array(8, 3, text("x") + text("y") + text("z"))),)))
    file = read_gguf(path)
    found = file.metadata["a"]
    assert (len(found), list(found), found[1], found[1:]) == (3, ["x", "y", "z"], "y", ["y", "z"])
    file.close()


def test_numbers_of_a_sparse_file_have_a_ceiling(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    for kind, count in ((0, 1 << 35), (7, 1 << 35), (10, 1 << 30), (4, 2_000_001)):
        path.write_bytes(container(keys=(key("a", 9, array(kind, count)),)))
        with path.open("r+b") as file:
            file.truncate(1 << 36)
        with pytest.raises(WeightsError, match="more than 2000000, which is not believable"):
            read_gguf(path)


def test_text_and_strings_have_a_ceiling(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gguf_values, "MAX_STRINGS", 5)
    path = tmp_path / "m.gguf"
    three = array(8, 3, text("x") * 3)
    path.write_bytes(container(keys=(key("a", 9, three), key("b", 9, three))))
    with pytest.raises(WeightsError, match="more than 5"):
        read_gguf(path)
    monkeypatch.setattr(gguf_values, "MAX_ALL_TEXT_BYTES", 20)
    with pytest.raises(WeightsError, match="holds 27 bytes of text; 19 are believable"):
        read_gguf(path)
    path.write_bytes(container(keys=(key("a", 8, text("x" * 15)), key("b", 8, text("x" * 5)))))
    with pytest.raises(WeightsError, match="is 5 bytes long; at most 3 are believable"):
        read_gguf(path)
