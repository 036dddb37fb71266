"""Models from hand to hand without the internet: out to a folder or stick, in from one, every hash checked.

A carried folder holds one folder for each model with its files and gemstead.json; it is also a folder that
GEMSTEAD_MODELS can name. A model appears in its place whole or not at all. Neighbours: lan.py, manifest.py.
"""

from __future__ import annotations

import datetime
import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from gemstead.errors import HubError
from gemstead.hub.fetch import Progress, disk_error
from gemstead.hub.local import LocalModel
from gemstead.hub.manifest import NAME, FileRecord, Manifest, read_manifest, sha256_of, slug
from gemstead.hub.names import looks_like_name, parse
from gemstead.hub.pull import check_room

_CHUNK_BYTES = 1 << 20
_TRIES = 5


class Source(Protocol):
    """Where models are taken from: a folder, this machine's own stores, another machine."""

    def manifests(self) -> Sequence[Manifest]:
        """What there is."""
        ...

    def read(
        self, manifest: Manifest, file: FileRecord, start: int
    ) -> AbstractContextManager[Iterator[bytes]]:
        """The bytes of one file from `start` on."""
        ...


@dataclass(frozen=True)
class Package:
    """A model of this machine, ready to be carried: its manifest, and where each file of it lies."""

    manifest: Manifest
    paths: dict[str, Path]


class LocalSource:
    """Models of this machine, hashed where no manifest of gemstead knows their hashes."""

    def __init__(self, packages: Sequence[Package]) -> None:
        self.packages = {package.manifest.name: package for package in packages}

    def manifests(self) -> Sequence[Manifest]:
        """The manifests of the packages."""
        return [package.manifest for package in self.packages.values()]

    @contextmanager
    def read(self, manifest: Manifest, file: FileRecord, start: int) -> Iterator[Iterator[bytes]]:
        """The bytes of one file from `start` on."""
        with pieces(self.packages[manifest.name].paths[file.path], start) as found:
            yield found


class FolderSource:
    """A folder or stick that gemstead carry wrote."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        found = [*sorted(folder.glob(f"*/{NAME}")), *([folder / NAME] if (folder / NAME).exists() else [])]
        self._manifests = {path.parent: read_manifest(path) for path in found}
        if not found:
            raise HubError(
                f"{folder} holds no models that gemstead carried; carry --to FOLDER NAME puts one there"
            )

    def manifests(self) -> Sequence[Manifest]:
        """What lies in the folder."""
        return list(self._manifests.values())

    @contextmanager
    def read(self, manifest: Manifest, file: FileRecord, start: int) -> Iterator[Iterator[bytes]]:
        """The bytes of one file from `start` on."""
        home = next(home for home, found in self._manifests.items() if found is manifest)
        with pieces(home / file.path, start) as found:
            yield found


@contextmanager
def pieces(path: Path, start: int) -> Iterator[Iterator[bytes]]:
    """A file in pieces; HubError when it cannot be read."""
    try:
        with path.open("rb") as file:
            file.seek(start)
            yield iter(lambda: file.read(_CHUNK_BYTES), b"")
    except OSError as error:
        raise HubError(f"cannot read {path}: {error.strerror or error}") from error


def size_of(model: LocalModel) -> int:
    """How many bytes a model has, its mmproj included."""
    return model.facts.bytes + (model.mmproj.stat().st_size if model.mmproj is not None else 0)


def package(model: LocalModel, progress: Progress) -> Package:
    """A model ready to be carried; reads all of it once where its hashes are not known."""
    if model.facts.fault is not None:
        raise HubError(f"{model.name} cannot be carried, it is not whole: {model.facts.fault}")
    folder = model.facts.path if model.facts.path.is_dir() else model.facts.path.parent
    paths = {_name(model, file, folder): file for file in model.facts.files if file.name != NAME}
    roles = dict.fromkeys((name for name in paths if name.endswith((".gguf", ".safetensors"))), "weights")
    if model.mmproj is not None:
        name = _name(model, model.mmproj, folder, "mmproj-")
        paths[name], roles[name] = model.mmproj, "mmproj"
    known = {}
    earlier = None
    if model.manifest is not None:
        earlier = read_manifest(model.manifest)
        known = {(Path(file.path).name, file.bytes): file.sha256 for file in earlier.files}
    files = []
    for name, path in sorted(paths.items()):
        size = path.stat().st_size
        sha256 = known.get((path.name, size))
        if sha256 is None:
            sha256 = sha256_of(path, progress.check)
        progress.found(size)
        files.append(FileRecord(name, size, sha256, roles.get(name, "other")))
    manifest = Manifest(
        model.name,
        "." if model.facts.path.is_dir() else _name(model, model.facts.path, folder),
        tuple(files),
        earlier.repo if earlier else model.repo,
        earlier.revision if earlier else None,
        datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    )
    return Package(manifest, paths)


def _name(model: LocalModel, file: Path, folder: Path, prefix: str = "") -> str:
    """A file's name in the carried folder; Ollama's blobs, which have none, are called after their model."""
    if file.name.startswith("sha256"):
        return f"{prefix}{slug(model.name)}.gguf"
    return file.relative_to(folder).as_posix() if file.is_relative_to(folder) else file.name


def chosen(manifests: Sequence[Manifest], names: Sequence[str]) -> list[Manifest]:
    """The manifests with these names, all of them without names; HubError naming what there is."""
    if not names:
        return list(manifests)
    found = []
    for name in names:
        matches = [m for m in manifests if name.lower() in (m.name.lower(), slug(m.name).lower())]
        if not matches and looks_like_name(name):
            wanted = parse(name)
            matches = [m for m in manifests if m.repo == wanted.repo]
        if len(matches) != 1:
            there = ", ".join(m.name for m in manifests) or "none"
            raise HubError(
                f"{'several models are' if matches else 'no model is'} {name!r} here; there are: {there}"
            )
        found.append(matches[0])
    return found


def bring(source: Source, manifest: Manifest, parent: Path, progress: Progress) -> Path:
    """Copy one model into a folder of its own below `parent`, check every hash, then let it appear there."""
    home = parent / slug(manifest.name)
    if _is_there(home, manifest):
        progress.found(manifest.total_bytes)
        return home
    if home.exists():
        raise HubError(f"{home} is there already and is another model; remove or rename it first")
    check_room(parent, manifest.total_bytes, manifest.name)
    coming = parent / f".{home.name}.coming"  # hidden: a folder like this is never taken for a model
    for file in manifest.files:
        try:
            _bring_file(source, manifest, file, coming / file.path, progress)
        except OSError as error:
            raise disk_error(error, file.path, coming / file.path) from error
    arrived = tuple(replace(file, fetched=True) for file in manifest.files)  # wherever they came from before
    replace(manifest, files=arrived).write(coming / NAME)
    try:
        coming.rename(home)
    except OSError as error:
        raise disk_error(error, manifest.name, home) from error
    return home


def _is_there(home: Path, manifest: Manifest) -> bool:
    """Whether this very model has been brought before."""
    with suppress(HubError):
        same = {(f.path, f.sha256) for f in read_manifest(home / NAME).files}
        return same == {(f.path, f.sha256) for f in manifest.files} and all(
            (home / f.path).is_file() and (home / f.path).stat().st_size == f.bytes for f in manifest.files
        )
    return False


def _bring_file(
    source: Source, manifest: Manifest, file: FileRecord, place: Path, progress: Progress
) -> None:
    """One file, going on from what came before; a wrong hash removes it."""
    place.parent.mkdir(parents=True, exist_ok=True)
    place.touch()
    if place.stat().st_size > file.bytes:
        place.write_bytes(b"")
    progress.found(place.stat().st_size)
    for left in reversed(range(_TRIES)):
        start = place.stat().st_size
        if start == file.bytes:
            break
        try:
            _append(source, manifest, file, place, progress)
        except HubError:
            if not left or place.stat().st_size == start:
                raise
    seen = sha256_of(place, progress.check)
    if seen != file.sha256 or place.stat().st_size != file.bytes:
        place.unlink()
        raise HubError(
            f"{file.path} of {manifest.name} arrived damaged: its hash is {seen}, the manifest says "
            f"{file.sha256}. It was removed; try again, and if that fails the source is damaged"
        )


def _append(source: Source, manifest: Manifest, file: FileRecord, place: Path, progress: Progress) -> None:
    start = place.stat().st_size
    with source.read(manifest, file, start) as found, place.open("ab") as out:
        left = file.bytes - start
        for piece in found:
            progress.stop_if_cancelled()
            if len(piece) > left:
                raise HubError(f"{file.path} is longer than the {file.bytes} bytes its manifest says")
            out.write(piece)
            left -= len(piece)
            progress.arrived(len(piece))
        if left:
            raise HubError(f"{file.path} ended {left} bytes early")
        out.flush()
        os.fsync(out.fileno())
