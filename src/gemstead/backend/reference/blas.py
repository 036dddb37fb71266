"""How many threads numpy's BLAS may use. numpy has no call for it, so this asks its OpenBLAS directly.

Does nothing where numpy was built with another BLAS. Called once by backend.py.
"""

from __future__ import annotations

import ctypes
from pathlib import Path

import numpy as np

# The names numpy's wheels and distributions give OpenBLAS's setter (64-bit integers, then plain).
SETTERS = ("scipy_openblas_set_num_threads64_", "openblas_set_num_threads64_", "openblas_set_num_threads")


def limit_threads(threads: int) -> bool:
    """Set the number of threads of numpy's OpenBLAS, for the whole process; whether it was found."""
    home = Path(np.__file__).parent
    for folder in (home.parent / "numpy.libs", home / ".dylibs"):
        for file in sorted(folder.glob("*openblas*")):
            try:
                library = ctypes.CDLL(str(file))
            except OSError:
                continue
            for name in SETTERS:
                if hasattr(library, name):
                    getattr(library, name)(ctypes.c_int(threads))
                    return True
    return False
