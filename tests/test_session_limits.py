"""Thoughts, loops and pieces of calls in the straight line, over models that say anything at random.

The models are hashes that like control tokens, so that thoughts and calls open and close all the time.
"""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gemstead.engine.draft import NgramDrafter
from gemstead.engine.engine import Engine
from gemstead.engine.options import EngineOptions
from gemstead.errors import InputError
from gemstead.session import Session
from gemstead.text.fragments import json_text
from gemstead.text.parser import joined
from gemstead.types import (
    EFFORTS,
    Done,
    Message,
    OutputFormat,
    Request,
    SamplingParams,
    TextDelta,
    Thinking,
    ThoughtDelta,
    Tool,
    ToolCall,
    ToolCallDelta,
    ToolCallEvent,
)
from support.hashing_backend import HashingBackend, hashing_spec
from support.vocab import small_tokenizer

TOKENIZER = small_tokenizer()
IDS = TOKENIZER.control
EMPTY = len(TOKENIZER.encode("thought\n")) + 1
TOOL = Tool(
    "look", "", {"type": "object", "properties": {"at": {"type": "string"}, "n": {"type": "integer"}}}
)
LIKED = [IDS.channel_open, IDS.channel_close, IDS.call_open, IDS.call_close, IDS.quote, 107]
ASKED = Message.user("Hello")
# After a tool's result the newest template opens the thought itself, where the model is to think.
CALL = ToolCall("look", {"at": "x"}, "c1")
IN_LOOP = (ASKED, Message.assistant(tool_calls=(CALL,)), Message.tool("y", call=CALL))


def session_of(drafter=None, context=400, liked=LIKED, ends=True, **options):
    """`ends` False: a model that cannot say any token that ends a turn."""
    never = () if ends else (1, 106, 50)
    spec = hashing_spec(TOKENIZER.vocab_size, context, eos=(1, 106, 50), suppressed=never)
    backend = HashingBackend(spec)
    backend.likely = list(liked)
    engine = Engine(backend, EngineOptions(page_tokens=8, memory_bytes=1 << 20, **options), drafter)
    return engine, Session(engine, TOKENIZER)


PLAIN = session_of()
GUESSING = session_of(NgramDrafter(), draft_tokens=4, adapt_depth=False)


def plain(events):
    """Events without times and ids, pieces of calls joined to their calls."""
    out = []
    for event in joined(events):
        if isinstance(event, ToolCallEvent):
            event = ToolCallEvent(replace(event.call, id=""))
        elif isinstance(event, Done):
            usage = event.usage
            event = (event.reason, event.cause, usage.completion_tokens, usage.reasoning_tokens)
        out.append(event)
    return out


def text_of(events):
    return "".join(e.text for e in events if isinstance(e, TextDelta))


REQUESTS = st.builds(
    lambda messages, tools, choice, output, thinking, sampling: Request(
        messages=messages,
        tools=tools,
        sampling=SamplingParams(**sampling),
        thinking=thinking,
        tool_choice=choice if tools else "auto",
        output=output,
    ),
    messages=st.sampled_from([(ASKED,), IN_LOOP]),
    tools=st.sampled_from([(), (TOOL,)]),
    choice=st.sampled_from(["auto", "auto", "required", "none"]),
    output=st.sampled_from([None, None, OutputFormat("choice", ["the model", "the user"])]),
    thinking=st.one_of(
        st.booleans(),
        st.integers(0, 40),
        st.sampled_from(sorted(EFFORTS)),
        st.builds(Thinking, st.none() | st.integers(0, 40), st.none() | st.integers(0, 30)),
    ),
    sampling=st.fixed_dictionaries(
        {
            "seed": st.integers(0, 10**6),
            "max_tokens": st.integers(EMPTY + 2, 90),
            "temperature": st.sampled_from([0.0, 0.7, 1.0, 1.6]),
            "top_k": st.sampled_from([0, 64]),
        },
        optional={"stop": st.just(("er",)), "logprobs": st.just(1)},
    ),
)


@settings(max_examples=120, deadline=None)
@given(REQUESTS)
def test_no_request_thinks_more_than_it_may(request):
    events = list(PLAIN[1].stream(request))
    done = events[-1]
    assert isinstance(done, Done)
    thinking, usage = Thinking.of(request.thinking), done.usage
    if thinking.budget is not None:
        assert usage.reasoning_tokens <= max(thinking.budget, EMPTY)
    if done.reason == "length":
        limit = request.sampling.max_tokens
        left = usage.completion_tokens - usage.reasoning_tokens
        assert left >= min(thinking.kept(limit), limit - EMPTY - 1)
    if not text_of(events).strip():
        assert done.cause is not None
    for call in (e.call for e in events if isinstance(e, ToolCallEvent)):
        pieces = [e for e in events if isinstance(e, ToolCallDelta) and e.id == call.id]
        assert "".join(e.arguments_text for e in pieces) == json_text(call.arguments)
        assert {e.name for e in pieces} == {call.name}


@settings(max_examples=120, deadline=None)
@given(REQUESTS)
def test_speculation_changes_nothing(request):
    assert plain(GUESSING[1].stream(request)) == plain(PLAIN[1].stream(request))


def test_speculation_does_guess_inside_thoughts():
    before = GUESSING[0].stats()
    for seed in range(20):
        list(
            GUESSING[1].stream(
                Request((ASKED,), (TOOL,), SamplingParams(seed=seed, max_tokens=80), thinking=40)
            )
        )
    assert GUESSING[0].stats().accepted_tokens > before.accepted_tokens


@settings(max_examples=25, deadline=None)
@given(st.lists(REQUESTS, min_size=2, max_size=5))
def test_others_in_the_batch_change_nothing(requests):
    alone = [plain(PLAIN[1].stream(request)) for request in requests]
    streams = [GUESSING[1].stream(request) for request in requests]
    found = [[] for _ in requests]
    live = list(range(len(requests)))
    while live:
        for i in list(live):
            event = next(streams[i], None)
            if event is None:
                live.remove(i)
            else:
                found[i].append(event)
    assert [plain(events) for events in found] == alone
    assert all(pool.live == 0 for pool in GUESSING[0].pages.counts())


@pytest.mark.parametrize("messages", [(ASKED,), IN_LOOP], ids=["model opens", "prompt opens"])
@pytest.mark.parametrize("max_tokens", [40, 100, None])
def test_thought_never_takes_all(messages, max_tokens):
    """Whoever opens the thought: half of the room is left for the answer."""
    session = session_of(liked=[IDS.channel_open], ends=False, context=300)[1]
    asked = Request(messages, (TOOL,), SamplingParams(seed=1, max_tokens=max_tokens), thinking=True)
    done = list(session.stream(asked))[-1]
    assert done.reason == "length"
    limit = done.usage.completion_tokens
    assert 0 < done.usage.reasoning_tokens <= limit - (limit + 1) // 2


def test_thinking_off_thinks_an_empty_thought_at_most():
    for seed in range(30):
        events = list(PLAIN[1].stream(Request((ASKED,), (), SamplingParams(seed=seed, max_tokens=60))))
        assert not any(isinstance(e, ThoughtDelta) for e in events)


def test_cancelled_in_a_thought():
    engine, session = session_of(liked=[IDS.channel_open], ends=False)
    for seed in range(10):
        stream = session.stream(Request(IN_LOOP, (TOOL,), SamplingParams(seed=seed), thinking=60))
        events = []
        for event in stream:
            events.append(event)
            if isinstance(event, ThoughtDelta):
                stream.cancel()
        assert isinstance(events[-2], ThoughtDelta)
        assert (events[-1].reason, events[-1].cause.code) == ("cancelled", "cancelled")
        assert all(pool.live == 0 for pool in engine.pages.counts())


@pytest.mark.parametrize("thinking", [-1, 1.5, "much", None, "on"])
def test_thinking_that_cannot_be(thinking):
    with pytest.raises(InputError, match="is not possible; allowed are True, False, a number of tokens"):
        Request((ASKED,), thinking=thinking)


@pytest.mark.parametrize("values", [{"budget": -1}, {"reserve": 1.5}, {"budget": True}])
def test_limits_that_cannot_be(values):
    with pytest.raises(InputError, match="is not a number of tokens"):
        Thinking(**values)


def test_efforts_rise():
    budgets = [Thinking.of(effort).budget for effort in ("none", "minimal", "low", "medium", "high")]
    assert budgets == [0, *sorted(budgets[1:4]), None]
    assert list(EFFORTS) == ["none", "minimal", "low", "medium", "high"]
    assert [Thinking.of(True), Thinking.of(False), Thinking.of(70)] == [
        Thinking(),
        Thinking(budget=0),
        Thinking(budget=70),
    ]


# --- loops ---


@pytest.mark.parametrize("drafter", [None, NgramDrafter()], ids=["plain", "speculated"])
@pytest.mark.parametrize("where", ["text", "thought", "call"])
def test_a_loop_is_ended_with_a_cause(where, drafter):
    (the,) = TOKENIZER.encode("the")
    engine, session = session_of(drafter, context=1000, ends=False, liked=[the])
    engine._backend.liking = 50.0
    asked = Request(
        IN_LOOP if where == "thought" else (ASKED,),
        (Tool("look", "", {"properties": {"at": {"type": "string"}}, "required": ["at"]}),),
        SamplingParams(temperature=0.1, seed=0, loop_guard=64),
        thinking=where == "thought",
        tool_choice="required" if where == "call" else "auto",
    )
    events = list(session.stream(asked))
    done = events[-1]
    assert (done.reason, done.cause.code) == ("length", "token_loop")
    assert "repeated one token over and over" in done.cause.message
    assert 64 <= done.usage.completion_tokens < 64 + 40
    assert not engine.has_work
    if where == "call":
        pieces = "".join(e.arguments_text for e in events if isinstance(e, ToolCallDelta))
        assert pieces.startswith('{"at": "thethe')
        assert not any(isinstance(e, ToolCallEvent) for e in events)
    off = replace(asked, sampling=replace(asked.sampling, loop_guard=0, max_tokens=300), thinking=False)
    assert list(session.stream(off))[-1].usage.completion_tokens == 300


def test_the_default_guard_lets_a_long_array_pass():
    assert len(TOKENIZER.encode(json.dumps([0] * 1000))) < SamplingParams().loop_guard


def test_a_tool_that_is_not_strict_may_have_any_schema():
    engine, session = session_of()
    odd = Tool("odd", "", {"type": "object", "properties": {"x": {"type": "string", "not": {"const": "y"}}}})
    with pytest.raises(InputError, match="'not'"):
        session.stream(Request((ASKED,), tools=(odd, TOOL)))
    asked = Request(
        (ASKED,), tools=(replace(odd, strict=False), TOOL), tool_choice="odd",
        sampling=SamplingParams(seed=1, max_tokens=150),
    )  # fmt: skip
    events = list(session.stream(asked))
    assert isinstance(events[-1], Done)
    assert {event.name for event in events if isinstance(event, ToolCallDelta)} == {"odd"}
    assert engine.stats().live_sequences == 0
