"""Random weights, temperature 1.5: every call and every JSON answer must be valid, however little it means.

Draws tool sets of varied schemas from a seed, asks a model of random weights until so many calls and
answers are whole, and checks each against its schema with `jsonschema`. One that max_tokens cut off is
counted apart and must not come out as a call. Exits 1 if anything is wrong.

    python bench/constrained.py [--calls 10000] [--answers 2000] [--sets 50] [--seed 0]
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
from make_random import write

import gemstead
from gemstead import pebble
from gemstead.model import Model
from gemstead.session import Stream
from gemstead.spec.variants import VARIANTS
from gemstead.types import (
    Done,
    Failed,
    Message,
    OutputFormat,
    ParseNote,
    Request,
    SamplingParams,
    TextDelta,
    Tool,
    ToolCallEvent,
)
from gemstead.weights.store import open_store
from gemstead.weights.vocabulary import read_vocabulary

Schema = dict[str, Any]
AT_ONCE = 16  # requests in the engine together
MOST_TOKENS = 400
CONTEXT = 4096
WORDS = ("city", "from", "to", "limit", "when", "tags", "mode", "query", "unit", "count", "filter", "path")
ODD_NAMES = (
    "a b",
    "type",
    "description",
    "x:y",
    "Ünï",
    "{k}",
    "required",
    "2nd",
    "n,m",
    "q'",
    "items",
    "$id!",
)
FORMATS = ("date", "time", "date-time", "email", "ipv4", "ipv6", "uuid", "hostname", "uri", "duration")
PATTERNS = (
    "^[A-Z]{2}-\\d{1,4}$",
    "^(on|off|auto)$",
    "^\\$\\d{1,3}[.]\\d\\d$",
    "^[^\\s]{1,8}$",
    "^C:\\\\\\w{1,9}$",
)


def main(argv: Sequence[str] | None = None) -> None:
    """Run both halves and print what was counted."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--calls", type=int, default=10_000)
    parser.add_argument("--answers", type=int, default=2_000)
    parser.add_argument("--sets", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder, random_model(Path(folder), given.seed) as model:
        halves = [
            count("calls", model, given.calls, turns(given.seed, given.sets)),
            count("answers", model, given.answers, answers(given.seed, given.sets)),
        ]
    if not all(good for good in halves):
        sys.exit(1)


def random_model(folder: Path, seed: int) -> Model:
    """A tiny model of random weights with pebble's vocabulary, which can spell any text."""
    vocabulary = read_vocabulary(pebble.path())
    size = len(vocabulary.tokens)
    with open_store(pebble.path()) as store:
        ids = store.spec.tokens
    spec = replace(
        VARIANTS["tiny-e2b"],
        vocab_size=size,
        vocab_size_per_layer_input=size,
        tokens=ids,
        max_position_embeddings=CONTEXT,
    )
    path = folder / "random.gguf"
    write(path, spec, "f32", vocabulary, seed)
    return gemstead.open(path, memory="256MB", threads=1)


class Schemas:
    """Draws schemas; `defs` are what a `$ref` may point at."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.defs: dict[str, Schema] = {}

    def parameters(self) -> Schema:
        """A tool's parameters, with definitions where something refers to them."""
        self.defs = {}
        if self.rng.random() < 0.4:
            self.defs = {"point": self.object(0), "kind": {"enum": ["p", "q", 3]}}
        schema = self.object(3)
        if self.defs and self.rng.random() < 0.3:
            schema["properties"]["tree"] = {"$ref": "#/$defs/node"}
            self.defs["node"] = {
                "type": "object",
                "properties": {
                    "value": {"type": "integer", "minimum": 0, "maximum": 99},
                    "next": {"type": "array", "items": {"$ref": "#/$defs/node"}, "maxItems": 2},
                },
                "required": ["value"],
            }
        return {**schema, "$defs": self.defs} if self.defs else schema

    def object(self, depth: int) -> Schema:
        """An object of up to five properties, some of them required."""
        rng = self.rng
        names = rng.sample(WORDS, rng.randint(1, 4)) + rng.sample(ODD_NAMES, rng.randint(0, 1))
        schema: Schema = {
            "type": "object",
            "properties": {name: self.value(depth - 1) for name in names},
            "required": [name for name in names if rng.random() < 0.5],
        }
        if rng.random() < 0.5:
            schema["additionalProperties"] = False
        return schema

    def value(self, depth: int) -> Schema:
        """Anything; deep things only while `depth` lasts."""
        kinds: list[Callable[[], Schema]] = [self.text, self.text, self.number, self.number, self.choice]
        kinds += [lambda: {"type": self.rng.choice(["boolean", "null"])}]
        if self.defs:
            kinds.append(lambda: {"$ref": self.rng.choice(["#/$defs/point", "#/$defs/kind"])})
        if depth > 0:
            kinds += [lambda: self.object(depth), lambda: self.list(depth), lambda: self.union(depth)]
        return self.rng.choice(kinds)()

    def text(self) -> Schema:
        """A string: bounded, of a format, of a pattern, or free."""
        draw = self.rng.random()
        if draw < 0.3:
            return {"type": "string", "format": self.rng.choice(FORMATS)}
        if draw < 0.6:
            return {"type": "string", "pattern": self.rng.choice(PATTERNS)}
        if draw < 0.95:
            least = self.rng.randint(0, 3)
            return {"type": "string", "minLength": least, "maxLength": least + self.rng.randint(0, 9)}
        return {"type": "string"}

    def number(self) -> Schema:
        """A number, with limits or without."""
        kind, low = self.rng.choice(["integer", "number"]), self.rng.randint(-99, 99)
        limits: list[Schema] = [
            {},
            {"minimum": low, "maximum": low + self.rng.randint(0, 999)},
            {"exclusiveMinimum": low, "exclusiveMaximum": low + 2},
            {"multipleOf": self.rng.choice([2, 5, 10]), "minimum": 0, "maximum": 1000},
        ]
        return {"type": kind, **self.rng.choice(limits)}

    def choice(self) -> Schema:
        """One of a few values."""
        some = [
            "",
            "a",
            "b c",
            'quo"te',
            "<|tool|>",
            "ö",
            "C:\\x",
            1,
            -2.5,
            None,
            True,
            [1, "x"],
            {"k": {"l": 0}},
        ]
        if self.rng.random() < 0.2:
            return {"const": self.rng.choice(some)}
        return {"enum": self.rng.sample(some, self.rng.randint(1, 4))}

    def list(self, depth: int) -> Schema:
        """An array: of a few things, or of places."""
        if self.rng.random() < 0.25:
            return {
                "type": "array",
                "prefixItems": [self.value(0), self.value(0)],
                "items": False,
                "minItems": 1,
            }
        low = self.rng.randint(0, 2)
        return {"type": "array", "items": self.value(depth - 1), "minItems": low, "maxItems": low + 2}

    def union(self, depth: int) -> Schema:
        """This or that."""
        if self.rng.random() < 0.5:
            return {"anyOf": [self.value(depth - 1), self.value(0)]}
        return {
            "oneOf": [
                {
                    "type": "object",
                    "properties": {"kind": {"const": "x"}, "v": self.value(0)},
                    "required": ["kind"],
                },
                {
                    "type": "object",
                    "properties": {"kind": {"const": "y"}, "v": self.number()},
                    "required": ["kind"],
                },
            ]
        }


def tool_sets(seed: int, sets: int) -> list[tuple[Tool, ...]]:
    """So many sets of one to four tools."""
    rng = random.Random(seed)
    schemas = Schemas(rng)
    return [
        tuple(Tool(f"tool_{i}.{j}", "", schemas.parameters()) for j in range(rng.randint(1, 4)))
        for i in range(sets)
    ]


def turns(seed: int, sets: int) -> Iterator[Request]:
    """Requests that must call, one set of tools after the other, without end."""
    offers, i = tool_sets(seed, sets), 0
    while True:
        yield Request(
            (Message.user("go"),),
            offers[i % sets],
            SamplingParams(temperature=1.5, seed=seed + i, max_tokens=MOST_TOKENS),
            tool_choice="required",
        )
        i += 1


def answers(seed: int, sets: int) -> Iterator[Request]:
    """Requests for JSON answers, one schema after the other, without end."""
    schemas = Schemas(random.Random(seed + 1))
    wanted, i = [schemas.parameters() for _ in range(sets)], 0
    while True:
        yield Request(
            (Message.user("go"),),
            (),
            SamplingParams(temperature=1.5, seed=seed + i, max_tokens=MOST_TOKENS),
            output=OutputFormat("json_schema", wanted[i % sets]),
        )
        i += 1


def count(name: str, model: Model, wanted: int, requests: Iterator[Request]) -> bool:
    """Ask until `wanted` are whole; print the counts; whether nothing was wrong."""
    started, found, running = time.monotonic(), Counter[str](), list[tuple[Request, Stream]]()
    while found["whole"] < wanted:
        while len(running) < AT_ONCE:
            request = next(requests)
            running.append((request, model.session.stream(request)))
        request, stream = running.pop(0)
        verdict = (judge_call if request.tools else judge_answer)(request, stream)
        found[verdict if verdict in ("valid", "cut off") else "wrong"] += 1
        found["whole"] += verdict != "cut off"
        if verdict not in ("valid", "cut off"):
            print(f"{name}: {verdict}")
    for _, stream in running:
        stream.close()
    seconds = time.monotonic() - started
    print(
        f"{name}: {found['whole']} whole, {found['valid']} valid, {found['wrong']} wrong; "
        f"{found['cut off']} more cut off by max_tokens = {MOST_TOKENS}; {seconds:.0f} s",
        flush=True,
    )
    return found["valid"] == found["whole"]


def judge_call(request: Request, stream: Stream) -> str:
    """'valid', 'cut off', or what is wrong with the first call of a turn."""
    notes: list[ParseNote] = []
    for event in stream:
        if isinstance(event, ToolCallEvent):
            stream.close()
            if notes:
                return f"a note before a call: {notes}"
            schema = next(tool.parameters for tool in request.tools if tool.name == event.call.name)
            return fault(dict(event.call.arguments), schema) or "valid"
        if isinstance(event, ParseNote):
            notes.append(event)
        elif isinstance(event, Failed):
            return f"failed: {event.error!r}"
        elif isinstance(event, Done):
            cut = event.reason == "length" and len(notes) == 1 and "cut off" in notes[0].message
            return "cut off" if cut else f"no call: {event} {notes}"
    return "the stream ended without an end"


def judge_answer(request: Request, stream: Stream) -> str:
    """'valid', 'cut off', or what is wrong with an answer."""
    text = ""
    for event in stream:
        if isinstance(event, TextDelta):
            text += event.text
        elif isinstance(event, ParseNote):
            return f"a note in an answer: {event}"
        elif isinstance(event, Failed):
            return f"failed: {event.error!r}"
        elif isinstance(event, Done) and event.reason == "length":
            return "cut off"
    assert request.output is not None
    try:
        value = json.loads(text)
    except ValueError as error:
        return f"not JSON: {error}: {text!r:.200}"
    return fault(value, request.output.value) or "valid"


def fault(value: Any, schema: Mapping[str, Any]) -> str | None:
    """What jsonschema says against a value, formats included where it knows them."""
    checker = jsonschema.Draft202012Validator(
        dict(schema), format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER
    )
    error = next(iter(checker.iter_errors(value)), None)
    return None if error is None else f"{error.message} in {value!r:.200}"


if __name__ == "__main__":
    main()
