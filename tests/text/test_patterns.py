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
        ("^[[a]$", ["[", "a"], ["b", "]"]),
        ("^[&&a]$", ["&", "a"], ["b"]),
        ("^[+--]$", ["+", ",", "-"], ["a"]),
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


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("date", ["2024-02-28", "2024-02-29", "2000-02-29"], ["2023-02-29", "1900-02-29", "2024-04-31"]),
        ("date", ["0001-01-01"], ["0000-01-01", "24-01-01"]),
        ("time", ["23:59:59Z", "08:00:00.5+02:00"], ["24:00:00Z", "08:00:00"]),
        ("date-time", ["2024-02-29T08:00:00Z"], ["2024-02-29 08:00:00Z"]),
        ("duration", ["P1Y", "P1Y2M3D", "P3W", "PT5M", "P1DT1H"], ["P", "P1Y2D", "PT", "P1DT", "1D"]),
        ("hostname", ["a", "a-b.example.org"], ["-a", "a--b", "xn--x", "a..b", "a" * 64]),
        ("ipv4", ["127.0.0.1"], ["256.0.0.1", "1.2.3", "01.2.3.4"]),
        (
            "ipv6",
            ["::1", "::", "fe80::1", "1:2:3:4:5:6:7:8", "1::8", "1:2:3:4:5:6:7::"],
            ["1:2", "::1::", ":::"],
        ),
        (
            "uri",
            ["https://example.org/a?b=c&d=%20#e", "mailto:a@b.org", "http://[::1]:80/"],
            ["//x", "a b:c", "x:%6"],
        ),
        ("uuid", ["2EB8AA08-aa98-11ea-b4aa-73b441d16380"], ["2eb8aa08aa9811eab4aa73b441d16380"]),
        ("email", ["a.b@example.org"], ["a@b", "@example.org", "a..b@example.org"]),
    ],
)
def test_formats_allow_nothing_that_is_none(name, good, bad):
    found = re.compile(regex_of(format=name))
    assert [text for text in good if not found.fullmatch(text)] == []
    assert [text for text in bad if found.fullmatch(text)] == []


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
