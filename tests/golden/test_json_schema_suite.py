"""Both kinds of grammar against the JSON Schema Test Suite (../shared/cases/json_schema_test_suite.jsonl).

For every schema that is not refused, valid instances must be accepted token by token and invalid ones
refused: as JSON for answers, in Gemma's call syntax (our own writer's) for calls. What differs on purpose
is a rule below, with its reason and the number of instances it covers; a refusal must name its cause.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from typing import Any, NamedTuple

import pytest

from gemstead.engine.grammar import check_grammar
from gemstead.errors import InputError
from gemstead.text.answers import answer_grammar
from gemstead.text.declare import write_arguments
from gemstead.text.grammar import call_grammar
from gemstead.text.prompt import PromptWriter
from gemstead.types import Tool
from support.grammars import TOKENIZER, VOCABULARY
from support.vocab import SHARED

CASES = SHARED / "cases" / "json_schema_test_suite.jsonl"
pytestmark = pytest.mark.skipif(not CASES.exists(), reason=f"needs {CASES}")


class Rule(NamedTuple):
    """Instances that differ on purpose. "narrow": valid, and cannot be written; "wide": invalid, and can."""

    reason: str
    direction: str
    count: int
    files: str
    descriptions: str = ""


CONTENTS = "a keyword about contents only annotates since 2019-09"
COMMON = "the expression of a format allows its common part"
ASSERTED = "a format is always asserted"
ORDER = "properties come in the order of the grammar"
ONE_WAY = "a number that the schema lists is written in one way"
WHOLE = "an integer is written without a point or an exponent"
CLASSES = "a class of an expression holds what it does in ECMAScript and in Python"
BESIDE = "keywords beside $ref count, as since 2019-09"
RULES: dict[str, list[Rule]] = {
    "answer": [
        Rule(CONTENTS, "wide", 4, r"draft7/optional/content"),
        Rule(ASSERTED, "narrow", 10, r"draft2020-12/format\.json", "only an annotation"),
        Rule(COMMON, "narrow", 80, r"optional/format/"),
        Rule(ORDER, "narrow", 2, r"allOf\.json", r"allOf|valid"),
        Rule(ORDER, "narrow", 1, r"const\.json#1$", "order"),
        Rule(ONE_WAY, "narrow", 8, r"(const|enum)\.json", r"float|\.0\]"),
        Rule(WHOLE, "narrow", 3, r"type\.json|overflow", r"float|overflow"),
        Rule(CLASSES, "narrow", 10, r"ecmascript-regex\.json"),
        Rule(BESIDE, "narrow", 1, r"draft7/ref\.json", "maxItems ignored"),
    ],
    "call": [
        Rule(CONTENTS, "wide", 4, r"draft7/optional/content"),
        Rule(
            "a schema without a type means the types its keywords speak of",
            "narrow",
            205,
            "",
            r"^ignores|pseudo-array|non-string is valid|all string formats ignore|^match$|^recursive match$",
        ),
        Rule(ASSERTED, "narrow", 10, r"draft2020-12/format\.json", "only an annotation"),
        Rule(COMMON, "narrow", 80, r"optional/format/"),
        Rule(ORDER, "narrow", 1, r"anyOf\.json#5", "both anyOf valid"),
        Rule(ONE_WAY, "narrow", 8, r"(const|enum)\.json", r"float|\.0\]|-2"),
        Rule(WHOLE, "narrow", 3, r"type\.json|overflow", r"float|overflow"),
        Rule(
            "where properties are declared, no others can be written",
            "narrow",
            3,
            r"(additionalProperties|properties)\.json",
            r"additional|other properties",
        ),
        Rule("a number has 15 digits before the point at most", "narrow", 8, r"bignum", "bignum"),
        Rule(CLASSES, "narrow", 10, r"ecmascript-regex\.json"),
        Rule(BESIDE, "narrow", 1, r"draft7/ref\.json", "maxItems ignored"),
    ],
}


def rows() -> list[dict[str, Any]]:
    return [json.loads(line) for line in CASES.read_text("utf-8").strip().split("\n")]


def inside_a_tool(schema: Any) -> Any:
    """References turned to where the schema stands as property `v` of a tool's parameters."""
    if isinstance(schema, dict):
        return {
            key: f"#/properties/v{value[1:]}"
            if key == "$ref" and isinstance(value, str) and value.startswith("#")
            else value
            if key in ("enum", "const")
            else inside_a_tool(value)
            for key, value in schema.items()
        }
    return [inside_a_tool(value) for value in schema] if isinstance(schema, list) else schema


def grammar_of(side: str, schema: Any) -> str:
    if side == "answer":
        grammar = answer_grammar("json_schema", schema)
    else:
        parameters = {"type": "object", "properties": {"v": inside_a_tool(schema)}, "required": ["v"]}
        grammar = call_grammar([Tool("f", "", parameters)], TOKENIZER.control)
    check_grammar(grammar, "the schema")
    return grammar


def tokens_of(side: str, value: Any) -> list[int]:
    if side == "answer":
        return TOKENIZER.encode(json.dumps(value, ensure_ascii=False))
    out = PromptWriter()
    out.text("call:f")
    write_arguments(out, {"v": value}, "null")
    return [*out.finish().encode(TOKENIZER), TOKENIZER.control.call_close]


def accepts(matcher: Any, ids: list[int]) -> bool:
    matcher.reset()
    taken = matcher.try_consume_tokens(ids)
    assert not matcher.is_error(), matcher.get_error()
    return taken == len(ids) and bool(matcher.is_accepting())


def rule_for(side: str, direction: str, name: str, description: str) -> int | None:
    for i, rule in enumerate(RULES[side]):
        fits = re.search(rule.files, name) and re.search(rule.descriptions, description)
        if rule.direction == direction and fits:
            return i
    return None


@pytest.mark.parametrize(
    ("side", "accepted", "agreeing"), [("answer", 279, 1600), ("call", 214, 1194)], ids=["answer", "call"]
)
def test_suite(side: str, accepted: int, agreeing: int) -> None:
    taken, agreed, found, unexplained = 0, 0, Counter[int](), []
    for row in rows():
        try:
            matcher = VOCABULARY.matcher(grammar_of(side, row["schema"]))
        except InputError:
            continue
        taken += 1
        for test in row["tests"]:
            if accepts(matcher, tokens_of(side, test["data"])) is test["valid"]:
                agreed += 1
                continue
            direction = "narrow" if test["valid"] else "wide"
            rule = rule_for(side, direction, row["id"], test["description"])
            if rule is None:
                unexplained.append((direction, row["id"], test["description"], test["data"]))
            else:
                found[rule] += 1
    assert unexplained == []
    assert (taken, agreed) == (accepted, agreeing)
    assert {i: found[i] for i in range(len(RULES[side]))} == {
        i: rule.count for i, rule in enumerate(RULES[side])
    }


@pytest.mark.parametrize("side", ["answer", "call"])
def test_every_refusal_says_why(side: str) -> None:
    for row in rows():
        try:
            grammar_of(side, row["schema"])
        except InputError as error:
            text = str(error)
            quoted = re.findall(r"'([$\w]+)'", text)
            words = (
                "allows no value",
                "is false",
                "refers to",
                "format",
                "regex",
                "needs",
                "once",
                "float range",
            )
            words += (
                "digits",
                "Unsatisfiable",
                "oneOf",
                "together",
                "disjoint",
                "Expected",
                "Anchor",
                "not JSON",
                "object, true",
            )
            assert any(key in json.dumps(row["schema"]) for key in quoted) or any(w in text for w in words), (
                text
            )
