"""What a file or folder on this disk is, from its first bytes: which Gemma 4, which format, what is missing.

Reads heads only, so a disk full of models is listed in a moment. Opens nothing for computing.
Neighbour: local.py.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gemstead.errors import WeightsError
from gemstead.hub.names import format_of
from gemstead.spec.gguf import DRAFTER_ARCHITECTURE, MODEL_ARCHITECTURE
from gemstead.spec.variants import VARIANTS
from gemstead.weights.gguf import peek_gguf, split_parts
from gemstead.weights.jsonfile import read_object
from gemstead.weights.locate import is_mmproj
from gemstead.weights.safetensors import INDEX_NAME

# general.file_type of a GGUF, as llama.cpp counts them.
_FILE_TYPES = {
    0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 7: "Q8_0", 8: "Q5_0", 9: "Q5_1", 10: "Q2_K", 11: "Q3_K_S",
    12: "Q3_K_M", 13: "Q3_K_L", 14: "Q4_K_S", 15: "Q4_K_M", 16: "Q5_K_S", 17: "Q5_K_M", 18: "Q6_K",
    25: "IQ4_NL", 30: "IQ4_XS", 32: "BF16",
}  # fmt: skip
_PART = re.compile(r"-(\d{5})-of-\d{5}\.gguf$")
_DEPTH = 6


@dataclass(frozen=True)
class Facts:
    """A Gemma 4 on disk: `files` are all it consists of, `fault` says why it cannot be opened."""

    path: Path
    files: tuple[Path, ...]
    variant: str | None
    format: str
    title: str
    is_drafter: bool = False
    fault: str | None = None

    @property
    def bytes(self) -> int:
        """The size of all files that are there."""
        return sum(file.stat().st_size for file in self.files if file.exists())

    @property
    def used(self) -> float:
        """When it was last read or written, in seconds since 1970, as far as the disk keeps that."""
        times = [max(info.st_atime, info.st_mtime) for info in (f.stat() for f in self.files if f.exists())]
        return max(times, default=0.0)


def models_below(folder: Path, depth: int = _DEPTH) -> Iterator[Path]:
    """All that may be a model below a folder: GGUF files (first parts) and folders with config.json."""
    try:
        entries = sorted(folder.iterdir())
    except OSError:
        return
    names = {entry.name for entry in entries}
    if "config.json" in names and any(name.endswith(".safetensors") for name in names):
        yield folder
    for entry in entries:
        if entry.suffix.lower() == ".gguf" and not is_mmproj(entry.name):
            part = _PART.search(entry.name)
            if part is None or part[1] == "00001":
                yield entry
        elif depth and not entry.name.startswith(".") and entry.is_dir():
            yield from models_below(entry, depth - 1)


def examine(path: Path) -> Facts | None:
    """What is at `path`; None when it is no Gemma 4 at all, or cannot be read."""
    try:
        return _folder(path) if path.is_dir() else _gguf(path)
    except (WeightsError, OSError, ValueError):
        return None


def _gguf(path: Path) -> Facts | None:
    head = peek_gguf(path)
    architecture = head.get("general.architecture")
    if architecture not in (MODEL_ARCHITECTURE, DRAFTER_ARCHITECTURE):
        return None
    fault = None
    files: tuple[Path, ...] = (path,)
    try:
        files = split_parts(path)
    except WeightsError as error:
        fault = str(error)
    shape = (head.get(f"{architecture}.block_count"), head.get(f"{architecture}.embedding_length"))
    said = format_of(path.name) or _FILE_TYPES.get(head.get("general.file_type", -1), "GGUF")
    title = head.get("general.name")
    return Facts(
        path,
        files,
        variant_of(*shape),
        said,
        title if isinstance(title, str) else path.stem,
        architecture == DRAFTER_ARCHITECTURE,
        fault,
    )


def _folder(path: Path) -> Facts | None:
    config = read_object(path / "config.json")
    kind = config.get("model_type")
    if not isinstance(kind, str) or not kind.startswith("gemma4"):
        return None
    text = config.get("text_config")
    text = text if isinstance(text, dict) else config
    files = tuple(sorted(file for file in path.iterdir() if file.is_file()))
    variant = variant_of(text.get("num_hidden_layers"), text.get("hidden_size"))
    dtype = str(text.get("dtype") or text.get("torch_dtype") or config.get("dtype") or "").removeprefix(
        "torch."
    )
    formats = {"bfloat16": "BF16", "float16": "F16", "float32": "F32"}
    return Facts(
        path,
        files,
        variant,
        formats.get(dtype, "safetensors"),
        path.name,
        "assistant" in kind,
        _missing(path),
    )


def _missing(folder: Path) -> str | None:
    """Which shards of a safetensors folder are not there."""
    index = folder / INDEX_NAME
    if not index.exists():
        return None
    shards = set(json.loads(index.read_text("utf-8")).get("weight_map", {}).values())
    gone = sorted(str(name) for name in shards if not (folder / str(name)).exists())
    return f"missing in {folder}: {', '.join(gone[:5])}" if gone else None


def variant_of(num_layers: Any, hidden_size: Any) -> str | None:
    """The variant with this many layers of this width."""
    shapes = {(spec.num_layers, spec.hidden_size): name for name, spec in VARIANTS.items()}
    return shapes.get((num_layers, hidden_size)) if isinstance(num_layers, int) else None
