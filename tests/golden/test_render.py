"""The renderer against others' recordings: the 29 conversations and the cases of ../shared."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gemstead.text.template import render
from support.conversations import messages_of, tools_of
from support.vocab import SHARED

EXAMPLES = SHARED / "gemma4" / "chat_examples.json"
CASES = SHARED / "cases" / "render.jsonl"
FLAVOURS = {
    "v4(2026-07-09, 12B/26B/31B)": ("v4", "large"),
    "v4(2026-07-09, E2B/E4B)": ("v4", "small"),
    "v2(31B)": ("v2", "large"),
    "v1(launch 26B)": ("v1", "large"),
}
# v1 took results as a field of the assistant's message, which our messages do not have; rendering
# tool messages that way is its correction, and that writes null where v1 let Python write None.
RESULTS_IN_MESSAGE = "tool result dict via tool_responses"
# Google's v2 and v4 templates crash on a mapping in a tool message; we write it as one.
CRASHES = "tool result dict (role tool)"


def examples() -> list[tuple[str, str, dict[str, Any]]]:
    if not EXAMPLES.exists():
        return []
    return [(n, f, e) for n, e in json.loads(EXAMPLES.read_text("utf-8")).items() for f in FLAVOURS]


@pytest.mark.skipif(not EXAMPLES.exists(), reason=f"needs {EXAMPLES}")
def test_there_are_29_conversations() -> None:
    assert len(examples()) == 29 * len(FLAVOURS)


@pytest.mark.parametrize(
    ("name", "flavour", "example"), examples(), ids=lambda v: v if isinstance(v, str) else ""
)
def test_conversation_renders_exactly(name: str, flavour: str, example: dict[str, Any]) -> None:
    generation, size_class = FLAVOURS[flavour]
    kwargs = example["kwargs"]
    prompt = render(
        messages_of(example["messages"]),
        tools_of(kwargs.get("tools")),
        thinking=kwargs.get("enable_thinking", False),
        generation=generation,
        size_class=size_class,  # type: ignore[arg-type]
        add_generation_prompt=kwargs.get("add_generation_prompt", True),
        preserve_thinking=kwargs.get("preserve_thinking", False),
        corrected=name == RESULTS_IN_MESSAGE and generation == "v1",
    )
    expected = example["rendered"][flavour]
    if name == RESULTS_IN_MESSAGE and generation == "v1":
        expected = expected.replace("None", "null")
    if name == CRASHES and generation != "v1":
        assert expected.startswith("ERR")
        null = "null" if generation == "v4" else "None"
        assert prompt.text.endswith(
            f'<|tool_response>response:f{{a:[1,{{z:<|"|>q<|"|>}}],b:{null}}}<tool_response|>'
        )
    else:
        assert prompt.text == expected


def cases() -> list[Any]:
    if not CASES.exists():
        return []
    rows = [json.loads(line) for line in CASES.read_text("utf-8").splitlines()]
    return [pytest.param(row, id=row["id"]) for row in rows]


@pytest.mark.skipif(not CASES.exists(), reason=f"needs {CASES}")
def test_there_are_cases() -> None:
    assert len(cases()) == 139


@pytest.mark.parametrize("case", cases())
def test_case_renders_exactly(case: dict[str, Any]) -> None:
    given = case["input"]
    prompt = render(
        messages_of(given["messages"]),
        tools_of(given["tools"]),
        thinking=bool(given["enable_thinking"]),
        size_class=given["model_size"],
        add_generation_prompt=given["add_generation_prompt"],
        # one case was not rendered by Google's template, which misnames results without ids
        corrected=case.get("official_template_agrees") is False,
    )
    assert prompt.text == case["expected"]["prompt"]
