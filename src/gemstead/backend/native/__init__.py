"""The native backend: native/'s C++ core behind the five methods, through ctypes. Text only so far."""

from gemstead.backend.native.backend import NativeBackend, unsuited
from gemstead.backend.native.library import is_built

__all__ = ["NativeBackend", "is_built", "unsuited"]
