"""Notices a sequence that says the same few tokens over and over. Knows token ids only; session.py ends it.

A loop is a cycle of up to 256 tokens that has come 32 times in a row and for `tokens` tokens. Both must
hold: 32 equal lines of a table are no loop while they are short, nor is a long text said twice. Loops
that change a little every time (a counter) are not found; max_tokens and the budget of thoughts end those.
"""

from __future__ import annotations

import numpy as np

LONGEST_CYCLE = 256
LEAST_REPEATS = 32


class Repeats:
    """Feed each token; `tokens` 0 never finds a loop."""

    def __init__(self, tokens: int) -> None:
        self._periods = np.arange(1, LONGEST_CYCLE + 1)
        self._needed = np.maximum(tokens, self._periods * LEAST_REPEATS)
        self._is_on = tokens > 0
        # The last tokens, the newest first from `_at`; twice as long as needed, so that it seldom moves.
        self._past = np.full(2 * LONGEST_CYCLE, -1, np.int64)
        self._at = LONGEST_CYCLE
        # For each period: of how many tokens up to now each equals the one that many places before.
        self._runs = np.zeros(LONGEST_CYCLE, np.int64)

    def feed(self, token_id: int) -> int | None:
        """The length of the cycle in which the output is caught, if it is."""
        if not self._is_on:
            return None
        past = self._past[self._at : self._at + LONGEST_CYCLE]
        self._runs += 1
        self._runs *= past == token_id
        if self._at == 0:
            self._past[LONGEST_CYCLE + 1 :] = self._past[: LONGEST_CYCLE - 1]
            self._at = LONGEST_CYCLE + 1
        self._at -= 1
        self._past[self._at] = token_id
        if self._runs.max() == 0:
            return None
        # A run of that many tokens began after one cycle that it repeats.
        caught = np.flatnonzero(self._runs + self._periods >= self._needed)
        return int(self._periods[caught[0]]) if caught.size else None
