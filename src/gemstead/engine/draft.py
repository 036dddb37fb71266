"""Drafters: cheap guesses at the next tokens, which the model then verifies in one forward.

A guess can only change the speed, never the output: the engine chooses every token itself and
keeps a drafted row only where the guess was that token. Refuses nothing; a bad guess is dropped.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from collections.abc import Sequence as Listing
from typing import Protocol, TypeAlias
from weakref import WeakKeyDictionary

import numpy as np

from gemstead.backend.base import Floats, Logits
from gemstead.engine.sequence import Sequence

# One drafter forward of the backend over one row per sequence: (sequences, token_ids, hidden_TD).
DraftForward: TypeAlias = Callable[[Listing[Sequence], Listing[int], Floats], Logits]


class Drafter(Protocol):
    """Guesses for sequences that are decoding: `ids` is all there is, the last one not yet cached."""

    @property
    def needs_hidden(self) -> bool:
        """Whether `Sequence.hidden` must be kept up to date."""
        ...

    def propose(self, wants: Listing[tuple[Sequence, int]], forward: DraftForward) -> list[list[int]]:
        """For each (sequence, k) at most k guessed tokens, in order; none is a fine answer."""
        ...


class NoDraft:
    """Guesses nothing: plain decoding."""

    needs_hidden = False

    def propose(
        self,
        wants: Listing[tuple[Sequence, int]],
        forward: DraftForward,  # noqa: ARG002 (the protocol's)
    ) -> list[list[int]]:
        """Nothing for anyone."""
        return [[] for _ in wants]


class NgramDrafter:
    """Guesses that what followed the last few tokens before will follow them again.

    Looks for the longest run of max_n down to min_n last tokens that occurred earlier in the
    prompt or output, at its latest place. Good for quoting, rewriting and code; free otherwise.
    """

    needs_hidden = False

    def __init__(self, min_n: int = 2, max_n: int = 4) -> None:
        self._sizes = range(max_n, min_n - 1, -1)
        self._indexes: WeakKeyDictionary[Sequence, _NgramIndex] = WeakKeyDictionary()

    def propose(
        self,
        wants: Listing[tuple[Sequence, int]],
        forward: DraftForward,  # noqa: ARG002 (the protocol's)
    ) -> list[list[int]]:
        """The tokens after the latest earlier occurrence."""
        guesses = []
        for sequence, k in wants:
            index = self._indexes.setdefault(sequence, _NgramIndex())
            index.extend(sequence.ids, self._sizes)
            at = index.find(sequence.ids, self._sizes)
            guesses.append([] if at is None else sequence.ids[at : at + k])
        return guesses


class _NgramIndex:
    """Where each run of tokens was last followed by another; grows with its sequence."""

    def __init__(self) -> None:
        self._follows: dict[Hashable, int] = {}
        self._seen = 1

    def extend(self, ids: Listing[int], sizes: range) -> None:
        """Index every run whose next token is known."""
        for end in range(self._seen, len(ids)):
            for n in sizes:
                if n <= end:
                    self._follows[tuple(ids[end - n : end])] = end
        self._seen = max(self._seen, len(ids))

    def find(self, ids: Listing[int], sizes: range) -> int | None:
        """Index of the token that followed the longest known run that ends the ids."""
        for n in sizes:
            at = self._follows.get(tuple(ids[-n:]))
            if at is not None:
                return at
        return None


class MtpDrafter:
    """Gemma 4's own drafter: a few small layers over the model's K/V and last hidden state.

    All sequences are drafted for in one forward per guess. Greedy, as the checkpoints are trained.
    """

    needs_hidden = True

    def propose(self, wants: Listing[tuple[Sequence, int]], forward: DraftForward) -> list[list[int]]:
        """k steps; each feeds the guessed token and the drafter's projected state to the next."""
        guesses: list[list[int]] = [[] for _ in wants]
        hidden = [s.hidden for s, _ in wants]
        ready = [i for i, h in enumerate(hidden) if h is not None]
        while ready:
            sequences = [wants[i][0] for i in ready]
            last = [guesses[i][-1] if guesses[i] else wants[i][0].ids[-1] for i in ready]
            stacked = np.stack([h for i in ready if (h := hidden[i]) is not None])
            logits = forward(sequences, last, stacked)
            if logits.hidden_RD is None:
                return guesses
            for row, i in enumerate(ready):
                guesses[i].append(int(logits.values_RV[row].argmax()))
                hidden[i] = logits.hidden_RD[row]
            ready = [i for i in ready if len(guesses[i]) < wants[i][1]]
        return guesses
