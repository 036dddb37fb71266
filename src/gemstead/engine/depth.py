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
_UNKNOWN = (
    0.5  # of a plain step, for the first guess; half of it for the second ...: their costs until measured
)
# What may be lost to plain decoding, in plain steps: half a one at once and 1.4 % of them all, so that an
# answer of 32 tokens loses 3 % to a drafter that never guesses right; what was gained may be lost again.
_CREDIT, _RATE, _MOST_CREDIT = 0.5, 0.014, 4.0


class Depth:
    """The best of 0 to `most` guesses a sequence, learned from steps that only decode."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._seconds: dict[int, dict[int, float]] = defaultdict(dict)  # by sequences, by depth
        self._hits, self._trials = 0.7 * 8, 8.0  # a prior worth eight guesses
        self._since_probe = 0
        self._credit = _CREDIT

    @property
    def acceptance(self) -> float:
        """The share of guesses that were right, of those whose forerunners were."""
        return self._hits / self._trials

    def choose(self, sequences: int) -> int:
        """The depth of the next step of so many sequences."""
        known = self._seconds[sequences]
        if not self._most or 0 not in known:
            return 0
        # One deeper than was ever tried, and only what can be afforded if every guess is wrong.
        able = [
            d for d in range(1, min(self._most, max(known) + 1) + 1) if self._loss(known, d) <= self._credit
        ]
        best = max([0, *able], key=lambda depth: self._speed(known, depth))
        self._since_probe += 1
        tried = best + 1 if best < self._most and self._since_probe % 2 else best - 1
        tried = 1 if tried < 0 else tried
        if tried and tried not in able:
            return best
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
        lost = self._loss(known, depth) - hits / sequences if depth and 0 in known else 0.0
        self._credit = min(_MOST_CREDIT, self._credit + _RATE - lost)

    def _speed(self, known: dict[int, float], depth: int) -> float:
        """Expected tokens a second and sequence: 1 + a + ... + a^depth over the time of a step."""
        tokens = sum(self.acceptance**i for i in range(depth + 1))
        return tokens / max(1e-9, _between(known, depth))

    def _loss(self, known: dict[int, float], depth: int) -> float:
        """What a step of this depth costs more than a plain one, in plain ones."""
        return _between(known, depth) / max(1e-9, known[0]) - 1


def _between(known: dict[int, float], depth: int) -> float:
    """The time at this depth: measured, or on the line through the nearest two that were."""
    if depth in known:
        return known[depth]
    below = max(d for d in known if d < depth)
    above = min((d for d in known if d > depth), default=None)
    if above is None:  # one more than was tried: as much dearer as the last one was, or than is likely
        before = max((d for d in known if d < below), default=below)
        step = (known[below] - known[before]) / max(1, below - before)
        return known[below] + max(step, _UNKNOWN * known[0] / (1 + below))
    share = (depth - below) / (above - below)
    return known[below] + share * (known[above] - known[below])
