"""The NVIDIA GPUs of this machine, asked through the driver's own library (NVML) where it is there.

No dependency and no subprocess: libnvidia-ml.so.1 by ctypes. A machine without one has an empty list. Used by
plan.py.
"""

from __future__ import annotations

import ctypes
from contextlib import suppress
from dataclasses import dataclass

_LIBRARY = "libnvidia-ml.so.1"
_OK = 0
_MEMORY_CLOCK = 2  # NVML_CLOCK_MEM of nvmlClockType_t


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU: what it is called, its memory and what of that is free.

    `bytes_s` is what its memory could be read at, by its clock and the width of its bus; None: not told.
    """

    name: str
    memory_bytes: int
    free_bytes: int
    bytes_s: float | None = None


class _Memory(ctypes.Structure):
    """nvmlMemory_t of nvml.h."""

    _fields_ = (
        ("total", ctypes.c_ulonglong),
        ("free", ctypes.c_ulonglong),
        ("used", ctypes.c_ulonglong),
    )


def gpus(library: str = _LIBRARY) -> tuple[Gpu, ...]:
    """Every GPU the driver shows; none where there is no driver or it does not answer."""
    with suppress(OSError, AttributeError):
        nvml = ctypes.CDLL(library)
        if nvml.nvmlInit_v2() == _OK:
            try:
                return tuple(_found(nvml))
            finally:
                nvml.nvmlShutdown()
    return ()


def _found(nvml: ctypes.CDLL) -> list[Gpu]:
    count = ctypes.c_uint()
    if nvml.nvmlDeviceGetCount_v2(ctypes.byref(count)) != _OK:
        return []
    found = []
    for index in range(count.value):
        device, name, memory = ctypes.c_void_p(), ctypes.create_string_buffer(96), _Memory()
        asked = (
            nvml.nvmlDeviceGetHandleByIndex_v2(ctypes.c_uint(index), ctypes.byref(device)),
            nvml.nvmlDeviceGetName(device, name, ctypes.c_uint(len(name))),
            nvml.nvmlDeviceGetMemoryInfo(device, ctypes.byref(memory)),
        )
        if asked == (_OK,) * 3:
            words = name.value.decode("utf-8", "replace")
            found.append(Gpu(words, memory.total, memory.free, _bytes_s(nvml, device)))
    return found


def _bytes_s(nvml: ctypes.CDLL, device: ctypes.c_void_p) -> float | None:
    """The memory's greatest rate: a bus of so many bits that moves them twice a cycle."""
    megahertz, bits = ctypes.c_uint(), ctypes.c_uint()
    with suppress(AttributeError):  # an older driver has not all of these
        asked = (
            nvml.nvmlDeviceGetMaxClockInfo(device, ctypes.c_uint(_MEMORY_CLOCK), ctypes.byref(megahertz)),
            nvml.nvmlDeviceGetMemoryBusWidth(device, ctypes.byref(bits)),
        )
        if asked == (_OK, _OK) and megahertz.value and bits.value:
            return 2 * megahertz.value * 1e6 * bits.value / 8
    return None
