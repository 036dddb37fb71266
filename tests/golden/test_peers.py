"""Every complaint about protocol that peers.md section 2, A to D, lists: each would have failed somewhere.

The number in a test's name is the complaint's. A docstring names the peer; what it takes to see the
complaint is in the test.
"""

from __future__ import annotations

import inspect
import itertools
import json
from collections.abc import Sequence
from typing import Any

import pytest

from gemstead.agent.loop import run_turns
from gemstead.engine.constraint import OneOf
from gemstead.engine.draft import NgramDrafter
from gemstead.engine.engine import Engine
from gemstead.engine.grammar import check_grammar
from gemstead.engine.options import EngineOptions
from gemstead.session import Session
from gemstead.text.answers import answer_grammar
from gemstead.text.grammar import call_grammar
from gemstead.text.parser import Parser, joined, parse, parse_ids
from gemstead.text.template import recognise, render
from gemstead.types import (
    Done,
    Event,
    Json,
    Message,
    OutputFormat,
    ParseNote,
    Request,
    SamplingParams,
    TextDelta,
    ThoughtDelta,
    Tool,
    ToolCall,
    ToolCallEvent,
)
from support.grammars import TOKENIZER, VOCABULARY
from support.hashing_backend import HashingBackend, hashing_spec

EOS = (1, 106, 50)
LOOK = Tool("look", "", {"type": "object", "properties": {"at": {"type": "string"}}, "required": ["at"]})


def texts(events: Sequence[Event]) -> str:
    return "".join(e.text for e in events if isinstance(e, TextDelta))


def thoughts(events: Sequence[Event]) -> str:
    return "".join(e.text for e in events if isinstance(e, ThoughtDelta))


def calls(events: Sequence[Event]) -> list[tuple[str, dict[str, Json]]]:
    return [(e.call.name, dict(e.call.arguments)) for e in events if isinstance(e, ToolCallEvent)]


def notes(events: Sequence[Event]) -> list[ParseNote]:
    return [e for e in events if isinstance(e, ParseNote)]


def called(value: str) -> Json:
    """The argument `x` of a call that the model wrote as `value` between its own delimiters."""
    ((name, arguments),) = calls(parse(f'<|tool_call>call:f{{x:<|"|>{value}<|"|>}}<tool_call|>'))
    assert name == "f"
    return arguments["x"]


def session(drafter: Any = None) -> Session:
    spec = hashing_spec(vocab_size=TOKENIZER.vocab_size, context=2000, eos=EOS)
    engine = Engine(HashingBackend(spec), EngineOptions(page_tokens=8, memory_bytes=1 << 20), drafter)
    return Session(engine, TOKENIZER)


def said(output: str, end: int = 106, drafter: Any = None, **options: Any) -> list[Event]:
    """The events of a request to which the model can only answer `output`."""
    script = OneOf([TOKENIZER.encode(output, specials=True)], [end], TOKENIZER.vocab_size)
    fields = {"tools": (LOOK,), "sampling": SamplingParams(temperature=0), **options}
    return list(session(drafter).stream(Request((Message.user("Q"),), **fields), constraint=script))


def drawn(**options: Any) -> list[Event]:
    """The events of a request to a model that says anything the constraint lets through."""
    fields = {"sampling": SamplingParams(temperature=1.5, seed=1, max_tokens=300), **options}
    return list(session().stream(Request((Message.user("Q"),), **fields)))


def end_of(events: Sequence[Event]) -> Done:
    (end,) = [e for e in events if isinstance(e, Done)]
    assert end is events[-1]
    return end


# --- A: tool calls ---


@pytest.mark.parametrize(
    "value",
    [
        "`code`",
        "**bold**",
        r"^\d+\.\w{2,}$",
        "it's 'quoted'",
        '{"a": [1]}',
        r"C:\new\table",
        "a\nb",
        "}<x>{",
        "",
    ],
)
def test_01_markdown_regexes_and_quotes_in_arguments(value: str) -> None:
    """Would have failed in Ollama (ollama#15315, #15254): it rewrote the arguments to JSON by patterns."""
    assert called(value) == value


@pytest.mark.parametrize(
    "raw",
    [
        '<|tool_call>call:look:{at:<|"|>sky<|"|>}<tool_call|>',
        "<|tool_call>call:look:\nBEGIN_ARG at: sky END_ARG<tool_call|>",
    ],
)
def test_02_the_dialect_with_a_colon_after_the_name(raw: str) -> None:
    """Would have failed in Ollama (ollama#18275, PR#18471 open): `call:name:` was not read at all."""
    events = parse(raw)
    if "BEGIN_ARG" in raw:  # no syntax of Gemma's: shown whole and said so, never dropped or guessed
        assert calls(events) == []
        assert "BEGIN_ARG at: sky END_ARG" in texts(events)
        assert notes(events)
    else:
        assert calls(events) == [("look", {"at": "sky"})]


@pytest.mark.parametrize("raw", ["<|tool_call>look the sky", "<tool_call|>}", "<|channel><|tool_call>call:{"])
def test_03_output_out_of_format_is_an_answer_and_no_error(raw: str) -> None:
    """Would have failed in llama.cpp (llama.cpp#25072): HTTP 500, the whole request lost."""
    events = said(raw)
    assert end_of(events).reason in ("stop", "tool_calls")
    assert notes(events)


def test_04_a_call_never_comes_as_text() -> None:
    """Would have failed in llama.cpp (llama.cpp#22786): the call was returned as plain content."""
    events = said('Let me see.<|tool_call>call:look{at:<|"|>sky<|"|>}<tool_call|>', end=50)
    assert texts(events) == "Let me see."
    assert calls(events) == [("look", {"at": "sky"})]


def test_04_doubled_calls_and_thoughts_and_malformed_tags() -> None:
    """Would have failed in llama.cpp (llama.cpp#21882 open, 26B and 31B)."""
    one = "<|tool_call>call:f{n:1}<tool_call|>"
    thought = "<|channel>thought\nHm.\n<channel|>"
    assert calls(parse(one + one)) == [("f", {"n": 1})] * 2
    assert thoughts(parse(thought + thought + "Yes.")) == "Hm.\nHm."
    for raw in (thought + "<channel|>Yes.", "<|channel>" + thought + "Yes.", "thought\nHm.\n<channel|>Yes."):
        assert (thoughts(parse(raw)), texts(parse(raw))) == ("Hm.", "Yes.")


@pytest.mark.parametrize("size", [1, 2, 3, 7, 50])
def test_05_no_delimiter_leaks_whatever_the_pieces(size: int) -> None:
    """Would have failed in vLLM (vllm#44522, PR#45588): pieces of `<|"|>` came out inside arguments."""
    raw = 'So:<|tool_call>call:f{a:<|"|>x<|y|>z<|"|>,b:[<|"|>q<|"|>]}<tool_call|>'
    parser = Parser(new_id=lambda: "1")
    pieces = [raw[at : at + size] for at in range(0, len(raw), size)]
    events = joined([*(e for piece in pieces for e in parser.feed_text(piece)), *parser.finish()])
    assert events == parse(raw, new_id=lambda: "1")
    assert calls(events) == [("f", {"a": "x<|y|>z", "b": ["q"]})]
    assert texts(events) == "So:"


def test_05_speculation_changes_nothing() -> None:
    """Would have failed in vLLM (PR#45588): several tokens accepted at once broke its two parsers."""
    output = "the model the model " * 3 + '<|tool_call>call:look{at:<|"|>sky sky sky<|"|>}<tool_call|>'
    plain, drafted = said(output, 50), said(output, 50, NgramDrafter())
    assert (texts(plain), calls(plain)) == (texts(drafted), calls(drafted))


@pytest.mark.parametrize("result", ["ZQX-7731", "18 °C", " padded ", "a\n\n", "", "<turn|>", '<|"|>x'])
def test_06_a_tool_result_reaches_the_model_byte_for_byte(result: str) -> None:
    """Would have failed in FastFlowLM (FastFlowLM#722): `ZQX-7731` became `ZQX-773`, 18 °C became 15."""
    call = ToolCall("look", {"at": "x"}, "1")
    messages = [Message.user("Q"), Message.assistant(tool_calls=(call,)), Message.tool(result, call=call)]
    for generation, thinking in itertools.product(("v1", "v2", "v4"), (False, True)):
        prompt = render(messages, [LOOK], generation=generation, thinking=thinking, corrected=True)
        ids = prompt.encode(TOKENIZER)
        start = len(ids) - ids[::-1].index(TOKENIZER.control.response_open or -1)
        inside = ids[start : ids.index(TOKENIZER.control.response_close or -1, start)]
        text = TOKENIZER.decode(inside)
        assert text == f'response:look{{value:<|"|>{result}<|"|>}}'
        assert sum(map(TOKENIZER.is_special, inside)) == 2  # the two delimiters are ours, nothing else is


@pytest.mark.parametrize("value", ["Maya Kaya", "world cup 2022", "aaa aaa aaa", "0.10", "  x  "])
def test_07_arguments_arrive_as_the_model_wrote_them(value: str) -> None:
    """Would have failed in LiteRT-LM (LiteRT-LM#2249, #2202): "Maya Kaya" became "Maya"."""
    assert called(value) == value
    ids = TOKENIZER.encode(f'<|tool_call>call:f{{x:<|"|>{value}<|"|>}}<tool_call|>', specials=True)
    assert calls(parse_ids(ids, TOKENIZER)) == [("f", {"x": value})]
    # and a repetition penalty is there to be had, off by default
    assert SamplingParams().repetition_penalty == 1.0


def test_08_the_same_call_for_ever_is_ended() -> None:
    """Would have failed in LM Studio (lmstudio-bug-tracker#1732, koda#826): nothing stopped it."""
    if "max_same_calls" not in inspect.signature(run_turns).parameters:
        pytest.skip("the guard against equal calls is the engine side of issue 4, not in this tree yet")
    asked = []

    def ask(messages: Any) -> Any:
        asked.append(len(messages))
        yield ToolCallEvent(ToolCall("look", {"at": "x"}, str(len(asked))))
        yield Done("tool_calls")

    tool = Tool("look", "", LOOK.parameters, function=lambda at: at)
    events = list(run_turns(ask, [Message.user("Q")], [tool], max_rounds=100))
    assert len(asked) < 10
    assert end_of([e for e in events if isinstance(e, Done)]).cause


def test_09_one_parser_for_everybody() -> None:
    """Would have failed in microclaw, omlx, vllm-mlx, hermes-agent: each wrote one more parser."""
    import gemstead.protocol
    import gemstead.session

    assert gemstead.protocol.Parser is gemstead.session.Parser is Parser
    assert gemstead.protocol.render is gemstead.session.render is render


# --- B: thinking ---

THOUGHT = "<|channel>thought\nHm.\n<channel|>"


def test_10_the_answer_is_not_in_the_thought() -> None:
    """Would have failed in Ollama (ollama#15288, #15293): content empty, everything in `reasoning`."""
    events = said(THOUGHT + "Yes.", thinking=True)
    assert (thoughts(events), texts(events)) == ("Hm.", "Yes.")


def test_11_thinking_off_still_answers() -> None:
    """Would have failed in Ollama (ollama#17823 open): think:false gave an empty message, one token."""
    events = said("Yes.", thinking=False)
    assert texts(events) == "Yes."
    empty = said("", thinking=False)
    assert end_of(empty).cause  # and an empty answer has its reason


def test_12_text_beside_a_thought_is_there() -> None:
    """Would have failed in mlx-lm (mlx-lm#1352 open): `content` missing."""
    events = parse("Before. " + THOUGHT + "After.")
    assert texts(events) == "Before. After."


def test_13_a_thought_that_the_template_opened() -> None:
    """Would have failed in vLLM (vllm#49717 open): streamed content was empty after a tool's result."""
    call = ToolCall("look", {"at": "x"}, "1")
    loop = (Message.user("Q"), Message.assistant(tool_calls=(call,)), Message.tool("ok", call=call))
    prompt = render(loop, [LOOK], thinking=True, corrected=True)
    assert prompt.text.endswith("<|channel>thought\n")
    raw = "Fine.\n<channel|>Done."
    whole = parse(raw, in_thought=prompt.opens_thought)
    parser = Parser(in_thought=prompt.opens_thought)
    streamed = joined([*(e for c in raw for e in parser.feed_text(c)), *parser.finish()])
    assert whole == streamed == [ThoughtDelta("Fine."), TextDelta("Done.")]


def test_13_cut_off_in_a_thought() -> None:
    """Would have failed in vLLM (PR#42635): max_tokens inside the thought gave content None."""
    request = Request((Message.user("Q"),), (), SamplingParams(temperature=0, max_tokens=9), thinking=True)
    script = OneOf(
        [TOKENIZER.encode("<|channel>thought\nand on and on and on", specials=True)],
        [106],
        TOKENIZER.vocab_size,
    )
    events = list(session().stream(request, constraint=script))
    assert thoughts(events)
    assert end_of(events).reason == "length"
    assert "thinking" in str(end_of(events).cause)


@pytest.mark.parametrize("thinking", [False, True])
def test_14_no_raw_tags_are_shown(thinking: bool) -> None:
    """Would have failed in LM Studio (lmstudio#2013, #1811 open): it looked for `<think>`."""
    events = said(THOUGHT + "Yes.", thinking=thinking)
    assert texts(events) == "Yes."
    assert "channel" not in thoughts(events)


def test_15_an_empty_thought_is_none() -> None:
    """Would have failed in google-deepmind/gemma (gemma#727 open): an empty block, or no end."""
    for opened in ("<|channel>thought\n", "<|channel>", "<|channel>thought"):
        assert parse(f"{opened}<channel|>Yes.") == [TextDelta("Yes.")]


def test_16_hidden_thinking_is_counted() -> None:
    """Would have failed in clarion#76, penguin-overlord#111: the budget was burnt unseen."""
    usage = end_of(said(THOUGHT + "Yes.", thinking=True)).usage
    assert 0 < usage.reasoning_tokens < usage.completion_tokens


def test_16_a_budget_leaves_room_for_the_answer() -> None:
    """Would have failed in penguin-overlord#111: nothing was kept for the answer."""
    try:
        Request((Message.user("Q"),), thinking=50)
        from gemstead.types import Thinking  # type: ignore[attr-defined,unused-ignore]
    except (ImportError, TypeError):
        pytest.skip("budgets of thought are the engine side of issue 4, not in this tree yet")
    assert Thinking.of(50).kept(100) > 0


# --- C: the chat template ---


def test_17_text_and_calls_in_one_message() -> None:
    """Would have failed in osaurus, and with Google's own template (osaurus PR#2015)."""
    call = ToolCall("look", {"at": "x"}, "1")
    loop = [Message.user("Q"), Message.assistant("See.", tool_calls=(call,)), Message.tool("ok", call=call)]
    for size in ("small", "large"):
        text = render(loop, [LOOK], size_class=size, corrected=True).text  # type: ignore[arg-type]
        assert text.endswith("<tool_response|>")  # the model's turn is open, with its header
        assert text.count("<|turn>model\n") == 1
        assert "<|turn>model\nSee.<|tool_call>" in text
    asked = Request(tuple(loop), (LOOK,), SamplingParams(temperature=0))
    script = OneOf([TOKENIZER.encode("Done.")], [106], TOKENIZER.vocab_size)
    assert texts(list(session().stream(asked, constraint=script))) == "Done."


def test_18_a_template_that_changed_is_no_harm() -> None:
    """Would have failed in textgen (textgen#7498) and vLLM (PR#47678): Google changed the template."""
    info = recognise("{% if new %}<|turn>{% endif %}")
    assert (info.known, info.generation) == (False, "v4")
    assert "unknown" in info.name
    # what is rendered does not come from the file
    assert render([Message.user("Q")], generation=info.generation).text.startswith(
        "<bos><|turn>user\nQ<turn|>"
    )


def test_19_an_older_familys_template_is_not_followed() -> None:
    """Would have failed in late-cli (late-cli#95): `--chat-template gemma` gave nonsense."""
    info = recognise("{{ bos_token }}<start_of_turn>user\n{{ messages }}<end_of_turn>")
    assert not info.known
    assert info.name.startswith("not a Gemma 4 template")
    assert "<start_of_turn>" not in render([Message.user("Q")], generation=info.generation).text


def test_19_unions_and_references_do_not_collapse() -> None:
    """Would have failed in gemmaclaw#63: `anyOf` with `$ref` left tools without types."""
    city = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
    schema = {
        "type": "object",
        "properties": {"to": {"anyOf": [{"$ref": "#/$defs/place"}, {"type": "null"}]}},
        "$defs": {"place": city},
    }
    text = render([Message.user("Q")], [Tool("go", "", schema)], corrected=True).text
    assert 'to:{nullable:true,properties:{city:{type:<|"|>STRING<|"|>}}' in text
    check_grammar(call_grammar([Tool("go", "", schema)], TOKENIZER.control), "the tool")


# --- D: structured output ---

SCHEMA = {
    "type": "object",
    "properties": {"n": {"enum": [1, 2]}},
    "required": ["n"],
    "additionalProperties": False,
}


@pytest.mark.parametrize("thinking", [False, True])
def test_20_a_format_is_never_ignored(thinking: bool) -> None:
    """Would have failed in Ollama (ollama#15260 open): think=false made it ignore the schema."""
    events = drawn(output=OutputFormat("json_schema", SCHEMA), thinking=thinking)
    if end_of(events).reason == "length":  # a random model may think to the end
        assert texts(events) == ""
    else:
        assert json.loads(texts(events)) in ({"n": 1}, {"n": 2})


def test_20_json_without_fences() -> None:
    """Would have failed in Ollama (ollama#15416): fenced JSON after a thought."""
    matcher = VOCABULARY.matcher(answer_grammar("json_schema", SCHEMA))
    assert matcher.try_consume_tokens(TOKENIZER.encode("```json")) == 0
    assert matcher.try_consume_tokens(TOKENIZER.encode('{"n": 1}')) > 0


@pytest.mark.parametrize("longest", [1, 1000, 5000])
def test_21_long_texts_in_a_schema(longest: int) -> None:
    """Would have failed in llama.cpp (llama.cpp#22396): maxLength 1000, "Failed to initialize samplers"."""
    schema = {
        "type": "object",
        "properties": {"s": {"type": "string", "maxLength": longest}},
        "required": ["s"],
    }
    check_grammar(answer_grammar("json_schema", schema), "the answer")
    matcher = VOCABULARY.matcher(answer_grammar("json_schema", schema))
    for value, fits in (("x" * longest, True), ("x" * (longest + 1), False)):
        matcher.reset()
        ids = TOKENIZER.encode(json.dumps({"s": value}))
        assert (matcher.try_consume_tokens(ids) == len(ids)) is fits


def test_21_a_format_after_an_assistants_message() -> None:
    """Would have failed in llama.cpp (llama.cpp#23990): response_format with an assistant's last word."""
    conversation = (Message.user("Q"), Message.assistant("I say:"))
    request = Request(
        conversation,
        (),
        SamplingParams(temperature=1.5, seed=1, max_tokens=300),
        output=OutputFormat("json_schema", SCHEMA),
    )
    events = list(session().stream(request))
    assert json.loads(texts(events)) in ({"n": 1}, {"n": 2})
