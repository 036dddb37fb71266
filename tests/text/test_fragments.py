"""Pieces of a call while it is written: together the JSON of its arguments, and never a wrong one."""

from __future__ import annotations

import itertools
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gemstead.text.calls import QUOTE_MARK
from gemstead.text.control import QUOTE
from gemstead.text.fragments import CallFragments, json_text
from gemstead.text.grammar import call_grammar
from gemstead.text.parser import Parser, joined, parse
from gemstead.text.template import render
from gemstead.types import Event, Message, ParseNote, Tool, ToolCall, ToolCallDelta, ToolCallEvent
from support.grammars import TOKENIZER, draw
from support.vocab import small_tokenizer


def calls_of(letters: st.SearchStrategy[str]) -> st.SearchStrategy[list[tuple[str, dict[str, Any]]]]:
    """Names and arguments of a few calls whose strings and keys are made of these."""
    text = st.text(letters, max_size=8)
    leaves = st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(10**30), 10**30),
        st.floats(allow_nan=False, allow_infinity=False),
        text,
    )
    values = st.recursive(
        leaves,
        lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(text, inner, max_size=4)),
        max_leaves=12,
    )
    call = st.tuples(st.sampled_from(["f", "get-it", "a.b:c"]), st.dictionaries(text, values, max_size=4))
    return st.lists(call, min_size=1, max_size=3)


# The tokenizer cannot tell U+2581 from a space; raw output cannot tell a spelled token from a token.
CALLS = calls_of(st.characters(exclude_categories=["Cs"], exclude_characters="▁"))
RAW_CALLS = calls_of(st.sampled_from("ab \"'{}[]():,\\\n\té漢😀<"))


def new_ids() -> Any:
    counter = itertools.count()
    return lambda: f"c{next(counter)}"


def written_ids(calls: list[tuple[str, dict[str, Any]]]) -> list[int]:
    message = Message.assistant(tool_calls=tuple(ToolCall(n, a, str(k)) for k, (n, a) in enumerate(calls)))
    ids, mask = render([Message.user("Q"), message]).encode_with_mask(small_tokenizer())
    return [i for i, learned in zip(ids, mask, strict=True) if learned]


def feed_ids(token_ids: list[int], *, constrained: bool = True) -> list[Event]:
    parser = Parser(small_tokenizer(), constrained_calls=constrained, new_id=new_ids())
    return [*(e for i in token_ids for e in parser.feed(i)), *parser.finish()]


def check(events: list[Event]) -> list[str]:
    """Pieces of a call come before its event and are its arguments; the joined pieces of those that ended."""
    open_texts: dict[str, str] = {}
    found, begun = [], []
    for event in events:
        if isinstance(event, ToolCallDelta):
            if event.id not in open_texts:
                begun.append(event.id)
                open_texts[event.id] = ""
            assert event.index == len(begun) - 1
            open_texts[event.id] += event.arguments_text
        elif isinstance(event, ToolCallEvent):
            text = open_texts.pop(event.call.id)
            assert json.loads(text) == event.call.arguments
            found.append(text)
    return found


@settings(max_examples=200, deadline=None)
@given(CALLS, st.booleans())
def test_the_pieces_are_the_arguments(calls: list[tuple[str, dict[str, Any]]], constrained: bool) -> None:
    events = feed_ids(written_ids(calls), constrained=constrained)
    ended = [e.call for e in events if isinstance(e, ToolCallEvent)]
    assert [c.name for c in ended] == [name for name, _ in calls]
    assert check(events) == [json_text(c.arguments) for c in ended]
    names = {d.index: d.name for d in events if isinstance(d, ToolCallDelta)}
    assert [names[k] for k in range(len(calls))] == [name for name, _ in calls]


@settings(max_examples=150, deadline=None)
@given(RAW_CALLS, st.lists(st.integers(0, 400), max_size=8), st.booleans())
def test_any_cut_of_the_text_gives_the_same(
    calls: list[tuple[str, dict[str, Any]]], cuts: list[int], constrained: bool
) -> None:
    raw = small_tokenizer().decode(written_ids(calls))
    borders = sorted({0, len(raw), *(c for c in cuts if c < len(raw))})
    parser = Parser(constrained_calls=constrained, new_id=new_ids())
    events = [e for a, b in itertools.pairwise(borders) for e in parser.feed_text(raw[a:b])]
    events += parser.finish()
    assert joined(events) == parse(raw, new_id=new_ids())
    assert check(events) == [json_text(e.call.arguments) for e in events if isinstance(e, ToolCallEvent)]


def test_pieces_leave_as_the_model_writes_them() -> None:
    tok = small_tokenizer()
    parser = Parser(tok, constrained_calls=True, new_id=new_ids())
    steps = []
    for token_id in tok.encode(
        '<|tool_call>call:put{n:12,t:<|"|>ab"c<|"|>,z:[true]}<tool_call|>', specials=True
    ):
        deltas = [e for e in parser.feed(token_id) if isinstance(e, ToolCallDelta)]
        assert all((d.index, d.id, d.name) == (0, "c0", "put") for d in deltas)
        if deltas:
            steps.append((tok.decode([token_id]), "".join(d.arguments_text for d in deltas)))
    assert steps == [
        ("{", "{"),
        (":", '"n": '),
        (",", "12"),
        (":", ', "t": '),
        ('<|"|>', '"'),
        ("a", "a"),
        ("b", "b"),
        ('"', '\\"'),
        ("c", "c"),
        ('<|"|>', '"'),
        (":", ', "z": '),
        ("[", "["),
        ("]", "true]"),
        ("}", "}"),
    ]


def test_the_first_piece_names_the_tool() -> None:
    events = feed_ids(small_tokenizer().encode("<|tool_call>call:f{}<tool_call|>", specials=True))
    assert events == [
        ToolCallDelta(0, "c0", "f"),
        ToolCallDelta(0, "c0", "f", "{"),
        ToolCallDelta(0, "c0", "f", "}"),
        ToolCallEvent(ToolCall("f", {}, "c0")),
    ]


@settings(max_examples=100, deadline=None)
@given(CALLS, st.integers(0, 10**6))
def test_a_cut_call_gave_a_true_beginning(calls: list[tuple[str, dict[str, Any]]], at: int) -> None:
    """Whatever max_tokens leaves of a call: its pieces are a beginning of the arguments."""
    token_ids = written_ids(calls[:1])
    cut = token_ids[: at % len(token_ids)]
    events = feed_ids(cut)
    text = "".join(e.arguments_text for e in events if isinstance(e, ToolCallDelta))
    whole = json_text(next(e.call for e in feed_ids(token_ids) if isinstance(e, ToolCallEvent)).arguments)
    assert whole.startswith(text)
    if cut and not any(isinstance(e, ToolCallEvent) for e in events):
        assert any(isinstance(e, ParseNote) and "cut off" in e.message for e in events)


PIECES = [
    "<|tool_call>call:f{",
    "<|tool_call>",
    "}<tool_call|>",
    "<tool_call|>",
    "call:g{",
    "a:",
    "b:",
    QUOTE,
]
PIECES += ['"', "'", "1", "-2.50", "{", "}", "[", "]", ",", " ", "\n", "None", "word", "(", ")", "="]
RAW = st.lists(st.sampled_from(PIECES), max_size=16).map("".join)


@settings(max_examples=400, deadline=None)
@given(RAW)
def test_unconstrained_pieces_wait_until_the_call_is_sure(raw: str) -> None:
    """In any dialect: deltas only of calls that came about, each followed at once by its event."""
    events = feed_ids(small_tokenizer().encode(raw, specials=True), constrained=False)
    check(events)
    for first, second in itertools.pairwise([*events, None]):
        if isinstance(first, ToolCallDelta):
            assert isinstance(second, ToolCallEvent)
            assert (first.id, first.name) == (second.call.id, second.call.name)
            assert first.arguments_text == json_text(second.call.arguments)


TOOLS = (
    Tool(
        "put",
        "",
        {
            "type": "object",
            "properties": {
                "path": {"type": "string"},
                "count": {"type": "integer", "minimum": -5},
                "share": {"type": "number"},
                "mode": {"enum": ["a", "b c", 3, None, True]},
                "tags": {"type": "array", "items": {"type": "string"}},
                "two words": {"type": "boolean"},
                "anything": {},
                "inner": {"type": "object", "additionalProperties": {"type": "number"}},
            },
            "required": ["path", "count"],
        },
    ),
    Tool("now"),
)


@pytest.mark.parametrize("seed", range(40))
def test_whatever_the_grammar_lets_through(seed: int) -> None:
    """Drawn at random from the masks: the pieces leave while the call is written and are right."""
    control = TOKENIZER.control
    rng = np.random.default_rng(seed)
    body = draw(call_grammar(TOOLS, control), rng)
    if body is None:
        pytest.skip("the random walk did not end")
    events = feed_ids([control.call_open or 0, *body])
    (call,) = [e.call for e in events if isinstance(e, ToolCallEvent)]
    (text,) = check(events)
    deltas = [e for e in events if isinstance(e, ToolCallDelta)]
    assert len(deltas) >= (2 if call.arguments else 1)
    if len(text) == len(json_text(call.arguments)):  # no free-form object with a key that came twice
        assert text == json_text(call.arguments)


@pytest.mark.parametrize(
    "text",
    [
        "f{a:1}",  # no 'call:'
        "call:f:{a:1}",
        "call:f(a=1)",
        "call:f{a 1}",
        "call:f{a:word}",
        f"call:f{{a:{QUOTE_MARK}x{QUOTE_MARK}y}}",
        f"call:f{{{QUOTE_MARK}a{QUOTE_MARK}b:1}}",
        "call:f{a:1]}",
        "call:f{,a:1}",
        "call:f{a:[,1]}",
    ],
)
def test_anything_else_is_left_to_the_reader_of_whole_calls(text: str) -> None:
    fragments = CallFragments()
    sent = "".join(fragments.feed(character) for character in text)
    assert sent == fragments.sent
    assert not fragments.is_whole
    assert fragments.feed("}") == ""


def test_blanks_between_are_nothing() -> None:
    fragments = CallFragments()
    spaced = f"call:f{{ a : 1 ,\n b: [ 2 , {QUOTE_MARK}x{QUOTE_MARK} ] , {QUOTE_MARK}c{QUOTE_MARK} : None }}"
    assert fragments.feed(spaced) == '{"a": 1, "b": [2, "x"], "c": null}'
    assert fragments.is_whole
