"""How many threads a forward should use when nobody says: one per physical core this process may use.

Asks Linux for affinity, the two threads of a core, and the limits of control groups (containers); elsewhere
counts processors. Slow and fast cores count alike: the pool hands out small chunks, so a slow core takes
fewer. Called by backend.py.
"""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterator
from pathlib import Path

_ROOT = Path("/")


def usable_cores(root: Path = _ROOT) -> int:
    """At least 1. Two threads of one core share its multipliers, so they count once."""
    if not hasattr(os, "sched_getaffinity"):
        return os.cpu_count() or 1
    processors = os.sched_getaffinity(0)
    cores = {_siblings(root, processor) for processor in processors}
    limit = quota(root)
    return max(1, min(len(cores), math.ceil(limit) if limit is not None else len(cores)))


def _siblings(root: Path, processor: int) -> str:
    """The processors that share a core with this one, as the kernel lists them; its own number if unknown."""
    path = root / f"sys/devices/system/cpu/cpu{processor}/topology/thread_siblings_list"
    return _read(path) or str(processor)


def quota(root: Path = _ROOT) -> float | None:
    """The processors' worth of time the control groups of this process allow; None: no limit."""
    return min((limit for group in control_groups("cpu", root) for limit in _limits(group)), default=None)


def control_groups(controller: str, root: Path = _ROOT) -> Iterator[Path]:
    """The folders of the control groups, version 2 or 1, whose limits on `controller` hold here."""
    for line in (_read(root / "proc/self/cgroup") or "").splitlines():
        parts = line.split(":", 2)
        if len(parts) != 3:
            continue
        _, controllers, place = parts
        if controllers and controller not in controllers.split(","):
            continue
        # Beside version 1, version 2 lies in a folder of its own.
        folders = (controller,) if controllers else ("", "unified")
        inner = Path(place.strip("/"))
        for folder in folders:
            for group in (inner, *inner.parents):  # in a container the path may be the host's: try them all
                yield root / "sys/fs/cgroup" / folder / group


def _limits(group: Path) -> list[float]:
    """The limit of one group, version 2 (cpu.max) or 1 (cpu.cfs_quota_us); empty: none."""
    words = (_read(group / "cpu.max") or "").split()
    if not words:
        words = [_read(group / "cpu.cfs_quota_us") or "", _read(group / "cpu.cfs_period_us") or ""]
    with contextlib.suppress(ValueError, IndexError, ZeroDivisionError):
        share = int(words[0]) / int(words[1])
        if share > 0:
            return [share]
    return []  # "max", -1, or no such file


def _read(path: Path) -> str | None:
    try:
        return path.read_text().strip()
    except (OSError, UnicodeDecodeError):
        return None
