"""How much memory there is to give, what limits it, and how much this process took at most.

Asks the system only; the one thing it decides is how much of what is free K/V may take. Used by model.py for
its ceiling, by the server for its own, by plan.py for what fits, by measure.py for its report.
"""

from __future__ import annotations

import os
import resource
import sys
from contextlib import suppress
from pathlib import Path

from gemstead.backend.base import Capabilities
from gemstead.backend.native.cores import control_groups

# Of the memory that is free beside the weights, K/V may take this share unless told otherwise: the
# other half is for activations, the page cache of the weights file and the rest of the machine.
KV_SHARE = 0.5
# ... and no more than this many whole contexts: more would only be reserved, never used.
MOST_CONTEXTS = 2
LEAST_KV_BYTES = 64 << 20
_ROOT = Path("/")


def total_bytes() -> int:
    """The memory built in."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def available_bytes() -> int:
    """Memory the system would give without swapping; where it does not say, half of what is built in."""
    free = total_bytes() // 2
    with suppress(OSError, ValueError, IndexError):
        text = Path("/proc/meminfo").read_text("ascii")
        free = int(text.split("MemAvailable:")[1].split()[0]) * 1024
    room = container_room()
    return free if room is None else max(0, min(free, room))


def container_room(root: Path = _ROOT) -> int | None:
    """What the control groups of this process (a container, systemd) leave of memory; None: no limit.

    Files that the group has read count as used there, but are given up when memory is asked for.
    """
    rooms = []
    for group in control_groups("memory", root):
        for limit, used, file_words in _GROUP_FILES:
            with suppress(OSError, ValueError):  # "max", a ValueError, is no limit
                most = int((group / limit).read_text("ascii"))
                stat = dict(line.split() for line in (group / "memory.stat").read_text("ascii").splitlines())
                files = sum(int(stat.get(word, 0)) for word in file_words)
                if most < 1 << 60:  # version 1 writes "no limit" as a number like this
                    rooms.append(most - max(0, int((group / used).read_text("ascii")) - files))
    return min(rooms, default=None)


# Version 2 and version 1: the limit, what is used, and of that the pages of files. Above memory.high nobody
# is killed, but everything waits.
_GROUP_FILES = (
    ("memory.max", "memory.current", ("inactive_file", "active_file")),
    ("memory.high", "memory.current", ("inactive_file", "active_file")),
    ("memory.limit_in_bytes", "memory.usage_in_bytes", ("total_inactive_file", "total_active_file")),
)


def anonymous_bytes() -> int:
    """What this process holds of memory beside the pages of files; 0 where the system does not say."""
    with suppress(OSError, ValueError, IndexError):
        return int(Path("/proc/self/status").read_text("ascii").split("RssAnon:")[1].split()[0]) * 1024
    return 0


def address_limit() -> int | None:
    """The most bytes this process may map (ulimit -v), files and reserved memory included; None: no limit."""
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    return None if limit == resource.RLIM_INFINITY else limit


def address_room() -> int | None:
    """What is left of that limit; None where there is none, or where the system does not say."""
    limit = address_limit()
    if limit is not None:
        with suppress(OSError, ValueError, IndexError):
            mapped = int(Path("/proc/self/statm").read_text("ascii").split()[0])
            return limit - mapped * resource.getpagesize()
    return None


def free_beside(can: Capabilities) -> int:
    """What is free where the model's K/V will lie, once its weights are held."""
    return available_bytes() - can.weights_bytes if can.free_bytes is None else can.free_bytes


def kv_ceiling(can: Capabilities, context: int | None) -> int:
    """The memory for K/V where nobody says how much."""
    free, room = free_beside(can), address_room()
    return kv_share(free if room is None else min(free, room), useful_memory(can, context))


def missing_bytes(can: Capabilities) -> int:
    """How much more than there is the weights of an open model take; 0 or less where they fit."""
    if can.free_bytes is not None:  # they are in another memory, and fit it
        return 0
    return can.weights_bytes - available_bytes() - anonymous_bytes()  # of which they may be a part already


def useful_memory(can: Capabilities, context: int | None) -> int:
    """The K/V that can be put to use: see MOST_CONTEXTS."""
    tokens = min(context or can.spec.max_position_embeddings, can.spec.max_position_embeddings)
    return max(MOST_CONTEXTS * sum(can.kv_bytes_per_token) * tokens, LEAST_KV_BYTES)


def kv_share(free_bytes: int, useful_bytes: int) -> int:
    """What K/V may take of so much free memory: see KV_SHARE."""
    return min(max(int(free_bytes * KV_SHARE), LEAST_KV_BYTES), useful_bytes)


def resident_bytes() -> int:
    """The memory this process holds now, the pages of mapped files it touched included."""
    with suppress(OSError, ValueError, IndexError):
        return int(Path("/proc/self/statm").read_text("ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return peak_bytes()  # where the system does not say


def peak_bytes() -> int:
    """The most memory this process has held at once, the pages of mapped files it touched included."""
    with suppress(OSError, ValueError, IndexError):  # not getrusage: there a child inherits its parent's peak
        return int(Path("/proc/self/status").read_text("ascii").split("VmHWM:")[1].split()[0]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # Linux counts in KiB: getrusage(2)
