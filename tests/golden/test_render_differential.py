"""The renderer against Google's own Jinja templates, on conversations nobody wrote down.

The launch template travels in the vocabulary file of ../shared. The later ones are compared where
GEMSTEAD_TEMPLATES names a folder that holds them (any file name; they are told apart by their hash).
"""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
import jinja2.sandbox
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gemstead.text.template import recognise, render
from support.conversations import messages_of, tools_of
from support.vocab import REAL_VOCABULARY, gguf_metadata

FLAVOURS = (("v1", "large"), ("v2", "large"), ("v4", "large"), ("v4", "small"))
EXAMPLES = int(os.environ.get("GEMSTEAD_DIFFERENTIAL_EXAMPLES", "150"))


def _stop(message: str) -> None:
    raise jinja2.TemplateError(message)


@cache
def templates() -> dict[tuple[str, str], jinja2.Template]:
    """Google's templates found here, by generation and size class."""
    sources = []
    if REAL_VOCABULARY.exists():
        sources.append(gguf_metadata()["tokenizer.chat_template"])
    folder = os.environ.get("GEMSTEAD_TEMPLATES")
    if folder:
        sources += [path.read_text("utf-8") for path in sorted(Path(folder).glob("*.jinja*"))]
    environment = jinja2.sandbox.ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    environment.globals["raise_exception"] = _stop
    found = {}
    for source in sources:
        info = recognise(source)
        if info.known and info.size_class:
            found[info.generation, info.size_class] = environment.from_string(source)
    return found


WORDS = st.text(
    st.characters(exclude_categories=["Cs"]) | st.sampled_from(list(" \n\t{}[]:,\"'<|>")), max_size=12
) | st.sampled_from(
    ["<|turn>user\n", "<turn|>", '<|"|>', "<|channel>thought\nx<channel|>y", "<channel|>", "<|channel>z"]
)
KEYS = st.from_regex(r"[A-Za-z_][A-Za-z0-9_ -]{0,5}[a-z]", fullmatch=True) | st.sampled_from(
    ["type", "description", "properties", "required", "nullable", "Type", "a", "A"]
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=6,
)
TYPES = st.sampled_from(
    ["string", "integer", "number", "boolean", "object", "array", "null", ["string", "null"]]
)


def schemas(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.fixed_dictionaries(
        {},
        optional={
            "type": TYPES,
            "description": WORDS,
            "enum": st.lists(VALUES, max_size=3),
            "nullable": st.booleans(),
            "items": inner,
            "properties": st.dictionaries(KEYS, inner, max_size=3),
            "required": st.lists(KEYS, max_size=2),
            "default": VALUES,
            "title": WORDS,
            "minimum": st.integers(),
        },
    )


SCHEMAS = st.recursive(st.fixed_dictionaries({"type": TYPES}), schemas, max_leaves=5)
PARAMETERS = st.fixed_dictionaries(
    {"type": st.just("object")},
    optional={
        "properties": st.dictionaries(KEYS, SCHEMAS, max_size=3),
        "required": st.lists(KEYS, max_size=2),
    },
)
TOOLS = st.fixed_dictionaries(
    {
        "type": st.just("function"),
        "function": st.fixed_dictionaries(
            {"name": KEYS, "description": WORDS, "parameters": PARAMETERS},
            optional={
                "response": st.fixed_dictionaries(
                    {"type": st.just("object")}, optional={"description": WORDS}
                )
            },
        ),
    }
)
PARTS = st.lists(
    st.fixed_dictionaries({"type": st.just("text"), "text": WORDS})
    | st.sampled_from(["image", "audio", "video"]).map(lambda kind: {"type": kind}),
    max_size=3,
)


@st.composite
def rounds(draw: st.DrawFn, results: bool) -> list[dict[str, Any]]:
    """One or more messages: a person's, an answer, or calls with their results."""
    kind = draw(st.sampled_from(["user", "answer", "calls", "developer"]))
    if kind in ("user", "developer"):
        return [{"role": kind, "content": draw(WORDS | PARTS if kind == "user" else WORDS)}]
    message: dict[str, Any] = {"role": "assistant", "content": draw(WORDS | st.none())}
    if draw(st.booleans()):
        message["reasoning_content"] = draw(WORDS)
    if kind == "answer":
        return [message]
    calls = draw(st.lists(st.tuples(KEYS, st.dictionaries(KEYS, VALUES, max_size=3)), min_size=1, max_size=2))
    message["tool_calls"] = [
        {"id": f"c{k}", "function": {"name": name, "arguments": args}} for k, (name, args) in enumerate(calls)
    ]
    if not results:
        return [message]
    order = draw(st.permutations(range(len(calls))))[: draw(st.integers(0, len(calls)))]
    contents = WORDS | PARTS | st.integers() | st.none() | st.booleans()
    answers = [{"role": "tool", "tool_call_id": f"c{k}", "content": draw(contents)} for k in order]
    return [message, *answers]


@st.composite
def conversations(draw: st.DrawFn, results: bool) -> list[dict[str, Any]]:
    messages = [m for block in draw(st.lists(rounds(results), min_size=1, max_size=5)) for m in block]
    if draw(st.booleans()):
        messages.insert(0, {"role": draw(st.sampled_from(["system", "developer"])), "content": draw(WORDS)})
    return messages


@pytest.mark.parametrize(("generation", "size_class"), FLAVOURS)
def test_same_as_googles_template(generation: str, size_class: str) -> None:
    template = templates().get((generation, size_class))
    if template is None:
        pytest.skip(f"needs Google's {generation} template ({size_class}); see GEMSTEAD_TEMPLATES above")

    @settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(
        conversations(results=generation != "v1"),
        st.lists(TOOLS, max_size=2),
        st.booleans(),
        st.booleans(),
        st.booleans(),
    )
    def compare(
        rows: list[dict[str, Any]], tools: list[Any], thinking: bool, prompt: bool, preserve: bool
    ) -> None:
        expected = template.render(
            messages=rows,
            tools=tools,
            bos_token="<bos>",
            enable_thinking=thinking,
            add_generation_prompt=prompt,
            preserve_thinking=preserve,
        )
        got = render(
            messages_of(rows),
            tools_of(tools),
            thinking=thinking,
            generation=generation,
            size_class=size_class,  # type: ignore[arg-type]
            add_generation_prompt=prompt,
            preserve_thinking=preserve,
        )
        assert got.text == expected

    compare()
