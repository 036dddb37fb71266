"""Whatever a tool's grammar lets through is one call that parses and is valid under the tool's schema."""

from __future__ import annotations

import jsonschema
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gemstead.engine.grammar import check_grammar
from gemstead.errors import InputError
from gemstead.text.grammar import call_grammar, loosened
from gemstead.text.parser import parse
from gemstead.types import Tool, ToolCallEvent
from support.grammars import TOKENIZER, draw


def drawn_calls(tool: Tool, count: int, seed: int = 0) -> int:
    """Draw calls of a tool and check each; how many came to an end."""
    grammar = call_grammar([tool], TOKENIZER.control)
    check_grammar(grammar, tool.name)
    rng, whole = np.random.default_rng(seed), 0
    for _ in range(count):
        ids = draw(grammar, rng)
        if ids is None:  # too long, as an answer cut off by max_tokens would be
            continue
        whole += 1
        raw = "<|tool_call>" + TOKENIZER.decode(ids)
        events = parse(raw)
        assert len(events) == 1, (raw, events)
        assert isinstance(events[0], ToolCallEvent), (raw, events)
        call = events[0].call
        assert call.name == tool.name
        jsonschema.validate(dict(call.arguments), dict(tool.parameters), jsonschema.Draft202012Validator)
    return whole


def of(**properties):
    """A schema of an object with these properties, all of them required."""
    return {"type": "object", "properties": properties, "required": list(properties)}


FEATURES = {
    "nothing": {"type": "object", "properties": {}},
    "text": of(text={"type": "string"}),
    "kinds": of(a={"type": "integer"}, b={"type": "number"}, c={"type": "boolean"}, d={"type": "null"}, e={}),
    "some optional": {
        **of(a={"type": "integer"}, B={"type": "boolean"}, c={"type": "null"}),
        "required": ["B"],
    },
    "all optional": {**of(a={"type": "integer"}, b={"type": "boolean"}), "required": []},
    "ranges": of(
        a={"type": "integer", "minimum": -3, "maximum": 12},
        b={"type": "number", "exclusiveMinimum": 0, "maximum": 1},
        c={"type": "integer", "multipleOf": 5},
    ),
    "lengths": of(a={"type": "string", "minLength": 2, "maxLength": 4}, b={"type": "string", "maxLength": 3}),
    "patterns": of(
        a={"type": "string", "pattern": "^[A-Z]{2}-\\d+$"},
        b={"type": "string", "pattern": "^x/y"},
        c={"type": "string", "pattern": "^a|b$"},
        d={"type": "string", "pattern": "^\\$\\d$", "maxLength": 2},
    ),
    "formats": of(
        **{
            name.replace("-", "_"): {"type": "string", "format": name}
            for name in ("date", "time", "date-time", "email", "ipv4", "ipv6", "uuid", "hostname", "uri")
        }
    ),
    "choices": of(a={"enum": ["x", "", "y z", 'quo"te', "<tool>", "é"]}, b={"enum": [1, 2.5, None, True]}),
    "constants": of(a={"const": "only"}, b={"const": {"k": [1, "two", {"three": None}]}}),
    "typed choices": of(a={"type": "string", "enum": ["x", 3, "y"]}),
    "type lists": of(a={"type": ["integer", "null"]}, b={"type": ["string", "boolean"]}),
    "nullable": of(a={"type": "integer", "nullable": True}),
    "lists": of(
        a={"type": "array", "items": {"type": "integer"}},
        b={"type": "array", "items": {"type": "string"}, "minItems": 2, "maxItems": 3},
        c={"type": "array", "maxItems": 0},
        d={"type": "array"},
    ),
    "tuples": of(
        a={"type": "array", "prefixItems": [{"type": "integer"}, {"type": "string"}], "items": False},
        b={"type": "array", "prefixItems": [{"type": "integer"}], "items": {"type": "null"}, "minItems": 2},
        c={"type": "array", "prefixItems": [{"type": "null"}] * 3, "maxItems": 2},
    ),
    "nested": of(outer=of(inner=of(x={"type": "integer"}), list={"type": "array", "items": of(y={})})),
    "maps": of(
        a={"type": "object"},
        b={"type": "object", "additionalProperties": {"type": "integer"}},
        c={"type": "object", "additionalProperties": False},
        d={"type": "object", "required": ["k"]},
    ),
    "unions": of(
        a={"anyOf": [{"type": "integer"}, {"type": "array", "items": {"type": "string"}}]},
        b={"oneOf": [{"type": "string"}, {"type": "integer"}]},
        c={"oneOf": [of(kind={"const": "p"}, r={"type": "number"}), of(kind={"const": "q"})]},
        d={"anyOf": [{"minimum": 3}, {"maximum": 1}], "type": "integer"},
    ),
    "all of": of(a={"allOf": [of(x={"type": "integer"}), of(y={"type": "boolean"})]}),
    "all and any": of(a={"allOf": [of(x={"type": "integer"})], "anyOf": [of(y={}), of(z={})]}),
    "references": {
        **of(a={"$ref": "#/$defs/point"}, b={"$ref": "#/$defs/alias", "description": "again"}),
        "$defs": {"point": of(x={"type": "integer"}), "alias": {"$ref": "#/$defs/point"}},
    },
    "recursion": {
        **of(tree={"$ref": "#/$defs/node"}),
        "$defs": {
            "node": {
                **of(
                    value={"type": "integer"}, children={"type": "array", "items": {"$ref": "#/$defs/node"}}
                ),
                "required": ["value"],
            }
        },
    },
    "odd names": of(
        **{"a b": {"type": "integer"}, "type": {"type": "null"}, "x:y": {}, "Ünï": {}, "description": {}}
    ),
    "values and limits": of(a={"enum": ["a", "abc"], "minLength": 2}, b={"enum": [1, 2, 3], "const": 2}),
    "closed halves": of(
        a={
            "allOf": [{"properties": {"x": {"type": "null"}}, "additionalProperties": False}],
            "properties": {"x": {}, "y": {}},
            "type": "object",
        },
        b={"type": "object", "properties": {"x": {"type": "null"}, "y": False}},
    ),
    "patterns of scripts": of(
        a={"type": "string", "pattern": "^https?:\\/\\/x\\/$"},
        b={"type": "string", "pattern": "^[[/]\\S\\D$"},
    ),
    "no types": {"properties": {"a": {"minLength": 2, "maxLength": 3}, "b": {"items": {"type": "null"}}}},
}


@pytest.mark.parametrize("name", FEATURES)
def test_each_feature(name):
    assert drawn_calls(Tool("do_it", "", FEATURES[name]), 12) >= 6


def test_any_of_several_tools():
    tools = [Tool("one", "", of(a={"type": "integer"})), Tool("two.b-c", "", of(b={"type": "null"}))]
    grammar, rng = call_grammar(tools, TOKENIZER.control), np.random.default_rng(0)
    seen = {
        parse("<|tool_call>" + TOKENIZER.decode(draw(grammar, rng) or []))[0].call.name for _ in range(20)
    }
    assert seen == {"one", "two.b-c"}


@pytest.mark.parametrize(
    ("schema", "word"),
    [
        ({"not": {"type": "string"}}, "'not'"),
        ({"type": "array", "uniqueItems": True}, "'uniqueItems'"),
        ({"if": {}, "then": {}}, "'if', 'then'"),
        ({"type": "object", "patternProperties": {}}, "'patternProperties'"),
        ({"type": "strnig"}, "'strnig'"),
        ({"type": "string", "format": "colour"}, "'colour'"),
        ({"oneOf": [{"type": "number"}, {"type": "integer"}]}, "oneOf"),
        ({"oneOf": [{"type": "object"}, {"type": "object"}]}, "oneOf"),
        ({"$ref": "#/$defs/none"}, "not there"),
        ({"$ref": "http://example.org/x"}, "within the schema"),
        ({"type": "integer", "minimum": "3"}, "minimum"),
        ({"allOf": [{"type": "string"}, {"type": "integer"}]}, "at once"),
        ({"allOf": [{"pattern": "a"}, {"pattern": "b"}]}, "pattern twice"),
        ({"type": "string", "minLength": 3, "maxLength": 1}, "needs 3 characters"),
        ({"type": "array", "minItems": 3, "maxItems": 1}, "needs 3 items"),
        ({"type": "array", "prefixItems": [{}], "items": False, "minItems": 2}, "needs 2 items"),
        ({"type": "string", "enum": [1, 2]}, "allows no value"),
        ({"properties": {"a": {}}, "required": ["b"], "type": "object"}, "requires b"),
        ({"$id": "http://example.org/y", "$ref": "#/$defs/z"}, "'$id'"),
        ({"enum": ["a"], "pattern": "b"}, "'pattern' beside"),
        ({"enum": [1, 2], "minimum": 3}, "allows no value"),
        (False, "allows no value"),
    ],
)
def test_what_cannot_be_guaranteed_is_named(schema, word):
    with pytest.raises(InputError) as error:
        call_grammar([Tool("t", "", of(x=schema))], TOKENIZER.control)
    assert word in str(error.value)
    assert "tool t" in str(error.value)


@pytest.mark.parametrize("name", ["", "a b", "f{}", "f(", "x:", "a,b", "a\nb", "call\u200b"])
def test_names_that_could_not_be_read_back(name):
    with pytest.raises(InputError, match="cannot have the name"):
        call_grammar([Tool(name)], TOKENIZER.control)


def test_two_tools_of_one_name():
    with pytest.raises(InputError, match="two tools have the name 'f'"):
        call_grammar([Tool("f"), Tool("f")], TOKENIZER.control)


def test_references_in_a_circle():
    schema = {
        **of(a={"$ref": "#/$defs/a"}),
        "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}},
    }
    with pytest.raises(InputError, match="circle"):
        call_grammar([Tool("t", "", schema)], TOKENIZER.control)


def test_a_pattern_the_compiler_refuses():
    grammar = call_grammar([Tool("t", "", of(x={"type": "string", "pattern": "(?=a)b"}))], TOKENIZER.control)
    with pytest.raises(InputError, match="look-around"):
        check_grammar(grammar, "a tool's schema")


NAMES = st.sampled_from(["a", "b", "Cc", "city name", "type", "x_1", "ñ"])
LEAVES = st.one_of(
    st.just({}),
    st.builds(
        lambda kind: {"type": kind}, st.sampled_from(["string", "integer", "number", "boolean", "null"])
    ),
    st.builds(
        lambda values: {"enum": values},
        st.lists(st.one_of(st.integers(-9, 9), st.text(max_size=3)), min_size=1),
    ),
    st.builds(
        lambda low, more: {"type": "integer", "minimum": low, "maximum": low + more},
        st.integers(-99, 99),
        st.integers(0, 99),
    ),
    st.builds(
        lambda low, more: {"type": "string", "minLength": low, "maxLength": low + more},
        st.integers(0, 3),
        st.integers(0, 3),
    ),
)


def objects(inner):
    return st.builds(
        lambda properties, required: {
            "type": "object",
            "properties": properties,
            "required": [n for n in properties if n in required],
        },
        st.dictionaries(NAMES, inner, max_size=4),
        st.sets(NAMES),
    )


def deeper(inner):
    return st.one_of(
        objects(inner),
        st.builds(
            lambda items, low, more: {
                "type": "array",
                "items": items,
                "minItems": low,
                "maxItems": low + more,
            },
            inner,
            st.integers(0, 2),
            st.integers(0, 2),
        ),
        st.builds(lambda options: {"anyOf": options}, st.lists(inner, min_size=1, max_size=3)),
    )


@given(objects(st.recursive(LEAVES, deeper, max_leaves=6)))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_schema(schema):
    drawn_calls(Tool("f", "", schema), 3)


def holds(tool: Tool) -> bool:
    try:
        check_grammar(call_grammar([tool], TOKENIZER.control), tool.name)
    except InputError:
        return False
    return True


def test_a_tool_is_loosened_only_where_it_must_be():
    parameters = {
        **of(n={"type": "integer"}, far={"$ref": "#/$defs/far"}, odd={"type": "array", "uniqueItems": True}),
        "$defs": {"far": {"enum": ["a"]}},
    }
    tool = Tool("t", "", parameters, strict=False)
    assert not holds(tool)
    loose = loosened(tool, holds)
    assert loose.parameters["properties"] == {**parameters["properties"], "odd": {}}
    assert loose.parameters["required"] == parameters["required"]
    assert drawn_calls(loose, 20) > 0
    assert loosened(loose, holds) is loose


@pytest.mark.parametrize("more", [{"not": {}}, {"patternProperties": {"^a": {}}}, {"required": ["nowhere"]}])
def test_a_schema_that_cannot_be_held_at_all_is_any_object(more):
    tool = Tool("t", "", {**of(n={"type": "integer"}), **more}, strict=False)
    assert holds(loosened(tool, holds))
    hopeless = Tool("t", "", {"type": "object", "additionalProperties": {"not": {}}}, strict=False)
    assert loosened(hopeless, holds).parameters == {"type": "object"}


def test_names_that_are_strings_say_nothing():
    named = {"type": "object", "propertyNames": {"type": "string"}, "additionalProperties": {"type": "null"}}
    assert drawn_calls(Tool("t", "", of(m=named)), 20) > 0
    assert not holds(Tool("t", "", of(m={**named, "propertyNames": {"maxLength": 2}})))
