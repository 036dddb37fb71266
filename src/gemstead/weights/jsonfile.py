"""Reads JSON that may be hostile: bounded in size and depth, no key twice, always one WeightsError.

Used for config.json, safetensors headers and shard indexes. Neighbours: safetensors.py, store.py.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from gemstead.errors import WeightsError
from gemstead.weights.mapped import MappedFile, kind_by_first_bytes

# A Gemma 4 header or index is below 0.4 MB. More text or more containers than this would cost memory.
MAX_JSON_BYTES = 4 << 20
MAX_CONTAINERS = 200_000


def parse_object(raw: bytes, what: str) -> dict[str, Any]:
    """The JSON object in `raw`; `what` begins the message of the WeightsError for anything else."""
    if len(raw) > MAX_JSON_BYTES:
        raise WeightsError(f"{what} is {len(raw)} bytes of JSON; at most {MAX_JSON_BYTES} are believable")
    if raw.count(b"{") + raw.count(b"[") > MAX_CONTAINERS:
        raise WeightsError(f"{what} holds more than {MAX_CONTAINERS} JSON objects and lists")
    try:
        value = json.loads(str(raw, "utf-8"), object_pairs_hook=_unique, parse_constant=_no_constant)
    except RecursionError as error:
        raise WeightsError(f"{what} is nested too deeply to be real") from error
    except UnicodeDecodeError as error:
        raise WeightsError(f"{what} is not UTF-8 text (byte {error.start})") from error
    except ValueError as error:
        raise WeightsError(f"{what} is not valid JSON: {str(error)[:200]}") from error
    if not isinstance(value, dict):
        raise WeightsError(f"{what} is a JSON {type(value).__name__}, not an object")
    return value


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object in the file at `path`."""
    file = MappedFile(path)
    try:
        if file.size > MAX_JSON_BYTES:
            raise WeightsError(
                f"{path} is {file.size} bytes of JSON; at most {MAX_JSON_BYTES} are believable"
            )
        raw = file.buffer[:]
    finally:
        file.close()
    if not raw.lstrip().startswith((b"{", b"\xef\xbb\xbf")):
        kind = kind_by_first_bytes(raw[:64])
        if kind:
            raise WeightsError(f"{path} is {kind}")
    return parse_object(raw, str(path))


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        twice, _ = Counter(name for name, _ in pairs).most_common(1)[0]
        raise ValueError(f"the key {twice[:80]!r} occurs twice")
    return found


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON number")
