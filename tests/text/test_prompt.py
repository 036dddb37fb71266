"""Prompts as ids: BOS once, nothing forged, one BPE run between specials, and the loss mask."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gemstead.errors import ConfigError
from gemstead.text.control import CONTROL_TEXTS
from gemstead.text.template import render
from gemstead.text.tokenizer import NORMAL, Tokenizer
from gemstead.types import MediaPart, Message, TextPart, Tool, ToolCall
from support.vocab import real_tokenizer, small_tokenizer, small_vocabulary


def learned(prompt, tokenizer=None) -> list[str]:
    """The runs of text the mask marks."""
    tok = tokenizer or small_tokenizer()
    ids, mask = prompt.encode_with_mask(tok)
    assert ids == prompt.encode(tok)
    assert len(ids) == len(mask)
    runs: list[list[int]] = []
    for i, (token_id, wanted) in enumerate(zip(ids, mask, strict=True)):
        if wanted and not (i and mask[i - 1]):
            runs.append([])
        if wanted:
            runs[-1].append(token_id)
    return [tok.decode(run) for run in runs]


def test_ids_equal_the_whole_string_encoded() -> None:
    tok = real_tokenizer()
    call = ToolCall("f", {"city": "Zürich", "n": 3}, "c1")
    prompt = render(
        [
            Message.system("Be brief.\n\nAlways."),
            Message.user("Hi\n"),
            Message.assistant("", reasoning="hm", tool_calls=(call,)),
            Message.tool({"t": [1.5, None]}, call=call),
            Message.assistant("It is 1.5."),
            Message.user("Thanks"),
        ],
        [Tool("f", "A tool.", {"type": "object", "properties": {"city": {"type": "string"}}})],
        thinking=True,
        size_class="large",
    )
    assert prompt.encode(tok) == tok.encode(prompt.text, specials=True)
    assert prompt.encode(tok).count(2) == 1


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.sampled_from([*CONTROL_TEXTS.values(), "a", " ", "<", "|>", "\n", "call:f{", "turn"])).map(
        "".join
    )
)
def test_no_text_becomes_a_control_token(text: str) -> None:
    tok = small_tokenizer()
    call = ToolCall("f", {}, "c1")

    def conversation(payload: str) -> list[int]:
        tool = Tool(f"n{payload}", f"d{payload}", {"type": "object", "properties": {f"p{payload}": {}}})
        messages = [
            Message.system(f"s{payload}"),
            Message.user((TextPart(f"u{payload}"), TextPart(payload))),
            Message.assistant("x", tool_calls=(ToolCall(f"c{payload}", {"k": payload}, "c1"),)),
            Message.tool({"r": payload}, call=call, name=f"r{payload}"),
            Message.tool(payload, call=call),
        ]
        return [i for i in render(messages, [tool]).encode(tok) if tok.is_special(i)]

    assert conversation(text) == conversation("harmless")


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet=st.characters(exclude_characters="▁", exclude_categories=["Cs"])))
def test_a_tool_result_reaches_the_tokens_byte_for_byte(text: str) -> None:
    tok = small_tokenizer()
    call = ToolCall("f", {}, "c1")
    messages = [Message.user("q"), Message.assistant(tool_calls=(call,)), Message.tool(text, call=call)]
    ids = render(messages).encode(tok)
    at = len(ids) - 1 - ids[::-1].index(50)
    inside = ids[at + 1 : ids.index(51)]
    assert tok.decode(inside) == f'response:f{{value:<|"|>{text}<|"|>}}'
    assert inside.count(52) == 2


def test_mask_of_a_plain_answer() -> None:
    messages = [Message.system("S"), Message.user("Q"), Message.assistant("A one."), Message.user("R")]
    assert learned(render(messages, size_class="large")) == ["A one.<turn|>"]


def test_mask_of_a_tool_loop() -> None:
    one, two = ToolCall("f", {"a": "x"}, "1"), ToolCall("g", {}, "2")
    messages = [
        Message.user("Q"),
        Message.assistant(reasoning="need", tool_calls=(one, two)),
        Message.tool("r1", call=one),
        Message.tool("r2", call=two),
        Message.assistant("Done."),
    ]
    assert learned(render(messages)) == [
        '<|channel>thought\nneed\n<channel|><|tool_call>call:f{a:<|"|>x<|"|>}<tool_call|>'
        "<|tool_call>call:g{}<tool_call|><|tool_response>",
        "Done.<turn|>",
    ]


def test_mask_leaves_out_the_thought_opening_the_template_supplies() -> None:
    call = ToolCall("f", {}, "1")
    messages = [
        Message.user("Q"),
        Message.assistant(reasoning="a", tool_calls=(call,)),
        Message.tool("r", call=call),
        Message.assistant("Done.", reasoning="b"),
    ]
    runs = learned(render(messages, thinking=True))
    assert runs[0].startswith("<|channel>thought\na\n<channel|><|tool_call>")
    assert runs[1] == "b\n<channel|>Done.<turn|>"
    assert learned(render(messages))[1] == "<|channel>thought\nb\n<channel|>Done.<turn|>"


def test_mask_of_a_result_nobody_answered() -> None:
    call = ToolCall("f", {}, "1")
    messages = [
        Message.user("Q"),
        Message.assistant(tool_calls=(call,)),
        Message.tool("r", call=call),
        Message.user("Stop"),
    ]
    assert learned(render(messages)) == ["<|tool_call>call:f{}<tool_call|><|tool_response>"]


def test_mask_with_text_before_the_call() -> None:
    call = ToolCall("f", {}, "1")
    messages = [
        Message.user("Q"),
        Message.assistant("Let me see.", tool_calls=(call,)),
        Message.tool(1, call=call),
    ]
    assert learned(render(messages, corrected=True)) == [
        "Let me see.<|tool_call>call:f{}<tool_call|><|tool_response>"
    ]


@settings(max_examples=100, deadline=None)
@given(st.text(alphabet="ab \n▁é😀🚀"), st.text(alphabet="ab \n▁é😀🚀"))
def test_mask_falls_on_token_borders(question: str, answer: str) -> None:
    prompt = render([Message.user(question), Message.assistant(answer)])
    assert learned(prompt) == [answer.strip().replace("▁", " ") + "<turn|>"]


def test_media_slots() -> None:
    tok = real_tokenizer()
    image, sound = MediaPart("image", b"i"), MediaPart("audio", b"a")
    prompt = render([Message.user((image, TextPart("Look, <|image|>!"), sound))])
    ids = prompt.encode(tok)
    assert [slot.part for slot in prompt.media] == [image, sound]
    assert [ids[at] for at in prompt.media_positions(tok)] == [258880, 258881]
    assert ids.count(258880) == 1


def test_opens_thought() -> None:
    call = ToolCall("f", {}, "1")
    loop = [Message.user("Q"), Message.assistant(tool_calls=(call,)), Message.tool("r", call=call)]
    assert render(loop, thinking=True).opens_thought
    assert not render(loop).opens_thought
    assert not render([Message.user("Q")], thinking=True, size_class="large").opens_thought
    assert not render([Message.user("Q")], size_class="large").opens_thought


def test_a_vocabulary_without_the_token_says_so() -> None:
    tokens, types, merges = small_vocabulary()
    tokens[98], types[98] = "<unused97x>", NORMAL
    with pytest.raises(ConfigError, match=r"no control token <\|think\|>"):
        render([Message.user("Q")], thinking=True).encode(Tokenizer.from_vocabulary(tokens, types, merges))
