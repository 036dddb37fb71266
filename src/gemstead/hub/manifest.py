"""What gemstead put on a disk: one small file beside each model, with every file's size and SHA-256.

It appears whole or not at all, and only after every file it names has been checked: a model without one
is not gemstead's. Paths in it are relative and cannot lead out of their folder.
Neighbours: pull.py, carry.py, remove.py.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from gemstead.errors import HubError, WeightsError
from gemstead.weights.jsonfile import parse_object
from gemstead.weights.writing import whole_file

VERSION = 1
NAME = "gemstead.json"
ROLES = ("weights", "mmproj", "other")
_CHUNK_BYTES = 1 << 22
_HASH = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class FileRecord:
    """One file of a model. `fetched` is False for a file that was there before gemstead came."""

    path: str
    bytes: int
    sha256: str
    role: str = "other"
    fetched: bool = True


@dataclass(frozen=True)
class Manifest:
    """A whole model: where it came from and what belongs to it. `opens` is the file or folder to open."""

    name: str
    opens: str
    files: tuple[FileRecord, ...]
    repo: str | None = None
    revision: str | None = None
    written: str = ""

    @property
    def total_bytes(self) -> int:
        """The size of all its files."""
        return sum(file.bytes for file in self.files)

    def write(self, path: Path) -> None:
        """Write it to `path`, whole or not at all."""
        text = json.dumps({"gemstead_manifest": VERSION, **asdict(self)}, indent=1, ensure_ascii=False)
        try:
            with whole_file(path) as file:
                file.write(text.encode() + b"\n")
        except WeightsError as error:
            raise HubError(str(error)) from error


def read_manifest(path: Path) -> Manifest:
    """The manifest at `path`; HubError when it is damaged, too new, or leads out of its folder."""
    try:
        return parse_manifest(path.read_bytes(), str(path))
    except OSError as error:
        raise HubError(f"cannot read {path}: {error.strerror or error}") from error


def parse_manifest(raw: bytes, what: str) -> Manifest:
    """A manifest from its bytes, every field checked: it may come from a stick or from another machine."""
    try:
        data = parse_object(raw, what)
    except WeightsError as error:
        raise HubError(str(error)) from error
    if data.pop("gemstead_manifest", None) != VERSION:
        raise HubError(f"{what} is no manifest this gemstead reads (version {VERSION})")
    try:
        files = tuple(_record(FileRecord(**file), what) for file in data.pop("files"))
        manifest = Manifest(files=files, **data)
    except (KeyError, TypeError, AttributeError) as error:
        raise HubError(f"{what} is damaged: {error}") from error
    texts = [manifest.name, manifest.opens, manifest.written, manifest.repo or "", manifest.revision or ""]
    if not all(isinstance(text, str) for text in texts) or not files:
        raise HubError(f"{what} is damaged: it names no files, or a name is no text")
    if manifest.opens != ".":
        inside(manifest.opens, what)
    if len({file.path for file in files}) != len(files):
        raise HubError(f"{what} is damaged: it names a file twice")
    return manifest


def _record(file: FileRecord, what: str) -> FileRecord:
    sound = type(file.bytes) is int and file.bytes >= 0 and isinstance(file.sha256, str)
    if not sound or not _HASH.fullmatch(file.sha256) or file.role not in ROLES:
        raise HubError(f"{what} is damaged: the entry of {file.path!r} has no size, hash or role")
    inside(file.path, what)
    return file


def inside(path: Any, what: str) -> PurePosixPath:
    """A relative path that stays in its folder; HubError for any other."""
    pure = PurePosixPath(path) if isinstance(path, str) else None
    if (
        pure is None
        or pure.is_absolute()
        or "\\" in path
        or "\0" in path
        or not pure.parts
        or ".." in pure.parts
    ):
        raise HubError(f"{what} names the file {path!r}, which leads out of its folder")
    return pure


def slug(text: str) -> str:
    """A name that every file system takes: 'google/gemma-4 E2B:Q4_0' -> google--gemma-4_E2B-Q4_0."""
    return re.sub(r"[^\w.-]", "_", text.replace("/", "--").replace(":", "-")).lstrip(".") or "_"


def sha256_of(path: Path, seen: Callable[[int], None] = lambda _: None) -> str:
    """The SHA-256 of a file as hex digits; `seen` hears how many bytes were read."""
    return _digest(path, hashlib.sha256(), seen)


def git_sha1_of(path: Path) -> str:
    """The name git gives a file of this content: the hub's hash of files that are not in LFS."""
    head = b"blob %d\0" % path.stat().st_size
    return _digest(path, hashlib.sha1(head, usedforsecurity=False), lambda _: None)


def _digest(path: Path, digest: Any, seen: Callable[[int], None]) -> str:
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
            seen(len(chunk))
    found: str = digest.hexdigest()
    return found
