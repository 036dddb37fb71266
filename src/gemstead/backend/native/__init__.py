"""The native backend: native/'s C++ core behind the five methods, through ctypes. Text only so far."""

from gemstead.backend.native.backend import NativeBackend

__all__ = ["NativeBackend"]
