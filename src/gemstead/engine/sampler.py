"""One sequence's way of choosing tokens: its parameters, its seed, and what it has seen.

Order: penalties, biases, forbidden tokens, temperature, top_k, top_p, min_p, then one draw. A draw depends
on (seed, index of the emitted token) and on nothing else, so drafting, preemption and batching
never change an output. Used by engine.py row by row; the choosing itself is the backend's, or choosing.py's.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable

import numpy as np

from gemstead.backend.base import Choice, Choose, Floats, Ints
from gemstead.engine import choosing
from gemstead.engine.constraint import Mask, pack_mask
from gemstead.errors import InputError
from gemstead.types import SamplingParams, TokenLogprob

_NONE = np.empty(0, np.int32)


def uniform(seed: int, index: int) -> float:
    """The one random number in [0, 1) of the token emitted at `index` of a sequence with `seed`."""
    bits = np.random.Philox(key=seed, counter=[index, 0, 0, 0]).random_raw()
    return float(int(bits) >> 11) * 2.0**-53


class Seen:
    """The tokens of prompt and output, and how often the output has each: what penalties look at."""

    def __init__(self, prompt_ids: Iterable[int]) -> None:
        self._places = {token_id: place for place, token_id in enumerate(dict.fromkeys(prompt_ids))}
        self._ids = np.fromiter(self._places, np.int32, len(self._places))
        self._counts = np.zeros(len(self._places), np.int32)

    def add(self, token_id: int) -> None:
        """A token was emitted."""
        place = self._places.setdefault(token_id, len(self._places))
        if place == self._ids.size:
            self._ids = np.append(self._ids, np.zeros(place + 64, np.int32))
            self._counts = np.append(self._counts, np.zeros(place + 64, np.int32))
        self._ids[place] = token_id
        self._counts[place] += 1

    def arrays(self) -> tuple[Ints, Ints]:
        """ids [n], and how often each was emitted [n]."""
        count = len(self._places)
        return self._ids[:count], self._counts[:count]


class Sampler:
    """See the module."""

    def __init__(
        self,
        params: SamplingParams,
        prompt_ids: Iterable[int],
        vocab_size: int,
        suppressed: Iterable[int] = (),
        choose: Choose | None = None,
    ) -> None:
        """`choose` None: by numpy."""
        self.params = params
        self.seed = secrets.randbits(64) if params.seed is None else params.seed
        self._choose = choose or choosing.choose
        penalties = params.repetition_penalty, params.presence_penalty, params.frequency_penalty
        self._seen = None if penalties == (1, 0, 0) else Seen(prompt_ids)
        self._suppressed = np.array([i for i in suppressed if i < vocab_size], np.int32)
        biases = dict(params.logit_bias)
        self._biased = np.array(list(biases), np.int32)
        self._biases = np.array(list(biases.values()), np.float32)
        if max(biases, default=0) >= vocab_size:
            raise InputError(
                f"logit_bias = {max(biases)} is not in the vocabulary; ids go up to {vocab_size - 1}"
            )

    def choose(self, row_V: Floats, index: int, mask: Mask | None = None) -> tuple[int, TokenLogprob | None]:
        """The token at `index` of the output. `row_V` is read only; see the module for the order."""
        chosen = self._choose(
            row_V, self.choice(index, None if mask is None else pack_mask(mask, row_V.size))
        )
        if self._seen is not None:
            self._seen.add(chosen[0])
        return chosen

    def choice(self, index: int, allowed: Mask | None) -> Choice:
        """What the token at `index` is chosen by."""
        ids, counts = (_NONE, _NONE) if self._seen is None else self._seen.arrays()
        return Choice(
            params=self.params,
            u=0.0 if self.params.temperature == 0 else uniform(self.seed, index),
            allowed=allowed,
            seen_ids=ids,
            seen_counts=counts,
            biased_ids=self._biased,
            biases=self._biases,
            forbidden_ids=self._suppressed,
        )
