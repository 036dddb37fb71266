"""Reading settings: right types always, every fault told with what was seen and what is allowed."""

from __future__ import annotations

import numpy as np
import pytest

from gemstead.errors import ConfigError
from gemstead.spec.fields import Fields, Problems, shown


def fields(**values) -> Fields:
    return Fields(values, "part.", Problems())


def test_present_values_come_back():
    f = fields(a=3, b=2.5, c=True, d={"x": 1}, e=[4, 5], g=7, h="yes")
    assert (f.integer("a"), f.number("b"), f.flag("c", False), f.mapping("d")) == (3, 2.5, True, {"x": 1})
    assert (f.token_ids("e"), f.token_ids("g"), f.one_of("h", ("yes",), "no")) == ((4, 5), (7,), "yes")
    assert f.problems.found == []


def test_numbers_of_numpy_are_numbers():
    f = fields(a=np.uint32(3), b=np.float32(2.5), e=np.array([4, 5]))
    assert (f.integer("a"), f.number("b"), f.token_ids("e")) == (3, 2.5, (4, 5))
    assert f.problems.found == []


def test_null_is_absent():
    f = fields(a=None, b=None, c=None)
    assert (f.integer("a", 1), f.number("b", 2.0), f.flag("c", True)) == (1, 2.0, True)
    assert not f.has("a")
    assert f.token_ids("a") is None
    assert f.problems.found == []


@pytest.mark.parametrize("value", ["3", 3.0, True, 0, -1, [3], {}, float("nan"), 2**40, 10**400])
def test_wrong_whole_number(value):
    f = fields(a=value)
    assert isinstance(f.integer("a"), int)
    assert f.problems.unreadable
    assert f.problems.found[0].startswith("part.a is ")
    assert "whole number from 1 to" in f.problems.found[0]


@pytest.mark.parametrize("value", ["3", True, 0, -1.5, float("inf"), float("nan"), [], 10**400])
def test_wrong_number(value):
    f = fields(a=value)
    assert isinstance(f.number("a"), float)
    assert "a number above 0" in f.problems.found[0]


@pytest.mark.parametrize("value", ["x", -2, [1, -2], [True], 1.5, [[1]]])
def test_wrong_token_ids(value):
    f = fields(a=value)
    assert f.token_ids("a") == ()
    assert "token id" in f.problems.found[0]


def test_minus_one_is_no_token():
    f = fields(a=-1, b=[3, -1])
    assert (f.token_ids("a"), f.token_ids("b"), f.problems.found) == ((), (3,), [])


def test_one_of_tells_1_from_true():
    f = fields(a=1)
    assert f.one_of("a", (True,), None) is None
    assert "part.a is 1; it must be true" in f.problems.found[0]


def test_missing_without_default():
    f = fields()
    f.integer("a")
    f.number("b")
    assert f.problems.found == [
        "part.a is missing; it must be a whole number from 1 to 2147483647",
        "part.b is missing; it must be a number above 0",
    ]


def test_required_values_and_unknown_fields():
    f = fields(bias=True, cap=None, other=1, known=2)
    f.require({"bias": (False, "no bias"), "cap": (None, "no cap"), "absent": (1, "x")})
    f.refuse_unknown(["bias", "known"])
    assert len(f.problems.found) == 2
    assert "part.bias is true; allowed is false: no bias" in f.problems.found[0]
    assert f.problems.found[1].startswith("part.other = 1 is not a field gemstead knows")
    assert not f.problems.unreadable


def test_all_problems_are_raised_together():
    problems = Problems()
    problems.raise_if_any("reading x")
    problems.add("one")
    with pytest.raises(ConfigError, match=r"^reading x: 1 problem in"):
        problems.raise_if_any("reading x")
    problems.add("two")
    with pytest.raises(ConfigError, match=r"2 problems in.*\n  - one\n  - two$"):
        problems.raise_if_any("reading x")


def test_shown_speaks_json_and_is_short():
    assert [shown(x) for x in (None, True, False, 1, "a")] == ["null", "true", "false", "1", "'a'"]
    assert len(shown(list(range(1000)))) == 80
