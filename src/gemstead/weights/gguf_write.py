"""Writes GGUF version 3 files: metadata, then tensors streamed one after the other, whole or not at all.

Knows the container only; which keys a Gemma 4 needs is model_file.py's business. Readable by
gemstead, by the gguf package and by llama.cpp. Neighbours: gguf.py, writing.py.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gemstead.errors import WeightsError
from gemstead.weights.gguf_values import ARRAY, BOOL, SCALARS, STRING, string_bytes
from gemstead.weights.mapped import brief
from gemstead.weights.writing import Entry, whole_file

ALIGNMENT = 32
_NUMBER_OF_CODE: Mapping[str, int] = {code: kind for kind, code in SCALARS.items() if kind != BOOL}


@dataclass(frozen=True)
class Number:
    """A number with the struct code of its exact type, where a plain int or float would be another one."""

    code: str
    value: int | float


@dataclass(frozen=True)
class Raw:
    """A value as it stood in another GGUF (gguf.raw_metadata): its type number and its bytes."""

    data: bytes


_List = Sequence[bool] | Sequence[int] | Sequence[float] | Sequence[str]
Value = Raw | bool | int | float | str | Number | _List
"""Metadata: an int is written as u32 (i32 when negative, u64 and i64 when larger), a float as f32;
lists of ints as i32 where they fit."""


def write_gguf(path: Path, metadata: Mapping[str, Value], entries: Sequence[Entry]) -> None:
    """Write metadata and `entries` (shapes slowest axis first) to `path`, whole or not at all.

    WeightsError for a value or format GGUF cannot hold, a name twice, or chunks of another size.
    """
    metadata = {"general.alignment": ALIGNMENT, **metadata}
    head = [b"GGUF", struct.pack("<IQQ", 3, len(entries), len(metadata))]
    for key, value in metadata.items():
        head += [string_bytes(key), _value(key, value)]
    offset = 0
    names: set[str] = set()
    for entry in entries:
        if entry.name in names:
            raise WeightsError(f"cannot write {path}: the tensor {entry.name!r} occurs twice")
        names.add(entry.name)
        head.append(_describe(entry, offset))
        offset += entry.nbytes + _padding(entry.nbytes)
    raw = b"".join(head)
    with whole_file(path) as file:
        file.write(raw + bytes(_padding(len(raw))))
        for entry in entries:
            entry.write_to(file)
            file.write(bytes(_padding(entry.nbytes)))


def _padding(count: int) -> int:
    """Bytes missing to the next multiple of the alignment."""
    return -count % ALIGNMENT


def _describe(entry: Entry, offset: int) -> bytes:
    """The tensor's line in the list: its name, extents fastest first, type and offset."""
    if not 1 <= len(entry.shape) <= 4 or entry.format.ggml_type is None:
        raise WeightsError(
            f"cannot write {entry.name!r} of shape {entry.shape} as {entry.format.name} to GGUF; "
            "1 to 4 axes and a ggml type are needed"
        )
    extents = struct.pack(f"<I{len(entry.shape)}Q", len(entry.shape), *reversed(entry.shape))
    return string_bytes(entry.name) + extents + struct.pack("<IQ", entry.format.ggml_type, offset)


def _code(values: Sequence[int], preferred: str) -> str:
    """The narrowest of the preferred and the other integer codes that holds all values."""
    for code in (preferred, "i", "Q", "q"):
        bits = 8 * struct.calcsize("<" + code)
        low, high = (0, 2**bits) if code.isupper() else (-(2 ** (bits - 1)), 2 ** (bits - 1))
        if all(low <= value < high for value in values):
            return code
    raise WeightsError(f"cannot write integers from {min(values)} to {max(values)} to GGUF")


def _value(key: str, value: Any) -> bytes:
    """A metadata value: its type number and its bytes."""
    if isinstance(value, Raw):
        return value.data
    if isinstance(value, str):
        return struct.pack("<I", STRING) + string_bytes(value)
    if isinstance(value, list | tuple):
        return struct.pack("<I", ARRAY) + _array(key, value)
    code, number = _number(key, value)
    kind = BOOL if code == "?" else _NUMBER_OF_CODE[code]
    return struct.pack("<I", kind) + struct.pack("<" + code, number)


def _number(key: str, value: Any) -> tuple[str, int | float]:
    """The struct code and the value of a scalar."""
    if isinstance(value, Number):
        return value.code, value.value
    if isinstance(value, bool):
        return "?", value
    if isinstance(value, int):
        return _code([value], "I"), value
    if isinstance(value, float):
        return "f", value
    raise WeightsError(f"cannot write {key} = {brief(value)} of type {type(value).__name__} to GGUF")


def _array(key: str, values: Sequence[Any]) -> bytes:
    """An array: the type of its elements, their number, their bytes. An empty one is of i32."""
    kinds = {type(value) for value in values}
    if kinds == {str}:
        return struct.pack("<IQ", STRING, len(values)) + b"".join(map(string_bytes, values))
    if kinds == {bool}:
        kind, code = BOOL, "?"
    elif kinds <= {int}:
        code = _code(values, "i")
        kind = _NUMBER_OF_CODE[code]
    elif kinds <= {int, float}:
        kind, code = _NUMBER_OF_CODE["f"], "f"
    else:
        found = ", ".join(sorted(kind.__name__ for kind in kinds))
        raise WeightsError(f"cannot write {key}, a list of {found}, to GGUF; one kind of value is needed")
    return struct.pack("<IQ", kind, len(values)) + struct.pack(f"<{len(values)}{code}", *values)
