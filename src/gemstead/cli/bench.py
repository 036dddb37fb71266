"""`gemstead bench`: how fast a model is here, and how much of what this machine allows that is.

The table goes to stdout, progress to stderr; with --json stdout is one object. The measuring itself is
machine/measure.py.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from gemstead.backend.native.cores import usable_cores
from gemstead.cli.names import DEFAULT_MODEL, check_model, path_of
from gemstead.cli.options import kv_option, threads_option
from gemstead.cli.screen import Screen, plain
from gemstead.cli.show import size
from gemstead.errors import ConfigError
from gemstead.machine.measure import QUICK, Plan, measure, open_subject
from gemstead.machine.probe import Prober
from gemstead.machine.quiet import QUIET_SHARE
from gemstead.machine.report import Report, Row, Spread

_PICTURES = (".png", ".svg", ".pdf")
EPILOG = (
    "Every line is a median with the largest distance from it. The share is the least time this machine "
    "could take, from its memory and compute rates probed in between, divided by the time it took. The "
    "native engine is held against int8 in registers alone, which no matrix product reaches; the others, and "
    "models in plain numbers, against numpy's float32 product."
)


@click.command(epilog=EPILOG)
@click.argument("model", required=False)
@click.option("--quick", is_flag=True, help="A first impression: no long contexts, fewer repetitions.")
@click.option("--repeat", type=click.IntRange(min=1), metavar="N", help="Measure everything N times.")
@threads_option
@click.option(
    "--backend",
    type=click.Choice(["auto", "native", "reference", "torch"]),
    default="auto",
    show_default=True,
    help="What computes: C++ (native), numpy (reference), PyTorch (torch), or the fastest that can.",
)
@kv_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, every sample included.")
@click.option(
    "--plot",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE.png",
    help="Draw speed over context too; needs matplotlib.",
)
def bench(
    model: str | None,
    quick: bool,
    repeat: int | None,
    threads: int | None,
    backend: str,
    kv: str,
    as_json: bool,
    plot: Path | None,
) -> None:
    """Measure how fast a model is here.

    MODEL is pebble (the default), a GGUF file, or a Hugging Face folder. Prefill and decode at several
    lengths of context and for several sequences at once, the first token, and memory; each speed beside
    what this machine allows.
    """
    screen = Screen()
    name = check_model(model or DEFAULT_MODEL)
    if model is None:
        screen.status("measuring pebble, the small model that comes with gemstead")
    pyplot = None if plot is None else drawing(plot)
    plan = QUICK if quick else Plan()
    plan = plan if repeat is None else replace(plan, repeat=repeat)
    path = path_of(name)
    with screen.waiting(f"opening {name}"):
        subject = open_subject(path, plan, backend, threads, kv)
    with subject, Prober(threads or usable_cores(), plan.probe_bytes, in_int8=subject.in_int8) as prober:
        screen.say(subject.note)
        report = measure(subject, plan, prober, screen.live)
    screen.erase_live()
    click.echo(json.dumps(report.as_json(), ensure_ascii=False) if as_json else lines(report))
    if plot is not None:
        draw(pyplot, report, plot)
        screen.status(f"drawn to {plot}")


def lines(report: Report) -> str:
    """The report for people; names from the file cannot steer the terminal."""
    threads = f"{report.threads} thread{'s' * (report.threads > 1)}"
    text = [
        f"{report.model}  ({report.format}, {size(report.weights_bytes)}; {report.backend} on {threads})",
        f"{report.machine}",
        "",
        f"  {'':12}{'context':>9}{'sequences':>11}{'median':>16}{'':8}{'of machine':>12}  {'K/V':>9}",
        *(line(row) for row in report.rows),
        "",
        f"  memory: {size(report.peak_bytes)} at most; {size(report.kv_bytes)} set aside for K/V",
        "  probed between the measurements:",
        *(probed(report, name) for name in report.probed),
        *busy(report),
        *(f"  left out: {reason}" for reason in report.skipped),
    ]
    return "\n".join(plain(part) for part in text)


def line(row: Row) -> str:
    """One measure: where, how fast, how steady, how much of the machine."""
    share = f"{100 * row.shares.median:.0f}% {row.bound}"
    value = f"{number(row.values.median)} {row.unit}"
    return (
        f"  {row.measure:12}{row.depth:>9,}{row.sequences:>11}{value:>16}{steadiness(row.values):>8}"
        f"{share:>14}{size(row.kv_bytes):>11}"
    )


def probed(report: Report, name: str) -> str:
    """One probe: what it found over all its runs, and what it did."""
    found = report.probe(name)
    unit = {"bytes_s": "GB/s", "operations_s": "GOP/s"}[name]
    return (
        f"    {number(found.median / 1e9):>7} {unit:8}({number(found.least / 1e9)} to "
        f"{number(found.greatest / 1e9)})  {report.probed[name]}"
    )


def busy(report: Report) -> list[str]:
    """What others took of the machine, where that is known."""
    if report.others is None:
        return []
    doubt = "" if report.others <= QUIET_SHARE else ": too much for these figures to be trusted"
    return [f"  other processes used {100 * report.others:.0f}% of the machine meanwhile{doubt}"]


def steadiness(values: Spread) -> str:
    """±3%: the farther end of several measurements."""
    return f"±{100 * values.relative:.0f}%" if values.greatest > values.least else ""


def number(value: float) -> str:
    """Three digits that matter: 12,345 or 12.3 or 0.0123."""
    if value >= 100:
        return f"{value:,.0f}"
    digits = next((n for n in range(1, 6) if value >= 10.0 ** (2 - n)), 6)
    return f"{value:.{digits}f}"


def drawing(path: Path) -> Any:
    """matplotlib's pyplot, or an error before anything is measured."""
    try:
        # Not part of the base install, and slow: only who asks for a drawing pays.
        from matplotlib import pyplot
    except ImportError as error:
        raise ConfigError(
            f"--plot {path} needs matplotlib, which cannot be imported here ({error}): "
            "pip install matplotlib, or take the numbers from --json"
        ) from error
    if path.suffix.lower() not in _PICTURES:
        raise click.UsageError(
            f"--plot {path} must end in {', '.join(_PICTURES)}: the ending says what is drawn"
        )
    if not path.absolute().parent.is_dir():
        raise click.UsageError(
            f"--plot {path}: the folder {path.absolute().parent} does not exist; make it first"
        )
    pyplot.switch_backend("agg")  # files only, no window
    return pyplot


def draw(pyplot: Any, report: Report, path: Path) -> None:
    """Prefill and decode over the context, and their shares of what the machine allows."""
    figure, (speeds, shares) = pyplot.subplots(2, 1, sharex=True, figsize=(7, 7))
    for measured in ("prefill", "decode"):
        rows = [row for row in report.rows if row.measure == measured and row.sequences == 1]
        depths = [row.depth for row in rows]
        values = [row.values for row in rows]
        ends = [[v.median - v.least for v in values], [v.greatest - v.median for v in values]]
        speeds.errorbar(depths, [v.median for v in values], ends, marker="o", capsize=3, label=measured)
        shares.plot(depths, [100 * row.shares.median for row in rows], marker="o", label=measured)
    speeds.set(ylabel="tokens per second", yscale="log", title=f"{report.model}, {report.format}")
    low, high = speeds.get_ylim()
    ticks = [m * 10.0**k for k in range(-2, 6) for m in (1, 2, 5) if low <= m * 10.0**k <= high]
    speeds.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    speeds.minorticks_off()
    places = sorted({row.depth for row in report.rows if row.measure in ("prefill", "decode")})
    margin = max(1, places[-1] // 20)
    shares.set(ylabel="% of what the machine allows", xlabel="tokens of context", ylim=(0, None))
    shares.set(xlim=(-margin, places[-1] + margin), xticks=places)
    for axes in (speeds, shares):
        axes.grid(alpha=0.3)
        axes.legend()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
