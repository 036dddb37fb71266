"""Loads the C++ core and turns its status codes into gemstead's errors.

Refuses a library built from another layout.h. Neighbours: layout.py has the structs, weights.py and
backend.py call in.
"""

from __future__ import annotations

import ctypes
from ctypes import POINTER, c_float, c_int32, c_int64, c_void_p
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gemstead.backend.native import layout
from gemstead.errors import BackendError, CapacityError

PATH = Path(__file__).with_name("libgemstead.so")
_OK, _NO_MEMORY = 0, 2

# What each function of gemstead.h takes; c_int32 is a status, but for gs_layout_bytes and gs_token.
_SIGNATURES: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "gs_pack": (c_int32, (c_int32, c_void_p, c_int64, c_int64, c_void_p)),
    "gs_multiply": (
        c_int32,
        (c_int32, c_void_p, c_int64, c_int64, c_void_p, c_int32, c_int32, c_int32, c_void_p),
    ),
    "gs_peak": (c_int32, (c_int32, c_int64, POINTER(c_int64))),
    "gs_unpack_row": (c_int32, (c_int32, c_void_p, c_int64, c_void_p)),
    "gs_open": (c_int32, (POINTER(layout.Spec), POINTER(layout.Layer), c_int32, POINTER(c_void_p))),
    "gs_add_drafter": (c_int32, (c_void_p, POINTER(layout.Drafter), POINTER(layout.Layer))),
    "gs_add_adapter": (c_int32, (c_void_p, POINTER(layout.Term), c_int32)),
    "gs_draft": (c_int32, (c_void_p, c_void_p, POINTER(layout.Batch), c_void_p, c_void_p, c_void_p)),
    "gs_new_cache": (c_int32, (c_void_p, POINTER(c_int32), c_int32, c_int32, POINTER(c_void_p))),
    "gs_forward": (c_int32, (c_void_p, c_void_p, POINTER(layout.Batch), c_void_p, c_void_p)),
    "gs_choose": (c_int32, (POINTER(layout.Choice), c_void_p, c_void_p, c_void_p)),
    "gs_new_vocabulary": (
        c_int32,
        (layout.Strings, layout.Strings, layout.Strings, c_void_p, c_void_p, POINTER(c_void_p)),
    ),
    "gs_encode": (c_int32, (c_void_p, ctypes.c_char_p, c_int64, c_void_p, POINTER(c_int32))),
    "gs_token": (c_int32, (c_void_p, ctypes.c_char_p, c_int64)),
    "gs_close_vocabulary": (None, (c_void_p,)),
    "gs_read_page": (c_int32, (c_void_p, c_int32, c_int32, c_void_p)),
    "gs_write_page": (c_int32, (c_void_p, c_int32, c_int32, c_void_p)),
    "gs_page_bytes": (c_int64, (c_void_p, c_int32)),
    "gs_packed_bytes": (c_int64, (c_int32, c_int64, c_int64)),
    "gs_cache_bytes": (c_int64, (c_void_p,)),
    "gs_work_bytes": (c_int64, (c_void_p,)),
    "gs_layout_bytes": (c_int32, ()),
    "gs_isa": (ctypes.c_char_p, ()),
    "gs_last_error": (ctypes.c_char_p, ()),
    "gs_close_cache": (None, (c_void_p,)),
    "gs_close": (None, (c_void_p,)),
}


def is_built() -> bool:
    """Whether a core was built on this machine or came with the wheel."""
    return PATH.exists()


@cache
def library() -> ctypes.CDLL:
    """The loaded core; BackendError saying what to do when it is missing or of another build."""
    if not is_built():
        raise BackendError(
            "the native engine is not built here: install a C++20 compiler and gemstead again (in a clone: "
            "`python native/build.py library`), or choose the backend reference"
        )
    try:
        loaded = ctypes.CDLL(str(PATH))
        for name, (result, arguments) in _SIGNATURES.items():
            function = getattr(loaded, name)
            function.restype, function.argtypes = result, arguments
    except (OSError, AttributeError) as error:
        raise BackendError(f"the native engine cannot be loaded: {error}; build it again") from error
    if loaded.gs_layout_bytes() != layout.total_bytes():
        raise BackendError(f"{PATH} was built from another version of gemstead; build it again")
    return loaded


def isa_name() -> str:
    """The instruction set that the core uses here: "avx2", ..."""
    return str(library().gs_isa().decode())


def check(status: int, attempt: str) -> None:
    """Raise what a status means; `attempt` says what was being done."""
    if status == _OK:
        return
    message = f"{attempt} failed: {library().gs_last_error().decode('utf-8', 'replace')}"
    raise CapacityError(message) if status == _NO_MEMORY else BackendError(message)


def address(array: npt.NDArray[Any]) -> int:
    """Where an array's first value lies; the array must be contiguous and outlive the use."""
    assert array.flags.c_contiguous
    return int(array.ctypes.data)


def floats(array: npt.NDArray[np.float32]) -> Any:
    """The array as a float* of a struct."""
    assert array.dtype == np.float32
    return ctypes.cast(address(array), POINTER(c_float))


def ints(array: npt.NDArray[np.int32]) -> Any:
    """The array as an int32_t* of a struct."""
    assert array.dtype == np.int32
    return ctypes.cast(address(array), POINTER(c_int32))
