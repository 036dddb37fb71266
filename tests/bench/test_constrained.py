"""The bench of calls and answers from random weights, small; and that its judge can say no."""

from __future__ import annotations

import jsonschema
import pytest
from constrained import fault, main, tool_sets

from gemstead.text.grammar import call_grammar
from support.grammars import TOKENIZER


def test_a_few_calls_and_answers_are_valid(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--calls", "12", "--answers", "6", "--sets", "6", "--seed", "3"])
    calls, answers = capsys.readouterr().out.splitlines()
    assert calls.startswith("calls: 12 whole, 12 valid, 0 wrong")
    assert answers.startswith("answers: 6 whole, 6 valid, 0 wrong")


def test_the_schemas_are_schemas_varied_and_the_same_each_time() -> None:
    sets = tool_sets(0, 50)
    assert sets == tool_sets(0, 50)
    text = ""
    for tools in sets:
        call_grammar(tools, TOKENIZER.control)
        for tool in tools:
            jsonschema.Draft202012Validator.check_schema(dict(tool.parameters))
            text += str(tool.parameters)
    for word in (
        "$ref",
        "anyOf",
        "oneOf",
        "enum",
        "const",
        "format",
        "pattern",
        "prefixItems",
        "maxItems",
        "additional",
    ):
        assert word in text


def test_the_judge_finds_faults() -> None:
    assert fault({"a": 1}, {"required": ["b"]})
    assert fault("2023-02-29", {"format": "date"})
    assert fault({"a": 1}, {"required": ["a"]}) is None
