"""Whether the files of a model are the ones they should be: there, as long, and with the right SHA-256.

What is right is said by gemstead's manifest, by the file's own name in the caches of Ollama and Hugging Face,
or by a .sha256 beside it, as pebble has one. Where nobody says it, the hash is only told. Neighbours:
local.py, manifest.py; above: cli/verify.py.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from gemstead.hub.local import LocalModel, scan
from gemstead.hub.manifest import read_manifest, sha256_of

_NAMED_BY_HASH = re.compile(r"(?:sha256[-:])?([0-9a-f]{64})")


@dataclass(frozen=True)
class FileCheck:
    """One file: the hash it has, the one it should have (None: nobody says), and what is wrong with it."""

    path: str
    sha256: str | None
    expected: str | None
    fault: str | None = None


def local_model(path: Path) -> LocalModel | None:
    """What is known here of the model at `path`; None where it lies outside all known places."""
    where = path.resolve()
    return next((model for model in scan() if model.facts.path.resolve() == where), None)


def check_files(
    files: tuple[Path, ...], manifest: Path | None, seen: Callable[[int], None]
) -> list[FileCheck]:
    """Every file of the manifest, or else of `files`, hashed; `seen` hears how many bytes were read."""
    wanted: dict[Path, tuple[int | None, str | None]] = {}
    if manifest is not None:
        known = read_manifest(manifest)
        home = manifest.parent
        if home.name == "gemstead" and known.revision:  # of the Hugging Face cache: beside its snapshots
            home = home.parent / "snapshots" / known.revision
        wanted = {home / record.path: (record.bytes, record.sha256) for record in known.files}
    covered = {path.resolve() for path in wanted}
    wanted |= {file: (None, _known_hash(file)) for file in files if file.resolve() not in covered}
    return [_check(path, size, sha256, seen) for path, (size, sha256) in wanted.items()]


def _known_hash(file: Path) -> str | None:
    """The hash that a cache has named the file by, or that a .sha256 beside it says (as sha256sum writes)."""
    with suppress(OSError, ValueError):
        words = file.with_suffix(".sha256").read_text("utf-8").split()
        if len(words) == 2 and words[1].lstrip("*") == file.name and re.fullmatch("[0-9a-f]{64}", words[0]):
            return words[0]
    match = _NAMED_BY_HASH.fullmatch(file.resolve().name)
    return match[1] if match else None


def _check(path: Path, size: int | None, sha256: str | None, seen: Callable[[int], None]) -> FileCheck:
    try:
        there = path.stat().st_size
        if size is not None and there != size:
            return FileCheck(str(path), None, sha256, f"has {there:,} bytes and should have {size:,}")
        found = sha256_of(path, seen)
    except FileNotFoundError:
        return FileCheck(str(path), None, sha256, "is missing")
    except OSError as error:
        return FileCheck(str(path), None, sha256, f"cannot be read: {error.strerror or error}")
    if sha256 is not None and found != sha256:
        return FileCheck(str(path), found, sha256, f"has the SHA-256 {found} and should have {sha256}")
    return FileCheck(str(path), found, sha256)
