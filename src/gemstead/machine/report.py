"""What was measured, as values: samples, the rows they make, and the report of a whole run.

A number never stands alone here: every value has its least and greatest beside its median, and beside
each sample what the machine allowed at that moment. Filled by measure.py, shown by cli/bench.py.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from gemstead.machine.costs import Cost
from gemstead.machine.probe import Machine, Reading

Measure = Literal["prefill", "decode", "first token"]


@dataclass(frozen=True)
class Spread:
    """Several measurements of one thing."""

    median: float
    least: float
    greatest: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        """Of one value at least."""
        found = list(values)
        return cls(statistics.median(found), min(found), max(found))

    @property
    def relative(self) -> float:
        """The larger distance from the median to an end, as a part of the median."""
        return max(self.median - self.least, self.greatest - self.median) / self.median


@dataclass(frozen=True)
class Sample:
    """One measurement: tokens of all sequences, time, what it had to read and compute, what was allowed."""

    tokens: int
    seconds: float
    cost: Cost
    reading: Reading

    @property
    def share(self) -> float:
        """How much of what the machine allows was reached: the least possible time / the time."""
        return self.cost.seconds(self.reading.bytes_s, self.reading.operations_s) / self.seconds


@dataclass
class Row:
    """All samples of one measure at one depth and number of sequences; K/V bytes held meanwhile.

    A first token is that of a prompt of `depth` tokens.
    """

    measure: Measure
    depth: int
    sequences: int
    samples: list[Sample] = field(default_factory=list)
    kv_bytes: int = 0

    @property
    def unit(self) -> str:
        """Of `values`."""
        return "s" if self.measure == "first token" else "tok/s"

    @property
    def values(self) -> Spread:
        """Tokens per second of all sequences together, or seconds to a first token."""
        if self.unit == "s":
            return Spread.of(sample.seconds for sample in self.samples)
        return Spread.of(sample.tokens / sample.seconds for sample in self.samples)

    @property
    def shares(self) -> Spread:
        """Of what the machine allows."""
        return Spread.of(sample.share for sample in self.samples)

    @property
    def bound(self) -> str:
        """What the least possible time comes from: "memory" or "compute"."""
        sample = self.samples[len(self.samples) // 2]
        reading = sample.reading
        by_memory = sample.cost.bytes / reading.bytes_s >= sample.cost.operations / reading.operations_s
        return "memory" if by_memory else "compute"

    def as_json(self) -> dict[str, Any]:
        """The row with what follows from its samples."""
        derived = {
            "unit": self.unit,
            "bound": self.bound,
            "value": asdict(self.values),
            "share": asdict(self.shares),
        }
        return asdict(self) | derived


@dataclass
class Report:
    """Everything that was measured, and on what. `kv_bytes` is the memory set aside for K/V, `others` the
    share of the machine that other processes used meanwhile (None: not told)."""

    model: str
    path: str
    format: str
    weights_bytes: int
    backend: str
    threads: int
    machine: Machine
    probed: dict[str, str]
    rows: list[Row]
    readings: list[Reading]
    skipped: list[str]
    others: float | None
    peak_bytes: int
    kv_bytes: int

    def probe(self, name: str) -> Spread:
        """All readings of one field of Reading."""
        return Spread.of(getattr(reading, name) for reading in self.readings)

    def as_json(self) -> dict[str, Any]:
        """Everything, and what follows from it, as JSON values."""
        probes = {name: {"what": what, **asdict(self.probe(name))} for name, what in self.probed.items()}
        derived = {"rows": [row.as_json() for row in self.rows], "probes": probes}
        return asdict(self) | derived
