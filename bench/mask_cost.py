"""What a mask costs at Gemma's vocabulary of 262,144 tokens, inside calls and inside JSON answers.

Builds the vocabulary, walks drawn calls and answers token by token, and times each mask as the engine
asks for it (packed bits, then bools), in time of this thread. Prints means, medians, 95th percentiles and
maxima, what share of a decode step the mean and the 95th percentile are, and what the tables cost.

    python bench/mask_cost.py VOCAB.gguf [--step-ms 66] [--tokens 400] [--seed 0]
"""

from __future__ import annotations

import argparse
import random
import resource
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from constrained import Schemas, tool_sets

from gemstead.engine.constraint import unpack_mask
from gemstead.engine.grammar import Grammar, GrammarVocabulary, Turn, TurnRules
from gemstead.session import vocabulary_of
from gemstead.text.answers import answer_grammar
from gemstead.text.grammar import call_grammar
from gemstead.text.tokenizer import Tokenizer
from gemstead.types import Tool
from gemstead.weights.vocabulary import read_vocabulary

EOS = (1, 106, 50)
WEATHER = Tool(
    "get_weather",
    "",
    {
        "type": "object",
        "properties": {"city": {"type": "string"}, "unit": {"enum": ["celsius", "fahrenheit"]}},
        "required": ["city"],
    },
)
PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "age": {"type": "integer", "minimum": 0, "maximum": 150},
        "tags": {"type": "array", "items": {"type": "string", "maxLength": 20}, "maxItems": 5},
        "born": {"type": "string", "format": "date"},
    },
    "required": ["name", "age", "tags", "born"],
    "additionalProperties": False,
}
Walk = tuple[list[float], float]


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("vocabulary", type=Path, help="a GGUF that holds the vocabulary")
    parser.add_argument("--step-ms", type=float, default=66.0, help="the decode step to compare with")
    parser.add_argument("--tokens", type=int, default=400, help="masks timed for each line")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(argv)
    found = read_vocabulary(given.vocabulary)
    tokenizer = Tokenizer.from_vocabulary(found.tokens, found.types, found.merges)
    before, started = memory(), time.thread_time()
    vocabulary = vocabulary_of(tokenizer, tokenizer.vocab_size, EOS)
    vocabulary.matcher('start: "a"')
    print(
        f"tables of {tokenizer.vocab_size:,} tokens: {time.thread_time() - started:.2f} s, "
        f"{(memory() - before) / 1e6:.0f} MB more in memory"
    )
    print(f"{'us':28}{'mean':>7}{'median':>8}{'p95':>7}{'max':>8}   share of a step: mean, p95   start, ms")
    for name, grammar in subjects(tokenizer, given.seed):
        times, build = walk(vocabulary, grammar, given.tokens, given.seed)
        print(line(name, times, build, given.step_ms))
    for name, ask in turns(vocabulary, tokenizer):
        print(line(name, [timed(ask) for _ in range(given.tokens)], 0.0, given.step_ms))


def memory() -> int:
    """What this process holds now, in bytes; 0 where the system does not say."""
    file = Path("/proc/self/statm")
    return int(file.read_text("ascii").split()[1]) * resource.getpagesize() if file.exists() else 0


def subjects(tokenizer: Tokenizer, seed: int) -> Iterator[tuple[str, str]]:
    """Grammars by name: plain and drawn tool sets, plain and drawn answers."""
    control, schemas = tokenizer.control, Schemas(random.Random(seed + 1))
    yield "one tool, free text", call_grammar([WEATHER], control)
    many = [Tool(f"{WEATHER.name}_{i}", "", WEATHER.parameters) for i in range(64)]
    yield "64 tools", call_grammar(many, control)
    for i, tools in enumerate(tool_sets(seed, 5)):
        yield f"drawn tool set {i + 1}", call_grammar(tools, control)
    yield "JSON, any", answer_grammar("json_schema", {})
    yield "JSON, a person", answer_grammar("json_schema", PERSON)
    for i in range(5):
        yield f"JSON, drawn schema {i + 1}", answer_grammar("json_schema", schemas.parameters())
    yield "regex, 1000 characters", answer_grammar("regex", "(?s:.){0,1000}")


def walk(vocabulary: GrammarVocabulary, lark: str, count: int, seed: int) -> tuple[list[float], float]:
    """Microseconds of each mask on the way through drawn outputs, and the milliseconds of a start."""
    rng, times, builds = random.Random(seed), list[float](), list[float]()
    while len(times) < count:
        started = time.thread_time()
        running = Grammar(vocabulary, lark)
        builds.append(1e3 * (time.thread_time() - started))
        for _ in range(60):
            begun = time.thread_time()
            allowed = unpack_mask(running.mask(), vocabulary.size)
            times.append(1e6 * (time.thread_time() - begun))
            choices = np.flatnonzero(allowed)
            token = int(choices[rng.randrange(len(choices))])
            if token in EOS:
                break
            running.accept(token)
            if running.is_done():
                break
    return times[:count], statistics.median(builds)


def turns(vocabulary: GrammarVocabulary, tokenizer: Tokenizer) -> Iterator[tuple[str, Callable[[], object]]]:
    """The masks of a turn outside of grammars: a call is wanted, or forbidden; in a thought."""
    control = tokenizer.control
    assert control.call_open is not None
    assert control.call_close is not None
    call = call_grammar([WEATHER], control)

    def of(in_thought: bool = False, **rules: object) -> Callable[[], object]:
        turn = Turn(
            vocabulary, TurnRules(control.call_open, control.call_close, **rules), in_thought=in_thought
        )
        return lambda: (mask := turn.mask()) is not None and unpack_mask(mask, vocabulary.size)

    yield "turn: a call must come", of(call=call, required=True)
    yield "turn: no call may come", of()
    yield "turn: thinking before JSON", of(True, answer=answer_grammar("json_schema", PERSON))
    yield "turn: JSON or a call", of(call=call, answer=answer_grammar("json_schema", PERSON))


def timed(ask: Callable[[], object]) -> float:
    """Microseconds of one call."""
    begun = time.thread_time()
    ask()
    return 1e6 * (time.thread_time() - begun)


def line(name: str, times: Sequence[float], build_ms: float, step_ms: float) -> str:
    """One row of the table."""
    ordered = sorted(times)
    mean, late = statistics.fmean(ordered), ordered[int(0.95 * (len(ordered) - 1))]
    shares = " ".join(f"{value / step_ms / 10:8.2f} %" for value in (mean, late))
    middle = statistics.median(ordered)
    return f"{name:28}{mean:7.0f}{middle:8.0f}{late:7.0f}{ordered[-1]:8.0f}   {shares}   {build_ms:13.1f}"


if __name__ == "__main__":
    main()
