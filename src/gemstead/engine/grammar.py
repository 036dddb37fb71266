"""Grammars as constraints: llguidance's matcher behind the engine's protocol, and the rules of a turn.

A grammar knows bytes and token ids, no text and no schema: text/grammar.py writes them. The vocabulary's
trie costs a second and 100 MB at Gemma's size, so it is built when a mask is first needed. Refuses
grammars that do not compile, with the compiler's own words.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, cast

import numpy as np

from gemstead.engine.constraint import Bools, Mask, all_but, only, unpack_mask
from gemstead.errors import BackendError, InputError

# At 1(8) stands the one rule of a grammar made from a pattern or a schema.
_PATTERN_FAULT = re.compile(
    r"at 1\(8\): (.*?)(?: \(in regex\))?: regex parse error:\n\s*([^\n]*)\n.*^error: ([^\n]+)", re.M | re.S
)


class GrammarVocabulary:
    """What grammars need of a vocabulary: every token's bytes, which are special, which end a turn."""

    def __init__(
        self,
        size: int,
        tokens: Callable[[], Sequence[bytes]],
        special_ids: Iterable[int],
        eos_ids: Iterable[int],
        encode: Callable[[str], list[int]],
    ) -> None:
        """`tokens()` lists the bytes of `size` ids; it and special_ids are gone through when first needed.

        `encode` says how the model spells text that leaves no choice.
        """
        self.size, self._tokens, self._encode = size, tokens, encode
        self._special_ids = special_ids
        self.eos_ids = sorted(eos_ids)
        self._trie: Any = None

    def matcher(self, lark: str) -> Any:
        """An llguidance matcher at the start of a grammar in Lark; InputError if it does not compile."""
        # Only who constrains pays for the import and the trie.
        from llguidance import LLMatcher, LLTokenizer, TokenizerWrapper

        if self._trie is None:
            source = _Source(list(self._tokens()), sorted(self._special_ids), self.eos_ids, self._encode)
            self._trie = LLTokenizer(TokenizerWrapper(source), eos_token=self.eos_ids)
        matcher = LLMatcher(self._trie, lark)
        if matcher.is_error():
            raise InputError(f"the grammar cannot be used: {matcher.get_error()}")
        return matcher


class _Source:
    """The shape llguidance expects of a tokenizer."""

    def __init__(
        self,
        tokens: list[bytes],
        special_ids: list[int],
        eos_ids: list[int],
        encode: Callable[[str], list[int]],
    ) -> None:
        self.tokens, self.special_token_ids = tokens, special_ids
        self.bos_token_id: int | None = None
        self.eos_token_id = eos_ids[0]
        self._encode = encode

    def __call__(self, text: bytes) -> list[int]:
        return self._encode(text.decode("utf-8"))


class Grammar:
    """One sequence inside one grammar, from its start to an ending token."""

    def __init__(self, vocabulary: GrammarVocabulary, lark: str) -> None:
        self._matcher = vocabulary.matcher(lark)
        self._words = np.zeros((1, -(-vocabulary.size // 32)), np.int32)

    def mask(self) -> Mask:
        """Packed bits of the tokens that may come next."""
        self._matcher.unsafe_compute_mask_ptr(self._words.ctypes.data, self._words.nbytes)
        self._check()
        return cast(Mask, self._words[0])

    def accept(self, token_id: int) -> None:
        """BackendError for a token that the mask forbids."""
        self._matcher.consume_token(token_id)
        self._check()

    def rollback(self, count: int) -> None:
        """Take back the last tokens."""
        self._matcher.rollback(count)
        self._check()

    def is_done(self) -> bool:
        """Whether nothing but an ending token may follow."""
        return bool(self._matcher.is_stopped())

    def _check(self) -> None:
        if self._matcher.is_error():
            raise BackendError(f"the grammar failed: {self._matcher.get_error()}")


@dataclass(frozen=True, slots=True)
class TurnRules:
    """What a turn may hold beside free text and thoughts.

    `opening` begins a call, `closing` ends it, `call` is the grammar of what stands between and of the
    closing token (None: no calls). required: the turn must call; parallel False: once at most. `answer`
    is the grammar of all visible text (None: free). A thought, between `thought_open` and `thought_close`,
    may come first; thought_open None: it may not, where anything is asked of the turn.
    """

    opening: int
    closing: int
    call: str | None = None
    required: bool = False
    parallel: bool = True
    answer: str | None = None
    thought_open: int | None = None
    thought_close: int | None = None


class Turn:
    """One turn under its rules: text is free (or the answer's grammar), every call is a valid one."""

    def __init__(self, vocabulary: GrammarVocabulary, rules: TurnRules, *, in_thought: bool = False) -> None:
        self._vocabulary, self._rules = vocabulary, rules
        self._begins_in_thought = in_thought
        self._start()

    def _start(self) -> None:
        self._accepted: list[int] = []
        self._call: Grammar | None = None
        self._answer: Grammar | None = None
        self._is_thinking, self._calls, self._is_fresh = self._begins_in_thought, 0, True

    def mask(self) -> Mask | None:
        """None where everything goes: outside of calls, unless the rules want or forbid something."""
        if self._call is not None:
            return self._call.mask()
        rules = self._rules
        can_call = rules.call is not None and (rules.parallel or not self._calls)
        if self._is_thinking and (rules.required or rules.answer is not None):
            return self._all_but(rules.opening, *self._vocabulary.eos_ids)
        if not self._is_thinking and rules.answer is not None:
            return self._of_answer(rules.answer, can_call)
        if not self._is_thinking and rules.required and not self._calls:
            return self._only(rules.opening, *self._first_thought())
        return None if can_call else self._all_but(rules.opening)

    def _of_answer(self, grammar: str, can_call: bool) -> Mask:
        calls = [self._rules.opening] if can_call else []
        if self._calls:  # after a call: another one, or the end
            return self._only(*calls, *self._vocabulary.eos_ids)
        if self._rules.required:
            return self._only(*calls, *self._first_thought())
        if self._answer is None:
            self._answer = Grammar(self._vocabulary, grammar)
        if not self._is_fresh:
            return self._answer.mask()
        allowed = unpack_mask(self._answer.mask(), self._vocabulary.size).copy()
        allowed[[*calls, *self._first_thought()]] = True
        return allowed

    def _first_thought(self) -> list[int]:
        """The token that opens a thought, while it may still come."""
        opening = self._rules.thought_open
        return [] if opening is None or self._accepted else [opening]

    def accept(self, token_id: int) -> None:
        """The token was emitted."""
        self._accepted.append(token_id)
        rules = self._rules
        if self._call is not None:
            self._call.accept(token_id)
            if token_id == rules.closing:
                self._call, self._calls = None, self._calls + 1
        elif token_id == rules.opening and rules.call is not None:
            self._call, self._is_thinking = Grammar(self._vocabulary, rules.call), False
        elif self._is_thinking or token_id == rules.thought_open:
            self._is_thinking = token_id != rules.thought_close
        elif rules.answer is not None and not self._calls:
            self._is_fresh = False
            if self._answer is None:
                self._answer = Grammar(self._vocabulary, rules.answer)
            self._answer.accept(token_id)

    def rollback(self, count: int) -> None:
        """Take back the last tokens: the rest is gone through again."""
        kept = self._accepted[: len(self._accepted) - count]
        self._start()
        for token_id in kept:
            self.accept(token_id)

    def is_done(self) -> bool:
        """Whether the answer's grammar leaves nothing to say; free turns are ended by the model."""
        return not self._is_fresh and self._answer is not None and self._answer.is_done()

    def _all_but(self, *forbidden: int) -> Bools:
        return all_but(self._vocabulary.size, forbidden)

    def _only(self, *wanted: int) -> Bools:
        return only(self._vocabulary.size, wanted)


def check_grammar(grammar: str, what: str) -> None:
    """InputError, with the compiler's words, for a grammar that cannot be used; needs no vocabulary."""
    fault = _fault(grammar)
    if fault and not fault.startswith("WARNING"):
        raise InputError(f"{what} cannot be used: {_plain(fault)}")


def _plain(fault: str) -> str:
    """The complaint about a pattern in one line, without the place in the line that we wrote around it.

    at 1(8): invalid regex "(" (in regex): ... error: unclosed group -> invalid regex "(": unclosed group
    """
    pattern = _PATTERN_FAULT.match(fault)
    if pattern is None:
        return fault.strip()
    what, written, why = pattern.groups()
    return f"{what}: {why}" if what.startswith("invalid regex") else f'{what}: regex "{written}": {why}'


@lru_cache(64)
def _fault(grammar: str) -> str:
    """The compiler's complaint, or nothing; every round of a tool loop comes with the same grammar."""
    from llguidance import LLMatcher  # only who constrains pays for the import

    return str(LLMatcher.validate_grammar(grammar))
