"""Weights rearranged for the native kernels, kept on disk so that the next opening only maps them.

A cache: safe to delete at any time, shared by processes, limited in size, the least used goes first. A
file appears whole or not at all; without room or permission nothing is kept and nobody is bothered.
Its header and its length are checked, its gigabytes are not, like those of the model's own file.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from gemstead.errors import WeightsError
from gemstead.weights.mapped import MappedFile
from gemstead.weights.writing import whole_file

Bytes = npt.NDArray[np.uint8]

_MAGIC = b"gemstead packed weights 1\n"
_HEADER_BYTES, _ALIGNMENT = 4096, 64
# The folder may hold this much, and must leave this much of its disk free.
_MOST_BYTES, _LEAST_FREE_BYTES = 40 << 30, 2 << 30
_STALE_S = 24 * 3600  # a part file this old belongs to nobody who still writes


def default_folder() -> Path | None:
    """$GEMSTEAD_CACHE/packed, else `packed` in the user's cache folder; None: GEMSTEAD_CACHE is empty."""
    chosen = os.environ.get("GEMSTEAD_CACHE")
    if chosen is not None:
        return Path(chosen).expanduser() / "packed" if chosen.strip() else None
    if sys.platform == "darwin":
        return Path("~/Library/Caches/gemstead/packed").expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "gemstead/packed"


class PackedCache:
    """A folder of packed models, each under a key that says whose it is (fingerprint.py)."""

    def __init__(self, folder: Path, most_bytes: int = _MOST_BYTES) -> None:
        self.folder, self.most_bytes = folder, most_bytes

    def open(self, key: str, sizes: Mapping[str, int]) -> dict[str, Bytes] | None:
        """The pieces kept under `key`, mapped read-only; None when there are none or they are damaged."""
        path = self._path(key)
        try:
            file = MappedFile(path)
        except WeightsError:
            return None
        offsets, end = _offsets(sizes)
        if file.size != end or bytes(file.view(0, _HEADER_BYTES)) != _header(key):
            file.close()
            return None
        with contextlib.suppress(OSError):
            os.utime(path)  # the least used is the first to go
        return {name: file.view(offsets[name], size) for name, size in sizes.items()}

    def keep(self, key: str, sizes: Mapping[str, int], pieces: Iterable[Bytes]) -> bool:
        """Write the pieces, in the order of `sizes`; False, and nothing written, without room for them."""
        offsets, end = _offsets(sizes)
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            if not self._make_room(end):
                return False
            with whole_file(self._path(key)) as out:
                out.write(_header(key))
                for name, piece in zip(sizes, pieces, strict=True):
                    out.write(bytes(offsets[name] - out.tell()))
                    out.write(piece.data)
                out.write(bytes(end - out.tell()))
        except (OSError, WeightsError):
            return False
        return True

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}.packed"

    def _make_room(self, size: int) -> bool:
        kept = []
        for path in self.folder.iterdir():
            with contextlib.suppress(OSError):
                info = path.stat()
                if path.suffix == ".packed":
                    kept.append((info.st_mtime, info.st_size, path))
                elif path.suffix == ".part" and time.time() - info.st_mtime > _STALE_S:
                    path.unlink()
        free = shutil.disk_usage(self.folder).free - size - _LEAST_FREE_BYTES
        over = sum(x for _, x, _ in kept) + size - self.most_bytes
        if size > self.most_bytes or free + sum(x for _, x, _ in kept) < 0:
            return False
        for _, bytes_kept, path in sorted(kept):
            if over <= 0 and free >= 0:
                break
            path.unlink(missing_ok=True)
            over, free = over - bytes_kept, free + bytes_kept
        return True


def _header(key: str) -> bytes:
    return (_MAGIC + key.encode()).ljust(_HEADER_BYTES, b"\0")


def _offsets(sizes: Mapping[str, int]) -> tuple[dict[str, int], int]:
    """Where each piece begins, and where the file ends."""
    at, offsets = _HEADER_BYTES, {}
    for name, size in sizes.items():
        offsets[name] = at
        at += -(-size // _ALIGNMENT) * _ALIGNMENT
    return offsets, at
