"""Hostile JSON always ends in one WeightsError, quickly and in little memory."""

import time
import tracemalloc
from pathlib import Path

import pytest

from gemstead.errors import WeightsError
from gemstead.weights.jsonfile import MAX_JSON_BYTES, parse_object, read_object

FAULTS = {
    "a list": (b"[1]", "not an object"),
    "nothing": (b"", "not valid JSON"),
    "cut short": (b'{"a": [1, 2', "not valid JSON"),
    "not UTF-8": (b'{"a": "\xff"}', "not UTF-8"),
    "a lone surrogate in UTF-8": (b'{"a": "\xed\xa0\x80"}', "not UTF-8"),
    "key twice": (b'{"a": 1, "b": 2, "a": 3}', "'a' occurs twice"),
    "key twice inside": (b'{"x": {"a": 1, "a": 1}}', "'a' occurs twice"),
    "deep lists": (b'{"a": ' + b"[" * 150_000 + b"]" * 40_000, "deeply|valid"),
    "deep objects": (b'{"a":' * 90_000 + b"1" + b"}" * 90_000, "deeply|valid"),
    "many lists": (b'{"a": [' + b"[]," * 300_000 + b"0]}", "more than"),
    "key twice among many": (
        b"{" + b"".join(b'"%x":0,' % i for i in range(200_000)) + b'"30d3f":1}',
        "'30d3f' occurs twice",
    ),
    "NaN": (b'{"a": NaN}', "NaN"),
    "a number of 10,000 digits": (b'{"a": ' + b"9" * 10_000 + b"}", "not valid JSON"),
    "too long": (b'{"a": "' + b"x" * MAX_JSON_BYTES + b'"}', "believable"),
    "trailing rubbish": (b'{"a": 1} x', "not valid JSON"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_are_named(fault: str) -> None:
    raw, says = FAULTS[fault]
    started = time.perf_counter()
    with pytest.raises(WeightsError, match=f"(?s)the header.*({says})"):
        parse_object(raw, "the header")
    assert time.perf_counter() - started < 2


def test_the_most_that_is_parsed_takes_little_memory() -> None:
    pairs = b",".join(b'"%06x":%d' % (i, i + 1000) for i in range(260_000))
    raw = b"{" + pairs + b"}"
    assert len(raw) < MAX_JSON_BYTES
    tracemalloc.start()
    parse_object(raw, "the header")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 150e6


def test_good_json_is_read(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"a": [1, 2.5, null, true, "ü"], "b": {"c": {}}}')
    assert read_object(tmp_path / "config.json") == {"a": [1, 2.5, None, True, "ü"], "b": {"c": {}}}


def test_a_file_that_is_something_else(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text("<!DOCTYPE html><html></html>")
    with pytest.raises(WeightsError, match="web page"):
        read_object(path)
    path.write_bytes(b"{" + b" " * MAX_JSON_BYTES + b"}")
    with pytest.raises(WeightsError, match="believable"):
        read_object(path)
    path.unlink()
    path.mkdir()
    with pytest.raises(WeightsError, match="not a regular file"):
        read_object(path)
