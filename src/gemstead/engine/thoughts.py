"""How long a sequence may think: a constraint around another one that closes its thoughts in time.

Knows token ids only. Every token is the model's own but the few that close a thought: these it makes the
only ones allowed, so the answer follows as if the model had ended the thought itself, under speculation
and on every backend alike. Neighbours: session.py gives the ids and the limits; grammar.py what it wraps.
"""

from __future__ import annotations

from dataclasses import dataclass

from gemstead.engine.constraint import Constraint, Mask, all_but, only, unpack_mask


@dataclass(frozen=True, slots=True)
class ThoughtRules:
    """The ids around thoughts and calls, and the limits.

    `label` follows `opening`, `newline` stands before `closing`, as the template writes them. All thoughts
    together take `budget` tokens (None: no limit), the closing ones included, the opening ones not; an
    empty thought is always let through. Of the `limit` tokens of output, `reserve` are never thought.
    """

    opening: int
    closing: int
    call_opening: int | None
    call_closing: int | None
    label: tuple[int, ...]
    newline: tuple[int, ...]
    limit: int
    reserve: int
    budget: int | None = None


class Thoughts:
    """One sequence's thoughts under their rules, and whatever `inner` asks of it."""

    def __init__(
        self, rules: ThoughtRules, vocab_size: int, inner: Constraint | None = None, *, in_thought: bool
    ) -> None:
        self._rules, self._vocab_size, self._inner = rules, vocab_size, inner
        self._begins_in_thought = in_thought
        self._start()

    def _start(self) -> None:
        self._accepted: list[int] = []
        self._state = "thought" if self._begins_in_thought else "text"
        self._opened_at: int | None = None  # how many tokens there were before the open thought's first one
        self._spent = 0
        self._forced = self._ending()

    def mask(self) -> Mask | None:
        """The one token that must come, or what the inner constraint allows, less a thought too many."""
        if self._forced:
            return only(self._vocab_size, self._forced[:1])
        inner = None if self._inner is None else self._inner.mask()
        if self._state != "text" or self._has_room():
            return inner
        if inner is None:
            return all_but(self._vocab_size, (self._rules.opening,))
        allowed = unpack_mask(inner, self._vocab_size).copy()
        allowed[self._rules.opening] = False
        return allowed

    def accept(self, token_id: int) -> None:
        """The token was emitted."""
        if self._inner is not None:
            self._inner.accept(token_id)
        self._follow(token_id)

    def _follow(self, token_id: int) -> None:
        rules = self._rules
        self._accepted.append(token_id)
        if self._state == "thought":
            self._spent += 1
        self._forced = self._forced[1:]
        if self._state == "call":
            self._state = "text" if token_id == rules.call_closing else "call"
        elif token_id == rules.call_opening:
            self._state = "call"
        elif token_id == rules.opening and self._state == "text":
            self._state, self._opened_at = "thought", len(self._accepted)
        elif token_id == rules.closing:
            self._state = "text"
        self._forced = self._forced or self._ending()

    def rollback(self, count: int) -> None:
        """Take back the last tokens: the rest is gone through again."""
        if self._inner is not None:
            self._inner.rollback(count)
        kept = self._accepted[: len(self._accepted) - count]
        self._start()
        for token_id in kept:
            self._follow(token_id)

    def is_done(self) -> bool:
        """Whether the inner constraint leaves nothing to say."""
        return self._inner is not None and self._inner.is_done()

    def _has_room(self) -> bool:
        """Whether a thought may be opened now: the first one always, if only to be empty."""
        labelled = len(self._rules.label)
        return self._left() > labelled + 2 if not self._spent else self._may_think(1 + labelled)

    def _may_think(self, before: int) -> bool:
        """Whether one more token of thought, `before` tokens from now, leaves room to close it in time."""
        rules = self._rules
        more = before + 1 + len(rules.newline) + 1
        return self._left() - more >= rules.reserve and (
            rules.budget is None or self._spent + more <= rules.budget
        )

    def _left(self) -> int:
        return self._rules.limit - len(self._accepted)

    def _ending(self) -> tuple[int, ...]:
        """The tokens that close the open thought, if it is time for them."""
        rules = self._rules
        is_fresh = self._opened_at == len(self._accepted)  # nothing was thought yet: the label comes first
        if self._state != "thought" or self._may_think(len(rules.label) if is_fresh else 0):
            return ()
        if is_fresh:
            return (*rules.label, rules.closing)
        if not self._accepted or self._accepted[-1] == rules.newline[-1]:
            return (rules.closing,)
        return (*rules.newline, rules.closing)
