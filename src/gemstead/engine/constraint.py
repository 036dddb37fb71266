"""What a constraint is: something that says, token by token, which tokens may come next.

The grammars themselves live elsewhere; the engine only masks, accepts and asks whether it is over.
Masks may be a bool per token or packed bits, as grammar libraries write them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from gemstead.backend.base import Words

Mask = npt.NDArray[Any]
Bools = npt.NDArray[np.bool_]


class Constraint(Protocol):
    """One sequence's grammar state. Owned by its sequence; never shared between two.

    The engine calls `mask` before choosing each token and `accept` with each token it emits, the
    one that ends the turn included. It never emits a token the mask forbids.
    """

    def mask(self) -> Mask | None:
        """The tokens allowed next: bool [V], or uint32/int32 words with bit i of word j = token 32 j + i.

        None allows all of them. Tokens that end the turn are allowed exactly when the output may end here.
        """
        ...

    def accept(self, token_id: int) -> None:
        """The token was emitted."""
        ...

    def rollback(self, count: int) -> None:
        """Take back the last `count` accepted tokens."""
        ...

    def is_done(self) -> bool:
        """Whether nothing may follow: the engine then stops without asking for a final token."""
        ...


def unpack_mask(mask: Mask, vocab_size: int) -> Bools:
    """A mask as bool [V], whichever of the two forms it came in."""
    _check_size(mask, vocab_size)
    if mask.dtype == np.bool_:
        return mask[:vocab_size]
    words = np.ascontiguousarray(mask).astype(np.uint32, copy=False).astype("<u4", copy=False)
    return np.unpackbits(words.view(np.uint8), bitorder="little").astype(np.bool_)[:vocab_size]


def pack_mask(mask: Mask, vocab_size: int) -> Words:
    """A mask as words, bit i % 32 of word i // 32, whichever of the two forms it came in."""
    _check_size(mask, vocab_size)
    if mask.dtype == np.bool_:
        raw = np.packbits(mask, bitorder="little")
        mask = np.concatenate([raw, np.zeros(-raw.size % 4, np.uint8)]).view("<u4")
    return np.ascontiguousarray(mask).astype(np.uint32, copy=False)


def _check_size(mask: Mask, vocab_size: int) -> None:
    size = mask.size if mask.dtype == np.bool_ else 32 * mask.size
    if mask.ndim != 1 or size < vocab_size:
        raise ValueError(f"a constraint's mask covers {size} tokens; the vocabulary has {vocab_size}")


def only(vocab_size: int, wanted: Iterable[int]) -> Bools:
    """Bool [V] that allows these tokens and no others."""
    allowed = np.zeros(vocab_size, np.bool_)
    allowed[list(wanted)] = True
    return allowed


def all_but(vocab_size: int, forbidden: Iterable[int]) -> Bools:
    """Bool [V] that allows every token but these."""
    allowed = np.ones(vocab_size, np.bool_)
    allowed[list(forbidden)] = False
    return allowed


class OneOf:
    """Allows exactly one of a few token sequences, then one of the ending tokens.

    Small enough to be read whole; made for tests and for fixed-choice answers.
    """

    def __init__(self, choices: Iterable[Iterable[int]], end_ids: Iterable[int], vocab_size: int) -> None:
        self._choices = [tuple(choice) for choice in choices]
        self._ends = tuple(end_ids)
        self._vocab_size = vocab_size
        self._emitted: list[int] = []

    def _next(self) -> set[int]:
        n = len(self._emitted)
        alive = [c for c in self._choices if list(c[:n]) == self._emitted]
        following = {c[n] for c in alive if len(c) > n}
        if any(len(c) == n for c in alive):
            following |= set(self._ends)
        return following

    def mask(self) -> Bools:
        """Bool [V] of the tokens that continue or end a choice."""
        return only(self._vocab_size, self._next())

    def accept(self, token_id: int) -> None:
        """ValueError for a token the mask forbids."""
        if token_id not in self._next():
            raise ValueError(f"token {token_id} was emitted against the constraint")
        self._emitted.append(token_id)

    def rollback(self, count: int) -> None:
        """Forget the last tokens."""
        del self._emitted[len(self._emitted) - count :]

    def is_done(self) -> bool:
        """Over once an ending token was accepted, or when a finished choice has nothing to end it."""
        return not self._next()
