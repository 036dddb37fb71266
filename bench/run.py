"""What `just bench` runs: a quick measurement of pebble and, where a model is given, of that model.

Prints what `gemstead bench` prints and appends every measure to bench/history.csv. With --plan it makes the
table of predicted and measured again (plan_check.py), of the models named or of every one that fits.

    python bench/run.py [MODEL] [--full] [--threads N] [--backend NAME] [--note TEXT] [--dry-run]
    python bench/run.py --plan [VARIANT:FORMAT ...]
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import plan_check
from history import Line, append

from gemstead import pebble
from gemstead.backend import TABLE
from gemstead.backend.native.cores import usable_cores
from gemstead.cli.bench import lines
from gemstead.machine.measure import QUICK, Plan, measure, open_subject
from gemstead.machine.probe import Prober
from gemstead.machine.report import Report


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print, append."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", nargs="?", type=Path, help="a GGUF file or a folder, measured after pebble")
    parser.add_argument("--full", action="store_true", help="long contexts too, and five repetitions")
    parser.add_argument("--threads", type=int, default=usable_cores())
    parser.add_argument("--backend", choices=list(TABLE), default="auto")
    parser.add_argument("--note", default="", help="for the history: what is being tried")
    parser.add_argument("--dry-run", action="store_true", help="print only; append nothing")
    parser.add_argument("--plan", nargs="*", metavar="VARIANT:FORMAT", help="check gemstead plan instead")
    given = parser.parse_args(argv)
    if given.plan is not None:
        return plan_check.main([*given.plan, *(["--dry-run"] if given.dry_run else [])])
    plan = Plan() if given.full else QUICK
    for path in [pebble.path(), *([given.model] if given.model else [])]:
        with (
            open_subject(path, plan, given.backend, given.threads) as subject,
            Prober(given.threads, plan.probe_bytes, in_int8=subject.in_int8) as prober,
        ):
            report = measure(subject, plan, prober)
        print(lines(report), flush=True)
        if not given.dry_run:
            print(f"  {append(history(report, given.note))} lines appended to bench/history.csv\n")
    return 0


def history(report: Report, note: str = "") -> Iterator[Line]:
    """A line for every row of the report, and one for the memory."""
    others = "" if report.others is None else f"others used {100 * report.others:.0f}%"
    for row in report.rows:
        yield Line(
            model=report.model,
            format=report.format,
            threads=report.threads,
            measure=f"{row.measure} @{row.depth} x{row.sequences}",
            unit=row.unit,
            ours=row.values.median,
            spread=row.values.relative,
            backend=report.backend,
            note="; ".join(filter(None, [f"{100 * row.shares.median:.0f}% of {row.bound}", others, note])),
        )
    yield Line(
        model=report.model,
        format=report.format,
        threads=report.threads,
        measure="peak memory",
        unit="bytes",
        ours=float(report.peak_bytes),
        spread=0.0,
        backend=report.backend,
        note=note,
    )


if __name__ == "__main__":
    sys.exit(main())
