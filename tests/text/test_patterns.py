"""Strings and numbers as terminals: what a pattern searched for means for the whole text."""

from __future__ import annotations

import json
import re

import pytest

from gemstead.errors import InputError
from gemstead.text.patterns import number_rule, string_rule


def regex_of(**schema) -> str:
    rule = string_rule(schema, "x")
    assert rule is not None
    return rule[1:-1].replace(r"\/", "/")


@pytest.mark.parametrize(
    ("pattern", "good", "bad"),
    [
        ("^a$", ["a"], ["b", "aa", "ba"]),
        ("^a", ["a", "ab"], ["ba"]),
        ("a$", ["a", "ba"], ["ab"]),
        ("a", ["a", "bab"], ["b", ""]),
        ("^a|b$", ["ax", "xb"], ["xa", "bx"]),
        ("^(a|b)$", ["a", "b"], ["ab"]),
        ("^[|]$", ["|"], ["", "a"]),
        ("^a\\|b$", ["a|b"], ["a", "b"]),
        ("^\\d+$", ["12"], ["٣", "a"]),
        ("^[\\d-]\\w$", ["1_", "-a"], ["é_", "1é"]),
        ("^a/b$", ["a/b"], ["ab"]),
        ("^\\$$", ["$"], ["", "a"]),
        ("cost\\$", ["cost$", "a cost$ b"], ["cost"]),
    ],
)
def test_patterns(pattern, good, bad):
    found = re.compile(regex_of(pattern=pattern), re.DOTALL)
    assert all(found.fullmatch(text) for text in good)
    assert not any(found.fullmatch(text) for text in bad)


def test_lengths_formats_and_both():
    assert string_rule({}, "x") is None
    assert string_rule({"minLength": 2, "maxLength": 3}, "x") == "/(?s:.){2,3}/"
    assert string_rule({"minLength": 1}, "x") == "/(?s:.){1,}/"
    assert string_rule({"maxLength": 5, "pattern": "^a"}, "x").count(" & ") == 1
    assert re.fullmatch(regex_of(format="date"), "2024-02-28")
    assert not re.fullmatch(regex_of(format="date"), "2024-02-30")
    assert not re.fullmatch(regex_of(format="date"), "2024-04-31")


def test_numbers():
    assert number_rule("number", {}, "x") == "NUMBER"
    assert re.fullmatch(number_rule("integer", {}, "x")[1:-1], "-120")
    assert not re.fullmatch(number_rule("integer", {}, "x")[1:-1], "012")
    rule = number_rule("integer", {"minimum": 3, "title": "n"}, "x")
    assert json.loads(rule.removeprefix("%json ")) == {"type": "integer", "minimum": 3}


@pytest.mark.parametrize("schema", [{"format": "colour"}, {"minLength": 2, "maxLength": 1}])
def test_refusals_name_the_place(schema):
    with pytest.raises(InputError, match=r"the\.place"):
        string_rule(schema, "the.place")
