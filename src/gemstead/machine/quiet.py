"""How much of the machine other processes used while something was measured: figures from a busy one lie.

Reads /proc/stat and the times of our own processes; where there is no /proc it says nothing. Used by
measure.py and bench/peer.py.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

# More than this share used by others, and a figure is not to be trusted.
QUIET_SHARE = 0.05


class Watch:
    """Counts from its making on; `pids` are processes of ours beside this one, alive to the end."""

    def __init__(self, pids: Iterable[int] = ()) -> None:
        self._pids = (os.getpid(), *pids)
        self._start = self._now()

    def others(self) -> float | None:
        """The part of all cores' time that others used, the host's own theft included; None: not told."""
        now = self._now()
        if self._start is None or now is None:
            return None
        total, busy, own = (b - a for a, b in zip(self._start, now, strict=True))
        return max(0.0, (busy - own) / total) if total else None

    def _now(self) -> tuple[int, int, int] | None:
        """Clock ticks of all cores, those not idle, those of our processes."""
        with suppress(OSError, ValueError, IndexError):
            # proc(5): user nice system idle iowait irq softirq steal; guests are counted in user and nice
            ticks = [int(word) for word in Path("/proc/stat").read_text("ascii").split()[1:9]]
            return sum(ticks), sum(ticks) - ticks[3] - ticks[4], sum(map(_ticks_of, self._pids))
        return None


def _ticks_of(pid: int) -> int:
    """User and system time of a process: fields 14 and 15 of its stat, counted after the name."""
    words = Path(f"/proc/{pid}/stat").read_text("utf-8", errors="replace").rpartition(")")[2].split()
    return int(words[11]) + int(words[12])
