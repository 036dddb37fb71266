"""The fast serialiser writes exactly what the product's template renders."""

import json
from pathlib import Path

import pytest
import vocab
from build_data import serializer
from corpus.conversation import Conversations, encode
from corpus.turn import Bare, Turn

from gemstead.agent.tools import BUILT_IN
from gemstead.text import control
from gemstead.text.template import render
from gemstead.text.tokenizer import Tokenizer
from gemstead.types import Message, ToolCall


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pieces, merges = vocab.train(vocab.texts(20_000, seed=1))
    tokens, types = vocab.layout(pieces)
    path = tmp_path_factory.mktemp("vocab") / "vocab.json"
    path.write_text(json.dumps({"tokens": tokens, "types": types, "merges": [f"{a} {b}" for a, b in merges]}))
    return path


def messages_of(turn: Turn, thinking: bool) -> list[Message]:
    out = [Message.user(turn.user)]
    thought = turn.thought if thinking else None
    if turn.calls:
        calls = tuple(
            ToolCall(
                c.name,
                {k: json.loads(v) if isinstance(v, Bare) else v for k, v in c.arguments.items()},
                f"c{i}",
            )
            for i, c in enumerate(turn.calls)
        )
        out.append(Message.assistant(tool_calls=calls, reasoning=thought))
        out += [Message.tool(c.result, call=made) for c, made in zip(turn.calls, calls, strict=True)]
        thought = "I have the result." if thinking else None
    return [*out, Message.assistant(turn.answer, reasoning=thought)]


def test_ids_and_mask_equal_the_templates(saved: Path) -> None:
    data = json.loads(saved.read_text())
    tokenizer = Tokenizer.from_vocabulary(data["tokens"], data["types"], data["merges"])
    made, source = serializer(saved), Conversations("train", 11)
    for _ in range(60):
        conversation = source.draw(made)
        if conversation.thinking and conversation.keep_thoughts:
            conversation.turns = conversation.turns[:1]  # the template keeps only the last turn's thoughts
        messages = [Message.system(conversation.system)] if conversation.system else []
        for number, turn in enumerate(conversation.turns):
            last = number == len(conversation.turns) - 1
            messages += messages_of(turn, conversation.thinking and last)
        prompt = render(
            messages, conversation.tools, thinking=conversation.thinking, add_generation_prompt=False
        )
        ids, mask = prompt.encode_with_mask(tokenizer)
        encoded = encode(conversation, made)
        assert tokenizer.decode(encoded.ids) == prompt.text
        assert encoded.ids == ids
        if not conversation.thinking:
            assert encoded.mask == [int(m) for m in mask]
        else:  # only what the model itself just wrote is learned there
            start = len(ids) - sum(1 for _ in made.turn(conversation.turns[-1], True).ids)
            assert encoded.mask[start:] == [int(m) for m in mask[start:]]


def test_layout_is_gemmas(saved: Path) -> None:
    data = json.loads(saved.read_text())
    tokens, types = data["tokens"], data["types"]
    assert len(tokens) == len(types) == vocab.SIZE == 4096
    assert len(set(tokens)) == 4096
    assert (tokens[2], tokens[105], tokens[106], tokens[50]) == (
        "<bos>",
        "<|turn>",
        "<turn|>",
        "<|tool_response>",
    )
    assert (tokens[107], tokens[238], tokens[493]) == ("\n", "<0x00>", "<0xFF>")
    tokenizer = Tokenizer.from_vocabulary(tokens, types, data["merges"])
    assert all(getattr(tokenizer.control, name) is not None for name in control.CONTROL_TEXTS)
    for text in (
        "12345",
        "What is 17% of 2,400?",
        "  two  blanks\n\nlines",
        "naïve ☃ 🎉 日本",
        "<b> {x} _y_",
    ):
        assert tokenizer.decode(tokenizer.encode(text)) == text
    assert len(tokenizer.encode("12345")) == 5
    assert len(BUILT_IN) == 3


def test_no_piece_spans_words(saved: Path) -> None:
    data = json.loads(saved.read_text())
    for token, kind in zip(data["tokens"], data["types"], strict=True):
        if kind == 1:
            assert "▁" not in token[1:]
            assert not any(c.isdigit() for c in token) or len(token) == 1
