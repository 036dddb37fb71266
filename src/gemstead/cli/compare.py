"""`gemstead compare`: how differently two models, or two formats of one, speak about a person's own text.

The report goes to stdout, progress to stderr; with --json stdout is one object. The measuring itself is
machine/compare.py.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from gemstead.cli.bench import drawing, number
from gemstead.cli.conversation import FORMAT, Conversation
from gemstead.cli.names import check_model, path_of
from gemstead.cli.options import backend_option, read_text, threads_option
from gemstead.cli.screen import Screen, plain
from gemstead.cli.show import size
from gemstead.errors import ConfigError, InputError
from gemstead.machine.compare import Comparison, Opening, Passage
from gemstead.machine.compare import compare as measure
from gemstead.model import tokenizer_of
from gemstead.server.openai_messages import messages_of
from gemstead.spec.model import ModelSpec
from gemstead.text.template import NEWEST, recognise, render
from gemstead.text.tokenizer import Tokenizer
from gemstead.types import Message
from gemstead.weights.store import Store, open_store

EPILOG = (
    "KL divergence says in nats how much the second model's expectation of the next token differs from the "
    "first one's: 0 is no difference. Give the larger or the more exact model first. With --chat only the "
    "assistant's own words are judged, each message after the prompt the model would have seen. While it "
    "runs, the first model's scores lie on the disk (TMPDIR): 4 bytes for each token of the vocabulary and "
    "of the text."
)
_WINDOW = 512  # tokens of text read together
_TOKENS = 512
_SHOWN = 5  # places where the models differ most
_CONTEXT = 8  # tokens shown before such a place

# Our words for a mean divergence below so many nats.
_WORDS = (
    (1e-6, "says the same as"),
    (0.01, "hardly differs from"),
    (0.05, "differs a little from"),
    (0.2, "differs clearly from"),
    (float("inf"), "differs strongly from"),
)


@dataclass(frozen=True)
class Text:
    """What is read, and the tokenizer that both models share."""

    tokenizer: Tokenizer
    passages: list[Passage]

    def place(self, judged: int) -> tuple[str, int]:
        """The few tokens before the judged token of this number, as text, and its own id."""
        for passage in self.passages:
            if judged < passage.judged:
                at = passage.given + judged
                before = self.tokenizer.decode(passage.ids[max(0, at - _CONTEXT) : at])
                return before, passage.ids[at]
            judged -= passage.judged
        raise IndexError(judged)


@click.command(epilog=EPILOG)
@click.argument("first", metavar="A")
@click.argument("second", metavar="B")
@click.option("--text", type=click.Path(path_type=Path), metavar="FILE", help="Text such as you work with.")
@click.option(
    "--chat",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Conversations: JSON messages, one conversation a line, or a saved chat.",
)
@click.option(
    "--tokens",
    type=click.IntRange(min=2),
    default=_TOKENS,
    show_default=True,
    metavar="N",
    help="Judge so many tokens at most.",
)
@backend_option
@threads_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, every token included.")
@click.option(
    "--plot",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE.png",
    help="Draw the divergence too; needs matplotlib.",
)
def compare(first: str, second: str, as_json: bool, plot: Path | None, **more: Any) -> None:
    """Compare two models, or two formats of one, over your own text.

    A and B are names, GGUF files or folders with one vocabulary. Says how far B's expectations are from A's,
    how often both would go on alike, how well each foresees the text, and the size and speed of both.
    """
    screen = Screen()
    if (more["text"] is None) == (more["chat"] is None):
        raise click.UsageError("give --text FILE or --chat FILE", click.get_current_context())
    pyplot = None if plot is None else drawing(plot)
    paths = [path_of(check_model(name)) for name in (first, second)]
    with screen.waiting("reading the vocabularies"):
        text = read(paths, more["text"], more["chat"], more["tokens"])
    total, done = 2 * sum(passage.judged for passage in text.passages), 0

    def seen(count: int) -> None:
        nonlocal done
        done += count
        screen.live(f"model {1 + (2 * done > total)} of 2: {100 * done // total}% of all read")

    screen.live("opening the first model")
    opening = Opening(more["backend"], more["threads"])
    try:
        found = measure(paths[0], paths[1], text.passages, opening, seen)
    finally:
        screen.erase_live()
    if as_json:
        click.echo(json.dumps(found.as_json() | {"verdict": verdict(found)}, ensure_ascii=False))
    else:
        click.echo("\n".join(plain(line) for line in lines(found, text)))
    if plot is not None:
        draw(pyplot, found, plot)
        screen.status(f"drawn to {plot}")


# ---------------------------------------------------------------------- what is read


def read(paths: list[Path], text: Path | None, chat: Path | None, most: int) -> Text:
    """The passages to judge; ConfigError where the models have different vocabularies."""
    with open_store(paths[0]) as one, open_store(paths[1]) as other:
        tokenizer = needed_tokenizer(one)
        check_same(paths, tokenizer, needed_tokenizer(other))
        spec = one.spec
        assert isinstance(spec, ModelSpec)
        if text is not None:
            ids = tokenizer.encode(read_text(text))[: most + 1]
            step = min(_WINDOW, spec.max_position_embeddings // 2) - 1
            parts = [ids[i : i + step] for i in range(0, len(ids), step)]
            passages = [Passage((spec.tokens.bos, *part)) for part in parts if part]
        else:
            assert chat is not None
            passages = answers(conversations(chat), tokenizer, one)
    passages = shortened(passages, most)
    if not passages:
        raise InputError(f"{text or chat} holds nothing to judge: {'no text' if text else 'no answers'}")
    return Text(tokenizer, passages)


def shortened(passages: list[Passage], most: int) -> list[Passage]:
    """As many passages as judge `most` tokens, the last one cut."""
    kept: list[Passage] = []
    for passage in passages:
        left = most - sum(other.judged for other in kept)
        if left > 0 and passage.judged > 0:
            kept.append(Passage(passage.ids[: passage.given + min(left, passage.judged)], passage.given))
    return kept


def needed_tokenizer(store: Store) -> Tokenizer:
    """The tokenizer of a model; ConfigError for a model without."""
    if not isinstance(store.spec, ModelSpec):
        raise ConfigError(f"{store.path} is a drafter, not a model; it says nothing on its own")
    tokenizer = tokenizer_of(store, store.spec)
    if tokenizer is None:
        raise ConfigError(f"{store.path} holds no vocabulary, so it cannot read your text")
    return tokenizer


def check_same(paths: list[Path], one: Tokenizer, other: Tokenizer) -> None:
    """ConfigError unless both tokenizers mean the same by every id."""
    sizes = one.vocab_size, other.vocab_size
    if sizes[0] != sizes[1]:
        how = f"the first has {sizes[0]:,} tokens, the second {sizes[1]:,}"
    else:
        differing = [i for i in range(sizes[0]) if one.piece(i) != other.piece(i)]
        if not differing:
            return
        i = differing[0]
        how = (
            f"{len(differing):,} of {sizes[0]:,} tokens differ; the first is {i}: {one.piece(i)!r:.40} and "
            f"{other.piece(i)!r:.40}"
        )
    raise ConfigError(
        f"{paths[0]} and {paths[1]} have different vocabularies, so their expectations cannot be compared: "
        f"{how}"
    )


def conversations(file: Path) -> list[list[Message]]:
    """The conversations in a file: messages, {"messages": [...]}, one of these a line, or a saved chat."""
    text = read_text(file)
    try:
        found = [json.loads(text)]
    except json.JSONDecodeError:
        try:
            found = [json.loads(line) for line in text.splitlines() if line.strip()]
        except json.JSONDecodeError as error:
            raise InputError(f"{file} is neither JSON nor one JSON value a line: {error}") from None
    if len(found) == 1 and isinstance(found[0], dict) and found[0].get("format") == FORMAT:
        return [Conversation.load(file).messages]
    lists: list[Any] = [entry.get("messages") if isinstance(entry, dict) else entry for entry in found]
    if not all(isinstance(x, list) and all(isinstance(m, dict) for m in x) for x in lists):
        raise InputError(
            f'{file} holds no conversation; write [{{"role": "user", "content": "..."}}, ...], '
            'or {"messages": [...]}, one conversation a line'
        )
    return [list(messages_of(entry)) for entry in lists]


def answers(talks: list[list[Message]], tokenizer: Tokenizer, store: Store) -> list[Passage]:
    """Every text an assistant wrote, after the prompt that led to it."""
    generation = recognise(store.chat_template).generation if store.chat_template else NEWEST
    spec = store.spec
    assert isinstance(spec, ModelSpec)
    found = []
    for talk in talks:
        for i, message in enumerate(talk):
            if message.role != "assistant" or not isinstance(message.content, str) or not message.content:
                continue
            prompt = render(talk[:i], generation=generation, size_class=spec.size_class, corrected=True)
            ids = prompt.encode(tokenizer)
            end = [] if tokenizer.control.turn_close is None else [tokenizer.control.turn_close]
            found.append(Passage((*ids, *tokenizer.encode(message.content), *end), len(ids)))
    return found


# ---------------------------------------------------------------------- what is said


def lines(found: Comparison, text: Text) -> list[str]:
    """The report for people."""
    rows = [
        ("", "A", "B"),
        *(
            (title, say(found.first), say(found.second))
            for title, say in (
                ("format", lambda side: side.format),
                ("size", lambda side: size(side.bytes)),
                ("perplexity", lambda side: f"{side.perplexity:.3f}"),
                ("reads", lambda side: f"{number(side.prefill_tokens_s)} tok/s"),
                ("writes", lambda side: f"{number(side.decode_tokens_s)} tok/s"),
            )
        ),
    ]
    return [
        f"A: {found.first.path}",
        f"B: {found.second.path}",
        "",
        *(f"  {title:14}{a:>14}{b:>14}" for title, a, b in rows),
        "",
        f"  KL divergence over {len(found.divergence):,} tokens: mean {nats(found.mean)}, "
        f"median {nats(found.quantile(0.5))}, p99 {nats(found.quantile(0.99))}, "
        f"largest {nats(max(found.divergence))}",
        f"  same likeliest token: {100 * found.agreement:.1f}%",
        "",
        *places(found, text),
        verdict(found),
    ]


def nats(value: float) -> str:
    """Three digits that matter."""
    return f"{value:.3g}" if value >= 1e-7 else "0"


def places(found: Comparison, text: Text) -> list[str]:
    """Where the two differ most, and what each would have written."""
    order = sorted(range(len(found.divergence)), key=lambda i: -found.divergence[i])
    shown = [i for i in order[:_SHOWN] if found.first.choices[i] != found.second.choices[i]]
    if not shown:
        return []
    out = ["  where they differ most, and choose otherwise:"]
    for i in shown:
        before, _ = text.place(i)
        one, other = (repr(text.tokenizer.decode([side.choices[i]])) for side in (found.first, found.second))
        out.append(f"    {nats(found.divergence[i]):>7}  {before[-40:]!r}: A {one}, B {other}")
    return [*out, ""]


def verdict(found: Comparison) -> str:
    """What it comes to, in a sentence or two."""
    words = next(words for limit, words in _WORDS if found.mean < limit)
    change = found.second.perplexity / found.first.perplexity - 1
    foresees = "foresees your text as well as A"
    if abs(change) >= 0.005:
        more = "more" if change > 0 else "less"
        foresees = f"is {100 * abs(change):.1f}% {more} surprised by your text (perplexity)"
    return (
        f"B {words} A: at {100 * found.agreement:.1f}% of the places both would go on with the same token, "
        f"and B {foresees}. B is {relation(found)}."
    )


def relation(found: Comparison) -> str:
    """'44% smaller and 1.6 times as fast'."""
    part = found.second.bytes / found.first.bytes
    larger = (
        "as large"
        if abs(part - 1) < 0.005
        else (f"{100 * (1 - part):.0f}% smaller" if part < 1 else f"{100 * (part - 1):.0f}% larger")
    )
    speed = found.second.decode_tokens_s / found.first.decode_tokens_s
    return f"{larger} and writes {speed:.2f} times as fast here"


def draw(pyplot: Any, found: Comparison, path: Path) -> None:
    """The divergence along the text, and how many tokens have less than how much of it."""
    floor = 1e-7  # a logarithm shows no 0
    values = [max(floor, value) for value in found.divergence]
    figure, (along, spread) = pyplot.subplots(2, 1, figsize=(8, 7))
    same = [a == b for a, b in zip(found.first.choices, found.second.choices, strict=True)]
    for wanted, label, colour in ((True, "same likeliest token", "C0"), (False, "another one", "C3")):
        where = [i for i, is_same in enumerate(same) if is_same == wanted]
        along.scatter(where, [values[i] for i in where], s=9, color=colour, label=f"{label} ({len(where)})")
    along.set(yscale="log", xlabel="token of the text", ylabel="KL divergence in nats")
    along.set_title(f"{Path(found.second.path).name} beside {Path(found.first.path).name}")
    ordered = sorted(values)
    spread.plot(ordered, [100 * (i + 1) / len(ordered) for i in range(len(ordered))])
    spread.axvline(max(floor, found.mean), color="C1", linestyle="--", label=f"mean {nats(found.mean)}")
    spread.axvline(
        max(floor, found.quantile(0.99)), color="C2", linestyle=":", label=f"p99 {nats(found.quantile(0.99))}"
    )
    spread.set(xscale="log", xlabel="KL divergence in nats", ylabel="% of tokens below", ylim=(0, 101))
    for axes in (along, spread):
        axes.grid(alpha=0.3)
        axes.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
