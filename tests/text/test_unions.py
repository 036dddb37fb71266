"""Combining keywords: put together where that is sure, refused where it is not."""

from __future__ import annotations

import pytest

from gemstead.errors import InputError
from gemstead.text.unions import alternatives, check_keywords, implied_types, merged, resolve


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
    for bad in ("#/$defs/none", "#/$defs/list/7", "other.json"):
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
