"""Ours beside llama.cpp and transformers: the same file or shape, taking turns, as ratios with their spread.

Every measurement of ours has its peer's right beside it, in alternating order, so that a slow minute of a
shared machine falls on both. Each engine lives in a process of its own (workers.py). Every line of the
result is appended to bench/history.csv.

    python bench/peer.py --llama-venv ~/llama --setup          # builds llama.cpp for this machine, once
    python bench/peer.py model.gguf --llama-venv ~/llama --transformers
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

import history
import workers

import gemstead
from gemstead.backend.native.cores import usable_cores
from gemstead.machine.quiet import Watch
from gemstead.machine.report import Spread
from gemstead.weights.store import open_store

LLAMA = "llama-cpp-python==0.3.36"
WORKERS = Path(__file__).with_name("workers.py")
SOURCE = Path(gemstead.__file__).resolve().parents[1]  # workers measure the gemstead that runs this
OURS = "ours"
MEASURES = {  # and how many tokens each is timed over
    "prefill": lambda given: given.prompt_tokens,
    "decode": lambda given: given.new_tokens,
    "together": lambda given: workers.SEQUENCES * given.new_tokens,
    "clients": lambda given: workers.SEQUENCES * given.new_tokens,
    "disturbed": lambda given: given.new_tokens,
}
_WARM = 3  # timings of a process that is there for one measure only
AT_ONCE = ("together", "clients")  # at depth 0 only


class Worker:
    """One engine's process."""

    def __init__(self, kind: str, python: str, model: Path, threads: int, context: int) -> None:
        self._process = subprocess.Popen(
            [python, str(WORKERS), kind, str(model), str(threads), str(context)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": str(threads), "PYTHONPATH": str(SOURCE)},
        )
        self.kind, self.pid = kind, self._process.pid
        self.about: dict[str, str] = self._answer()

    def seconds(self, measure: str, depth: int, tokens: int) -> float:
        """Have something timed."""
        with ExitStack() as around:
            if measure == "disturbed":
                around.enter_context(disturbance())
                measure = "decode"
            assert self._process.stdin is not None
            asked = {"measure": measure, "depth": depth, "tokens": tokens}
            self._process.stdin.write(json.dumps(asked) + "\n")
            self._process.stdin.flush()
            return float(self._answer()["seconds"])

    def _answer(self) -> dict[str, str]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.kind} ended with exit code {self._process.wait()}; its words are above")
        found: dict[str, str] = json.loads(line)
        return found

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        self._process.terminate()
        self._process.wait()


@contextmanager
def disturbance() -> Iterator[None]:
    """A process per core that works a third of the time, in bursts of a scheduler's slice."""
    busy = [subprocess.Popen([sys.executable, "-c", _BURSTS]) for _ in range(usable_cores())]
    try:
        time.sleep(0.2)  # until they have begun
        yield
    finally:
        for process in busy:
            process.kill()
            process.wait()


_BURSTS = """
import time
while True:
    end = time.perf_counter() + 0.01
    while time.perf_counter() < end:
        pass
    time.sleep(0.02)
"""


@dataclass
class Comparison:
    """The speeds of one measure, tokens per second by kind of engine, repetition by repetition."""

    measure: str
    depth: int
    tokens: int
    speeds: dict[str, list[float]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """What was measured, in words."""
        return f"{self.measure} {self.tokens} @{self.depth}"


def main(argv: Sequence[str] | None = None) -> None:
    """Set up, or compare and append."""
    given = arguments().parse_args(argv)
    if given.setup:
        setup(given.llama_venv)
    if given.model is None:
        return
    pythons = {OURS: sys.executable}
    if given.llama_venv is not None:
        pythons["llama.cpp"] = str(given.llama_venv / "bin" / "python")
    if given.transformers:
        pythons["transformers"] = sys.executable
    if len(pythons) == 1:
        raise SystemExit("there is nobody to compare with: give --llama-venv FOLDER, --transformers, or both")
    compared, about = compare(given, pythons)
    for line in lines(compared):
        print(line, flush=True)
    print(about[OURS]["others"])
    if not given.dry_run:
        print(f"{history.append(entries(given, compared, about))} lines appended to bench/history.csv")


def arguments() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", nargs="?", type=Path, help="a GGUF file, or a folder for transformers alone")
    parser.add_argument("--llama-venv", type=Path, help="the environment that holds llama-cpp-python")
    parser.add_argument("--setup", action="store_true", help="make that environment first: minutes")
    parser.add_argument(
        "--transformers", action="store_true", help="compare with transformers, installed here"
    )
    parser.add_argument("--threads", type=int, default=usable_cores())
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--depths", type=int, nargs="+", default=[0])
    parser.add_argument("--prompt-tokens", type=int, default=512)
    parser.add_argument("--new-tokens", type=int, default=32)
    parser.add_argument(
        "--measures",
        nargs="+",
        choices=list(MEASURES),
        default=["prefill", "decode"],
        help=f"together: {workers.SEQUENCES} sequences decoded in one batch, at depth 0; clients: as many "
        f"with prompts of {workers.CLIENT_TOKENS}, timed as a whole; disturbed: decode while other processes "
        "take a third of every core",
    )
    parser.add_argument(
        "--one-at-a-time", action="store_true", help="for models that fit in memory only once"
    )
    parser.add_argument("--note", default="", help="for the history: what is being tried")
    parser.add_argument("--dry-run", action="store_true", help="print only; append nothing")
    return parser


def setup(venv: Path | None) -> None:
    """Build llama.cpp with every instruction this machine has, in an environment of its own."""
    if venv is None:
        raise SystemExit("--setup needs --llama-venv FOLDER: where the environment is to be made")
    subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
    subprocess.run(
        [str(venv / "bin" / "pip"), "install", "--no-binary", "llama-cpp-python", LLAMA],
        check=True,
        env={**os.environ, "CMAKE_ARGS": "-DGGML_NATIVE=ON"},
    )


def compare(
    given: argparse.Namespace, pythons: dict[str, str]
) -> tuple[list[Comparison], dict[str, dict[str, str]]]:
    """Everybody measured in turn, the order reversed every time; and what each says it is."""
    compared = [
        Comparison(measure, depth, tokens)
        for depth in given.depths
        for measure in given.measures
        if measure not in AT_ONCE or not depth
        for tokens in (MEASURES[measure](given),)
    ]
    context = max(given.depths) + max(given.prompt_tokens, workers.CLIENT_TOKENS) + given.new_tokens + 1
    about: dict[str, dict[str, str]] = {}

    def start(kind: str) -> Worker:
        worker = Worker(kind, pythons[kind], given.model, given.threads, context)
        about[kind] = worker.about
        return worker

    with ExitStack() as stack:
        lasting = {} if given.one_at_a_time else {kind: stack.enter_context(start(kind)) for kind in pythons}
        kinds, watch = list(pythons), Watch(worker.pid for worker in lasting.values())
        for turn in range(given.repeat + 1):
            for comparison in compared:
                for kind in kinds if turn % 2 else reversed(kinds):
                    with ExitStack() as once:
                        worker = lasting.get(kind) or once.enter_context(start(kind))
                        asked = (comparison.measure, comparison.depth, comparison.tokens)
                        if given.one_at_a_time:  # a fresh process is cold, and its file may not be in memory
                            spent = statistics.median([worker.seconds(*asked) for _ in range(1 + _WARM)][1:])
                        else:
                            spent = worker.seconds(*asked)
                    if turn:  # the first warms up
                        comparison.speeds.setdefault(kind, []).append(comparison.tokens / spent)
        others = None if given.one_at_a_time else watch.others()
    about[OURS]["others"] = "" if others is None else f"others used {100 * others:.0f}%"
    return compared, about


def lines(compared: list[Comparison]) -> Iterator[str]:
    """The table, a line per measure and peer."""
    yield f"{'':20}{'ours':>12}{'peer':>12}{'ratio':>8}  least to greatest"
    for comparison in compared:
        ours = comparison.speeds[OURS]
        for kind, theirs in comparison.speeds.items():
            if kind != OURS:
                ratio = history.ratios(ours, theirs)
                yield (
                    f"{comparison.name:20}{Spread.of(ours).median:>12.4g}{Spread.of(theirs).median:>12.4g}"
                    f"{ratio.median:>8.2f}  {ratio.least:.2f} to {ratio.greatest:.2f}  tok/s, {kind}"
                )


def entries(
    given: argparse.Namespace, compared: list[Comparison], about: dict[str, dict[str, str]]
) -> Iterator[history.Line]:
    """The lines of the history."""
    with open_store(given.model) as store:
        name = store.spec.name
    for comparison in compared:
        ours = comparison.speeds[OURS]
        for kind, theirs in comparison.speeds.items():
            if kind == OURS:
                continue
            ratio = history.ratios(ours, theirs)
            in_format = f"peer in {about[kind]['format']}" if about[kind]["format"] else ""
            yield history.Line(
                model=name,
                format=about[OURS]["format"],
                threads=given.threads,
                measure=comparison.name,
                unit="tok/s",
                ours=Spread.of(ours).median,
                spread=ratio.relative,
                backend=about[OURS]["name"].split()[-1],
                peer_name=about[kind]["name"],
                peer=Spread.of(theirs).median,
                ratio=ratio.median,
                note="; ".join(filter(None, [in_format, about[OURS]["others"], given.note])),
            )


if __name__ == "__main__":
    main()
