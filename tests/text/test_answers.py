"""Grammars of answers: every keyword is honoured or refused by name, at any depth."""

from __future__ import annotations

import json

import pytest

from gemstead.engine.grammar import check_grammar
from gemstead.errors import InputError
from gemstead.text.answers import answer_grammar
from gemstead.text.grammar import call_grammar
from gemstead.types import Tool
from support.grammars import TOKENIZER, VOCABULARY


def accepts(grammar: str, text: str) -> bool:
    matcher = VOCABULARY.matcher(grammar)
    ids = TOKENIZER.encode(text)
    return matcher.try_consume_tokens(ids) == len(ids) and bool(matcher.is_accepting())


@pytest.mark.parametrize(
    ("kind", "value", "good", "bad"),
    [
        ("json_schema", True, ["1", '{"a": [null]}'], ["", "{"]),
        ("json_schema", {"type": "integer"}, ["12"], ['"12"', "1.5"]),
        ("json_schema", {"enum": ["a", "abcd"], "minLength": 3}, ['"abcd"'], ['"a"']),
        ("json_schema", {"format": "date"}, ['"2024-02-29"'], ['"2023-02-29"', '"x"']),
        ("json_schema", {"format": "date", "pattern": "^2"}, ['"2024-02-29"'], ['"1999-01-01"']),
        ("json_schema", {"format": "ipv4", "enum": ["1.2.3.4", "x"]}, ['"1.2.3.4"'], ['"x"']),
        ("json_schema", {"pattern": "^\\S$"}, ['"a"'], ['"\ufeff"']),
        ("json_schema", {"pattern": "^[^\\s]\\D$"}, ['"a!"'], ['"\u2028a"', '"a٣"']),
        ("json_schema", {"pattern": "^\\d[^\\D]$"}, ['"12"'], ['"٣1"', '"1٣"']),
        ("json_schema", {"pattern": "^[^\\w-]$"}, ['"!"'], ['"a"', '"-"', '"²"', '"é"']),
        ("regex", "a/b", ["a/b"], ["a"]),
        ("regex", "a\\/b", ["a/b"], ["a"]),
        ("regex", "a\nb", ["a\nb"], ["a b"]),
        ("choice", ['say "yes"', "no"], ['say "yes"', "no"], ["say"]),
        ("lark", "start: /[0-9]+/", ["12"], ["x"]),
    ],
)
def test_what_each_kind_allows(kind, value, good, bad):
    grammar = answer_grammar(kind, value)
    check_grammar(grammar, "the answer")
    assert [text for text in good if not accepts(grammar, text)] == []
    assert [text for text in bad if accepts(grammar, text)] == []


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"frobnicate": 1}, "the answer uses 'frobnicate'"),
        ({"properties": {"a": {"requried": []}}}, "the answer.a uses 'requried'"),
        ({"items": {"anyOf": [{"not": {}}]}}, "the answer[][0] uses 'not'"),
        ({"$defs": {"x": {"uniqueItems": True}}}, "the answer.x uses 'uniqueItems'"),
        ({"additionalProperties": {"format": "colour"}}, "the answer[] has the format 'colour'"),
        ({"prefixItems": [{"type": "strnig"}]}, "'strnig'"),
        ({"properties": {"a": 3}}, "the answer.a"),
        (False, "no answer fits"),
        ({"const": {1, 2}}, "not JSON"),
    ],
)
def test_what_cannot_be_guaranteed_is_named(schema, words):
    with pytest.raises(InputError) as error:
        answer_grammar("json_schema", schema)
    assert words in str(error.value)


def test_names_and_values_are_not_taken_for_keywords():
    schema = {
        "properties": {"not": {"const": {"format": "x", "frob": 1}}, "x-y": {}},
        "x-own": 1,
        "title": "t",
    }
    check_grammar(answer_grammar("json_schema", schema), "the answer")


def test_a_schema_is_not_changed():
    schema = {"format": "date", "properties": {"a": {"format": "time"}}}
    before = json.dumps(schema)
    answer_grammar("json_schema", schema)
    assert json.dumps(schema) == before


def test_bottomless_nesting_is_an_error():
    schema: dict = {"type": "object"}
    schema["properties"] = {"self": schema}
    with pytest.raises(InputError, match="nested too deeply"):
        answer_grammar("json_schema", schema)
    with pytest.raises(InputError, match="nested too deeply"):
        call_grammar([Tool("f", "", schema)], TOKENIZER.control)


def test_blanks_are_few():
    grammar = answer_grammar("json_schema", {"type": "array", "items": {"type": "null"}})
    assert accepts(grammar, "[ \n null,null]")
    assert not accepts(grammar, "[" + " " * 9 + "null]")


@pytest.mark.parametrize(
    ("kind", "value", "said"),
    [
        ("regex", "a(b", 'invalid regex "a(b": unclosed group'),
        ("regex", "a (in regex) (b", 'invalid regex "a (in regex) (b": unclosed group'),
        ("json_schema", {"pattern": "(x"}, 'failed to compile JSON schema: regex "(x": unclosed group'),
    ],
)
def test_a_wrong_pattern_is_named_without_the_grammar_around_it(kind, value, said):
    with pytest.raises(InputError) as caught:
        check_grammar(answer_grammar(kind, value), "the answer")
    assert str(caught.value) == f"the answer cannot be used: {said}"


def test_a_wrong_pattern_in_a_grammar_keeps_its_place():
    with pytest.raises(InputError, match=r"at 2\(4\)"):
        check_grammar(answer_grammar("lark", "start: x\nx: /(/"), "the answer")


def test_a_choice_may_hold_any_character():
    for character in map(chr, [*range(1, 0xA0), 0x2028, 0xFEFF, 0x1F600]):
        check_grammar(answer_grammar("choice", [f"a{character}b"]), "the answer")
