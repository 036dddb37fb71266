"""How much memory there is to give, and how much this process took at most.

Asks the system only; decides nothing. Used by model.py for its ceiling and by bench.py for its report.
"""

from __future__ import annotations

import os
import resource
import sys
from contextlib import suppress
from pathlib import Path


def total_bytes() -> int:
    """The memory built in."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def available_bytes() -> int:
    """Memory the system would give without swapping; where it does not say, half of what is built in."""
    free = total_bytes() // 2
    with suppress(OSError, ValueError, IndexError):
        text = Path("/proc/meminfo").read_text("ascii")
        free = int(text.split("MemAvailable:")[1].split()[0]) * 1024
    with suppress(OSError, ValueError):  # a container's own limit ("max", a ValueError, is none)
        limit, used = (int(Path(f"/sys/fs/cgroup/memory.{x}").read_text("ascii")) for x in ("max", "current"))
        free = min(free, limit - used)
    return free


def resident_bytes() -> int:
    """The memory this process holds now, the pages of mapped files it touched included."""
    with suppress(OSError, ValueError, IndexError):
        return int(Path("/proc/self/statm").read_text("ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return peak_bytes()  # where the system does not say


def peak_bytes() -> int:
    """The most memory this process has held at once, the pages of mapped files it touched included."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # Linux counts in KiB: getrusage(2)
