"""The parser: round trips, any split, what models really write, and nothing lost on random tokens."""

from __future__ import annotations

import itertools
import json
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gemstead.text.control import CONTROL_TEXTS
from gemstead.text.parser import Parser, joined, parse
from gemstead.text.template import render
from gemstead.types import Event, Message, ParseNote, TextDelta, ThoughtDelta, ToolCall, ToolCallEvent
from support.vocab import CONTROL_AT, small_tokenizer


def ids() -> Any:
    counter = itertools.count()
    return lambda: f"c{next(counter)}"


def run(token_ids: list[int], **options: Any) -> list[Event]:
    parser = Parser(small_tokenizer(), new_id=ids(), **options)
    return joined([*(e for i in token_ids for e in parser.feed(i)), *parser.finish()])


def read(raw: str, **options: Any) -> list[Event]:
    """Parsed from spelled-out text and from token ids, which must agree."""
    events = parse(raw, new_id=ids(), **options)
    assert run(small_tokenizer().encode(raw, specials=True), **options) == events
    return events


def calls(raw: str) -> list[tuple[str, Any]]:
    return [(e.call.name, e.call.arguments) for e in read(raw) if isinstance(e, ToolCallEvent)]


def visible(events: list[Event]) -> str:
    return "".join(e.text for e in events if isinstance(e, TextDelta))


def test_text_thought_and_call_in_order() -> None:
    call = '<|tool_call>call:f{a:<|"|>x<|"|>,n:1}<tool_call|>'
    raw = f"<|channel>thought\nhm\n<channel|>See:{call}<|tool_response>"
    assert read(raw) == [
        ThoughtDelta("hm"),
        TextDelta("See:"),
        ToolCallEvent(ToolCall("f", {"a": "x", "n": 1}, "c0")),
    ]


def test_stop_tokens_leave_no_trace() -> None:
    assert read("Hi<turn|>") == [TextDelta("Hi")]
    assert read("Hi<eos>") == [TextDelta("Hi")]
    assert read("<|tool_call>call:f{}<tool_call|><|tool_response>") == [
        ToolCallEvent(ToolCall("f", {}, "c0"))
    ]


def test_text_streams_token_by_token() -> None:
    tok = small_tokenizer()
    parser = Parser(tok)
    parts = [parser.feed(i) for i in tok.encode("Hello 🚀")]
    assert parts[0] == [TextDelta("H")]
    assert [p for p in parts if p][-1] == [TextDelta("🚀")]
    assert parser.finish() == []


def test_control_tokens_spelled_as_text_stay_text() -> None:
    text = "<|tool_call>call:f{}<tool_call|><turn|>"
    assert run(small_tokenizer().encode(text)) == [TextDelta(text)]


def test_a_thought_the_prompt_opened() -> None:
    assert read("why\n<channel|>Because.", in_thought=True) == [ThoughtDelta("why"), TextDelta("Because.")]
    assert read("why", in_thought=True) == [ThoughtDelta("why")]
    assert read("thought\nwhy<channel|>x", in_thought=True)[0] == ThoughtDelta("thought\nwhy")


def test_is_thinking() -> None:
    tok = small_tokenizer()
    parser = Parser(tok)
    states = []
    for i in tok.encode("<|channel>thought\na<channel|>b", specials=True):
        parser.feed(i)
        states.append(parser.is_thinking)
    assert states[0]
    assert states[-3]
    assert states[-2:] == [False, False]
    assert Parser(tok, in_thought=True).is_thinking


@pytest.mark.parametrize(
    "raw", ["<|channel>thought\n<channel|>Hi", "<|channel>thought<channel|>Hi", "<|channel><channel|>Hi"]
)
def test_an_empty_thought_is_nothing(raw: str) -> None:
    assert read(raw) == [TextDelta("Hi")]


@pytest.mark.parametrize(
    ("raw", "thought", "text"),
    [
        ("<|channel>thought\n<|channel>thought\na<channel|>b", "a", "b"),  # doubled opening
        ("<|channel>thought\na<channel|><channel|>b", "a", "b"),  # doubled closing
        ("<|channel>thought\na\n<channel|><|channel>thought\nb\n<channel|>c", "a\nb", "c"),  # two thoughts
        ("<|channel>thought\na<channel|><|channel>thought\n<channel|>c", "a", "c"),  # an empty one after
        ("<|channel>a<channel|>b", "a", "b"),  # no label
        ("<|channel>thoughtful<channel|>b", "thoughtful", "b"),  # almost the label
        ("<|channel>thought\na<|channel>response\nb", "a", "b"),  # another channel for the answer
        ("thought\na<channel|>b", "a", "b"),  # no opening
        ("b<channel|>", "", "b"),  # stray closing
        ("<|channel>thought\nunfinished", "unfinished", ""),
        ("thought\nonly a word", "", "thought\nonly a word"),
        ("thoughtful", "", "thoughtful"),
        ("tho", "", "tho"),
    ],
)
def test_channels_as_models_write_them(raw: str, thought: str, text: str) -> None:
    events = read(raw)
    assert "".join(e.text for e in events if isinstance(e, ThoughtDelta)) == thought
    assert visible(events) == text


@pytest.mark.parametrize(
    ("inside", "arguments"),
    [
        ("call:f{}", {}),
        (
            "call:f{a:1,b:-2,c:2.5,d:1.5e10,e:1E-3,g:+4,h:.5,i:5.}",
            {"a": 1, "b": -2, "c": 2.5, "d": 1.5e10, "e": 1e-3, "g": 4, "h": 0.5, "i": 5.0},
        ),
        (
            "call:f{a:true,b:false,c:null,d:None,e:True}",
            {"a": True, "b": False, "c": None, "d": None, "e": True},
        ),
        ("call:f{z:007,m:1e999,k:1.2.3}", {"z": "007", "m": "1e999", "k": "1.2.3"}),
        ('call:f{a:[1,[2,<|"|>x<|"|>],{}],b:{c:{d:[]}}}', {"a": [1, [2, "x"], {}], "b": {"c": {"d": []}}}),
        ('call:f{<|"|>a b<|"|>:1,"c:d":2,\'e\':3, g : 4 }', {"a b": 1, "c:d": 2, "e": 3, "g": 4}),
        ('call:f{p:<|"|>C:\\new\\t{1},"x"<|"|>}', {"p": 'C:\\new\\t{1},"x"'}),
        ('call:f{p:"C:\\\\x\\ty",q:"a\\u00e9"}', {"p": "C:\\x\ty", "q": "aé"}),
        ('call:f{p:"C:\\users\\bob"}', {"p": "C:\\users\\bob"}),
        ('call:f{q:"say "hi" now",n:1}', {"q": 'say "hi" now', "n": 1}),
        ("call:f{q:'it\\'s',n:1}", {"q": "it's", "n": 1}),
        ("call:f{r:'^\\d+, (a|b)$'}", {"r": "^\\d+, (a|b)$"}),
        ('call:f{\n  a: 1,\n  b: <|"|>x<|"|>,\n}', {"a": 1, "b": "x"}),
        ("call:f{q:Paris, France,n:1}", {"q": "Paris, France", "n": 1}),
        ("call:f{code:if (x) { y }}", {"code": "if (x) { y }"}),
        ('call:f{q:weather<|"|>,n:1}', {"q": "weather", "n": 1}),
        ('call:f{q:<|"|>ls}', {"q": "ls"}),
        ('call:f{o:{q:<|"|>ls}}', {"o": {"q": "ls"}}),
        ("call:f{n:1", {"n": 1}),
        ("call:f{n:1}}", {"n": 1}),
        ("call:f", {}),
        ("call:f:{n:1}", {"n": 1}),
        ("f{n:1}", {"n": 1}),
        ('call:f(q="a, (b)", n=2, ok=True)', {"q": "a, (b)", "n": 2, "ok": True}),
        ("call:f{a:1,a:2}", {"a": 2}),
    ],
)
def test_calls_as_models_write_them(inside: str, arguments: dict[str, Any]) -> None:
    assert calls(f"<|tool_call>{inside}<tool_call|>") == [("f", arguments)]


def test_several_calls() -> None:
    one, two = 'call:f{a:<|"|>1<|"|>}', "call:g-h.i:j{}"
    wanted = [("f", {"a": "1"}), ("g-h.i:j", {})]
    assert calls(f"<|tool_call>{one}<tool_call|><|tool_call>{two}<tool_call|>") == wanted
    assert calls(f"<|tool_call>{one}{two}<tool_call|>") == wanted
    assert calls(f"<|tool_call>{one},\n{two}<tool_call|>") == wanted
    assert calls(f"<|tool_call>{one}<|tool_call>{two}<tool_call|>") == wanted
    assert calls(f"<|tool_call><|tool_call>{one}<tool_call|><|tool_call>{two}<tool_call|>") == wanted


def test_a_complete_call_without_its_last_tag() -> None:
    for end in ("", "<|tool_response>", "<turn|>"):
        assert calls("<|tool_call>call:f{n:1}" + end) == [("f", {"n": 1})]


@pytest.mark.parametrize("cut", range(len('call:f{a:<|"|>xy<|"|>,n:12') + 1))
def test_a_call_cut_off_is_text_with_a_note(cut: int) -> None:
    whole = ["c", "a", "l", "l", ":", "f", "{", "a", ":", '<|"|>', "x", "y", '<|"|>', ",", "n", ":", "1", "2"]
    body = "".join(whole[:cut])
    events = read("Hm.<|tool_call>" + body)
    assert visible(events) == "Hm." + body.replace('<|"|>', '"')
    notes = [e for e in events if isinstance(e, ParseNote)]
    assert len(notes) == 1
    assert "cut off" in notes[0].message
    assert notes[0].text == "<|tool_call>" + body
    assert not any(isinstance(e, ToolCallEvent) for e in events)


@pytest.mark.parametrize(
    "body",
    [
        "",
        "hello",
        "call:",
        "call:{a:1}",
        "call:f{a}",
        "call:f{a:}",
        "call:f{:1}",
        'call:f{a:<|"|>x<|"|> b:2}',
        "call:f{a:[1}]",
        'call:f{a:<|"|>one,b:<|"|>two<|"|>}',
        "call:f\nBEGIN_ARG:\nls\nEND_ARG\n",
        "call:f{a:[1}",
        "call:f" + "{a:" * 5000,
        "call:f{a:" + "[" * 10_000,
    ],
)
def test_a_malformed_call_is_text_with_a_note(body: str) -> None:
    events = read(f"<|tool_call>{body}<tool_call|>ok")
    assert not any(isinstance(e, ToolCallEvent) for e in events)
    assert visible(events) == body.replace('<|"|>', '"') + "ok"
    note = next(e for e in events if isinstance(e, ParseNote))
    assert "malformed" in note.message
    assert note.text == f"<|tool_call>{body}<tool_call|>"


def test_the_good_call_before_a_bad_one_is_kept() -> None:
    events = read("<|tool_call>call:f{n:1}call:g{n}<tool_call|>")
    assert [type(e) for e in events] == [ToolCallEvent, ParseNote, TextDelta]
    assert visible(events) == "call:g{n}"


def test_canonical_calls_carry_no_note_and_guesses_do() -> None:
    assert not any(
        isinstance(e, ParseNote) for e in read('<|tool_call>call:f{a:[1,<|"|>x<|"|>]}<tool_call|>')
    )
    (note,) = [e for e in read("<|tool_call>call:f{q:hi}<tool_call|>") if isinstance(e, ParseNote)]
    assert note.message == "a tool call was repaired: text without delimiters taken as a string"


def test_call_ids_are_unique() -> None:
    found = [
        e.call.id for e in parse("<|tool_call>call:f{}<tool_call|>" * 50) if isinstance(e, ToolCallEvent)
    ]
    assert len(set(found)) == 50
    assert all(i.startswith("call_") for i in found)


@pytest.mark.parametrize(
    "bomb", ["'a,", '"a,', "a:1,{", "[,", "(", ",", "x, y:", "' ", '<|"|>', "call:f{", "1" * 50]
)
def test_long_nonsense_stays_fast(bomb: str) -> None:
    parse("<|tool_call>call:f{k:" + bomb * 20_000 + "<tool_call|>")


# --- properties ---

SPELLED = st.sampled_from(
    [*CONTROL_TEXTS.values(), "thought\n", "call:f{", '"', "'", "{", "}", "[", "]", ":", ",", "\\", "\n"]
)
TEXT = st.lists(
    st.one_of(st.text(st.characters(exclude_categories=["Cs"]), max_size=6), SPELLED), max_size=6
).map("".join)
PLAIN = TEXT.map(lambda s: s.replace("▁", " "))  # the tokenizer cannot tell U+2581 from a space
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(10**30), 10**30), FLOATS, PLAIN),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(PLAIN, inner, max_size=4)),
    max_leaves=12,
)
NAMES = st.from_regex(r"[A-Za-z_][A-Za-z0-9_.:-]{0,10}[a-z]", fullmatch=True)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.tuples(NAMES, st.dictionaries(PLAIN, JSON, max_size=4)), min_size=1, max_size=3), PLAIN, PLAIN
)
def test_parsing_undoes_rendering(
    wanted: list[tuple[str, dict[str, Any]]], reasoning: str, text: str
) -> None:
    """parse(render(messages)) = messages: the ids the template would have the model write."""
    tok = small_tokenizer()
    text = "".join(c for c in text if c not in "<|>").strip()  # stored answers lose spelled-out thoughts
    message = Message.assistant(
        text,
        reasoning=reasoning or None,
        tool_calls=tuple(ToolCall(n, a, f"c{k}") for k, (n, a) in enumerate(wanted)),
    )
    token_ids, mask = render([Message.user("Q"), message], corrected=True).encode_with_mask(tok)
    events = run([i for i, learned in zip(token_ids, mask, strict=True) if learned])
    if not text.startswith("thought"):  # a line that looks like a label is held back, not lost
        assert not any(isinstance(e, ParseNote) for e in events)
    assert "".join(e.text for e in events if isinstance(e, ThoughtDelta)) == reasoning
    assert visible(events) == text
    assert [e.call for e in events if isinstance(e, ToolCallEvent)] == list(message.tool_calls)
    for event in events:
        if isinstance(event, ToolCallEvent):
            json.dumps(event.call.arguments, allow_nan=False).encode()


RAW = st.lists(
    st.one_of(
        SPELLED,
        st.sampled_from(
            [
                "<|tool_call>call:f{",
                "}<tool_call|>",
                "<|channel>thought\n",
                "<channel|>",
                "a:",
                '<|"|>',
                "12",
                "<|",
            ]
        ),
        st.text(st.characters(exclude_categories=["Cs"]), max_size=4),
    ),
    max_size=20,
).map("".join)


@settings(max_examples=200, deadline=None)
@given(RAW, st.lists(st.integers(0, 200), max_size=8), st.booleans())
def test_any_split_gives_the_same(raw: str, cuts: list[int], in_thought: bool) -> None:
    parser = Parser(in_thought=in_thought, new_id=ids())
    borders = sorted({0, len(raw), *(c for c in cuts if c < len(raw))})
    events = [e for a, b in itertools.pairwise(borders) for e in parser.feed_text(raw[a:b])]
    assert joined([*events, *parser.finish()]) == parse(raw, in_thought=in_thought, new_id=ids())


LIKELY = (
    [i for i in CONTROL_AT if i not in (0, 3, 4)]
    + [107]
    + [
        small_tokenizer().id_of(p) or 0
        for p in ("call", ":", "{", "}", "[", "]", ",", "a", "1", '"', "'", "(", ")")
    ]
)


@settings(max_examples=250, deadline=None)
@given(
    st.lists(
        st.one_of(st.sampled_from(LIKELY), st.integers(0, small_tokenizer().vocab_size - 1)), max_size=60
    ),
    st.booleans(),
)
def test_random_tokens_lose_nothing_and_leak_nothing(token_ids: list[int], in_thought: bool) -> None:
    tok = small_tokenizer()
    events = run(token_ids, in_thought=in_thought)
    shown = "".join(e.text for e in events if isinstance(e, (TextDelta, ThoughtDelta)))
    elsewhere = "".join(str(e) for e in events if not isinstance(e, (TextDelta, ThoughtDelta)))
    for token_id in set(token_ids):
        piece = tok.decode([token_id])
        if tok.is_special(token_id):
            assert piece not in shown or all(
                c in "".join(map(tok.decode, ([i] for i in token_ids))) for c in piece
            )
        elif piece.isalnum() and len(piece) == 1 and piece not in "thoug":
            assert piece in shown or piece in elsewhere
    for event in events:
        if isinstance(event, ToolCallEvent):
            json.dumps(event.call.arguments, allow_nan=False).encode()
            assert event.call.name


def test_floats_survive() -> None:
    for value in (0.1, -0.0, 1e22, 5e-324, 1.7976931348623157e308):
        message = Message.assistant(tool_calls=(ToolCall("f", {"x": value}),))
        text = render([Message.user("Q"), message]).text
        (found,) = [e for e in parse(text[text.index("<|tool_call>") :]) if isinstance(e, ToolCallEvent)]
        back = found.call.arguments["x"]
        assert isinstance(back, float)
        assert back == value
        assert math.copysign(1, back) == math.copysign(1, value)
