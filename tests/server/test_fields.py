"""Checks of fields: what passes, what is refused, and that the message names the field."""

from __future__ import annotations

import math

import pytest

from gemstead.server import anthropic, ollama, openai
from gemstead.server.fields import (
    Field,
    docs_table,
    flag,
    number,
    objects,
    one_of,
    only,
    read,
    record,
    seconds,
    text,
    texts,
    whole,
)
from gemstead.server.refusals import Refusal


@pytest.mark.parametrize(
    ("check", "good", "bad"),
    [
        (text, ["", "a"], [1, True, [], {}]),
        (flag, [True, False], [0, 1, "true"]),
        (whole(0, 5), [0, 5, 3.0], [-1, 6, 2.5, True, "1", float("inf")]),
        (number(0, 1), [0, 1, 0.5], [-0.1, 1.1, True, "1", float("nan")]),
        (one_of("a", "b"), ["a"], ["c", 1, ["a"]]),
        (texts(2), ["a", ["a", "b"], []], [["a"] * 3, [1], [""], 5]),
        (objects(1), [[], [{}]], [[{}, {}], [1], {}]),
        (record, [{}], [[], 1]),
        (only(False), [False], [True, 0]),
    ],
)
def test_checks(check, good, bad):
    for value in good:
        check(value, "field")
    for value in bad:
        with pytest.raises(Refusal, match="field") as caught:
            check(value, "field")
        assert (caught.value.status, caught.value.param) == (400, "field")


def test_read_names_what_it_does_not_know_and_skips_null():
    table = {"a": Field(flag, "")}
    assert read({"a": None}, table) == {}
    with pytest.raises(Refusal, match=r"unknown field x\.b") as caught:
        read({"a": True, "b": None}, table, "x.")
    assert caught.value.param == "x.b"


def test_a_long_value_is_not_repeated():
    with pytest.raises(Refusal) as caught:
        one_of("a")("secret" * 100, "field")
    assert "secret" not in caught.value.message


@pytest.mark.parametrize(
    "table",
    [openai.CHAT, openai.COMPLETION, anthropic.MESSAGES, ollama.CHAT, ollama.GENERATE, ollama.OPTIONS],
)
def test_every_field_of_a_table_says_what_it_does(table):
    assert all(field.about for field in table.values())
    assert docs_table(table).count("\n") == len(table) + 1


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        (0, 0),
        (2.5, 2.5),
        ("5m", 300),
        ("1h30m", 5400),
        ("300ms", 0.3),
        ("12", 12),
        (-1, math.inf),
        ("-1m", math.inf),
    ],
)
def test_durations(given, wanted):
    assert seconds(given, "keep_alive") == pytest.approx(wanted)


@pytest.mark.parametrize("given", ["soon", "", "5 m", "5d", "1e3", True, None, [], math.nan])
def test_no_durations(given):
    with pytest.raises(Refusal, match="keep_alive"):
        seconds(given, "keep_alive")
