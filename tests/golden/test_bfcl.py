"""All tool-use tasks of BFCL (../shared/cases/bfcl.jsonl): declared, guarded, and their true calls read back.

For each task its tools render and turn into a grammar; for each true call that its tool's schema allows,
our writer writes it, the grammar lets it through, and the parser gives the same call back.
"""

from __future__ import annotations

import json
from collections import Counter
from functools import cache
from typing import Any

import jsonschema
import pytest

from gemstead.engine.grammar import check_grammar
from gemstead.errors import InputError
from gemstead.text.grammar import call_grammar
from gemstead.text.parser import parse_ids
from gemstead.text.template import render
from gemstead.types import Message, Tool, ToolCall, ToolCallEvent
from support.grammars import TOKENIZER, VOCABULARY
from support.vocab import SHARED

CASES = SHARED / "cases" / "bfcl.jsonl"
pytestmark = pytest.mark.skipif(not CASES.exists(), reason=f"needs {CASES}")


@cache
def rows() -> list[dict[str, Any]]:
    return [json.loads(line) for line in CASES.read_text("utf-8").strip().split("\n")]


def tools_of(row: dict[str, Any]) -> list[Tool]:
    found = []
    for tool in row.get("tools", ()):
        inner = tool.get("function", tool)
        found.append(Tool(inner["name"], inner.get("description", ""), inner.get("parameters", {})))
    return found


def settled(value: Any) -> Any:
    """An argument from the lists of what may stand for it: the first of each that is not left out."""
    if isinstance(value, dict):
        return {
            key: settled(options[0])
            for key, options in value.items()
            if isinstance(options, list) and options and options[0] != ""
        }
    return [settled(inner) for inner in value] if isinstance(value, list) else value


def true_calls(row: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    truth = row.get("ground_truth") or []
    return [
        (name, settled(arguments))
        for one in truth
        if isinstance(one, dict)
        for name, arguments in one.items()
    ]


def test_every_task_is_declared_and_guarded() -> None:
    refused = []
    for row in rows():
        tools = tools_of(row)
        said = [Message(m["role"], m.get("content") or "") for turn in row["turns"][:1] for m in turn]
        ids = render(said, tools, corrected=True).encode(TOKENIZER)
        assert ids.count(TOKENIZER.control.tool_open or -1) == len(tools)
        try:
            if tools:
                check_grammar(call_grammar(tools, TOKENIZER.control), row["id"])
        except InputError as error:
            refused.append((row["id"], str(error)))
    assert len(rows()) == 736
    # "optional" is no keyword of JSON Schema; texts listed for a number or a boolean leave no value
    assert Counter(
        "'optional'" if "'optional'" in why else why.split(":")[0][-15:] for _, why in refused
    ) == {
        "'optional'": 15,
        "allows no value": 9,
    }


def test_every_true_call_is_let_through_and_read_back() -> None:
    counts: Counter[str] = Counter()
    for row in rows():
        tools = {tool.name: tool for tool in tools_of(row)}
        for name, arguments in true_calls(row):
            if name not in tools:
                counts["of no tool"] += 1
                continue
            valid = jsonschema.Draft202012Validator(dict(tools[name].parameters)).is_valid(arguments)
            said = [Message.user("Q"), Message.assistant(tool_calls=(ToolCall(name, arguments),))]
            ids, mask = render(said, corrected=True).encode_with_mask(TOKENIZER)
            wrote = [i for i, learned in zip(ids, mask, strict=True) if learned]
            end = wrote.index(TOKENIZER.control.call_close or -1)
            try:
                matcher = VOCABULARY.matcher(call_grammar([tools[name]], TOKENIZER.control))
            except InputError:
                counts["refused"] += 1
                continue
            let_through = matcher.try_consume_tokens(wrote[1 : end + 1]) == end
            assert let_through is valid, (row["id"], name, arguments)
            (event,) = parse_ids(wrote, TOKENIZER)
            assert isinstance(event, ToolCallEvent)
            assert (event.call.name, event.call.arguments) == (name, arguments)
            counts["valid" if valid else "not valid under the schema"] += 1
    assert counts == {"valid": 817, "refused": 18, "not valid under the schema": 3}
