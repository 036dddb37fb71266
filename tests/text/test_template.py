"""The template's rules, its corrections, its refusals, and recognising a file's own template."""

from __future__ import annotations

import pytest

from gemstead.errors import InputError
from gemstead.text.template import GENERATIONS, KNOWN_TEMPLATES, recognise, render
from gemstead.types import MediaPart, Message, TextPart, Tool, ToolCall
from support.vocab import REAL_VOCABULARY, gguf_metadata

CALL = ToolCall("f", {"a": 1}, "c1")
LOOP = [Message.user("Q"), Message.assistant(tool_calls=(CALL,)), Message.tool("15", call=CALL)]
MODEL = "<|turn>model\n"


def after_user(messages: list[Message], **options: object) -> str:
    """The rendered text after the last user turn's header."""
    return render(messages, **options).text.rsplit("<|turn>user\n", 1)[-1]  # type: ignore[arg-type]


def test_defaults_are_the_newest_generation_for_small_models() -> None:
    assert render([Message.user("Hi")]).text == "<bos><|turn>user\nHi<turn|>\n<|turn>model\n"
    assert render([]).text == "<bos><|turn>model\n"


@pytest.mark.parametrize("generation", GENERATIONS)
@pytest.mark.parametrize("thinking", [False, True])
def test_only_large_models_are_primed_with_an_empty_thought(generation: str, thinking: bool) -> None:
    small, large = (
        render([Message.user("Hi")], thinking=thinking, generation=generation, size_class=size).text  # type: ignore[arg-type]
        for size in ("small", "large")
    )
    assert large == small + ("" if thinking else "<|channel>thought\n<channel|>")


# --- corrections: what Google's template gets wrong ---


def test_text_before_a_call_stays_before_it() -> None:
    messages = [LOOP[0], Message.assistant("Let me see.", tool_calls=(CALL,)), LOOP[2]]
    call = '<|tool_call>call:f{a:1}<tool_call|><|tool_response>response:f{value:<|"|>15<|"|>}<tool_response|>'
    assert after_user(messages) == f"Q<turn|>\n{MODEL}{call}Let me see.<turn|>\n"
    assert after_user(messages, corrected=True) == f"Q<turn|>\n{MODEL}Let me see.{call}"
    assert after_user(messages[:2], corrected=True).endswith(
        "Let me see.<|tool_call>call:f{a:1}<tool_call|><|tool_response>"
    )


def test_a_corrected_loop_stays_in_one_turn() -> None:
    messages = [LOOP[0], Message.assistant("See.", tool_calls=(CALL,)), LOOP[2], Message.assistant("15.")]
    text = after_user(messages, corrected=True)
    assert text.count("<|turn>") == 2  # the model's turn and the next generation prompt
    assert "<tool_response|>15.<turn|>" in text


def test_results_without_ids_are_named_by_name_or_order() -> None:
    calls = (ToolCall("f", {}), ToolCall("g", {}))
    named = [
        Message.user("Q"),
        Message.assistant(tool_calls=calls),
        Message.tool("1", name="g"),
        Message.tool("2", name="f"),
    ]
    bare = [*named[:2], Message.tool("1"), Message.tool("2")]
    assert "response:g{" in after_user(named, corrected=True).split("<tool_response|>")[0]
    assert after_user(bare, corrected=True).index("response:f{") < after_user(bare, corrected=True).index(
        "response:g{"
    )
    assert "response:f{" not in after_user(named)  # Google's: the last call's name for both


def test_a_mapping_or_list_result_is_written_as_one() -> None:
    for generation in ("v2", "v4"):
        for value, wanted in (
            ({"b": 1, "a": [True]}, "{a:[true],b:1}"),
            ([1, 2], "{value:[1,2]}"),
            (None, "{value:"),
        ):
            messages = [*LOOP[:2], Message.tool(value, call=CALL)]
            assert f"response:f{wanted}" in after_user(messages, generation=generation)


def test_a_developer_in_the_middle_is_the_system() -> None:
    messages = [Message.user("Q"), Message("developer", "D"), Message.user("R")]
    assert "<|turn>developer\nD" in render(messages).text
    assert "<|turn>system\nD" in render(messages, corrected=True).text


def test_v1_corrected_understands_results() -> None:
    text = after_user(LOOP, generation="v1", size_class="large", corrected=True)
    assert "<turn|>\n<|turn>tool" not in text
    assert '<|tool_response>response:f{value:<|"|>15<|"|>}<tool_response|>' in text
    pending = after_user(LOOP[:2], generation="v1", corrected=True)
    assert pending.endswith("<tool_call|><|tool_response>")


def test_media_in_results_and_messages() -> None:
    image = MediaPart("image")
    result = Message.tool((TextPart("a"), image, TextPart("b")), call=CALL)  # type: ignore[arg-type]
    assert after_user([*LOOP[:2], result]).endswith('{value:<|"|>ab<|"|>}<tool_response|><|image|>')
    assert after_user([Message.user((TextPart(" a "), image))]).startswith("a<|image|><turn|>")


def test_preserve_thinking() -> None:
    messages = [
        Message.user("Q"),
        Message.assistant(reasoning="R", tool_calls=(CALL,)),
        LOOP[2],
        Message.user("S"),
    ]
    assert "R" not in render(messages).text
    assert "<|channel>thought\nR\n<channel|>" in render(messages, preserve_thinking=True).text


# --- refusals ---


@pytest.mark.parametrize(
    ("messages", "options", "says"),
    [
        ([Message.user("Q")], {"generation": "v3"}, "generation 'v3' is unknown; known are v1, v2, v4"),
        ([Message.user("Q")], {"size_class": "huge"}, "size class 'huge' is unknown; known are small, large"),
        ([Message.user("Q"), Message.tool("1", name="f")], {}, r"tool message 1 \(f\) answers no call"),
        ([*LOOP, Message.user("R"), Message.tool("2")], {}, r"tool message 4 \(unnamed\) answers no call"),
        ([Message("user", {"a": 1})], {}, "user message has content of type dict"),
        ([Message.assistant(tool_calls=(ToolCall("f", {"a": float("nan")}),))], {}, "cannot write nan"),
        ([Message.assistant(tool_calls=(ToolCall("f", {"a": object()}),))], {}, "allowed are JSON values"),  # type: ignore[dict-item]
        ([*LOOP[:2], Message.tool(10**5000, call=CALL)], {}, "allowed are JSON values"),
        ([Message("system", (MediaPart("image"),))], {}, "system message can hold only text"),
    ],
)
def test_refusals_say_what_is_allowed(messages: list[Message], options: dict[str, str], says: str) -> None:
    with pytest.raises(InputError, match=says):
        render(messages, **options)  # type: ignore[arg-type]


def test_bottomless_nesting_is_an_error() -> None:
    deep: list[object] = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(InputError, match="nested too deeply"):
        render([*LOOP[:2], Message.tool(deep, call=CALL)])  # type: ignore[arg-type]
    loop: dict[str, object] = {"type": "object"}
    loop["properties"] = {"self": loop}
    with pytest.raises(InputError, match="nested too deeply"):
        render([Message.user("Q")], [Tool("f", "", loop)])
    assert "properties:{self:" in render([Message.user("Q")], [Tool("f", "", loop)], corrected=True).text


# --- recognising ---


def test_the_launch_template_is_recognised() -> None:
    if not REAL_VOCABULARY.exists():
        pytest.skip(f"needs the template inside {REAL_VOCABULARY}")
    source = gguf_metadata()["tokenizer.chat_template"]
    info = recognise(source)
    assert (info.generation, info.size_class, info.known) == ("v1", "large", True)
    assert info.name == "Google's template of 2026-04-02"
    assert info.sha256 == "2dfbfc7d538912f4ea11d29d85b4e25d7bc26386e53f57529f1d707c28b5828c"
    assert recognise(source.replace("\n", "\r\n")) == info
    assert recognise(source.rstrip()).known
    changed = recognise(source + "{# mine #}")
    assert (changed.generation, changed.size_class, changed.known) == ("v4", "large", False)
    assert changed.name.startswith("an unknown Gemma 4 template (sha256 ")


def test_strangers_are_named() -> None:
    info = recognise("{{ messages }}")
    assert (info.generation, info.size_class, info.known) == ("v4", None, False)
    assert info.name.startswith("not a Gemma 4 template")
    assert recognise("<|turn>\ud800").size_class == "small"
    assert {generation for generation, _, _ in KNOWN_TEMPLATES.values()} == set(GENERATIONS)
