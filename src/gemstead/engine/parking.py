"""Cold prefixes on disk: pages of K/V under the key of the tokens they hold, so that a restart finds them.

One file a page, checked by a hash when it comes back; the least used go when the folder is full. What
cannot be written is not kept, and what is damaged is not there: a page can always be computed again.
Called by pages.py; the caller gives each model a folder of its own.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
from collections import OrderedDict
from pathlib import Path

from gemstead.backend.base import Cache
from gemstead.errors import ConfigError

_DIGEST_BYTES = 16
_SUFFIX = ".kv"
_PAGE = re.compile(r"(\d+)-((?:[0-9a-f]{2})+)\.kv")
_FINGERPRINT = re.compile(r"[0-9a-f]{40}")

Name = tuple[int, bytes]  # page pool, key


def share_of(folder: Path, most_bytes: int) -> int:
    """What a model's `folder` may hold when it and those beside it have `most_bytes` together.

    The others give up their least used pages until they hold no more than half; and never is more than
    half of the disk's free room taken. Only folders called by a fingerprint share.
    """
    own = others = 0
    pages = [page for beside in _fingerprinted(folder) for page in _pages(beside)]
    for _, size, path in sorted(pages, reverse=True):  # the newest first
        if path.parent == folder:
            own += size
        elif others + size <= most_bytes // 2:
            others += size
        else:
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
    room = most_bytes
    with contextlib.suppress(OSError):
        there = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
        room = shutil.disk_usage(there).free // 2
    return max(0, min(most_bytes - others, own + room))


def _fingerprinted(folder: Path) -> list[Path]:
    """The folder, and those beside it that are of other models."""
    if not _FINGERPRINT.fullmatch(folder.name):
        return [folder]
    with contextlib.suppress(OSError):
        return [path for path in folder.parent.iterdir() if _FINGERPRINT.fullmatch(path.name)]
    return []


def _pages(folder: Path) -> list[tuple[float, int, Path]]:
    """When each page of a folder was used last, its bytes, its path; what goes meanwhile is left out."""
    found = []
    with contextlib.suppress(OSError):
        for path in folder.iterdir():
            if _name_of(path) is not None:
                with contextlib.suppress(OSError):
                    state = path.stat()
                    found.append((state.st_mtime, state.st_size, path))
    return found


class Parking:
    """Pages of one model's cache in a folder; it and those of other models hold at most `most_bytes`.

    ConfigError for a folder that cannot be used.
    """

    def __init__(self, folder: Path, cache: Cache, most_bytes: int) -> None:
        self._folder, self._cache, self._ceiling = folder, cache, most_bytes
        self._sizes: OrderedDict[Name, int] = OrderedDict()  # first = used longest ago
        self.loaded = self.saved = self.bytes_held = 0  # bytes_held: what the files take
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            for path in folder.glob("*.part"):
                path.unlink(missing_ok=True)  # of a process that ended while it wrote
        except OSError as error:
            raise ConfigError(
                f"the prefix cache {folder} cannot be used: {error.strerror or error}; "
                "name a folder that can be written, or leave the prefix cache out"
            ) from error
        for _, size, path in sorted(_pages(folder)):
            if name := _name_of(path):
                self._add(name, size)
        self._most_bytes = most_bytes
        self.share()

    def share(self) -> None:
        """Look again how much may be held, for other models hold some too; the least used beyond it goes."""
        self._most_bytes = share_of(self._folder, self._ceiling)
        while self.bytes_held > self._most_bytes:
            self._forget(next(iter(self._sizes)))

    @property
    def most_bytes(self) -> int:
        """What may be held, as far as is known."""
        return self._most_bytes

    def has(self, pool: int, key: bytes) -> bool:
        """Whether a page was parked under this key."""
        return (pool, key) in self._sizes

    def save(self, pool: int, key: bytes, page: int, room: int | None = None) -> int:
        """Write a page, unless it is there; its bytes, 0 when it cannot be written or exceeds `room`."""
        if self.has(pool, key):
            return self._sizes[pool, key]
        data = self._cache.read_page(pool, page)
        size = len(data) + _DIGEST_BYTES
        if size > (self._most_bytes if room is None else room):
            return 0
        path = self._path((pool, key))
        part = path.with_suffix(f".{os.getpid()}.part")
        try:
            part.write_bytes(_digest(data) + data)
            part.replace(path)
        except OSError:
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)
            return 0
        self._add((pool, key), size)
        self.saved += 1
        while self.bytes_held > self._most_bytes:
            self._forget(next(iter(self._sizes)))
        return size

    def load(self, pool: int, key: bytes, page: int) -> bool:
        """Put a parked page into the cache; False, and the file gone, if it is not as it was written."""
        name = pool, key
        if name not in self._sizes:
            return False
        path = self._path(name)
        try:
            raw = path.read_bytes()
            if raw[:_DIGEST_BYTES] != _digest(raw[_DIGEST_BYTES:]):
                raise ValueError("damaged")
            self._cache.write_page(pool, page, raw[_DIGEST_BYTES:])
            os.utime(path)
        except (OSError, ValueError):
            self._forget(name)
            return False
        self._sizes.move_to_end(name)
        self.loaded += 1
        return True

    def _add(self, name: Name, size: int) -> None:
        self._sizes[name] = size
        self.bytes_held += size

    def _forget(self, name: Name) -> None:
        self.bytes_held -= self._sizes.pop(name)
        with contextlib.suppress(OSError):
            self._path(name).unlink(missing_ok=True)

    def _path(self, name: Name) -> Path:
        return self._folder / f"{name[0]}-{name[1].hex()}{_SUFFIX}"


def _digest(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=_DIGEST_BYTES).digest()


def _name_of(path: Path) -> Name | None:
    match = _PAGE.fullmatch(path.name)
    return None if match is None else (int(match[1]), bytes.fromhex(match[2]))
