"""How many tokens to draft: what pays, by the acceptance and the times measured so far.

A step that verifies k guesses costs more than a plain one and yields more tokens; which wins depends on
the drafter, the text and the machine, so it is measured while running. Decides nothing about output:
the depth changes the speed only. Called by engine.py, one step at a time.
"""

from __future__ import annotations

from collections import defaultdict

_MEMORY = 1 / 16  # weight of the newest time; the rest is the past
_TRIALS = 64.0  # guesses that acceptance looks back on
_PROBE_SHARE = 0.01  # of the time may go into trying depths that seem not to pay
_LEAST_GAP = 8  # steps between two tries


class Depth:
    """The best of 0 to `most` guesses a sequence, learned from steps that only decode."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._seconds: dict[int, dict[int, float]] = defaultdict(dict)  # by sequences, by depth
        self._hits, self._trials = 0.7 * 8, 8.0  # a prior worth eight guesses
        self._since_probe = 0

    @property
    def acceptance(self) -> float:
        """The share of guesses that were right, of those whose forerunners were."""
        return self._hits / self._trials

    def choose(self, sequences: int) -> int:
        """The depth of the next step of so many sequences."""
        if not self._most:
            return 0
        known = self._seconds[sequences]
        for depth in (self._most, 0):  # the two ends first: between them a line will do
            if depth not in known:
                return depth
        best = max(range(self._most + 1), key=lambda depth: self._speed(known, depth))
        self._since_probe += 1
        tried = best + 1 if best < self._most and self._since_probe % 2 else best - 1
        if tried < 0:
            tried = 1
        loss = 1 - self._speed(known, tried) / self._speed(known, best)
        if self._since_probe * _PROBE_SHARE >= loss and self._since_probe >= _LEAST_GAP:
            self._since_probe = 0
            return tried
        return best

    def observe(self, sequences: int, depth: int, seconds: float, hits: int, trials: int) -> None:
        """What a step did: the longest guess it verified, its time, how many guesses were tried and right."""
        known = self._seconds[sequences]
        old = known.get(depth)
        known[depth] = seconds if old is None else old + _MEMORY * (min(seconds, 4 * old) - old)
        fade = max(0.0, 1 - trials / _TRIALS)
        self._hits, self._trials = self._hits * fade + hits, self._trials * fade + trials

    def _speed(self, known: dict[int, float], depth: int) -> float:
        """Expected tokens a second and sequence: 1 + a + ... + a^depth over the time of a step."""
        tokens = sum(self.acceptance**i for i in range(depth + 1))
        return tokens / max(1e-9, _between(known, depth))


def _between(known: dict[int, float], depth: int) -> float:
    """The time at this depth: measured, or on the line between the nearest two that were."""
    if depth in known:
        return known[depth]
    below = max(d for d in known if d < depth)
    above = min(d for d in known if d > depth)
    share = (depth - below) / (above - below)
    return known[below] + share * (known[above] - known[below])
