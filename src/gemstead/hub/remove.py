"""Removes a model that gemstead put on this disk, and what an unfinished pull left; nothing else, ever.

Only files that a manifest names as fetched go, and only those that no other manifest needs. Models of other
programs are refused with the name of the program. Neighbours: local.py, manifest.py, pull.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from gemstead.errors import HubError
from gemstead.hub.folders import hf_cache
from gemstead.hub.local import LocalModel
from gemstead.hub.manifest import NAME, Manifest, read_manifest
from gemstead.hub.pull import NOTE_SUFFIX


@dataclass(frozen=True)
class Unfinished:
    """A pull that has not ended: the note it left and the parts that gathered."""

    name: str
    note: Path
    parts: tuple[Path, ...]

    @property
    def bytes(self) -> int:
        """How much has arrived."""
        return sum(part.stat().st_size for part in self.parts)


def unfinished() -> list[Unfinished]:
    """Every pull that was stopped and not taken up again."""
    return list(_unfinished())


def _unfinished() -> Iterator[Unfinished]:
    for note in sorted(hf_cache().glob(f"models--*/gemstead/*{NOTE_SUFFIX}")):
        with suppress(OSError, UnicodeDecodeError):
            name, *parts = note.read_text("utf-8").splitlines()
            blobs = note.parents[1] / "blobs"
            yield Unfinished(
                name, note, tuple(p for p in (blobs / Path(x).name for x in parts) if p.exists())
            )


def forget(pull: Unfinished) -> None:
    """Remove the parts and the note of an unfinished pull."""
    for path in (*pull.parts, pull.note):
        path.unlink(missing_ok=True)
    _sweep(pull.note.parents[1])


def check_ours(model: LocalModel) -> Path:
    """The manifest of a model that gemstead put there; HubError for any other."""
    if model.manifest is not None:
        return model.manifest
    whose = "you" if model.origin == "folder" else model.origin
    raise HubError(
        f"{model.name} was put there by {whose}, not by gemstead: {model.facts.path}. gemstead removes only "
        f"what it fetched; remove it {'yourself' if whose == 'you' else 'with ' + whose}"
    )


def removable(model: LocalModel) -> list[Path]:
    """The files that would go: those of its manifest that gemstead fetched and no other model needs."""
    path = check_ours(model)
    manifest = read_manifest(path)
    home = path.parent if path.name == NAME else path.parents[1]
    folder = home if path.name == NAME else home / "snapshots" / (manifest.revision or "")
    others = [] if path.name == NAME else [p for p in path.parent.glob("*.json") if p != path]
    needed = {name for other in others for name in _paths_of(other, manifest)}
    return [folder / f.path for f in manifest.files if f.fetched and f.path not in needed]


def remove(model: LocalModel) -> int:
    """Remove the model; the bytes that became free."""
    path = check_ours(model)
    files = removable(model)
    path.unlink()  # first: what is half removed is no model of ours any more, and does not open as one
    freed = 0
    for file in files:
        blob = file.resolve()
        with suppress(FileNotFoundError):
            size = blob.stat().st_size
            file.unlink()
            if blob != file and not _is_used(blob):
                blob.unlink(missing_ok=True)
                freed += size
            elif blob == file:
                freed += size
    _sweep(path.parent if path.name == NAME else path.parents[1])
    return freed


def _paths_of(other: Path, manifest: Manifest) -> set[str]:
    try:
        found = read_manifest(other)
    except HubError:
        return set()
    return {file.path for file in found.files} if found.revision == manifest.revision else set()


def _is_used(blob: Path) -> bool:
    """Whether a snapshot still leads to this blob."""
    return any(link.resolve() == blob for link in blob.parents[1].glob("snapshots/**/*") if link.is_symlink())


def _sweep(home: Path) -> None:
    """Remove the folders that became empty, and the branch's note once no snapshot is left."""
    if not any(path.is_symlink() or path.is_file() for path in home.glob("snapshots/**/*")):
        for ref in home.glob("refs/*"):
            ref.unlink()
    for folder in sorted((path for path in home.rglob("*") if path.is_dir()), reverse=True):
        with suppress(OSError):
            folder.rmdir()
    with suppress(OSError):
        home.rmdir()
