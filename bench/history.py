"""Appends measurements to bench/history.csv, which only ever grows, and says what machine and commit it is.

A line is one measure: ours, where compared the peer's, their ratio and its spread. Used by run.py and
peer.py.
"""

from __future__ import annotations

import csv
import datetime
import subprocess
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from gemstead.machine.probe import this_machine
from gemstead.machine.report import Spread

FILE = Path(__file__).with_name("history.csv")
ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Line:
    """One measure of a run. `spread` is the farthest any sample lay from the median it belongs to: of
    the ratio where there is a peer, else of ours."""

    model: str
    format: str
    threads: int
    measure: str
    unit: str
    ours: float
    spread: float
    backend: str = ""
    peer_name: str = ""
    peer: float | None = None
    ratio: float | None = None
    note: str = ""


COLUMNS = ("date", "commit", "machine", *(field.name for field in fields(Line)))


def append(lines: Iterable[Line], file: Path = FILE) -> int:
    """Add the lines; how many. A new file gets its header first."""
    now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    common = {"date": now, "commit": commit(), "machine": str(this_machine())}
    rows = [common | {name: shown(value) for name, value in asdict(line).items()} for line in lines]
    is_new = not file.exists()
    with file.open("a", newline="", encoding="utf-8") as out:
        writer = csv.DictWriter(out, COLUMNS, lineterminator="\n")
        if is_new:
            writer.writeheader()
        writer.writerows(rows)
    return len(rows)


def shown(value: object) -> object:
    """Four digits of a measured number, nothing for None, everything else as it is."""
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else value


def commit() -> str:
    """The commit measured, with + where files differ from it; "unknown" outside a clone."""
    try:
        head = git("rev-parse", "--short=10", "HEAD")
        return head + ("+" if git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def git(*words: str) -> str:
    """What git says in this clone."""
    ran = subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, text=True, check=True)
    return ran.stdout.strip()


def ratios(ours: Iterable[float], peer: Iterable[float]) -> Spread:
    """Ours / theirs of neighbouring measurements, so that a slow minute of the machine falls on both."""
    return Spread.of(a / b for a, b in zip(ours, peer, strict=True))
