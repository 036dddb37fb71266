"""The straight line over a model that says what it is told: stop strings, reasons, causes, counts."""

from __future__ import annotations

import gc
import itertools
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gemstead.engine.constraint import OneOf
from gemstead.engine.draft import NgramDrafter
from gemstead.engine.engine import Engine
from gemstead.engine.options import EngineOptions
from gemstead.errors import BackendError, CapacityError, InputError
from gemstead.session import Session, StopStrings
from gemstead.types import (
    Cause,
    Done,
    Failed,
    MediaPart,
    Message,
    Request,
    SamplingParams,
    TextDelta,
    ThoughtDelta,
    Tool,
    ToolCallEvent,
)
from support.hashing_backend import HashingBackend, hashing_spec
from support.vocab import small_tokenizer

EOS = (1, 106, 50)
CALL = '<|tool_call>call:look{at:<|"|>sky<|"|>}<tool_call|>'
TOOL = Tool("look", "", {"type": "object", "properties": {"at": {"type": "string"}}})


def make(drafter=None, context=2000, **options):
    spec = hashing_spec(vocab_size=small_tokenizer().vocab_size, context=context, eos=EOS)
    options = {"page_tokens": 8, "memory_bytes": 1 << 20, **options}
    engine = Engine(HashingBackend(spec), EngineOptions(**options), drafter)
    return engine, Session(engine, small_tokenizer())


def request(text="Hello", tools=(), thinking=False, **sampling):
    return Request((Message.user(text),), tools, SamplingParams(**sampling), thinking)


def script(output, end=106):
    """A constraint that leaves exactly one answer: `output`, control tokens spelled out, then `end`."""
    ids = small_tokenizer().encode(output, specials=True)
    return OneOf([ids], [end] if end is not None else [], small_tokenizer().vocab_size)


def say(session, output, asked=None, end=106):
    return list(session.stream(asked or request(), constraint=script(output, end)))


def text_of(events):
    return "".join(e.text for e in events if isinstance(e, TextDelta))


def check_end(events):
    assert [isinstance(e, Done | Failed) for e in events] == [False] * (len(events) - 1) + [True]
    return events[-1]


def test_text_comes_as_it_is_made_and_ends_once():
    engine, session = make()
    events = say(session, "the model is here")
    end = check_end(events)
    assert text_of(events) == "the model is here"
    assert len(events) > 5
    assert end.reason == "stop"
    assert end.cause is None
    assert end.usage.completion_tokens == len(small_tokenizer().encode("the model is here")) + 1
    assert end.usage.prompt_tokens > 5
    assert end.usage.prefill_s >= 0 <= end.usage.decode_s
    assert all(c.live == 0 for c in engine.pages.counts())


def test_half_a_character_never_comes_out():
    _, session = make()
    events = say(session, "né ü 漢 😀!")
    assert text_of(events) == "né ü 漢 😀!"
    assert "�" not in text_of(events)


def test_thought_and_calls():
    _, session = make()
    thought = "<|channel>thought\nlet me see\n<channel|>"
    events = say(session, thought + CALL, request(tools=(TOOL,), thinking=True), end=50)
    assert "".join(e.text for e in events if isinstance(e, ThoughtDelta)).strip() == "let me see"
    (call,) = [e.call for e in events if isinstance(e, ToolCallEvent)]
    assert (call.name, dict(call.arguments)) == ("look", {"at": "sky"})
    end = check_end(events)
    assert end.reason == "tool_calls"
    assert end.cause == Cause("tool_calls", "the model called look instead of answering")
    assert 0 < end.usage.reasoning_tokens < end.usage.completion_tokens


@pytest.mark.parametrize(
    ("output", "sampling", "reason", "code", "said"),
    [
        ("", {}, "stop", "ended_at_once", "the model ended its turn without text"),
        (" \n ", {}, "stop", "ended_at_once", "the model ended its turn without text"),
        (" \n ", {"max_tokens": 1}, "length", "spent_without_text", "all 1 tokens were spent without text"),
        (
            "<|channel>thought\nhm\n<channel|>",
            {},
            "stop",
            "ended_after_thinking",
            "without text after thinking",
        ),
        (
            "<|channel>thought\nhm and on and on",
            {"max_tokens": 6},
            "length",
            "spent_thinking",
            "5 of 6 tokens were spent thinking",
        ),
        ("the end", {"stop": ("the",)}, "stop", "stop_string", "the answer began with a stop string"),
        ("the end", {"max_tokens": 0}, "length", "no_tokens_allowed", "max_tokens is 0"),
    ],
)
def test_an_empty_answer_says_why(output, sampling, reason, code, said):
    _, session = make()
    end = check_end(say(session, output, request(**sampling)))
    assert end.reason == reason
    assert end.cause.code == code
    assert said in end.cause.message


def test_max_tokens_and_context_end_with_length():
    _, session = make()
    events = say(session, "the model is here", request(max_tokens=3))
    assert check_end(events).reason == "length"
    assert check_end(events).usage.completion_tokens == 3
    _, session = make(context=30)
    end = check_end(list(session.stream(request(seed=0))))
    assert end.reason == "length"
    assert end.usage.prompt_tokens + end.usage.completion_tokens == 30


def cut(text, places):
    edges = [0, *sorted(p % (len(text) + 1) for p in places), len(text)]
    return [text[a:b] for a, b in itertools.pairwise(edges)]


@given(
    text=st.text("abc", max_size=14),
    stops=st.lists(st.text("abc", min_size=1, max_size=4), max_size=3),
    places=st.lists(st.integers(0, 100), max_size=6),
)
@settings(max_examples=300, deadline=None)
def test_stop_strings_split_anywhere(text, stops, places):
    """The stop that is complete first ends the text, before it; nothing of it leaks, however it is cut."""
    ends = [(text.find(s) + len(s), text.find(s)) for s in stops if s in text]
    expected = text[: min(ends)[1]] if ends else text
    matcher = StopStrings(tuple(stops))
    out = ""
    for piece in cut(text, places):
        out += matcher.feed(piece)
        assert expected.startswith(out)
    assert matcher.is_stopped == bool(ends)
    out += matcher.finish()
    assert out == expected


def test_only_what_may_be_a_stop_is_held_back():
    matcher = StopStrings(("END",))
    assert [matcher.feed(p) for p in ("some E", "N", "E", "xEN")] == ["some ", "", "EN", "Ex"]
    assert matcher.finish() == "EN"


@pytest.mark.parametrize("drafter", [None, NgramDrafter()])
def test_a_stop_string_across_tokens_ends_the_request(drafter):
    engine, session = make(drafter)
    events = say(session, "one two\n\nUser: three", request(stop=("\nUser", "zzz")))
    assert text_of(events) == "one two\n"
    end = check_end(events)
    assert end.reason == "stop"
    assert end.usage.completion_tokens == len(small_tokenizer().encode("one two\n\nUser"))
    assert not engine.has_work


def test_a_stop_string_in_a_thought_is_not_one():
    _, session = make()
    events = say(session, "<|channel>thought\nEND\n<channel|>fine END x", request(stop=("END",)))
    assert text_of(events) == "fine "
    assert any(isinstance(e, ThoughtDelta) for e in events)


def test_nothing_follows_a_stop_string():
    _, session = make()
    events = say(session, "a END" + CALL, request(stop=("END",), tools=(TOOL,)), end=50)
    assert [type(e) for e in events if not isinstance(e, TextDelta)] == [Done]
    assert events[-1].reason == "stop"


def test_logprobs_go_with_visible_text_only():
    _, session = make()
    output = "<|channel>thought\nhm\n<channel|>the model"
    events = say(session, output, request(logprobs=2))
    found = [lp for e in events if isinstance(e, TextDelta) for lp in e.logprobs]
    assert [lp.token_id for lp in found] == small_tokenizer().encode("the model")
    assert all(lp.logprob < 0 and len(lp.top) == 2 for lp in found)


def test_what_cannot_be_asked_is_refused_before_any_event():
    _, session = make(context=30)
    with pytest.raises(CapacityError, match="length is 30 tokens"):
        session.stream(request("x" * 50))
    with pytest.raises(InputError, match="image"):
        session.stream(Request((Message.user((MediaPart("image", b""),)),)))


def test_a_failing_backend_is_one_failed_event():
    engine, session = make()
    engine._backend.fail_on = {106}
    events = list(session.stream(request()))
    assert isinstance(check_end(events), Failed)
    assert isinstance(events[-1].error, BackendError)
    assert events[-1].usage.prompt_tokens > 0


def test_a_bug_in_the_step_is_one_failed_event(monkeypatch):
    engine, session = make()
    stream = session.stream(request())
    monkeypatch.setattr(engine, "step", lambda: 1 / 0)
    assert isinstance(check_end(list(stream)).error, ZeroDivisionError)


@pytest.mark.parametrize("how", ["close", "drop", "break", "unstarted"])
def test_leaving_a_stream_frees_its_pages(how):
    engine, session = make()
    stream = session.stream(request(seed=1))
    if how != "unstarted":
        next(stream)
    if how == "close":
        stream.close()
        assert list(stream) == []
    elif how == "break":
        for _ in stream:
            break
    del stream
    gc.collect()
    assert not engine.has_work
    assert all(c.live == 0 for c in engine.pages.counts())


def test_cancel_from_another_thread_ends_with_done():
    engine, session = make()
    stream = session.stream(request(seed=1))
    events = [next(stream)]
    stopper = threading.Thread(target=stream.cancel)
    stopper.start()
    events += list(stream)
    stopper.join()
    assert check_end(events).reason == "cancelled"
    assert not engine.has_work


def test_streams_in_one_thread_may_be_read_in_turn():
    _, session = make()
    words = ["the model", "in the user", "call"]
    streams = [session.stream(request(w), constraint=script(w)) for w in words]
    texts = ["", "", ""]
    live = [0, 1, 2]
    while live:
        for i in list(live):
            event = next(streams[i], None)
            if event is None:
                live.remove(i)
            elif isinstance(event, TextDelta):
                texts[i] += event.text
    assert texts == words


def test_streams_in_many_threads():
    engine, session = make(NgramDrafter(), max_sequences=4)
    alone = [text_of(session.stream(request(str(i), seed=i, max_tokens=30))) for i in range(10)]
    results = {}

    def consume(i):
        results[i] = list(session.stream(request(str(i), seed=i, max_tokens=30)))

    threads = [threading.Thread(target=consume, args=(i,)) for i in range(10)]
    for t in threads:
        t.start()
    for t in threads:
        t.join(60)
    assert [text_of(results[i]) for i in range(10)] == alone
    assert all(isinstance(check_end(r), Done) for r in results.values())
    assert all(c.live == 0 for c in engine.pages.counts())


def test_the_second_turn_reuses_the_first():
    _, session = make()
    first = [Message.user("tell me a long story about the model and the user and the call")]
    say_it = Request(tuple(first), (), SamplingParams())
    events = list(session.stream(say_it, constraint=script("once in the model there was a user")))
    second = [*first, Message.assistant(text_of(events)), Message.user("and then?")]
    end = check_end(list(session.stream(Request(tuple(second), (), SamplingParams(max_tokens=4)))))
    assert end.usage.cached_tokens > 0.7 * end.usage.prompt_tokens
    assert np.isfinite(end.usage.decode_s)


def test_polling_gives_what_iterating_gives_and_steps_nothing():
    engine, session = make()
    expected = say(session, "the model is here")
    stream = session.stream(request(), constraint=script("the model is here"))
    assert stream.poll() == []
    polled = []
    while engine.has_work:
        engine.step()
        polled += stream.poll()
    assert check_end(polled).reason == "stop"
    assert polled[:-1] == expected[:-1]
    assert stream.poll() == []


def test_a_polled_stream_that_is_cancelled_ends_once():
    engine, session = make()
    stream = session.stream(request(), constraint=script("the model is here"))
    for _ in range(4):
        engine.step()
    stream.cancel()
    assert [type(event) for event in stream.poll()] == [Done]
    assert stream.poll() == []
    assert all(c.live == 0 for c in engine.pages.counts())


def test_a_continuation_has_no_template():
    engine, session = make()
    ids = small_tokenizer().encode("the model")
    *_, end = session.continuation(ids, SamplingParams(max_tokens=3, temperature=0))
    assert (end.usage.prompt_tokens, end.usage.completion_tokens) == (len(ids), 3)
    assert engine.has_work is False


def test_prompt_ids_are_those_of_the_request():
    _, session = make()
    ids, in_thought = session.prompt_ids(request())
    *_, end = session.stream(request(max_tokens=1))
    assert (len(ids), in_thought) == (end.usage.prompt_tokens, False)


def test_salt_keeps_prompts_apart():
    _, session = make()
    asked = request("the model is here " * 10, max_tokens=1)
    cached = [list(session.stream(asked, salt=salt))[-1].usage.cached_tokens for salt in (b"a", b"b", b"a")]
    assert cached[:2] == [0, 0]
    assert cached[2] > 0


def test_the_stop_string_that_ended_it_is_named():
    _, session = make()
    end = say(session, "the model is here", request(stop=("never", "is")))[-1]
    assert (end.reason, end.stop_string) == ("stop", "is")
