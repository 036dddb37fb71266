"""Reads GGUF files (versions 2 and 3, little-endian), whole or split into -00001-of-0000N parts.

Checks every tensor's shape, format, offset and extent against the file. Refuses big-endian files and
formats without a row in formats.py. Layout: MODEL.md 7.2.
Neighbours: gguf_values.py (metadata), gguf_write.py, vocabulary.py, store.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gemstead.errors import WeightsError
from gemstead.weights.formats import BY_GGML_TYPE, UNREAD_GGML_TYPES, Format
from gemstead.weights.gguf_values import Cursor
from gemstead.weights.mapped import (
    MappedFile,
    StoredTensor,
    brief,
    check_overlaps,
    kind_by_first_bytes,
    listed,
)

# Far above any real file (a Gemma 4 has < 1,000 tensors), so that a hostile count costs nothing.
MAX_TENSORS = 20_000
MAX_KEYS = 20_000
MAX_PARTS = 1000
MAX_ALIGNMENT = 1 << 20
MAX_NAME_BYTES = 1024  # of a key or a tensor; llama.cpp allows tensors 63
MAX_ELEMENTS = 1 << 48
_PART = re.compile(r"(.*)-(\d{5})-of-(\d{5})\.gguf", re.DOTALL)


@dataclass(frozen=True)
class GgufFile:
    """A GGUF model: metadata of its first part, tensors of all parts (shapes slowest axis first)."""

    paths: tuple[Path, ...]
    metadata: Mapping[str, Any]
    tensors: Mapping[str, StoredTensor]
    files: tuple[MappedFile, ...] = field(repr=False)

    def close(self) -> None:
        """Unmap every part."""
        for file in self.files:
            file.close()


def read_gguf(path: Path) -> GgufFile:
    """Read the GGUF file at `path` and, when it is one part of several, all the other parts."""
    paths = split_parts(path)
    parts: list[tuple[MappedFile, dict[str, Any], list[StoredTensor]]] = []
    try:
        for index, part_path in enumerate(paths):
            file = MappedFile(part_path)
            parts.append((file, {}, []))
            metadata, tensors = _read_part(file)
            parts[-1] = (file, metadata, tensors)
            _check_part(metadata, part_path, index, len(paths))
        return GgufFile(
            paths=paths,
            metadata=parts[0][1],
            tensors=_merge(parts),
            files=tuple(file for file, _, _ in parts),
        )
    except BaseException:
        for file, _, _ in parts:
            file.close()
        raise


def peek_gguf(path: Path) -> dict[str, Any]:
    """The metadata of one file up to its vocabulary: what kind of model it is, in a moment.

    WeightsError for what is no readable GGUF. Numbers and texts only; arrays are left out.
    """
    file = MappedFile(path)
    try:
        cursor = Cursor(file)
        _, key_count = _read_header(cursor)
        metadata: dict[str, Any] = {}
        for index in range(key_count):
            key = cursor.text(f"metadata key {index}", MAX_NAME_BYTES)
            if key.startswith("tokenizer.") and "general.architecture" in metadata:
                break
            value = cursor.value(cursor.number("I", f"the type of {key!r}"), f"the value of {key!r}")
            if isinstance(value, str | int | float):
                metadata[key] = value
        return metadata
    finally:
        file.close()


def raw_metadata(source: GgufFile) -> dict[str, bytes]:
    """Each metadata value of a GGUF's first part as it stands in the file: type number, then bytes.

    For a writer that must lose nothing, the exact types included.
    """
    cursor = Cursor(source.files[0])
    _, key_count = _read_header(cursor)
    found: dict[str, bytes] = {}
    for index in range(key_count):
        key = cursor.text(f"metadata key {index}", MAX_NAME_BYTES)
        start = cursor.at
        cursor.value(cursor.number("I", f"the type of {key!r}"), f"the value of {key!r}")
        found[key] = bytes(cursor.file.view(start, cursor.at - start))
    return found


def split_parts(path: Path) -> tuple[Path, ...]:
    """The files of the model `path` belongs to, in order; WeightsError listing missing parts."""
    match = _PART.fullmatch(path.name)
    if match is None:
        return (path,)
    stem, number, count = match[1], int(match[2]), int(match[3])
    if not 1 <= number <= count <= MAX_PARTS:
        raise WeightsError(
            f"{path} calls itself part {number} of {count}; parts count from 1, at most to {MAX_PARTS}"
        )
    paths = tuple(path.with_name(f"{stem}-{k:05d}-of-{count:05d}.gguf") for k in range(1, count + 1))
    missing = [part.name for part in paths if not part.exists()]
    if missing:
        raise WeightsError(
            f"cannot open {path}: missing in {path.parent}, of {count} parts: {listed(missing)}"
        )
    return paths


def _check_part(metadata: Mapping[str, Any], path: Path, index: int, count: int) -> None:
    """Make sure a file is the part its name says."""
    seen_count, seen_index = metadata.get("split.count", 1), metadata.get("split.no", 0)
    if type(seen_count) is type(seen_index) is int and (seen_count or 1, seen_index) == (count, index):
        return
    if count == 1 and type(seen_count) is int and seen_count > 1:
        raise WeightsError(
            f"{path} is a part of a model split in {seen_count}, but its name does not say so; "
            f"name the parts NAME-00001-of-{seen_count:05d}.gguf and so on"
        )
    raise WeightsError(
        f"{path} should be part {index + 1} of {count} by its name, but says inside: "
        f"split.no = {brief(seen_index)}, split.count = {brief(seen_count)}"
    )


def _merge(parts: list[tuple[MappedFile, dict[str, Any], list[StoredTensor]]]) -> dict[str, StoredTensor]:
    merged: dict[str, StoredTensor] = {}
    for file, _, tensors in parts:
        for tensor in tensors:
            if tensor.name in merged:
                other = merged[tensor.name].file.path
                raise WeightsError(
                    f"{file.path}: tensor {tensor.name!r} is also in {other}; the file is damaged"
                )
            merged[tensor.name] = tensor
    expected = parts[0][1].get("split.tensors.count", len(merged))
    if len(parts) > 1 and expected != len(merged):
        raise WeightsError(f"{parts[0][0].path} announces {brief(expected)} tensors, not {len(merged)}")
    return merged


def _read_part(file: MappedFile) -> tuple[dict[str, Any], list[StoredTensor]]:
    """Metadata and tensors of one file."""
    cursor = Cursor(file)
    tensor_count, key_count = _read_header(cursor)
    metadata: dict[str, Any] = {}
    for index in range(key_count):
        key = cursor.text(f"metadata key {index}", MAX_NAME_BYTES)
        if key in metadata:
            raise cursor.fail(f"metadata key {key!r} occurs twice")
        metadata[key] = cursor.value(cursor.number("I", f"the type of {key!r}"), f"the value of {key!r}")
    alignment = metadata.get("general.alignment", 32)
    if type(alignment) is not int or not 1 <= alignment <= MAX_ALIGNMENT or alignment & (alignment - 1):
        raise cursor.fail(
            f"general.alignment = {brief(alignment)}; powers of two up to {MAX_ALIGNMENT} are allowed"
        )
    return metadata, _read_tensors(cursor, tensor_count, alignment)


def _read_header(cursor: Cursor) -> tuple[int, int]:
    """Check magic and version; the numbers of tensors and of metadata keys."""
    file = cursor.file
    head = file.buffer[:64]
    if head[:4] != b"GGUF":
        kind = kind_by_first_bytes(head)
        raise WeightsError(
            f"{file.path} is {kind}" if kind else f"{file.path} is no GGUF file: it begins with {head[:4]!r}"
        )
    cursor.at = 4
    version = cursor.number("I", "the version")
    if version not in (2, 3):
        swapped = int.from_bytes(version.to_bytes(4, "little"), "big")
        if swapped in (1, 2, 3):
            raise WeightsError(f"{file.path} is a big-endian GGUF; gemstead reads little-endian files only")
        raise WeightsError(f"{file.path} is GGUF version {version}; gemstead reads versions 2 and 3")
    tensor_count = cursor.number("Q", "the number of tensors")
    key_count = cursor.number("Q", "the number of metadata keys")
    for count, limit, least, what in (
        (tensor_count, MAX_TENSORS, 32, "tensors"),
        (key_count, MAX_KEYS, 13, "metadata keys"),
    ):
        if count > limit or count * least > file.size:
            raise cursor.fail(
                f"it announces {count} {what}, more than its {file.size} bytes (or reason) allow"
            )
    return tensor_count, key_count


def _read_tensors(cursor: Cursor, count: int, alignment: int) -> list[StoredTensor]:
    """The tensor list; data begins at the next multiple of `alignment` after it."""
    described = list(_describe(cursor, count))
    unread = [
        f"{name} ({UNREAD_GGML_TYPES[kind]})" for name, kind, _, _ in described if kind in UNREAD_GGML_TYPES
    ]
    if unread:
        raise WeightsError(
            f"{cursor.file.path} holds tensors in formats gemstead does not read: {listed(unread)}; "
            f"it reads {', '.join(BY_GGML_TYPE[kind].name for kind in sorted(BY_GGML_TYPE))}"
        )
    base = -(-cursor.at // alignment) * alignment
    tensors: dict[str, StoredTensor] = {}
    for name, kind, shape, offset in described:
        if name in tensors:
            raise cursor.fail(f"tensor {name!r} occurs twice")
        if offset % alignment:
            raise cursor.fail(f"tensor {name!r} begins at offset {offset}, not a multiple of {alignment}")
        fmt = BY_GGML_TYPE.get(kind)
        if fmt is None:
            raise cursor.fail(f"tensor {name!r} has unknown ggml type number {kind}")
        nbytes = _tensor_bytes(cursor, name, fmt, shape)
        if base + offset + nbytes > cursor.file.size:
            raise cursor.fail(
                f"tensor {name!r} needs bytes {base + offset} to {base + offset + nbytes}, "
                f"but the file ends at {cursor.file.size}; it may be cut short"
            )
        tensors[name] = StoredTensor(name, fmt, shape, cursor.file, base + offset, nbytes)
    found = list(tensors.values())
    check_overlaps(found, cursor.file.path)
    return found


def _describe(cursor: Cursor, count: int) -> Iterator[tuple[str, int, tuple[int, ...], int]]:
    """Name, ggml type, shape (slowest axis first) and offset of each tensor."""
    for index in range(count):
        name = cursor.text(f"the name of tensor {index}", MAX_NAME_BYTES)
        rank = cursor.number("I", f"the rank of tensor {name!r}")
        if not 1 <= rank <= 4:
            raise cursor.fail(f"tensor {name!r} has {rank} dimensions; 1 to 4 are allowed")
        extents = [cursor.number("Q", f"a dimension of tensor {name!r}") for _ in range(rank)]
        kind = cursor.number("I", f"the type of tensor {name!r}")
        yield name, kind, tuple(reversed(extents)), cursor.number("Q", f"the offset of tensor {name!r}")


def _tensor_bytes(cursor: Cursor, name: str, fmt: Format, shape: tuple[int, ...]) -> int:
    count = 1
    for extent in shape:
        count *= extent  # Python's integers do not overflow
    if not 0 < count <= MAX_ELEMENTS:
        raise cursor.fail(
            f"tensor {name!r} has the shape {shape}; every dimension must be at least 1 and believable"
        )
    if shape[-1] % fmt.block:
        raise cursor.fail(
            f"tensor {name!r} is {fmt.name} with rows of {shape[-1]} values, not a multiple of {fmt.block}"
        )
    return count // fmt.block * fmt.block_bytes
