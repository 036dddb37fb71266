"""Tool declarations and values: Google's form, and the corrected one for schemas Google garbles."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gemstead.text.control import QUOTE
from gemstead.text.declare import write_corrected_declaration, write_declaration, write_value
from gemstead.text.prompt import PromptWriter
from gemstead.text.schema import normalise
from gemstead.types import Tool


def declared(parameters: dict[str, Any], *, generation: str = "v4", corrected: bool = False) -> str:
    out = PromptWriter()
    if corrected:
        write_corrected_declaration(out, Tool("f", "D", normalise(parameters)), "null")
    else:
        write_declaration(out, Tool("f", "D", parameters), generation, "null")
    text = out.finish().text.replace(QUOTE, "'")
    assert text.startswith("declaration:f{description:'D'")
    return text.removeprefix("declaration:f{description:'D'").removesuffix("}")


def properties(**schemas: Any) -> dict[str, Any]:
    return {"type": "object", "properties": schemas}


@pytest.mark.parametrize("corrected", [False, True])
@pytest.mark.parametrize(
    ("parameters", "wanted"),
    [
        ({"type": "object", "properties": {}}, ",parameters:{type:'OBJECT'}"),
        (properties(b={"type": "string"}, A={"type": "integer", "description": "n"}),
         ",parameters:{properties:{A:{description:'n',type:'INTEGER'},b:{type:'STRING'}},type:'OBJECT'}"),
        (properties(type={"type": "string"}, description={"type": "number"}),
         ",parameters:{properties:{description:{type:'NUMBER'},type:{type:'STRING'}},type:'OBJECT'}"),
        (properties(e={"type": "string", "enum": ["x", "y"]},
                    l={"type": "array", "items": {"type": "number"}}),
         ",parameters:{properties:{e:{enum:['x','y'],type:'STRING'},l:{items:{type:'NUMBER'},type:'ARRAY'}},"
         "type:'OBJECT'}"),
        ({"properties": {"o": {"type": "object", "properties": {"k": {"type": "boolean"}},
                               "required": ["k"]}},
          "type": "object", "required": ["o"]},
         ",parameters:{properties:{o:{properties:{k:{type:'BOOLEAN'}},required:['k'],type:'OBJECT'}},"
         "required:['o'],type:'OBJECT'}"),
        ({"properties": {"a": {"type": "string"}}},
         ",parameters:{properties:{a:{type:'STRING'}},type:'OBJECT'}"),
    ],
)  # fmt: skip
def test_both_forms_agree_on_plain_schemas(parameters: dict[str, Any], wanted: str, corrected: bool) -> None:
    assert declared(parameters, corrected=corrected) == wanted


@pytest.mark.parametrize(
    ("schema", "googles", "ours"),
    [
        ({"type": ["string", "null"]}, "{type:'['STRING', 'NULL']'}", "{nullable:true,type:'STRING'}"),
        ({"type": ["string", "integer"]}, "{type:'['STRING', 'INTEGER']'}", "{type:['STRING','INTEGER']}"),
        ({"anyOf": [{"type": "string"}, {"type": "null"}]}, "{type:''}", "{nullable:true,type:'STRING'}"),
        ({"oneOf": [{"type": "string"}, {"type": "integer"}]}, "{type:''}", "{type:['STRING','INTEGER']}"),
        ({"$ref": "#/$defs/City"}, "{type:''}", "{description:'A city',type:'STRING'}"),
        ({"$ref": "#/$defs/City", "description": "Here"},
         "{description:'Here',type:''}", "{description:'Here',type:'STRING'}"),
        ({"allOf": [{"$ref": "#/$defs/City"}]}, "{type:''}", "{description:'A city',type:'STRING'}"),
        ({"const": "x"}, "{type:''}", "{enum:['x'],type:'STRING'}"),
        ({"enum": [1, 2]}, "{type:''}", "{enum:[1,2],type:'INTEGER'}"),
        ({"type": "integer", "enum": [1, 2]}, "{type:'INTEGER'}", "{enum:[1,2],type:'INTEGER'}"),
        ({"type": "array", "items": {"type": "array", "items": {"type": "string"}}},
         "{items:{items:{'type':'string'},type:'ARRAY'},type:'ARRAY'}",
         "{items:{items:{type:'STRING'},type:'ARRAY'},type:'ARRAY'}"),
        ({"type": "object", "additionalProperties": {"type": "string"}},
         "{properties:{additionalProperties:{type:'STRING'}},type:'OBJECT'}", "{type:'OBJECT'}"),
        ({}, "{type:''}", "{}"),
        (True, "{type:''}", "{}"),
    ],
)  # fmt: skip
def test_schemas_google_garbles(schema: Any, googles: str, ours: str) -> None:
    parameters = properties(p=schema)
    parameters["$defs"] = {"City": {"type": "string", "description": "A city"}}
    wrap = ",parameters:{properties:{p:%s},type:'OBJECT'}"
    assert declared(parameters) == wrap % googles
    assert declared(parameters, corrected=True) == wrap % ours


def test_older_generations_drop_properties_with_standard_names() -> None:
    parameters = properties(type={"type": "string"}, x={"type": "string"})
    for generation in ("v1", "v2"):
        assert (
            declared(parameters, generation=generation)
            == ",parameters:{properties:{x:{type:'STRING'}},type:'OBJECT'}"
        )


def test_a_response_is_declared() -> None:
    out = PromptWriter()
    write_declaration(out, Tool("f", "D", {}, {"type": "object", "description": "R"}), "v4", "null")
    assert (
        out.finish().text.replace(QUOTE, "'")
        == "declaration:f{description:'D',response:{description:'R',type:'OBJECT'}}"
    )


@pytest.mark.parametrize(
    ("key", "written"),
    [("a b", "a b"), ("a:b", "'a:b'"), ("", "''"), (" a", "' a'"), ("{", "'{'"), ("a-b.c", "a-b.c")],
)
def test_keys_that_bare_could_not_be_read_back_are_quoted(key: str, written: str) -> None:
    out = PromptWriter()
    write_value(out, {key: 1}, "null")
    assert out.finish().text.replace(QUOTE, "'") == f"{{{written}:1}}"


ODD = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "type",
                    "properties",
                    "items",
                    "required",
                    "enum",
                    "anyOf",
                    "allOf",
                    "oneOf",
                    "$ref",
                    "const",
                    "nullable",
                    "x",
                ]
            )
            | st.text(max_size=3),
            inner | st.sampled_from(["#", "#/properties/x", "object", "array"]),
            max_size=4,
        )
    ),
    max_leaves=20,
)


@settings(max_examples=200, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(["type", "properties", "required", "$defs", "anyOf", "$ref"]), ODD, max_size=4
    )
)
def test_any_schema_can_be_declared(parameters: dict[str, Any]) -> None:
    for generation in ("v1", "v2", "v4"):
        assert declared(parameters, generation=generation).count("{") >= 0
    text = declared(parameters, corrected=True)
    assert text.startswith(",parameters:{")
