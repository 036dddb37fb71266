"""Combining keywords: put together where that is sure, refused where it is not."""

from __future__ import annotations

import pytest

from gemstead.errors import InputError
from gemstead.text.unions import alternatives, check_keywords, equal, implied_types, merged, resolve, within


@pytest.mark.parametrize(
    ("schema", "kinds"),
    [
        ({}, []),
        ({"type": "string"}, ["string"]),
        ({"type": ["string", "null"]}, ["string", "null"]),
        ({"type": ["integer", "number"]}, ["number"]),
        ({"minimum": 3}, ["number"]),
        ({"properties": {}}, ["object"]),
        ({"items": {}, "minLength": 1}, ["string", "array"]),
        ({"enum": [1], "minimum": 0}, []),
    ],
)
def test_types(schema, kinds):
    assert implied_types(schema) == kinds


def test_references():
    root = {"$defs": {"a/b": {"type": "null"}, "list": [{"x": 1}], "alias": {"$ref": "#/$defs/a~1b"}}}
    assert resolve("#/$defs/a~1b", root, "x") == {"type": "null"}
    assert resolve("#/$defs/list/0", root, "x") == {"x": 1}
    assert resolve("#/$defs/alias", root, "x") == {"type": "null"}
    assert resolve("#", root, "x") is root
    assert resolve("#/$defs/a%2Fb".replace("%2F", "~1"), root, "x") == {"type": "null"}
    assert resolve("#/$defs/p%25", {"$defs": {"p%": {"x": 1}}}, "x") == {"x": 1}
    for bad in ("#/$defs/none", "#/$defs/list/7", "other.json", "#$defs", "#/$defs//list"):
        with pytest.raises(InputError):
            resolve(bad, root, "x")


@pytest.mark.parametrize(
    ("first", "second", "both"),
    [
        (True, {"type": "null"}, {"type": "null"}),
        ({"minimum": 1, "maximum": 9}, {"minimum": 3, "maximum": 5}, {"minimum": 3, "maximum": 5}),
        ({"type": ["a", "b"]}, {"type": ["b", "c"]}, {"type": ["b"]}),
        ({"enum": [1, 2]}, {"enum": [2, 3]}, {"enum": [2]}),
        ({"required": ["a"]}, {"required": ["b", "a"]}, {"required": ["a", "b"]}),
        ({"additionalProperties": False}, {"additionalProperties": {}}, {"additionalProperties": False}),
        (  # each schema's additionalProperties speaks of the names that only the other declares
            {"properties": {"a": {"minimum": 1}}, "additionalProperties": False},
            {"properties": {"b": {}}},
            {"properties": {"a": {"minimum": 1}, "b": False}, "additionalProperties": False},
        ),
        (
            {"properties": {"a": {}}},
            {"additionalProperties": {"type": "null"}},
            {"properties": {"a": {"type": "null"}}, "additionalProperties": {"type": "null"}},
        ),
        (  # and each schema's items of what is past its own prefix
            {"prefixItems": [{"minimum": 3}]},
            {"items": {"minimum": 5}},
            {"prefixItems": [{"minimum": 5}], "items": {"minimum": 5}},
        ),
        ({"type": "integer"}, {"type": "number"}, {"type": ["integer"]}),
        ({"enum": [1, True]}, {"enum": [True, 2]}, {"enum": [True]}),
        ({"title": "x"}, {"title": "y"}, {"title": "y"}),
        (
            {"properties": {"a": {"minimum": 1}}},
            {"properties": {"a": {"maximum": 2}, "b": {}}},
            {"properties": {"a": {"minimum": 1, "maximum": 2}, "b": {}}},
        ),
    ],
)
def test_merging(first, second, both):
    assert merged(first, second, "x") == both


@pytest.mark.parametrize(
    ("first", "second"),
    [({"pattern": "a"}, {"pattern": "b"}), ({"type": "a"}, {"type": "b"}), (False, {"x": 1})],
)
def test_what_contradicts_itself(first, second):
    with pytest.raises(InputError):
        merged(first, second, "x")


def test_alternatives():
    assert alternatives({"type": "null"}, {}, "x") is None
    assert alternatives({"anyOf": [{"minimum": 1}], "type": "number"}, {}, "x") == [
        {"minimum": 1, "type": "number"}
    ]
    assert alternatives({"allOf": [{"a": 1}], "b": 2}, {}, "x") == [{"a": 1, "b": 2}]
    with pytest.raises(InputError, match="together"):
        alternatives({"anyOf": [{}], "oneOf": [{}]}, {}, "x")
    with pytest.raises(InputError, match="empty anyOf"):
        alternatives({"anyOf": []}, {}, "x")


@pytest.mark.parametrize(
    ("one", "other", "apart"),
    [
        ({"type": "string"}, {"type": "null"}, True),
        ({"type": "integer"}, {"type": "number"}, False),
        ({"const": 1}, {"const": 2}, True),
        ({"enum": [1, 2]}, {"const": 2}, False),
        ({}, {"type": "null"}, False),
    ],
)
def test_exactly_one(one, other, apart):
    if apart:
        assert alternatives({"oneOf": [one, other]}, {}, "x") == [one, other]
        return
    with pytest.raises(InputError, match="could hold together"):
        alternatives({"oneOf": [one, other]}, {}, "x")


def test_keywords_are_named():
    check_keywords({"type": "string", "title": "t", "x-own": 1, "nullable": True}, "x")
    with pytest.raises(InputError, match=r"x uses 'if', 'then'"):
        check_keywords({"if": {}, "then": {}}, "x")
    with pytest.raises(InputError, match="'strnig'"):
        check_keywords({"type": ["null", "strnig"]}, "x")


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (1, 1.0, True),
        (1, True, False),
        (False, 0, False),
        ([1, {"a": None}], [1.0, {"a": None}], True),
        ({"a": 1}, {"b": 1}, False),
        ("1", 1, False),
    ],
)
def test_values_of_json_are_compared_as_json(one, other, same):
    assert equal(one, other) is same


def test_limits_beside_a_list_of_values():
    schema = {"minimum": 2, "maxLength": 2}
    assert [v for v in (1, 2, "ab", "abc", None, True) if within(v, schema, "x")] == [2, "ab", None, True]
    assert not within(7, {"multipleOf": 2}, "x")
    with pytest.raises(InputError, match="'pattern' beside"):
        within("a", {"pattern": "a"}, "x")
