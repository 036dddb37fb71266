"""Which sequences run this step, and how many rows each gets.

Clients take turns: who has the least under way is let in next. Decode rows come first, the rest of the
row budget is shared evenly among prompts still being read. Pages go to the oldest: when they run out the
youngest sequence loses its own and is computed again later. Decides nothing about tokens; engine.py
carries the plan out.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping
from collections.abc import Sequence as Listing
from dataclasses import dataclass

from gemstead.engine.pages import Pages
from gemstead.engine.sequence import Sequence


@dataclass(frozen=True, slots=True)
class Rows:
    """One sequence's share of a step: `count` uncached ids, then `drafted` guesses after the last."""

    sequence: Sequence
    count: int
    drafted: tuple[int, ...] = ()

    @property
    def position(self) -> int:
        """Position of the first row."""
        return self.sequence.n_cached

    @property
    def total(self) -> int:
        """Rows in the batch."""
        return self.count + len(self.drafted)

    @property
    def reaches_end(self) -> bool:
        """Whether the last id is among the rows: then its logits choose the next token."""
        return self.position + self.count == len(self.sequence.ids)

    @property
    def first_logit_row(self) -> int:
        """First of the rows whose logits are wanted; the wanted ones run to the last row."""
        if self.sequence.needs_all_rows:
            return 0
        return self.count - 1 if self.reaches_end else self.count

    def token_ids(self) -> list[int]:
        """The tokens to feed."""
        start = self.position
        return self.sequence.ids[start : start + self.count] + list(self.drafted)


def fair_shares(needs: Listing[int], budget: int) -> list[int]:
    """Split `budget` rows: nobody gets more than it needs, and what one leaves goes to the others."""
    shares = [0] * len(needs)
    for left, i in enumerate(sorted(range(len(needs)), key=needs.__getitem__)):
        shares[i] = min(needs[i], budget // (len(needs) - left))
        budget -= shares[i]
    return shares


class Scheduler:
    """The queue of waiting sequences and the list of live ones, both oldest first."""

    def __init__(
        self, pages: Pages, *, max_rows: int, max_sequences: int, draft_tokens: int, score_rows: int
    ) -> None:
        self._pages = pages
        self._max_rows = max_rows
        self._max_sequences = max_sequences
        self._draft_tokens = draft_tokens
        self._score_rows = score_rows
        self.waiting: deque[Sequence] = deque()
        self.live: list[Sequence] = []
        self.preemptions = 0

    def remove(self, sequence: Sequence) -> None:
        """Forget a sequence, wherever it is, and return its pages."""
        if sequence in self.live:
            self.live.remove(sequence)
        elif sequence in self.waiting:
            self.waiting.remove(sequence)
        self._pages.release(sequence.table)

    def admit(self) -> None:
        """Let waiting sequences in, in fair order, while their prompts surely fit beside the live ones."""
        while self.waiting and len(self.live) < self._max_sequences:
            sequence = self._next()
            if not sequence.needs_all_rows:
                sequence.n_cached = self._pages.reuse(sequence.table, sequence.ids)
            reading = [(s.table, len(s.ids)) for s in [*self.live, sequence]]
            if self.live and not self._pages.room_for(reading):
                self._pages.release(sequence.table)
                sequence.n_cached = 0
                return
            if sequence.num_generated == 0:
                sequence.cached_tokens = sequence.n_cached
            self.waiting.remove(sequence)
            self.live.append(sequence)

    def _next(self) -> Sequence:
        """Who lost its pages comes first, then clients with the least under way, then who waited longest."""
        if self.waiting[0].was_preempted:
            return self.waiting[0]
        busy = Counter(sequence.client for sequence in self.live)
        return min(self.waiting, key=lambda sequence: busy[sequence.client])

    def preempt(self, sequence: Sequence) -> None:
        """Take all pages of a live sequence; it waits, first in line, and is computed again."""
        self.live.remove(sequence)
        self._pages.release(sequence.table)
        sequence.n_cached, sequence.was_preempted = 0, True
        if sequence.scores is not None:
            sequence.scores.clear()
        if sequence.pooled is not None:
            sequence.pooled[:] = 0
        self.waiting.appendleft(sequence)
        self.preemptions += 1

    @property
    def decoding(self) -> list[Sequence]:
        """The live sequences whose prompt has been read."""
        return [s for s in self.live if s.is_decoding]

    def draft_wants(self, depth: int) -> list[tuple[Sequence, int]]:
        """The sequences that may be drafted for, and how many tokens each: `depth` at most."""
        decoding = self.decoding
        if not decoding:
            return []
        share = min(depth, self._draft_tokens, self._max_rows // len(decoding) - 1)
        wants = [(s, min(share, s.room - 1)) for s in decoding]
        return [(s, k) for s, k in wants if k > 0]

    def plan(self, drafts: Mapping[Sequence, Listing[int]]) -> list[Rows]:
        """The rows of this step, their pages already given. Empty only when nothing is live."""
        plan: list[Rows] = []
        while self.live and not plan:
            plan = self._decode_rows(drafts)
            plan += self._prompt_rows(self._max_rows - sum(rows.total for rows in plan))
            if not plan and len(self.live) > 1:
                self.preempt(self.live[-1])
            elif not plan:
                break
        return plan

    def _decode_rows(self, drafts: Mapping[Sequence, Listing[int]]) -> list[Rows]:
        plan: list[Rows] = []
        for sequence in self.decoding:
            if sequence not in self.live:  # an older one has just taken its pages
                continue
            drafted = tuple(drafts.get(sequence, ()))
            if drafted and not self._pages.grow(sequence.table, sequence.n_cached + 1 + len(drafted)):
                drafted = ()
            if self._make_room(sequence, sequence.n_cached + 1 + len(drafted)):
                plan.append(Rows(sequence, 1, drafted))
        return plan

    def _make_room(self, sequence: Sequence, tokens: int) -> bool:
        """Pages for a live sequence, at the cost of the youngest; False when that is itself."""
        while sequence in self.live:
            if self._pages.grow(sequence.table, tokens):
                return True
            self.preempt(self.live[-1])
        return False

    def _prompt_rows(self, budget: int) -> list[Rows]:
        reading = [s for s in self.live if not s.is_decoding]
        needs = [len(s.ids) - s.n_cached for s in reading]
        needs = [
            min(n, self._score_rows) if s.scores is not None else n
            for n, s in zip(needs, reading, strict=True)
        ]
        plan: list[Rows] = []
        for sequence, share in zip(reading, fair_shares(needs, budget), strict=True):
            table = sequence.table
            room = (table.blocks + self._pages.room()) * self._pages.page_tokens - sequence.n_cached
            count = min(share, room)
            if count > 0 and self._pages.grow(table, sequence.n_cached + count):
                plan.append(Rows(sequence, count))
        return plan
