"""`gemstead plan`: what of Gemma 4 fits this machine, how fast it would be and why, before any download.

The table goes to stdout and ends in one recommendation; with --json stdout is one object. What fits is
decided in machine/plan.py. Exit code 1: nothing fits.
"""

from __future__ import annotations

import json
import shutil
import textwrap
from collections.abc import Sequence

import click

from gemstead.cli.options import kv_option, wrong_usage
from gemstead.cli.screen import Screen, plain
from gemstead.cli.show import size
from gemstead.engine.options import EngineOptions
from gemstead.machine.host import Host, host_of, machines
from gemstead.machine.on_gpu import what_is_missing
from gemstead.machine.plan import ANSWER_TOKENS, PROMPT_TOKENS, TASKS, Choice, Plan
from gemstead.machine.plan import plan as make_plan

EPILOG = (
    "Speeds are estimates from the memory and compute rates measured here, without a model; gemstead bench "
    "measures a model. Exit code 0: something fits; 1: nothing does."
)
_WIDE = 120  # columns from which every line has its own reason in words


_USERS = click.IntRange(1, EngineOptions().max_rows)  # each has a row of a step


@click.command(epilog=EPILOG)
@click.option("--context", type=click.IntRange(min=1), metavar="N", help="Tokens of each conversation.")
@click.option("--users", type=_USERS, default=1, metavar="N", help="How many talk at once.")
@click.option("--task", type=click.Choice(list(TASKS)), default="chat", show_default=True, help="What for.")
@click.option(
    "--for",
    "machine",
    metavar="MACHINE",
    help=f'Plan for another machine: {", ".join(machines())}, or figures such as "8GB, 4 cores, 20GB/s".',
)
@kv_option
@click.option("--drafter", is_flag=True, help="Count the memory of a drafter too.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def plan(
    context: int | None, users: int, task: str, machine: str | None, kv: str, drafter: bool, as_json: bool
) -> None:
    """Say what of Gemma 4 fits this machine, how fast, and why.

    Every variant in every usual number format: download, memory, the speed to expect, and whether that is
    comfortable. Nothing is downloaded.
    """
    screen = Screen()
    with wrong_usage():
        host = host_of(machine) if machine else None
    with screen.waiting("measuring this machine"):
        made = make_plan(context, users, task, host, kv, drafter)
    width = min(_WIDE, shutil.get_terminal_size().columns)
    click.echo(json.dumps(made.as_json(), ensure_ascii=False) if as_json else lines(made, width))
    if not made.fits:
        click.get_current_context().exit(1)


def lines(made: Plan, width: int) -> str:
    """The plan for people."""
    users = "one person" if made.users == 1 else f"{made.users} people at once"
    wide = width >= _WIDE
    text = [
        *machine_lines(made.host, width),
        *gpu_lines(made, width),
        *wrapped(f"To {TASKS[made.task].about}, {users}, up to {made.context_tokens:,} tokens each:", width),
        "",
        heading(wide),
    ]
    variant = ""
    for choice in made.choices:
        text.append(row(choice, variant != choice.variant, wide))
        variant = choice.variant
    text += ["", *legend(made, width, wide), "", *recommendation(made, width)]
    return "\n".join(plain(line).rstrip() for line in text)


def machine_lines(host: Host, width: int) -> list[str]:
    """The machine: what it has, what it reached, and what to know about these figures."""
    kinds = f" ({' + '.join(map(str, host.kinds))} of different speed)" if len(host.kinds) > 1 else ""
    isa = f", {host.isa}" if host.isa else ""
    cores = f"{host.cores} core{'s' * (host.cores > 1)}{kinds}{isa}"
    word = "free" if host.is_here else "to use"
    memory = f"{size(host.free_bytes)} of {size(host.memory_bytes)} memory {word}"
    rates = f"reads {host.rates.bytes_s / 1e9:.0f} GB/s, computes {host.rates.int8_s / 1e9:.0f} GOP/s in int8"
    disk = [] if host.disk_bytes is None else [f"{size(host.disk_bytes)} free on disk"]
    found = wrapped(f"{host.about}: {'; '.join([cores, memory, *disk, rates])}", width)
    if host.source is not None:
        found += wrapped(f"Figures from: {host.source}", width)
    for note in host.notes:
        found += wrapped(f"Note: {note}.", width)
    return found


def gpu_lines(made: Plan, width: int) -> list[str]:
    """The GPUs, what would fit there, and what is to be installed first. Nothing where there is none."""
    found = []
    for gpu in made.host.gpus:
        reads = "" if gpu.bytes_s is None else f", reads at most {gpu.bytes_s / 1e9:,.0f} GB/s"
        free = f"{size(gpu.free_bytes)} of {size(gpu.memory_bytes)} free{reads}"
        found += wrapped(f"GPU: {gpu.name}, {free}; the table below is the processor's", width)
    if not made.on_gpu:
        return found
    words = []
    for one in made.on_gpu:
        most = "" if one.most_tok_s is None else f", at most {rate(one.most_tok_s)} tokens/s"
        words.append(f"{one.variant} {'' if one.fits else 'does not fit: '}{size(one.memory_bytes)}{most}")
    found += wrapped(f"On the GPU with --backend torch, in bf16: {'; '.join(words)}", width)
    missing = what_is_missing()
    return found if missing is None else [*found, *wrapped(f"To use the GPU: {missing}", width)]


def heading(wide: bool) -> str:
    """The names of the columns."""
    names = ("model", "format", "download", "memory", "reads", "writes", "wait", "answer")
    return columns(names) + ("verdict and why" if wide else "verdict")


def row(choice: Choice, names_variant: bool, wide: bool) -> str:
    """One line of the table."""
    figures = (
        choice.variant if names_variant else "",
        choice.format,
        size(choice.download_bytes),
        size(choice.memory.total),
        rate(choice.prefill_tok_s),
        rate(choice.decode_tok_s),
        duration(choice.prompt_s),
        duration(choice.answer_s),
    )
    reason = choice.why if wide else choice.reason
    return columns(figures) + choice.verdict + (f": {reason}" if reason else "")


def columns(words: Sequence[str]) -> str:
    """One word in each column: two to the left, six to the right."""
    return "{:8}{:7}{:>9}{:>9}{:>7}{:>7}{:>7}{:>8}  ".format(*words)


def rate(value: float) -> str:
    """Tokens a second with no more digits than an estimate has."""
    return f"{value:.0f}" if value >= 10 else f"{value:.1f}"


def duration(seconds: float) -> str:
    """9 s, 2 min, 1.5 h."""
    if seconds < 99.5:
        return f"{seconds:.0f} s" if seconds >= 1 else f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5970 else f"{seconds / 3600:.1f} h"


def legend(made: Plan, width: int, wide: bool) -> list[str]:
    """What the columns and, in a narrow table, the short reasons mean."""
    terms = {
        "memory": "the most it takes, the conversation included",
        "reads, writes": "tokens a second for each person; a token is a word or a part of one, and "
        "people read about 5 a second",
        "wait": f"until it begins to answer a page or two ({PROMPT_TOKENS:,} tokens)",
        "answer": f"the time that a long paragraph takes ({ANSWER_TOKENS} tokens)",
    }
    found = [line for term, meaning in terms.items() for line in wrapped(f"{term}: {meaning}", width)]
    first = {choice.reason: choice for choice in reversed(made.choices) if choice.reason and not wide}
    for reason, choice in reversed(first.items()):
        found += wrapped(f"{choice.verdict}: {reason}: {choice.variant} {choice.format} {choice.why}", width)
    return found


def recommendation(made: Plan, width: int) -> list[str]:
    """One choice and the commands to type, or what to do when nothing fits."""
    best = made.best
    if best is None:
        smallest = min(made.choices, key=lambda choice: choice.memory.total)
        advice = (
            f"Nothing fits. The least is {smallest.title}, and it {smallest.why}. Close other programs, ask "
            "for less with --context, or use pebble, the small model that comes with gemstead: gemstead chat"
        )
        cannot = f"Nothing can do this: {smallest.why}."
        return wrapped(cannot if smallest.reason in ("not yet", "cannot hear") else advice, width)
    says = "Best here" if made.host.is_here else "Best there"
    text = (
        f"{says}: {best.title}. A download of {size(best.download_bytes)}, {size(best.memory.total)} of "
        f"memory, about {rate(best.decode_tok_s)} tokens a second. It is {best.verdict}: {best.why}."
    )
    return [*wrapped(text, width), "", *(f"  {command}" for command in made.commands())]


def wrapped(text: str, width: int) -> list[str]:
    """The text in lines of at most this width, further lines indented."""
    return textwrap.wrap(text, width, subsequent_indent="  ", break_on_hyphens=False)
