"""What both writers share: an entry written chunk by chunk, and a file that appears whole or not at all.

Holds no more than one chunk in memory. Neighbours: safetensors.py, gguf_write.py.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from gemstead.errors import WeightsError
from gemstead.weights.formats import TABLE, Format
from gemstead.weights.mapped import plain_os_error

Bytes = npt.NDArray[np.uint8]
_CHUNK_VALUES = 1 << 22


@dataclass(frozen=True)
class Entry:
    """One tensor to write: `chunks()` yields its bytes, already in `format`, in order.

    `shape` is slowest axis first.
    """

    name: str
    shape: tuple[int, ...]
    format: Format
    chunks: Callable[[], Iterable[Bytes]] = field(repr=False)

    @property
    def nbytes(self) -> int:
        """Bytes the tensor takes; WeightsError when its rows are not whole blocks."""
        return self.format.nbytes(self.shape)

    def write_to(self, file: BinaryIO) -> None:
        """Write the chunks; WeightsError when they are not exactly `nbytes`."""
        written = 0
        for chunk in self.chunks():
            written += file.write(np.ascontiguousarray(chunk).data)
        if written != self.nbytes:
            raise WeightsError(
                f"cannot write {self.name!r}: its chunks were {written} bytes, its shape needs {self.nbytes}"
            )


def entry_from_array(name: str, values: npt.NDArray[np.generic], format_name: str) -> Entry:
    """An entry that packs `values` (any real dtype; integers for i32 and i64) a few rows at a time."""
    fmt = TABLE[format_name]
    shape = tuple(int(extent) for extent in values.shape)
    if fmt.name in ("i32", "i64"):
        raw = np.ascontiguousarray(values, dtype="<" + fmt.name.replace("i32", "i4").replace("i64", "i8"))
        return Entry(name, shape, fmt, lambda: [raw.reshape(-1).view(np.uint8)])

    def chunks() -> Iterator[Bytes]:
        rows = values.reshape(-1, values.shape[-1]) if values.ndim else values.reshape(1, 1)
        step = max(1, _CHUNK_VALUES // rows.shape[1])
        for start in range(0, len(rows), step):
            yield fmt.pack(rows[start : start + step].astype(np.float32, copy=False))

    return Entry(name, shape, fmt, chunks)


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """A binary file that takes the name `path` only once its block ends well; nothing is left otherwise."""
    part = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.part")
    try:
        with part.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        raise WeightsError(f"cannot write {path}: {plain_os_error(error)}") from error
    finally:
        part.unlink(missing_ok=True)
