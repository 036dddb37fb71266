"""Measures a model here: prefill, decode and first token, each beside what the machine allows.

Everything goes through the engine as a request does, so this is what a person gets. The machine is probed
between any two measurements, because a shared one changes by the minute. Prints nothing. Above:
cli/bench.py, bench/. Below: costs.py, probe.py, the engine.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from gemstead.backend import open_backend, why_slow
from gemstead.backend.base import Backend
from gemstead.backend.native.cores import usable_cores
from gemstead.backend.native.packing import is_packed
from gemstead.engine.engine import Engine
from gemstead.engine.options import EngineOptions
from gemstead.errors import CapacityError, ConfigError
from gemstead.machine.costs import Cost, Costs, Step
from gemstead.machine.memory import KV_SHARE, LEAST_KV_BYTES, free_beside, peak_bytes
from gemstead.machine.probe import Reading, this_machine
from gemstead.machine.quiet import Watch
from gemstead.machine.report import Measure, Report, Row, Sample
from gemstead.spec.model import ModelSpec
from gemstead.types import SamplingParams
from gemstead.weights.mapped import Closing
from gemstead.weights.store import Store, open_store

Progress = Callable[[str], None]

# Depths are met exactly because they are whole chunks of a prompt and whole pages.
CHUNK_TOKENS = 512
_SPARE_CONTEXTS = 2  # whole contexts of K/V beyond those measured: room for pages kept for reuse
_CHEAP_S = 10.0  # a prompt read within this time is read anew for every repetition
_FORWARD = SamplingParams(temperature=0.0)


@dataclass(frozen=True)
class Plan:
    """What to measure: one sequence at every depth, more of them together at depth 0, so often each."""

    depths: tuple[int, ...] = (0, 2048, 8192, 32_768)
    sequences: tuple[int, ...] = (1, 2, 4, 8)
    prompt_tokens: int = CHUNK_TOKENS
    new_tokens: int = 32
    repeat: int = 5
    probe_bytes: int = 1 << 30


QUICK = Plan(depths=(0,), sequences=(1, 4), new_tokens=16, repeat=3, probe_bytes=1 << 28)


class Probe(Protocol):
    """What asks the machine: probe.Prober, or a test's stand-in."""

    @property
    def pids(self) -> tuple[int, ...]:
        """Its own processes."""
        ...

    @property
    def about(self) -> dict[str, str]:
        """What is probed, in words, by the fields of Reading."""
        ...

    def read(self) -> Reading:
        """What the machine allows now."""
        ...


class Subject(Closing):
    """An open model to measure: its store, its backend, and an engine with room for the plan."""

    def __init__(self, store: Store, backend: Backend, plan: Plan, threads: int) -> None:
        can = backend.capabilities()
        self.store, self.backend, self.threads = store, backend, threads
        self.spec = can.spec
        self.name = can.name
        self.note: str | None = None
        limit = self.spec.max_position_embeddings
        self.prompt_tokens = min(plan.prompt_tokens, max(1, limit // 4))
        self.new_tokens = min(plan.new_tokens, max(1, limit // 8))
        beyond = self.prompt_tokens + self.new_tokens + 1
        wanted = [depth for depth in plan.depths if depth + beyond <= limit] or [0]
        context = min(limit, max(wanted) + beyond)
        per_token = sum(can.kv_bytes_per_token)
        tokens = sum(wanted) + (len(wanted) + max(plan.sequences)) * beyond + _SPARE_CONTEXTS * context
        free = free_beside(can)
        self.engine = Engine(
            backend,
            EngineOptions(
                memory_bytes=max(LEAST_KV_BYTES, min(int(free * KV_SHARE), tokens * per_token)),
                context_tokens=context,
                max_sequences=max(16, *plan.sequences),
                max_rows=CHUNK_TOKENS,
            ),
        )
        self.depths = [depth for depth in wanted if depth + beyond <= self.engine.max_sequence_tokens] or [0]
        self.costs = Costs(
            self.spec, {name: t.nbytes for name, t in store.tensors.items()}, can.kv_bytes_per_token
        )

    @property
    def in_int8(self) -> bool:
        """Whether most products are of int8."""
        return self.name == "native" and is_packed(self.format)

    @property
    def format(self) -> str:
        """The number format that holds most bytes of the layers."""
        return self.store.main_format

    def kv_live_bytes(self) -> int:
        """K/V held by live sequences, in whole pages."""
        per_token = self.backend.capabilities().kv_bytes_per_token
        counts = self.engine.stats().pools
        return sum(
            c.live * cost * self.engine.options.page_tokens for c, cost in zip(counts, per_token, strict=True)
        )

    def close(self) -> None:
        """Let go of everything."""
        self.engine.close()
        self.backend.close()
        self.store.close()


def open_subject(
    path: str | Path, plan: Plan, backend: str = "auto", threads: int | None = None, kv: str = "f16"
) -> Subject:
    """Open the model at `path` to be measured by `plan`; ConfigError for a drafter."""
    store = open_store(path)
    computing: Backend | None = None
    try:
        if not isinstance(store.spec, ModelSpec):
            raise ConfigError(f"{store.path} is a drafter; only a model can be measured, so give its path")
        count = threads or usable_cores()
        computing = open_backend(backend, store, None, count, kv)
        subject = Subject(store, computing, plan, count)
        if backend == "auto" and (reason := why_slow(store)) is not None:
            subject.note = f"the fast engine {reason}; measuring numpy, which is slow"
        return subject
    except BaseException:
        if computing is not None:
            computing.close()
        store.close()
        raise


@dataclass(frozen=True)
class Played:
    """The steps of one request, or of several together: rows and seconds until each had its first token,
    then seconds per step; K/V bytes held at the end."""

    prompt_steps: list[tuple[int, float]]
    decode_s: list[float]
    kv_bytes: int

    @property
    def prompt_s(self) -> float:
        """From asking to the first token."""
        return sum(seconds for _, seconds in self.prompt_steps)

    @property
    def prompt_rows(self) -> int:
        """Rows computed for that: fewer than the prompt has where pages were reused."""
        return sum(rows for rows, _ in self.prompt_steps)

    def last(self, wanted: int) -> tuple[int, float]:
        """Rows and seconds of the last steps of the prompt that hold `wanted` rows: more rows than that
        where pages before them had to be computed again."""
        rows, seconds = 0, 0.0
        for more, spent in reversed(self.prompt_steps):
            rows, seconds = rows + more, seconds + spent
            if rows >= wanted:
                break
        return rows, seconds


def play(subject: Subject, prompts: Sequence[Sequence[int]], new_tokens: int, salt: bytes = b"") -> Played:
    """Run the prompts together, `new_tokens` steps beyond their first tokens, timing every step.

    CapacityError when they do not fit in memory together.
    """
    engine = subject.engine
    sequences = [engine.submit(ids, _FORWARD, eos_ids=(), salt=salt) for ids in prompts]

    def step() -> tuple[int, float]:
        before, start = engine.stats().rows, time.perf_counter()
        engine.step()
        seconds, stats = time.perf_counter() - start, engine.stats()
        for sequence in sequences:
            if sequence.error is not None:
                raise sequence.error
        if stats.waiting_sequences or stats.rows == before:
            raise CapacityError(f"{len(prompts)} sequences do not fit in the memory for K/V together")
        return stats.rows - before, seconds

    try:
        prompt_steps = []
        while not all(sequence.num_generated for sequence in sequences):
            prompt_steps.append(step())
        decode_s = [step()[1] for _ in range(new_tokens)]
        return Played(prompt_steps, decode_s, subject.kv_live_bytes())
    finally:
        for sequence in sequences:
            engine.cancel(sequence)


class _Run:
    """The measuring of one plan: rows by what they measure, prompts, and the probe in between."""

    def __init__(self, subject: Subject, plan: Plan, probe: Probe, progress: Progress) -> None:
        self.subject, self.plan, self.probe, self.progress = subject, plan, probe, progress
        self.rows: dict[tuple[Measure, int, int], Row] = {}
        self.skipped: list[str] = []
        self.readings = [probe.read()]
        self._rng = np.random.default_rng(0)
        self._kept: dict[int, tuple[list[int], bytes]] = {}  # by depth: a long prompt already read
        self._salts = 0

    def ids(self, count: int) -> list[int]:
        """Random tokens, none of them a control or media token of Gemma's vocabulary."""
        size = self.subject.spec.vocab_size
        return [int(i) for i in self._rng.integers(size // 4, max(size // 4 + 1, size // 2), count)]

    def salt(self) -> bytes:
        """One that shares no pages with what was read before."""
        self._salts += 1
        return self._salts.to_bytes(4, "little")

    def add(self, key: tuple[Measure, int, int], timed: tuple[int, float, Cost], played: Played) -> None:
        """Keep (tokens, seconds, cost) with what the machine allowed before and after."""
        before, after = self.readings[-2:]
        reading = Reading(
            (before.bytes_s + after.bytes_s) / 2, (before.operations_s + after.operations_s) / 2
        )
        row = self.rows.setdefault(key, Row(*key))
        row.samples.append(Sample(*timed, reading))
        row.kv_bytes = max(row.kv_bytes, played.kv_bytes)

    def play(self, prompts: Sequence[Sequence[int]], new_tokens: int, salt: bytes) -> Played:
        """Play, then probe."""
        played = play(self.subject, prompts, new_tokens, salt)
        self.readings.append(self.probe.read())
        return played

    def decode(self, depth: int, sequences: int) -> None:
        """New tokens after `depth` cached ones; the prompt's own reading is a first token."""
        costs, count = self.subject.costs, self.subject.new_tokens
        ids, salt = self._kept.get(depth, ([], b""))
        if sequences > 1 or not ids:
            ids, salt = self.ids(max(depth, 1)), self.salt()
        prompts = [ids, *(self.ids(len(ids)) for _ in range(sequences - 1))]
        played = self.play(prompts, count, salt)
        # The depth grows by a token with every step: the middle one stands for all.
        cost = costs.of(Step(depth + count // 2, 1, sequences)).times(count)
        self.add(("decode", depth, sequences), (count * sequences, sum(played.decode_s), cost), played)
        if depth and sequences == 1:
            self._kept[depth] = (ids, salt)
            if played.prompt_rows == depth:  # nothing was reused
                self.first_token(depth, played)

    def prefill(self, depth: int) -> None:
        """A chunk of a prompt after `depth` cached tokens; at depth 0 it is a first token too."""
        ids, salt = self._kept[depth] if depth else ([], self.salt())
        count = self.subject.prompt_tokens
        played = self.play([[*ids, *self.ids(count)]], 0, salt)
        rows, seconds = played.last(count)
        cost = self.subject.costs.of(Step(depth + count - rows, rows))
        self.add(("prefill", depth, 1), (rows, seconds, cost), played)
        if not depth:
            self.first_token(count, played)
        elif self.rows["first token", depth, 1].samples[-1].seconds < _CHEAP_S:
            del self._kept[depth]  # read anew next time: another sample of the first token

    def first_token(self, tokens: int, played: Played) -> None:
        """The whole prompt of a request that reused nothing."""
        cost = _reading_cost(self.subject.costs, tokens)
        self.add(("first token", tokens, 1), (tokens, played.prompt_s, cost), played)

    def together(self, sequences: int) -> bool:
        """Several sequences at once at depth 0; False when they do not fit."""
        try:
            self.decode(0, sequences)
        except CapacityError as error:
            self.skipped.append(f"{sequences} sequences: {error}")
            return False
        return True

    def all(self) -> None:
        """Every point of the plan, one after the other, and all of that `repeat` times."""
        together = [count for count in self.plan.sequences if count > 1]
        for turn in range(1, self.plan.repeat + 1):
            for depth in self.subject.depths:
                self.progress(f"repetition {turn} of {self.plan.repeat}: depth {depth:,}")
                self.decode(depth, 1)
                self.prefill(depth)
            for count in list(together):
                self.progress(f"repetition {turn} of {self.plan.repeat}: {count} sequences")
                if not self.together(count):
                    together.remove(count)


def _reading_cost(costs: Costs, tokens: int) -> Cost:
    """The cost of a whole prompt, read chunk by chunk."""
    parts = [
        costs.of(Step(start, rows := min(CHUNK_TOKENS, tokens - start), 1, int(start + rows == tokens)))
        for start in range(0, tokens, CHUNK_TOKENS)
    ]
    return Cost(
        sum(part.weight_bytes for part in parts),
        sum(part.kv_bytes for part in parts),
        sum(part.operations for part in parts),
    )


def measure(subject: Subject, plan: Plan, probe: Probe, progress: Progress = lambda _: None) -> Report:
    """Measure what `plan` says; `progress` is told in words what comes next."""
    watch = Watch(probe.pids)
    run = _Run(subject, plan, probe, progress)
    progress("warming up")
    play(subject, [run.ids(subject.prompt_tokens)], 2, run.salt())
    run.readings[-1] = probe.read()
    run.skipped += [
        f"depth {depth:,}: more than the model's context or the memory for K/V holds"
        for depth in plan.depths
        if depth not in subject.depths
    ]
    run.all()
    return Report(
        model=subject.spec.name,
        path=str(subject.store.path),
        format=subject.format,
        weights_bytes=subject.store.total_bytes,
        backend=subject.name,
        threads=subject.threads,
        machine=this_machine(),
        probed=probe.about,
        rows=sorted(run.rows.values(), key=_order),
        readings=run.readings,
        skipped=run.skipped,
        others=watch.others(),
        peak_bytes=peak_bytes(),
        kv_bytes=subject.engine.stats().cache_bytes,
    )


def _order(row: Row) -> tuple[int, int, int]:
    return ("prefill", "decode", "first token").index(row.measure), row.sequences, row.depth
