"""Reads and writes safetensors files: one file, or shards under model.safetensors.index.json.

Every length, offset and shape of the header is checked before use: tensors must lie inside the file,
not overlap, and leave no byte over. Refuses shard names that lead out of the folder.
Neighbours: jsonfile.py, mapped.py, store.py.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gemstead.errors import WeightsError
from gemstead.weights.formats import BY_SAFETENSORS
from gemstead.weights.jsonfile import MAX_JSON_BYTES, parse_object, read_object
from gemstead.weights.mapped import (
    MappedFile,
    StoredTensor,
    brief,
    check_overlaps,
    kind_by_first_bytes,
    listed,
)
from gemstead.weights.writing import Entry, whole_file

INDEX_NAME = "model.safetensors.index.json"
MAX_ELEMENTS = 1 << 48
MAX_RANK = 8
MAX_SHARDS = 1000


@dataclass(frozen=True)
class SafetensorsFile:
    """The tensors of one safetensors file or of all shards of one model."""

    paths: tuple[Path, ...]
    tensors: Mapping[str, StoredTensor]
    metadata: Mapping[str, str]
    files: tuple[MappedFile, ...] = field(repr=False)

    def close(self) -> None:
        """Unmap every file."""
        for file in self.files:
            file.close()


def read_safetensors(path: Path) -> SafetensorsFile:
    """Read one safetensors file."""
    file = MappedFile(path)
    try:
        header, data_start = _read_header(file)
        metadata = _metadata(header.pop("__metadata__", {}), path)
        tensors = {name: _tensor(file, name, entry, data_start) for name, entry in header.items()}
        _check_cover(list(tensors.values()), data_start, file)
    except BaseException:
        file.close()
        raise
    return SafetensorsFile((path,), tensors, metadata, (file,))


def read_sharded(index_path: Path) -> SafetensorsFile:
    """Read every shard named by an index; each tensor must be in the shard the index says."""
    weight_map = read_object(index_path).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise WeightsError(f"{index_path} has no weight_map from tensor names to files")
    shards: dict[str, SafetensorsFile] = {}
    try:
        for shard in _shard_names(weight_map, index_path):
            shards[shard] = read_safetensors(index_path.parent / shard)
        tensors: dict[str, StoredTensor] = {}
        for shard, content in shards.items():
            for name, tensor in content.tensors.items():
                if name in tensors:
                    raise WeightsError(
                        f"tensor {brief(name)} is both in {tensors[name].file.path} and in {shard}"
                    )
                tensors[name] = tensor
        absent = [name for name, shard in weight_map.items() if name not in shards[shard].tensors]
        if absent:
            raise WeightsError(f"{index_path} lists tensors that its files do not hold: {listed(absent)}")
    except BaseException:
        for content in shards.values():
            content.close()
        raise
    return SafetensorsFile(
        paths=tuple(path for content in shards.values() for path in content.paths),
        tensors=tensors,
        metadata={},
        files=tuple(file for content in shards.values() for file in content.files),
    )


def _shard_names(weight_map: Mapping[str, Any], index_path: Path) -> list[str]:
    """The distinct shard names, each a plain file name beside the index that exists."""
    names = sorted(set(map(str, weight_map.values())))
    if len(names) > MAX_SHARDS:
        raise WeightsError(f"{index_path} names {len(names)} files; at most {MAX_SHARDS} are believable")
    for name in names:
        plain = Path(name).name == name and name.isprintable() and "\\" not in name
        if not plain or len(name.encode()) > 255 or not name.endswith(".safetensors"):
            raise WeightsError(
                f"{index_path} names the file {name[:200]!r}; only plain names ending in .safetensors "
                "of files in the same folder are allowed"
            )
    missing = [name for name in names if not (index_path.parent / name).exists()]
    if missing:
        raise WeightsError(f"{index_path} names {len(names)} files; missing are: {listed(missing)}")
    return names


def _read_header(file: MappedFile) -> tuple[dict[str, Any], int]:
    """The JSON header and the position of the first data byte."""
    kind = kind_by_first_bytes(file.buffer[:64])
    if kind:
        raise WeightsError(f"{file.path} is {kind}")
    if file.size < 10:
        raise WeightsError(f"{file.path} is {file.size} bytes long, too short for a safetensors file")
    length = int.from_bytes(file.buffer[:8], "little")
    if length > file.size - 8:
        raise WeightsError(
            f"{file.path} is no whole safetensors file: its header should be {length} bytes long, "
            f"but {file.size - 8} bytes follow; it may be cut short"
        )
    if length > MAX_JSON_BYTES:
        raise WeightsError(
            f"{file.path} has a header of {length} bytes; at most {MAX_JSON_BYTES} are believable"
        )
    return parse_object(file.buffer[8 : 8 + length], f"the header of {file.path}"), 8 + length


def _metadata(value: Any, path: Path) -> dict[str, str]:
    if not isinstance(value, dict) or not all(isinstance(text, str) for text in value.values()):
        raise WeightsError(f"{path}: __metadata__ must be an object of strings")
    return value


def _naturals(value: Any) -> bool:
    """Whether this is a list of integers >= 0 (JSON's true and false are none)."""
    return isinstance(value, list) and all(type(x) is int and x >= 0 for x in value)


def _tensor(file: MappedFile, name: str, entry: Any, data_start: int) -> StoredTensor:
    """One tensor of the header, its extent checked against the file."""
    at = f"{file.path}: tensor {name[:200]!r}"
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise WeightsError(f"{at} must have exactly dtype, shape and data_offsets, not {str(entry)[:200]}")
    fmt = BY_SAFETENSORS.get(entry["dtype"]) if isinstance(entry["dtype"], str) else None
    if fmt is None:
        raise WeightsError(
            f"{at} has dtype {str(entry['dtype'])[:40]!r}; gemstead reads {', '.join(BY_SAFETENSORS)}"
        )
    shape, offsets = entry["shape"], entry["data_offsets"]
    if not _naturals(shape) or len(shape) > MAX_RANK or 0 in shape:
        raise WeightsError(
            f"{at} has shape {str(shape)[:200]}; allowed are up to {MAX_RANK} integers above 0"
        )
    if not _naturals(offsets) or len(offsets) != 2:
        raise WeightsError(f"{at} has data_offsets {str(offsets)[:200]}; two integers from 0 are allowed")
    count = 1
    for extent in shape:
        count *= extent
    start, stop = offsets
    room = file.size - data_start
    if count > MAX_ELEMENTS or stop > room or start > stop or stop - start != count * fmt.block_bytes:
        raise WeightsError(
            f"{at} of shape {str(shape)[:200]} and dtype {entry['dtype']} claims the bytes {start} to {stop} "
            f"of {room}; it needs {count * fmt.block_bytes}. The file is damaged or cut short"
        )
    return StoredTensor(name, fmt, tuple(shape), file, data_start + start, stop - start)


def _check_cover(tensors: list[StoredTensor], data_start: int, file: MappedFile) -> None:
    """Every data byte must belong to exactly one tensor, as the format demands."""
    check_overlaps(tensors, file.path)
    spare = file.size - data_start - sum(tensor.nbytes for tensor in tensors)
    if spare:
        raise WeightsError(f"{file.path}: {spare} data bytes belong to no tensor; the file is damaged")


def write_safetensors(
    path: Path, entries: Sequence[Entry], metadata: Mapping[str, str] | None = None
) -> None:
    """Write `entries` to `path`, whole or not at all, streaming one tensor after the other.

    WeightsError for a format safetensors has no name for, a name twice, or chunks of another size.
    """
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    at = 0
    for entry in entries:
        if entry.format.safetensors is None:
            raise WeightsError(
                f"cannot write {entry.name!r} as {entry.format.name} to safetensors; "
                f"it holds {', '.join(BY_SAFETENSORS)}"
            )
        if entry.name in header:
            raise WeightsError(f"cannot write {path}: the tensor {entry.name!r} occurs twice")
        stop = at + entry.nbytes
        header[entry.name] = {
            "dtype": entry.format.safetensors,
            "shape": list(entry.shape),
            "data_offsets": [at, stop],
        }
        at = stop
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # data begins 8-aligned, as the format recommends
    with whole_file(path) as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for entry in entries:
            entry.write_to(file)
