"""The options that `run` and `chat` share, and what they mean: how to open a model and how to sample.

Ranges are checked by SamplingParams, so the command line allows what the library allows.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click

import gemstead
from gemstead.agent.loop import MAX_SAME_CALLS
from gemstead.errors import ConfigError, GemsteadError, InputError
from gemstead.types import EFFORTS, KV_FORMATS, MOST_THREADS, Effort, SamplingParams, ThinkingChoice

if TYPE_CHECKING:
    from gemstead.backend.base import Capabilities
    from gemstead.model import Model

Command = TypeVar("Command", bound=Callable[..., Any])

_SAMPLING = ("temperature", "top_k", "top_p", "min_p", "max_tokens", "seed", "loop_guard")
THINKING = f"on, off, a number of tokens, {', '.join(list(EFFORTS)[:-1])} or {list(EFFORTS)[-1]}"
_LOOP_GUARD = SamplingParams().loop_guard
_MOST_INPUT_BYTES = 32 << 20  # of standard input: the largest context has a tenth of that
_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_BINARY_UNITS = {"ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}


class _ThreadNumber(click.IntRange):
    name = "number of threads, or auto"


class Threads(click.ParamType[Any]):
    """A number of threads, or auto: None, whatever the machine has."""

    name = "threads"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | None:
        """The number; click says what is wrong with another word."""
        return None if value == "auto" else _ThreadNumber(1, MOST_THREADS).convert(value, param, ctx)


class Memory(click.ParamType[int]):
    """A number of bytes: 6GB, 512MiB, 1.5G or plain 1000000000."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """The number of bytes."""
        match = re.fullmatch(r"([0-9]*\.?[0-9]+)\s*([kmgt]?i?)b?", str(value).strip().lower())
        factor = ({**_UNITS, **_BINARY_UNITS}).get(match[2]) if match else None
        if match is None or factor is None or float(match[1]) <= 0:
            self.fail(
                f"{value!r} is not an amount of memory; write 6GB, 512MiB or a number of bytes", param, ctx
            )
        return int(float(match[1]) * factor)


@contextmanager
def wrong_usage(kind: type[GemsteadError] = ConfigError) -> Iterator[None]:
    """For reading an option's value: an error of this kind is wrong usage, not a failure of the run."""
    try:
        yield
    except kind as error:
        raise click.UsageError(str(error), click.get_current_context(silent=True)) from error


def read_thinking(text: str) -> ThinkingChoice:
    """What on, off, a number or an effort asks for; ValueError for anything else."""
    word = text.strip().lower()
    if word in ("on", "off"):
        return word == "on"
    effort = next((effort for effort in EFFORTS if effort == word), None)
    if effort is not None:
        return cast(Effort, effort)
    if not (word.isascii() and word.isdecimal()):
        raise ValueError
    return int(word)


class ThinkingOption(click.ParamType[ThinkingChoice]):
    """on, off, a number of tokens or an effort."""

    name = "thinking"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> ThinkingChoice:
        """What Request.thinking takes."""
        try:
            return read_thinking(str(value))
        except ValueError:
            self.fail(f"{value!r} is not possible; allowed are {THINKING}", param, ctx)


@dataclass(frozen=True)
class Options:
    """The options of one command, as given; None and absent mean: the model's own default."""

    model: str | None = None
    backend: str = "auto"
    drafter: str | None = None
    threads: int | None = None
    memory: int | None = None
    context: int | None = None
    kv: str = "f16"
    prefix_cache_dir: str | None = None
    thinking: ThinkingChoice = False
    system: str | None = None
    tools: bool = True
    max_same_calls: int = MAX_SAME_CALLS
    adapter: str | None = None
    sampling: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, values: dict[str, Any]) -> Options:
        """From click's parsed values; a sampling value out of range is wrong usage."""
        values = dict(values)
        sampling = {name: values.pop(name) for name in _SAMPLING}
        sampling = {name: value for name, value in sampling.items() if value is not None}
        try:
            SamplingParams(**sampling)
        except InputError as error:
            raise click.UsageError(str(error), click.get_current_context()) from None
        return cls(sampling=sampling, **values)

    def open(
        self,
        model: str,
        memory: Callable[[Capabilities], int] | None = None,
        adapters: Mapping[str, Path] | None = None,
    ) -> Model:
        """Open the model the way these options say; `memory` decides about K/V where --memory does not.

        `adapters`: those of a server, by name; otherwise the one of --adapter.
        """
        if self.adapter is not None:
            adapters = {self.adapter: absolute(self.adapter)}
        return gemstead.open(
            model,
            backend=self.backend,
            drafter=self.drafter,
            threads=self.threads,
            memory=self.memory if memory is None else memory,
            context=self.context,
            kv=self.kv,
            prefix_cache_dir=self.prefix_cache_dir,
            adapters=adapters,
        )


threads_option = click.option(
    "--threads",
    type=Threads(),
    metavar="N",
    help="CPU threads to use; auto, the default, takes one per core.",
)

kv_option = click.option(
    "--kv",
    type=click.Choice(KV_FORMATS),
    default="f16",
    show_default=True,
    help="How keys and values are kept: q8_0 takes half the memory.",
)

backend_option = click.option(
    "--backend",
    type=click.Choice(["auto", "native", "reference", "torch"]),
    default="auto",
    show_default=True,
    help="What computes: C++ (native), numpy (reference), PyTorch (torch), or the fastest that can.",
)

thinking_option = click.option(
    "--thinking",
    type=ThinkingOption(),
    default="off",
    metavar="WHEN",
    help=f"Think before answering: {THINKING}.",
)

_memory_option = click.option(
    "--memory", type=Memory(), metavar="SIZE", help="The most memory for the context, such as 2GB."
)

# How to open a model, beside the backend.
_OPENING = (
    click.option("--drafter", metavar="FILE", help="Guess ahead with a drafter model, or with: ngram."),
    threads_option,
    _memory_option,
    click.option("--context", type=click.IntRange(min=1), metavar="N", help="The longest context in tokens."),
    kv_option,
    click.option(
        "--prefix-cache-dir",
        metavar="FOLDER",
        help="Keep what was read of prompts here, and do not read it again next time.",
    ),
)

_OPTIONS = (
    click.option("-m", "--model", metavar="MODEL", help="A name such as e2b, a GGUF file, a folder."),
    backend_option,
    thinking_option,
    click.option("--adapter", metavar="FOLDER", help="Answer with this LoRA adapter, as PEFT saves it."),
    click.option("--system", metavar="TEXT", help="Instructions that come before the conversation."),
    click.option(
        "--tools/--no-tools", default=True, help="Let the model use the built-in tools (default: yes)."
    ),
    click.option("--temperature", type=float, metavar="X", help="0 always takes the likeliest token."),
    click.option("--top-k", type=int, metavar="N", help="Choose among the N likeliest tokens; 0: all."),
    click.option(
        "--top-p", type=float, metavar="X", help="Choose among the tokens that hold X of the probability."
    ),
    click.option(
        "--min-p", type=float, metavar="X", help="Leave out tokens under X times the likeliest one."
    ),
    click.option("--max-tokens", type=int, metavar="N", help="End the answer after N tokens."),
    click.option(
        "--loop-guard",
        type=int,
        metavar="N",
        help=f"End an answer that repeats itself for N tokens (default: {_LOOP_GUARD}); 0: never.",
    ),
    click.option(
        "--max-same-calls",
        type=click.IntRange(min=0),
        default=MAX_SAME_CALLS,
        metavar="N",
        help=f"End the turn at N equal tool calls in a row (default: {MAX_SAME_CALLS}); 0: never.",
    ),
    click.option("--seed", type=int, metavar="N", help="The same seed gives the same answer."),
    *_OPENING,
)


def with_options(command: Command, options: Sequence[Callable[[Command], Command]]) -> Command:
    """A click command with more options, which its help lists in this order."""
    for option in reversed(options):
        command = option(command)
    return command


def serving_options(command: Command) -> Command:
    """Add the options that say how to open models; the function takes them as keywords for Options.

    --memory is left out: a server's ceiling is of all its models.
    """
    return with_options(command, (backend_option, *(o for o in _OPENING if o is not _memory_option)))


def model_options(command: Command) -> Command:
    """Add the shared options to a click command; its function takes them as keywords for Options.of."""
    return with_options(command, _OPTIONS)


def check_text(text: str, what: str) -> str:
    """The text itself, or InputError if the shell handed over bytes that are no UTF-8."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise InputError(f"{what} is not valid UTF-8; convert it first, for instance with iconv") from None
    return text


def read_stdin(stream: Any) -> str:
    """All of standard input as text; InputError where it does not end, or names a byte that is not UTF-8."""
    raw = stream.buffer if hasattr(stream, "buffer") else BytesIO(stream.read().encode())
    data = raw.read(_MOST_INPUT_BYTES + 1)
    if len(data) > _MOST_INPUT_BYTES:
        raise InputError(
            f"standard input is longer than {_MOST_INPUT_BYTES >> 20} MiB, which no context holds; give less"
        )
    try:
        return str(data, "utf-8")
    except UnicodeDecodeError as error:
        raise InputError(
            f"standard input is not UTF-8 text: byte {error.start} is 0x{data[error.start]:02x}"
        ) from None


def read_text(path: Path) -> str:
    """All of a file as text; InputError when it cannot be read or is not UTF-8."""
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text: byte {error.start}") from None


def absolute(path: str | Path) -> Path:
    """A path as the user meant it: ~ is the home folder."""
    return Path(path).expanduser()
