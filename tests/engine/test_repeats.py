"""Loops of tokens: found when they are loops, and only then."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gemstead.engine.repeats import LEAST_REPEATS, LONGEST_CYCLE, Repeats
from gemstead.types import SamplingParams
from support.vocab import small_tokenizer

DEFAULT = SamplingParams().loop_guard


def caught(ids, tokens=DEFAULT):
    """How many tokens were fed when a loop was found, and its cycle; None if none was."""
    repeats = Repeats(tokens)
    for count, token_id in enumerate(ids, 1):
        cycle = repeats.feed(token_id)
        if cycle is not None:
            return count, cycle
    return None


def oracle(ids, tokens):
    """The same, as the words have it: the end is a cycle, often enough and long enough."""
    for count in range(1, len(ids) + 1):
        for period in range(1, LONGEST_CYCLE + 1):
            needed = max(tokens, period * LEAST_REPEATS)
            tail = ids[count - needed : count] if count >= needed else None
            if tail and all(a == b for a, b in zip(tail, tail[period:], strict=False)):
                return count, period
    return None


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(0, 2), max_size=40),
    st.lists(st.integers(0, 2), min_size=1, max_size=4),
    st.integers(1, 60),
    st.sampled_from([1, 32, 40, 64, 100]),
)
def test_found_when_the_words_say_so(before, cycle, times, tokens):
    ids = before + cycle * times
    assert caught(ids, tokens) == oracle(ids, tokens)


@pytest.mark.parametrize("period", [1, 2, 7, 95, 96, 97, LONGEST_CYCLE - 1, LONGEST_CYCLE])
def test_a_loop_of_any_length_ends(period):
    cycle = list(range(period))
    assert caught([5, 5, 900, *cycle * 4000]) == (3 + max(DEFAULT, period * LEAST_REPEATS), period)


def test_a_longer_cycle_and_a_growing_one_are_none():
    assert caught(list(range(LONGEST_CYCLE + 1)) * 100) is None
    assert caught([i for n in range(200) for i in (7, 8, 9, 1000 + n)]) is None


def test_off():
    assert caught([3] * 20_000, 0) is None


LEGITIMATE = {
    "letters somebody asked for": "a" * 3000,
    "a word a thousand times": "ha " * 1000,
    "a ruler": "-" * 2000,
    "a table": "| 0 | 0 | 0 | 0 | 0 |\n" * 100,
    "a line to write a hundred times": "I will not talk in class again.\n" * 90,
    "code with equal lines": "    print('hello, world')\n" * 100,
    "a matrix of zeros": json.dumps([[0] * 28] * 28),
    "a thousand equal numbers": json.dumps([0] * 1000),
    "blank lines": "\n" * 2500,
}


@pytest.mark.parametrize("name", LEGITIMATE)
def test_legitimate_text_passes(name):
    """The small vocabulary spells letter by letter, which only makes the texts longer than in Gemma's own."""
    assert caught(small_tokenizer().encode(LEGITIMATE[name])) is None
