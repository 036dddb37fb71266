"""One request's mutable state inside the engine: its ids, what of them is cached, how it ended.

Made by Engine.submit, moved on only by the engine; readers take finished tokens from `outputs` and
look at `finish_reason`. Holds no text.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence as Listing
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

from gemstead.backend.base import Floats
from gemstead.engine.constraint import Constraint
from gemstead.engine.pages import PageTable
from gemstead.engine.sampler import Sampler
from gemstead.errors import InputError
from gemstead.types import FinishReason, TokenLogprob

Doubles = npt.NDArray[np.float64]
Collected = Literal["scores", "pooled"]  # what a sequence that only reads keeps of all its rows


def check_ids(token_ids: Listing[int], vocab_size: int) -> list[int]:
    """The ids as a list of ints; InputError unless there are some, all in [0, vocab_size)."""
    wanted = f"give a list of whole numbers from 0 to {vocab_size - 1}"
    if isinstance(token_ids, (str, bytes)):
        raise InputError(f"token ids are {type(token_ids).__name__}, not numbers; {wanted}")
    try:
        values = np.asarray(token_ids)
    except (ValueError, TypeError, OverflowError) as error:
        raise InputError(f"token ids cannot be read ({error}); {wanted}") from None
    if values.ndim != 1 or values.size == 0:
        raise InputError(f"token ids have shape {values.shape}; {wanted}, at least one")
    if values.dtype.kind not in "iu":
        bad = next((t for t in token_ids if not isinstance(t, (int, np.integer)) or t is True), values.dtype)
        raise InputError(f"token ids hold {bad!r}, which is not a whole number; {wanted}")
    wrong = np.flatnonzero((values < 0) | (values >= vocab_size))
    if wrong.size:
        at = int(wrong[0])
        raise InputError(f"token id {values[at]} at position {at} is not in the vocabulary; {wanted}")
    return [int(t) for t in values]


@dataclass(frozen=True, slots=True)
class Accepted:
    """One token of the output."""

    token_id: int
    logprob: TokenLogprob | None = None


@dataclass(eq=False)
class Sequence:
    """ids[:n_cached] have their K/V in the pages of `table`; the last id is never cached.

    `limit` is the most ids (prompt and output) it may come to. `hidden` is the backend's hidden
    state of the row that produced the last id: what a drafter starts from. `scores`, where asked
    for, collects the logits of every row; `pooled` is the sum of the final hidden states of its rows,
    whose logits nobody wants. `client` is whose it is: the scheduler is fair between them. `adapter` is
    the number of its adapter in the backend, or 0.
    """

    ids: list[int]
    limit: int
    sampler: Sampler
    table: PageTable
    eos_ids: frozenset[int] = frozenset()
    constraint: Constraint | None = None
    scores: list[Floats] | None = None
    adapter: int = 0
    pooled: Doubles | None = None
    client: bytes = b""

    prompt_tokens: int = 0
    n_cached: int = 0
    was_preempted: bool = False
    hidden: Floats | None = None
    outputs: deque[Accepted] = field(default_factory=deque)
    finish_reason: FinishReason | None = None
    error: Exception | None = None

    cached_tokens: int = 0
    drafted_tokens: int = 0
    accepted_tokens: int = 0
    started_s: float | None = None
    first_token_s: float | None = None
    last_token_s: float | None = None

    def __post_init__(self) -> None:
        self.prompt_tokens = len(self.ids)

    @property
    def is_finished(self) -> bool:
        """Whether nothing more will come; `outputs` may still hold tokens to read."""
        return self.finish_reason is not None

    @property
    def needs_all_rows(self) -> bool:
        """Whether every row of the prompt must be computed to its end, those of a kept prefix too."""
        return self.scores is not None or self.pooled is not None

    @property
    def num_generated(self) -> int:
        """Tokens emitted so far: the index of the next one's random draw."""
        return len(self.ids) - self.prompt_tokens

    @property
    def is_decoding(self) -> bool:
        """Whether only the last id is uncached and an output has begun: a row per step, and drafts."""
        return self.num_generated > 0 and self.n_cached == len(self.ids) - 1

    @property
    def room(self) -> int:
        """Tokens it may still emit."""
        return self.limit - len(self.ids)

    def append(self, token_id: int, logprob: TokenLogprob | None) -> None:
        """Emit a token; decides by itself whether that ended the sequence."""
        self.ids.append(token_id)
        self.outputs.append(Accepted(token_id, logprob))
        self.last_token_s = time.perf_counter()
        if self.first_token_s is None:
            self.first_token_s = self.last_token_s
        if token_id in self.eos_ids or (self.constraint is not None and self.constraint.is_done()):
            self.finish_reason = "stop"
        elif self.room <= 0:
            self.finish_reason = "length"
