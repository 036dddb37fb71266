"""Random tokens through the streaming parser: no exception, nothing lost, any chunking the same.

Short in CI. GEMSTEAD_FUZZ_TOKENS=1000000 gives each vocabulary that many tokens.
"""

from __future__ import annotations

import itertools
import json
import os
import random
from collections import Counter
from collections.abc import Iterator
from functools import cache

import pytest

from gemstead import pebble
from gemstead.text.control import CONTROL_TEXTS
from gemstead.text.parser import Parser, joined
from gemstead.text.tokenizer import Tokenizer
from gemstead.types import Event, Json, ParseNote, TextDelta, ThoughtDelta, ToolCallEvent
from gemstead.weights.store import open_store
from support.vocab import real_tokenizer

TOKENS = int(os.environ.get("GEMSTEAD_FUZZ_TOKENS", "20000"))
LIKELY = (
    "call:",
    "call",
    "f",
    "{",
    "}",
    "[",
    "]",
    ":",
    ",",
    '"',
    "'",
    "1",
    "-2.5",
    "true",
    "null",
    "\n",
    " ",
)
LABELS = ("thought\n", "thought", "response\n", "call:f{", "a:", "\\", "é", "😀", "(", ")", "=", "x y")


@cache
def pebble_tokenizer() -> Tokenizer:
    with open_store(pebble.path()) as store:
        vocabulary = store.vocabulary()
        assert vocabulary is not None
        return Tokenizer.from_vocabulary(vocabulary.tokens, vocabulary.types, vocabulary.merges)


def runs(tokenizer: Tokenizer, seed: int, total: int) -> Iterator[list[int]]:
    """Outputs of 1 to 400 tokens, of every mixture of control tokens, syntax and anything."""
    rng = random.Random(seed)
    controls = [i for i in map(tokenizer.id_of, CONTROL_TEXTS.values()) if i is not None]
    syntax = [i for text in (*LIKELY, *LABELS) for i in tokenizer.encode(text)]
    while total > 0:
        weights = [rng.random() ** 3, rng.random(), rng.random()]
        kinds = rng.choices((0, 1, 2), weights, k=min(total, rng.randint(1, 400)))
        total -= len(kinds)
        yield [
            rng.choice(controls)
            if kind == 0
            else rng.choice(syntax)
            if kind == 1
            else rng.randrange(tokenizer.vocab_size)
            for kind in kinds
        ]


def counter() -> Iterator[str]:
    return map(str, range(10**9))


def whole(tokenizer: Tokenizer, ids: list[int], in_thought: bool) -> tuple[list[list[Event]], list[Event]]:
    """The events of each token, and those at the end."""
    names = counter()
    parser = Parser(tokenizer, in_thought=in_thought, new_id=lambda: next(names))
    return [parser.feed(i) for i in ids], parser.finish()


def letters(value: Json) -> str:
    """All text in a value, names included; words in both spellings."""
    if isinstance(value, dict):
        return "".join(key + letters(inner) for key, inner in value.items())
    if isinstance(value, list):
        return "".join(map(letters, value))
    return value if isinstance(value, str) else json.dumps(value) + str(value)  # None may have been null


def accounted(events: list[Event]) -> Counter[str]:
    """Every character that came out somewhere: text, thought, call or note."""
    found: Counter[str] = Counter()
    for event in events:
        if isinstance(event, TextDelta | ThoughtDelta):
            found.update(event.text)
        elif isinstance(event, ToolCallEvent):
            found.update(event.call.name + letters(dict(event.call.arguments)))
        elif isinstance(event, ParseNote):
            found.update(event.text + event.message)
    return found


# What the format itself is made of may be consumed where it does its work. Numbers have several spellings
# of one value (007, 1e2), so digits are not counted; letters are, less the words below.
SYNTAX = set("{}[]():,=\"' \t\r\n\\<|>0123456789+-.eE\ufffd")


def consumed(tokenizer: Tokenizer, ids: list[int], text: str) -> Counter[str]:
    """Letters that are part of the format: one label for each channel, `call` where a call may begin."""
    control = tokenizer.control
    opened = Counter(ids)
    found: Counter[str] = Counter()
    for word, times in (
        ("thought", opened[control.channel_open]),
        ("responsefinalanswer", opened[control.channel_open]),
        ("call", text.count("call:") if opened[control.call_open] else 0),
    ):
        found.update({letter: n * times for letter, n in Counter(word).items()})
    return found


def check(tokenizer: Tokenizer, ids: list[int], in_thought: bool, rng: random.Random) -> None:
    by_token, end = whole(tokenizer, ids, in_thought)
    events = joined([*(e for part in by_token for e in part), *end])
    # a control token ends whatever character was begun before it
    runs_of_text = itertools.groupby(ids, tokenizer.is_special)
    text = "".join(tokenizer.decode(run) for is_special, run in runs_of_text if not is_special)
    given = Counter(c for c in text if c not in SYNTAX)
    out = accounted(events)
    spent = consumed(tokenizer, ids, text)
    lost = {c: n - out[c] for c, n in given.items() if out[c] + spent[c] < n}
    assert not lost, (lost, ids)
    for event in events:
        if isinstance(event, ToolCallEvent):
            json.dumps(event.call.arguments, allow_nan=False).encode()
            assert event.call.name
    raw = tokenizer.decode(ids)
    if tokenizer.encode(raw, specials=True) == ids:  # as text, cut anywhere: the same events
        names = counter()
        parser, at, cut = Parser(in_thought=in_thought, new_id=lambda: next(names)), 0, []
        while at < len(raw):
            step = rng.randint(1, 40)
            cut += parser.feed_text(raw[at : at + step])
            at += step
        assert joined([*cut, *parser.finish()]) == events, ids


@pytest.mark.parametrize("which", ["gemma", "pebble"])
def test_random_tokens_lose_nothing(which: str) -> None:
    tokenizer = real_tokenizer() if which == "gemma" else pebble_tokenizer()
    rng, count, compared = random.Random(7), 0, 0
    for ids in runs(tokenizer, 11, TOKENS):
        check(tokenizer, ids, rng.random() < 0.2, rng)
        count += len(ids)
        compared += 1
    assert count == TOKENS
    assert compared > TOKENS // 400


def test_what_is_lost_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The check itself: a parser that keeps quiet about malformed calls does not pass."""
    monkeypatch.setattr(Parser, "_note", lambda *_: None)
    monkeypatch.setattr(Parser, "_emit_text", lambda *_: None)
    with pytest.raises(AssertionError):
        check(pebble_tokenizer(), pebble_tokenizer().encode("xyz"), False, random.Random(0))
