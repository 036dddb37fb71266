"""What a person sees of a long transfer: how much, how fast, how long it will still take.

One moving line on a terminal; elsewhere a line every tenth of the way. Used by whatever moves many bytes.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

from gemstead.cli.screen import Screen
from gemstead.cli.show import size
from gemstead.hub.fetch import Progress

_WINDOW_S = 10.0  # the rate is that of the last so many seconds


class Meter:
    """Shows a Progress on a screen. Call it as often as you like.

    `ending` says what is done after the last byte.
    """

    def __init__(
        self, screen: Screen, clock: Callable[[], float] = time.monotonic, ending: str = "checking"
    ) -> None:
        self._screen, self._clock, self._ending = screen, clock, ending
        self._seen: deque[tuple[float, int]] = deque()
        self._tenth = 0

    def __call__(self, progress: Progress) -> None:
        """Show how far it is."""
        now = self._clock()
        self._seen.append((now, progress.done - progress.present))
        while len(self._seen) > 2 and now - self._seen[0][0] > _WINDOW_S:
            self._seen.popleft()
        if self._screen.shows_status:
            self._screen.live(self.line(progress))
        elif progress.total and progress.done * 10 // progress.total > self._tenth:
            self._tenth = progress.done * 10 // progress.total
            self._screen.status(self.line(progress))

    def line(self, progress: Progress) -> str:
        """'1.2 GB of 3.3 GB  36%  12.3 MB/s  3 min left'."""
        share = 100 * progress.done // max(1, progress.total)
        text = f"{size(progress.done)} of {size(progress.total)}  {share}%"
        if progress.note:
            return f"{text}  {progress.note}"
        (first, before), (last, now) = self._seen[0], self._seen[-1]
        rate = (now - before) / (last - first) if last > first else 0.0
        if progress.done >= progress.total:
            return f"{text}  {self._ending}"
        if rate <= 0:
            return text
        return f"{text}  {size(rate)}/s  {duration((progress.total - progress.done) / rate)} left"


def counter(total_bytes: int, screen: Screen, ending: str) -> Callable[[int], None]:
    """What shows how far a work over so many bytes is, told how many more were done."""
    progress, meter = Progress(total_bytes), Meter(screen, ending=ending)

    def seen(count: int) -> None:
        progress.arrived(count)
        meter(progress)

    return seen


def duration(seconds: float) -> str:
    """45 s, 3 min, 2 h 5 min."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
