"""How many tokens to draft: what pays, by the acceptance and the times measured so far.

A step that verifies k guesses costs more than a plain one and yields more tokens; which wins depends on
the drafter, the text and the machine, so it is measured while running. Decides nothing about output:
the depth changes the speed only. Called by engine.py, one step at a time.
"""

from __future__ import annotations

from collections import Counter

_MEMORY = 1 / 16  # weight of the newest cost; the rest is the past
_PRESENT = 1 / 8  # weight of the newest step in what a plain step takes at the moment
_TRIALS = 64.0  # guesses that acceptance looks back on
_PROBE_SHARE = 0.005  # of the time may go into trying what seems not to pay, deeper and less deep each
_LEAST_GAP = 8  # steps between two tries
# Of a plain step, what the first guess is taken to cost until it was measured; the second half of it ...
_UNKNOWN = 0.5
# What may be lost to plain decoding, in plain steps: half a one at once and 1.4 % of them all, so that an
# answer of 32 tokens loses 3 % to a drafter that never guesses right; what was gained may be lost again.
_CREDIT, _RATE, _MOST_CREDIT = 0.5, 0.014, 4.0


class Costs:
    """What steps of each depth cost, in plain ones: a slow second of the machine is slow for all."""

    def __init__(self, plain_s: float) -> None:
        self._plain_s = plain_s  # a plain step, now
        self._known = {0: 1.0}
        self._seen: Counter[int] = Counter()  # steps of each depth

    @property
    def deepest(self) -> int:
        """The greatest depth that was measured."""
        return max(self._known)

    def saw(self, depth: int, seconds: float) -> None:
        """A step of that depth took so long."""
        now, old = seconds / self._plain_s, self.of(depth)
        self._seen[depth] += 1
        most = 2 if self._seen[depth] == 1 else 4  # times the old: the first may be paged in from disk
        now = min(now, most * old)
        if depth:
            weight = max(_MEMORY, 1 / self._seen[depth])
            self._known[depth] = max(1.0, old + weight * (now - old))
        self._plain_s += _PRESENT * (now / old - 1) * self._plain_s

    def of(self, depth: int) -> float:
        """The cost at this depth: measured, or on the line through the nearest two that were."""
        known = self._known
        if depth in known:
            return known[depth]
        below = max(d for d in known if d < depth)
        above = min((d for d in known if d > depth), default=None)
        if above is None:  # one more than was tried: as much dearer as the last one was, or than is likely
            before = max((d for d in known if d < below), default=below)
            step = (known[below] - known[before]) / max(1, below - before)
            return known[below] + max(step, _UNKNOWN / (1 + below))
        return known[below] + (depth - below) / (above - below) * (known[above] - known[below])


class Depth:
    """The best of 0 to `most` guesses a sequence, learned from steps that only decode."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._costs: dict[int, Costs] = {}  # by sequences
        self._hits, self._trials = 0.7 * 8, 8.0  # a prior worth eight guesses
        self._since = {1: 0, -1: 0}  # steps since one deeper was tried, and one less deep
        self._credit = _CREDIT

    @property
    def acceptance(self) -> float:
        """The share of guesses that were right, of those whose forerunners were."""
        return self._hits / self._trials

    def choose(self, sequences: int) -> int:
        """The depth of the next step of so many sequences."""
        costs = self._costs.get(sequences)
        if not self._most or costs is None:
            return 0
        # One deeper than was ever tried, and only what can be afforded if every guess is wrong.
        reach = min(self._most, costs.deepest + 1)
        able = [depth for depth in range(1, reach + 1) if costs.of(depth) - 1 <= self._credit]
        best = max([0, *able], key=lambda depth: self._speed(costs, depth))
        for tried in (best + 1, best - 1):
            way = tried - best
            self._since[way] += 1
            if tried < 0 or (tried and tried not in able):
                continue
            loss = 1 - self._speed(costs, tried) / self._speed(costs, best)
            if self._since[way] * _PROBE_SHARE >= loss and self._since[way] >= _LEAST_GAP:
                self._since[way] = 0
                return tried
        return best

    def observe(self, sequences: int, depth: int, seconds: float, hits: int, trials: int) -> None:
        """What a step did: the longest guess it verified, its time, how many guesses were tried and right."""
        fade = max(0.0, 1 - trials / _TRIALS)
        self._hits, self._trials = self._hits * fade + hits, self._trials * fade + trials
        costs = self._costs.get(sequences)
        if costs is None:
            if not depth:
                self._costs[sequences] = Costs(max(seconds, 1e-9))
            return
        costs.saw(depth, seconds)
        lost = costs.of(depth) - 1 - hits / sequences
        self._credit = min(_MOST_CREDIT, self._credit + _RATE - lost)

    def _speed(self, costs: Costs, depth: int) -> float:
        """Expected tokens of a sequence in the time of a plain step: 1 + a + ... + a^depth over the cost."""
        return sum(self.acceptance**i for i in range(depth + 1)) / costs.of(depth)
