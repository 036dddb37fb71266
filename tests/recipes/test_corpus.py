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


def test_no_sentence_is_both_trained_on_and_held_out(monkeypatch: pytest.MonkeyPatch) -> None:
    said: dict[str, set[str]] = {"train": set(), "held": set()}
    free = Banks.free

    def watched(banks: Banks, wording: str) -> bool:
        accepted = free(banks, wording)
        if accepted:
            said[banks.part].add(re.sub(r"[^a-z0-9{}%*/+=^-]+", " ", wording.lower()).strip())
        return accepted

    monkeypatch.setattr(Banks, "free", watched)
    for part in said:
        some_turns(part, 3, 500)
    assert min(len(x) for x in said.values()) > 2000
    assert not said["train"] & said["held"]


def test_case_and_marks_do_not_make_another_sentence() -> None:
    one, other = "What is {} plus {}?", "what is {} plus {}"
    assert all(TRAIN.free(x) != HELD.free(x) for x in (one, other))
    assert TRAIN.free(one) == TRAIN.free(other)


def test_names_are_held_out() -> None:
    train, held = set(TRAIN["names"].sources), set(HELD["names"].sources)
    assert not train & held
    assert len(held) > 10
    assert train | held == set(ALL["names"].sources)


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
