"""Schemas in order: references, unions, null, and references that never end."""

from __future__ import annotations

from typing import Any

import pytest

from gemstead.errors import InputError
from gemstead.text.schema import normalise


@pytest.mark.parametrize(
    ("schema", "wanted"),
    [
        ({"type": "string", "minLength": 3, "pattern": "a"}, {"type": "string"}),
        ({"type": ["null", "string"]}, {"type": "string", "nullable": True}),
        ({"enum": ["a", None]}, {"enum": ["a"], "nullable": True, "type": "string"}),
        ({"properties": {"a": {}}}, {"properties": {"a": {}}, "type": "object"}),
        ({"items": {"type": "integer"}}, {"items": {"type": "integer"}, "type": "array"}),
        (
            {"anyOf": [{"type": "string", "enum": ["a"]}, {"type": "integer", "enum": [1]}]},
            {"type": ["string", "integer"], "enum": ["a", 1]},
        ),
        (
            {
                "anyOf": [
                    {"properties": {"a": {"type": "string"}, "k": {}}, "required": ["a", "k"]},
                    {"properties": {"b": {"type": "string"}, "k": {}}, "required": ["b", "k"]},
                ]
            },
            {
                "type": "object",
                "properties": {"a": {"type": "string"}, "b": {"type": "string"}, "k": {}},
                "required": ["k"],
            },
        ),
        (
            {
                "allOf": [
                    {"properties": {"a": {"type": "string"}}, "required": ["a"]},
                    {"properties": {"b": {"type": "string"}}, "required": ["b"]},
                ]
            },
            {
                "type": "object",
                "properties": {"a": {"type": "string"}, "b": {"type": "string"}},
                "required": ["a", "b"],
            },
        ),
        ({"$ref": "#/$defs/a~1b", "$defs": {"a/b": {"type": "number"}}}, {"type": "number"}),
        ({"$ref": "#/definitions/A", "definitions": {"A": {"$ref": "#/definitions/B"}, "B": {"const": True}}},
         {"enum": [True], "type": "boolean"}),
        ({"$ref": "http://example.com/x", "type": "string"}, {"type": "string"}),
        ({"$ref": "#/nowhere"}, {}),
    ],
)  # fmt: skip
def test_one_form(schema: dict[str, Any], wanted: dict[str, Any]) -> None:
    assert normalise(schema) == wanted
    assert normalise(normalise(schema)) == normalise(schema)


def test_a_tree_that_contains_itself_ends() -> None:
    node = {
        "type": "object",
        "properties": {"name": {"type": "string"}, "left": {"$ref": "#"}, "right": {"$ref": "#"}},
    }
    found = normalise(node)
    assert found["properties"]["name"] == {"type": "string"}
    assert found["properties"]["left"]["type"] == "object"


def test_references_that_unfold_without_end_are_an_error() -> None:
    defs = {
        "A": {"anyOf": [{"$ref": "#/$defs/B"}, {"$ref": "#/$defs/B"}]},
        "B": {"allOf": [{"$ref": "#/$defs/A"}] * 2},
    }
    assert isinstance(normalise({"$ref": "#/$defs/A", "$defs": defs}), dict)
    wide = {
        f"D{i}": {"properties": {f"p{j}": {"$ref": f"#/$defs/D{j}"} for j in range(20)}} for i in range(20)
    }
    with pytest.raises(InputError, match="too large"):
        normalise({"$ref": "#/$defs/D0", "$defs": wide})
