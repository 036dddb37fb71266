"""Cold prefixes on disk: pages of K/V under the key of the tokens they hold, so that a restart finds them.

One file a page, checked by a hash when it comes back; the least used go when the folder is full. What
cannot be written is not kept, and what is damaged is not there: a page can always be computed again.
Called by pages.py; the caller gives each model a folder of its own.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from collections import OrderedDict
from pathlib import Path

from gemstead.backend.base import Cache
from gemstead.errors import ConfigError

_DIGEST_BYTES = 16
_SUFFIX = ".kv"

Name = tuple[int, bytes]  # page pool, key


def share_of(folder: Path, most_bytes: int) -> int:
    """What `folder` may hold when it and those beside it, of other models, have `most_bytes` together.

    The others give up their least used pages until they hold no more than half; and never is more than
    half of the disk's free room taken.
    """
    own = others = 0
    try:
        pages = [path for path in folder.parent.glob(f"*/*{_SUFFIX}") if _name_of(path) is not None]
        states = sorted(
            ((path.stat(), path) for path in pages), key=lambda pair: pair[0].st_mtime, reverse=True
        )
        for state, path in states:  # the newest first
            if path.parent == folder:
                own += state.st_size
            elif others + state.st_size <= most_bytes // 2:
                others += state.st_size
            else:
                path.unlink(missing_ok=True)
        free = shutil.disk_usage(folder.parent).free
    except OSError:
        return most_bytes  # a folder that is not there yet, or that Parking will complain about
    return max(0, min(most_bytes - others, own + free // 2))


class Parking:
    """Pages of one model's cache in a folder of at most `most_bytes`. ConfigError without such a folder."""

    def __init__(self, folder: Path, cache: Cache, most_bytes: int) -> None:
        self._folder, self._cache, self._most_bytes = folder, cache, most_bytes
        self._sizes: OrderedDict[Name, int] = OrderedDict()  # first = used longest ago
        self.loaded = self.saved = self.bytes_held = 0  # bytes_held: what the files take
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            found = sorted(folder.iterdir(), key=lambda path: path.stat().st_mtime)
        except OSError as error:
            raise ConfigError(
                f"the prefix cache {folder} cannot be used: {error.strerror or error}; "
                "name a folder that can be written, or leave the prefix cache out"
            ) from error
        for path in found:
            name = _name_of(path)
            if name is not None:
                self._add(name, path.stat().st_size)
            elif path.suffix == ".part":
                path.unlink(missing_ok=True)  # of a process that ended while it wrote

    def has(self, pool: int, key: bytes) -> bool:
        """Whether a page was parked under this key."""
        return (pool, key) in self._sizes

    def save(self, pool: int, key: bytes, page: int) -> None:
        """Write a page, unless it is there already; nothing happens when it cannot be written."""
        if self.has(pool, key):
            return
        data = self._cache.read_page(pool, page)
        size = len(data) + _DIGEST_BYTES
        if size > self._most_bytes:
            return
        path = self._path((pool, key))
        part = path.with_suffix(f".{os.getpid()}.part")
        try:
            part.write_bytes(_digest(data) + data)
            part.replace(path)
        except OSError:
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)
            return
        self._add((pool, key), size)
        self.saved += 1
        while self.bytes_held > self._most_bytes:
            self._forget(next(iter(self._sizes)))

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
    pool, _, key = path.stem.partition("-")
    try:
        return (int(pool), bytes.fromhex(key)) if path.suffix == _SUFFIX and key else None
    except ValueError:
        return None
