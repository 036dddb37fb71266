"""The generators: deterministic, held-out wordings kept apart, every call works, every slot filled."""

import random
import re
from datetime import date

import pytest
from corpus.calendar_talk import write_day
from corpus.conversation import Conversations
from corpus.grammar import Banks, held_out
from corpus.measures import _KINDS, units_of
from corpus.numbers import Numbers, in_words

from gemstead.agent.dates import parse_date
from gemstead.agent.units import find_units

TRAIN, HELD, ALL = (Banks.load(part) for part in ("train", "held", "all"))


def some_turns(part: str, seed: int, count: int) -> list:
    source = Conversations(part, seed, date(2026, 11, 24))
    return [turn for _ in range(count) for turn in source.turns(8)]


def test_the_same_seed_gives_the_same_turns() -> None:
    assert some_turns("train", 3, 5) == some_turns("train", 3, 5)
    assert some_turns("train", 3, 5) != some_turns("train", 4, 5)


def test_held_out_lines_are_not_trained_on() -> None:
    kept = 0
    for name, section in ALL.sections.items():
        if len(section.sources) < 8 or name.startswith("units_"):
            continue
        train, held = set(TRAIN[name].sources), set(HELD[name].sources)
        assert train | held == set(section.sources)
        assert not train & held or train == held  # a section the hash left whole
        kept += len(held - train)
    assert kept > 300


def test_every_bank_line_can_be_said_and_every_call_works() -> None:
    for turn in some_turns("all", 1, 400):
        assert turn.user.strip()
        assert not re.search(r"[{}|]|\[\w", turn.user), turn
        assert not re.search(r"\{\w+\}", turn.answer), turn
        assert turn.answer[-1] in '.!?"', turn
        for call in turn.calls:
            expected = "error: " in call.result
            reasons = ("measure", "has only", "no real square root")  # refusals pebble learns to pass on
            assert not expected or any(reason in call.result for reason in reasons), turn


def test_answers_quote_the_result() -> None:
    for turn in some_turns("train", 2, 100):
        for call in turn.calls:
            if not call.result.startswith("error: ") and turn.intent != "again":
                assert call.result in turn.answer


def test_pebble_never_says_it_is_gemma() -> None:
    for section in ALL.sections.values():
        for answer in section.answers:
            assert not re.search(r"I am (a )?Gemma\b(?!-4-shaped)|my name is Gemma", answer), answer


def test_units_of_the_bank_are_known_to_the_tool() -> None:
    for kind in _KINDS:
        for unit in units_of(ALL, kind):
            for spelling in (unit.plural, unit.singular, *unit.short):
                assert kind in {u.kind for u in find_units(spelling)}, spelling


@pytest.mark.parametrize(
    ("n", "words"), [(0, "zero"), (17, "seventeen"), (42, "forty-two"), (2400, "two thousand four hundred")]
)
def test_words(n: int, words: str) -> None:
    assert in_words(n) == words


def test_held_out_numbers_differ() -> None:
    train, held = Numbers(random.Random(1)), Numbers(random.Random(1), held=True)
    long = {n for n in (train.whole(100, 9999) for _ in range(500)) if n > 99}
    kept = {n for n in (held.whole(100, 9999) for _ in range(500)) if n > 99}
    assert not long & kept
    assert all(held_out(f"n{n}", 14) for n in kept)


def test_written_dates_read_back() -> None:
    rng = random.Random(1)
    for day in (date(2024, 3, 3), date(1999, 12, 31), date(2031, 5, 22)):
        for _ in range(60):
            written = write_day(day, rng)
            if "/" not in written and "." not in written:
                assert parse_date(written, day) == day, written
