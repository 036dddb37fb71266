"""The protocol as a library of its own: nothing of an engine comes with it."""

from __future__ import annotations

import subprocess
import sys

import gemstead.protocol as protocol
from gemstead.protocol import Message, TextDelta, ThoughtDelta, ToolCallEvent, parse, parse_ids, render
from support.vocab import small_tokenizer

HEAVY = ("numpy", "torch", "llguidance", "click", "prompt_toolkit")


def test_it_brings_neither_an_engine_nor_numpy() -> None:
    code = "import sys, gemstead.protocol; print(*sorted(sys.modules))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(ran.stdout.split())
    assert [name for name in HEAVY if name in loaded] == []
    own = {name.split(".")[1] for name in loaded if name.startswith("gemstead.")}
    assert own == {"errors", "types", "text", "protocol"}


def test_every_name_is_there() -> None:
    assert [name for name in protocol.__all__ if not hasattr(protocol, name)] == []


RAW = "<|channel>thought\nHm.\n<channel|>It says <|tool_call>call:f{a:1}<tool_call|>"


def test_text_and_token_ids_of_another_engine_read_the_same() -> None:
    tokenizer = small_tokenizer()
    by_text = parse(RAW, new_id=lambda: "1")
    by_ids = parse_ids(tokenizer.encode(RAW, specials=True), tokenizer, new_id=lambda: "1")
    assert by_text == by_ids
    assert [type(event) for event in by_text] == [ThoughtDelta, TextDelta, ToolCallEvent]


def test_ids_tell_a_control_token_from_its_spelling() -> None:
    tokenizer = small_tokenizer()
    spelled = tokenizer.encode("<|tool_call>call:f{}<tool_call|>")
    assert parse_ids(spelled, tokenizer) == [TextDelta("<|tool_call>call:f{}<tool_call|>")]


def test_a_prompt_that_opened_a_thought_is_told_to_the_parser() -> None:
    call = protocol.ToolCall("f", {}, "1")
    said = [Message.user("go"), Message.assistant(tool_calls=(call,)), Message.tool("ok", call=call)]
    prompt = render(said, thinking=True, corrected=True)
    assert prompt.opens_thought
    events = parse("It worked.\n<channel|>Done.", in_thought=prompt.opens_thought)
    assert events == [ThoughtDelta("It worked."), TextDelta("Done.")]
