"""A weight file mapped into memory: opening it safely, and views that cannot leave it.

Refuses what is no regular file (a pipe would block, a folder cannot be mapped) and, by first bytes,
the kinds of file people name by mistake. Used by gguf.py and safetensors.py.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import mmap
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Self

import numpy as np
import numpy.typing as npt

from gemstead.errors import WeightsError
from gemstead.weights.formats import Format

Bytes = npt.NDArray[np.uint8]

_PICKLE = (
    "a Python pickle (.pth, .pt, .bin, .ckpt), which can run code when loaded; convert it to safetensors"
)

# First bytes -> what the file is. Public magic numbers of each kind.
_OTHER_KINDS: tuple[tuple[bytes, str], ...] = (
    (
        b"version https://git-lfs",
        "a Git LFS pointer, not the weights themselves; fetch them with `git lfs pull` or download again",
    ),
    (b"# xet version", "a Xet pointer, not the weights themselves; download the file again"),
    (b"PK\x03\x04", f"a zip archive, most likely {_PICKLE}"),
    (b"\x80\x02", _PICKLE),
    (b"\x80\x03", _PICKLE),
    (b"\x80\x04", _PICKLE),
    (
        b"LITERTLM",
        "a LiteRT-LM bundle (.litertlm), which gemstead does not read; use the GGUF or safetensors",
    ),
    (b"\x89HDF", "an HDF5 file (Keras), which gemstead does not read; use the GGUF or safetensors"),
    (b"\x1f\x8b", "a gzip archive; unpack it first"),
    (b"lmgg", "a GGML file from before GGUF; convert the model again"),
    (b"fmgg", "a GGML file from before GGUF; convert the model again"),
    (b"tjgg", "a GGML file from before GGUF; convert the model again"),
    (b"FUGG", "a big-endian GGUF; gemstead reads little-endian files only"),
    (b"<!DOCTYPE", "a web page; the download went wrong, fetch the file again"),
    (b"<html", "a web page; the download went wrong, fetch the file again"),
    (b"GGUF", "a GGUF file; its name should end in .gguf"),
)

# The high half of a header's length and the brace of its JSON. The low half may be any bytes: a header
# of 0x280 bytes begins as a pickle does, one of 0x8b1f as a gzip.
_SAFETENSORS = b"\0\0\0\0{"


def kind_by_first_bytes(head: bytes) -> str | None:
    """What a file with these first bytes is, as the end of a sentence, or None when unknown."""
    if head[4:9] == _SAFETENSORS:
        return None
    if head[4:8] == b"TFL3":
        return "a TensorFlow Lite model, which gemstead does not read; use the GGUF or safetensors"
    return next((kind for magic, kind in _OTHER_KINDS if head.startswith(magic)), None)


def listed(names: list[str]) -> str:
    """The first twenty of these names, for an error message."""
    return ", ".join(name[:200] for name in names[:20]) + (
        f", ... ({len(names)} in all)" if len(names) > 20 else ""
    )


def brief(value: object) -> str:
    """A value from a file as an error message shows it: never long."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:80]}..."


def plain_os_error(error: OSError) -> str:
    """An operating system's refusal as a few plain words."""
    if error.errno == errno.ELOOP:
        return "symbolic links that lead in a circle"
    if error.errno == errno.ENOENT:
        return "no such file (or a link to one that is gone)"
    return (error.strerror or str(error)).lower()


class Closing:
    """What `with` closes at its end."""

    def close(self) -> None:
        """Let go of everything."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class MappedFile:
    """A regular file, mapped read-only. The file must not be cut short while it is open."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._map: mmap.mmap | None = None
        try:
            # Non-blocking so that a pipe in the place of a file is refused instead of waited for.
            fd = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        except (OSError, ValueError) as error:
            words = plain_os_error(error) if isinstance(error, OSError) else str(error)
            raise WeightsError(f"cannot open {path}: {words}") from error
        try:
            info = os.fstat(fd)
            if not stat.S_ISREG(info.st_mode):
                raise WeightsError(f"cannot open {path}: it is a folder or a device, not a regular file")
            self.size, self._identity = info.st_size, (info.st_dev, info.st_ino)
            if self.size == 0:
                raise WeightsError(f"{path} is empty; download or write it again")
            self._map = mmap.mmap(fd, 0, access=mmap.ACCESS_READ)
        except OSError as error:
            why = plain_os_error(error)
            if error.errno == errno.ENOMEM:
                why = f"{self.size:,} bytes are more than may be mapped; see ulimit -v, which counts files"
            raise WeightsError(f"cannot map {path}: {why}") from error
        finally:
            os.close(fd)

    @property
    def buffer(self) -> mmap.mmap:
        """The mapped bytes; WeightsError after close."""
        if self._map is None:
            raise WeightsError(f"{self.path} has been closed")
        return self._map

    def reopened(self) -> BinaryIO | None:
        """The same file, opened anew to be read without the map; None where the name means another now."""
        with contextlib.suppress(OSError):
            file = self.path.open("rb", buffering=0)
            info = os.fstat(file.fileno())
            if (info.st_dev, info.st_ino) == self._identity:
                return file
            file.close()
        return None

    def view(self, start: int, count: int) -> Bytes:
        """The `count` bytes from `start`, without copying; WeightsError outside the file."""
        if start < 0 or count < 0 or start + count > self.size:
            raise WeightsError(
                f"{self.path} is too short: bytes {start} to {start + count} wanted, {self.size} there"
            )
        return np.frombuffer(self.buffer, dtype=np.uint8, count=count, offset=start)

    def release(self, start: int, count: int) -> None:
        """Take whole pages within these bytes out of memory; their views stay valid."""
        first = -(-start // mmap.PAGESIZE) * mmap.PAGESIZE
        length = (start + count) // mmap.PAGESIZE * mmap.PAGESIZE - first
        if length > 0 and hasattr(mmap, "MADV_DONTNEED"):
            self.buffer.madvise(mmap.MADV_DONTNEED, first, length)

    def close(self) -> None:
        """Unmap, or leave that to the last view still in use."""
        held, self._map = self._map, None
        if held is not None:
            try:
                held.close()
            except BufferError:  # views are alive; the map goes when they go
                del held


@dataclass(frozen=True)
class StoredTensor:
    """Where one tensor lies in a file: `shape` slowest axis first, `start` in bytes from the file's head."""

    name: str
    format: Format
    shape: tuple[int, ...]
    file: MappedFile
    start: int
    nbytes: int

    def raw(self) -> Bytes:
        """The tensor's bytes as [..., row bytes], without copying."""
        flat = self.file.view(self.start, self.nbytes)
        if not self.shape:
            return flat
        return flat.reshape(*self.shape[:-1], self.format.row_bytes(self.shape[-1]))

    def release(self) -> None:
        """Let the system have the memory these bytes take; whoever reads them again maps them again."""
        self.file.release(self.start, self.nbytes)


def check_overlaps(tensors: list[StoredTensor], path: Path) -> None:
    """WeightsError when two of these tensors of one file share bytes."""
    ordered = sorted(tensors, key=lambda tensor: tensor.start)
    for left, right in itertools.pairwise(ordered):
        if left.start + left.nbytes > right.start:
            raise WeightsError(
                f"{path}: tensors {brief(left.name)} and {brief(right.name)} overlap: the first ends at byte "
                f"{left.start + left.nbytes}, the second begins at {right.start}; the file is damaged"
            )
