"""Gemma's vocabulary in the core: text to ids, opened in a tenth of a second.

A vocabulary with a fault is left to text/tokenizer.py, which says all that is wrong with it.
Neighbour: library.py.
"""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Collection, Iterator, Sequence
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from gemstead.backend.native.layout import Strings
from gemstead.backend.native.library import address, check, is_built, library
from gemstead.errors import BackendError
from gemstead.weights.gguf_values import StringArray, string_bytes
from gemstead.weights.mapped import Bytes


def native_cutter(
    tokens: Sequence[str], types: Sequence[int], merges: Sequence[Any], controls: Collection[str]
) -> NativeCutter | None:
    """The core's Cutter (text/tokenizer.py), None where there is no core or the vocabulary has a fault."""
    if not is_built() or len(types) != len(tokens):
        return None
    try:
        pieces = np.array(_bytes_of(tokens))  # a copy: the file may be closed
        joined = merges if isinstance(merges, StringArray) else [_line(merge) for merge in merges]
        return NativeCutter(pieces, len(tokens), types, _bytes_of(joined), len(merges), controls)
    except (BackendError, AttributeError, TypeError, ValueError, OverflowError):  # no text, or no number
        return None


class NativeCutter:
    """A vocabulary held by the core. `pieces` are decoded as they are asked for."""

    def __init__(
        self,
        tokens: Bytes,
        count: int,
        types: Sequence[int],
        merges: Bytes,
        merge_count: int,
        controls: Collection[str],
    ) -> None:
        """BackendError for a vocabulary with a fault. tokens and merges: strings as a GGUF holds them."""
        kinds, starts = np.array(types, dtype=np.int32), np.empty(count, np.int64)
        special, self._held = _bytes_of(tuple(controls)), ctypes.c_void_p()
        status = library().gs_new_vocabulary(
            Strings(address(tokens), tokens.size, count),
            Strings(address(merges), merges.size, merge_count),
            Strings(address(special), special.size, len(controls)),
            address(kinds),
            address(starts),
            ctypes.byref(self._held),
        )
        check(status, "reading the vocabulary")
        # No __del__: when Python ends, what one would call may be gone already.
        weakref.finalize(self, library().gs_close_vocabulary, self._held).atexit = False
        self.pieces: Sequence[str] = Pieces(tokens, starts)
        self.types = kinds.astype(np.uint8).tobytes()

    def encode(self, text: str) -> list[int]:
        """See Cutter."""
        raw = text.encode("utf-8")
        ids, count = np.empty(len(raw), np.int32), ctypes.c_int32()
        check(
            library().gs_encode(self._held, raw, len(raw), address(ids), ctypes.byref(count)),
            "encoding a text",
        )
        found: list[int] = ids[: count.value].tolist()
        return found

    def find(self, piece: str) -> int | None:
        """See Cutter."""
        raw = piece.encode("utf-8", "surrogatepass")
        found = int(library().gs_token(self._held, raw, len(raw)))
        return None if found < 0 else found


class Pieces(Sequence[str]):
    """Strings that lie in one block of bytes, eight bytes apart; starts [n]: where each begins."""

    def __init__(self, block: Bytes, starts: npt.NDArray[np.int64]) -> None:
        self._block, self._starts = block, starts

    def __len__(self) -> int:
        return len(self._starts)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        index = range(len(self))[index]
        end = self._starts[index + 1] - 8 if index + 1 < len(self) else self._block.size
        return self._block[self._starts[index] : end].tobytes().decode("utf-8")

    def __iter__(self) -> Iterator[str]:
        raw, starts = self._block.tobytes(), self._starts.tolist()
        for start, end in zip(starts, [*(start - 8 for start in starts[1:]), len(raw)], strict=True):
            yield raw[start:end].decode("utf-8")


def _bytes_of(strings: Sequence[str]) -> Bytes:
    """The strings as a GGUF holds them. TypeError or ValueError for what is no text."""
    if isinstance(strings, StringArray):
        return strings.raw()
    raw = b"".join(map(string_bytes, strings))
    return np.frombuffer(raw, np.uint8) if raw else np.empty(0, np.uint8)


def _line(merge: Any) -> str:
    """A merge as a GGUF spells it: "left right"."""
    return merge if isinstance(merge, str) else " ".join(merge)
