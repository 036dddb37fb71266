"""Brings one file of a repository into the Hugging Face cache: locked, resumed, checked, then named.

A file has its final name only once its hash is right. What arrived before a cut, a kill or a full disk
stays as NAME.gemstead-part and is continued; a wrong hash removes it. Locks are huggingface_hub's own.
Neighbour: pull.py.
"""

from __future__ import annotations

import errno
import fcntl
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from gemstead.errors import HubError
from gemstead.hub.choose import RemoteFile
from gemstead.hub.manifest import git_sha1_of, sha256_of
from gemstead.hub.remote import Hub, Temporary

PART = ".gemstead-part"
LONGEST_WAIT_S = 300.0  # a hub that asks for more is left alone
_POLL_S = 0.1


class Cancelled(Exception):  # noqa: N818  not an error
    """The person stopped the download."""


@dataclass
class Progress:
    """Bytes of one pull, counted by several threads. `present` is what needed no transfer."""

    total: int
    done: int = 0
    present: int = 0
    checked: int = 0
    note: str = ""
    cancelled: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def arrived(self, count: int) -> None:
        """So many bytes came over the network."""
        with self._lock:
            self.done += count

    def found(self, count: int) -> None:
        """So many bytes are on the disk already; less than nothing when they turn out to be useless."""
        with self._lock:
            self.done += count
            self.present += count

    def check(self, count: int) -> None:
        """So many bytes were hashed; stops the thread of a cancelled pull."""
        self.stop_if_cancelled()
        with self._lock:
            self.checked += count

    def stop_if_cancelled(self) -> None:
        """Raise Cancelled once the person has stopped the pull."""
        if self.cancelled.is_set():
            raise Cancelled


@dataclass(frozen=True)
class Patience:
    """How often to try again without a byte of progress, and how long to wait before the first time."""

    tries: int = 6
    first_wait_s: float = 1.0

    def pause_s(self, error: Temporary, doublings: int) -> float:
        """How long to wait after `error`: as long as the hub asks for, else longer each time."""
        return error.wait_s if error.wait_s is not None else self.first_wait_s * 2**doublings


@dataclass(frozen=True)
class Place:
    """Where one file goes: its blob, its lock, and the pointer by its name in the snapshot."""

    blob: Path
    lock: Path
    pointer: Path

    @property
    def part(self) -> Path:
        """Where the bytes gather."""
        return self.blob.with_name(self.blob.name + PART)

    @property
    def present(self) -> Path | None:
        """The finished file, if it is there."""
        return next((path for path in (self.blob, self.pointer) if path.exists()), None)


def fetch(
    hub: Hub, source: tuple[str, str], file: RemoteFile, place: Place, progress: Progress, patience: Patience
) -> tuple[str, bool]:
    """Have `file` of `source` (repository, commit) at its place: its SHA-256, and whether it came now."""
    with locked(place.lock, progress):
        present = place.present
        if present is not None:
            progress.found(file.bytes)
            return check(present, file, progress, ours=False), False
        place.blob.parent.mkdir(parents=True, exist_ok=True)
        have = place.part.stat().st_size if place.part.exists() else 0
        if have > file.bytes:
            place.part.unlink()
            have = 0
        progress.found(have)
        _transfer(hub, source, file, place.part, progress, patience)
        sha256 = check(place.part, file, progress, ours=True)
        place.part.replace(place.blob)
        return sha256, True


def _transfer(
    hub: Hub, source: tuple[str, str], file: RemoteFile, part: Path, progress: Progress, patience: Patience
) -> None:
    """Bring the part to its full length, as often as the network breaks, while each try brings something."""
    failed = 0
    part.touch()
    while (have := part.stat().st_size) < file.bytes:
        try:
            _go_on(hub, source, file, part, have, progress)
            if part.stat().st_size < file.bytes:
                raise Temporary(f"the transfer of {file.path} ended early")
        except Temporary as error:
            failed = 0 if part.stat().st_size > have else failed + 1
            wait_s = patience.pause_s(error, max(0, failed - 1))
            if failed >= patience.tries or wait_s > LONGEST_WAIT_S:
                later = f" in {wait_s:.0f} seconds" if error.wait_s else ""
                raise HubError(
                    f"fetching {file.path} failed: {error}. What has arrived is kept; run the same command "
                    f"again{later} to go on from there"
                ) from error
            progress.note = f"trying again: {error}"
            if progress.cancelled.wait(wait_s):
                raise Cancelled from error
            progress.note = ""


def _go_on(
    hub: Hub, source: tuple[str, str], file: RemoteFile, part: Path, have: int, progress: Progress
) -> None:
    """One request: append what comes to the part, from the place where the server really begins."""
    with hub.read(*source, file.path, have) as (begins, pieces), part.open("r+b") as out:
        if begins < have:
            out.truncate(begins)
            progress.found(begins - have)
        out.seek(begins)
        left = file.bytes - begins
        try:
            for piece in pieces:
                progress.stop_if_cancelled()
                if len(piece) > left:
                    raise HubError(
                        f"{file.path} is longer than the {file.bytes} bytes that the hub announced"
                    )
                out.write(piece)
                left -= len(piece)
                progress.arrived(len(piece))
            out.flush()
            os.fsync(out.fileno())
        except OSError as error:
            raise disk_error(error, file.path, part) from error


def check(path: Path, file: RemoteFile, progress: Progress, *, ours: bool) -> str:
    """The SHA-256 of a whole file, compared with the hub's hash. A wrong file of ours is removed."""
    sha256 = sha256_of(path, progress.check)
    if file.sha256 is not None:
        expected, seen = file.sha256, sha256
    elif file.git_sha1 is not None:
        expected, seen = file.git_sha1, git_sha1_of(path)
    else:
        raise HubError(f"the hub gives no hash for {file.path}, so that it cannot be checked")
    if seen == expected and path.stat().st_size == file.bytes:
        return sha256
    if ours:
        path.unlink(missing_ok=True)
        raise HubError(
            f"{file.path} arrived damaged or altered: its hash is {seen}, the hub says {expected}. The file "
            "was removed; run the same command again, and if it happens again do not trust this mirror"
        )
    raise HubError(
        f"{path} was here before and is damaged: its hash is {seen}, the hub says {expected}. gemstead "
        "removes nothing it did not put there: delete that file yourself and run the same command again"
    )


def disk_error(error: OSError, name: str, place: Path) -> HubError:
    """A failed write in plain words."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return HubError(
            f"the disk is full: {name} does not fit into {place.parent}. What has arrived is kept; make room "
            "and run the same command again, or remove it with gemstead rm"
        )
    return HubError(f"cannot write {place}: {error.strerror or error}")


@contextmanager
def locked(path: Path, progress: Progress) -> Iterator[None]:
    """Hold the lock file at `path`, waiting while another process holds it."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("w")
    except OSError as error:
        raise disk_error(error, path.name, path) from error
    with file:
        waiting = False
        while True:
            progress.stop_if_cancelled()
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                waiting = True
                progress.note = "another program is fetching the same file; waiting for it"
                time.sleep(_POLL_S)
        if waiting:
            progress.note = ""
        yield
