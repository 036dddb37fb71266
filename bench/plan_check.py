"""What `gemstead plan` predicts beside what is measured: memory and speed, one random model at a time.

For each variant and format: writes the model with random weights, probes the machine and asks `gemstead
bench` for the speed in turn (medians count), and a process of its own for the memory of one whole
conversation, compares, deletes the files, and keeps the row in plan_check.csv, from which `just gen` makes
the table of docs/guides/plan.md. Needs disk for one model twice.

    python bench/plan_check.py [VARIANT:FORMAT ...] [--context N] [--file VARIANT:FORMAT=PATH] [--dry-run]
"""

from __future__ import annotations

import argparse
import csv
import datetime
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from statistics import median

from history import ROOT, commit

from gemstead.backend.native.backend import kv_bytes_per_token
from gemstead.backend.native.cores import usable_cores
from gemstead.machine.fit import Load, file_bytes, footprint, kv_needed, packed_file_bytes
from gemstead.machine.plan import FORMATS, plan
from gemstead.machine.probe import this_machine
from gemstead.machine.rates import measured_rates
from gemstead.machine.speed import Speed
from gemstead.spec.tensors import text_tensors
from gemstead.spec.variants import VARIANTS
from gemstead.weights.mixture import mix_formats

FILE = Path(__file__).with_name("plan_check.csv")
PROMPT, NEW_TOKENS = 512, 32  # as machine/measure.py has them
MEMORY_GOAL, SPEED_GOAL = 0.05, 0.20
_SPARE_DISK_BYTES = 3 << 30
_PROBES = 3  # one alone takes a second and may fall into a slow or a fast one

# One whole conversation in a process of its own, no token twice. memory 0: what the engine sets aside itself;
# text 1: with the tokenizer, as in a chat.
CONVERSATION = """
import json, random, sys, time
import gemstead
from gemstead.machine.memory import peak_bytes
path, context, memory, new, text = sys.argv[1], *map(int, sys.argv[2:6])
def from_disk():
    try:
        return int(open("/proc/self/io").read().split("\\nread_bytes:")[1].split()[0])
    except (OSError, IndexError):  # not Linux
        return 0
with gemstead.open(path, context=context, memory=memory or None) as model:
    if text:
        model.tokenizer.encode("Hello")
    ids = random.Random(0).sample(range(model.spec.vocab_size // 4, model.spec.vocab_size), context - new - 1)
    greedy = dict(temperature=0.0)
    model.generate(ids[:64], gemstead.SamplingParams(max_tokens=1, **greedy))
    start = time.perf_counter()
    model.generate(ids, gemstead.SamplingParams(max_tokens=1, **greedy))
    prompt_s, read = time.perf_counter() - start, from_disk()
    model.generate(ids, gemstead.SamplingParams(max_tokens=new, **greedy))
    decode_s, read = time.perf_counter() - start - prompt_s, from_disk() - read
print(json.dumps({"peak_bytes": peak_bytes(), "prompt_s": prompt_s, "decode_s": decode_s,
                  "read_bytes": read}))
"""


@dataclass(frozen=True)
class Row:
    """Predicted (p_) and measured (m_) of one model; `others`: how much of the machine others used."""

    date: str
    commit: str
    machine: str
    threads: int
    variant: str
    format: str
    context: int
    p_bytes: int
    m_bytes: int
    p_prefill: float
    m_prefill: float
    p_decode: float
    m_decode: float
    p_deep_prompt_s: float
    m_deep_prompt_s: float
    bytes_s: float
    int8_s: float
    others: float

    def misses(self) -> list[str]:
        """What is farther off than the goals allow."""
        pairs = {
            "memory": (self.p_bytes, self.m_bytes, MEMORY_GOAL),
            "prefill": (self.p_prefill, self.m_prefill, SPEED_GOAL),
            "decode": (self.p_decode, self.m_decode, SPEED_GOAL),
        }
        return [name for name, (p, m, goal) in pairs.items() if abs(p / m - 1) > goal]

    def line(self) -> str:
        """For the screen."""
        missed = self.misses()
        figures = [
            f"memory {_beside(self.p_bytes / 1e9, self.m_bytes / 1e9, 'GB')}",
            f"prefill {_beside(self.p_prefill, self.m_prefill, 'tok/s')}",
            f"decode {_beside(self.p_decode, self.m_decode, 'tok/s')}",
            f"{self.context:,} tokens in {_beside(self.p_deep_prompt_s, self.m_deep_prompt_s, 's')}",
            f"others used {100 * self.others:.0f}%",
            f"MISSED {', '.join(missed)}" if missed else "within the goals",
        ]
        return f"{self.variant} {self.format}: {'; '.join(figures)}"


def _beside(predicted: float, measured: float, unit: str) -> str:
    off = 100 * (predicted / measured - 1)
    return f"{predicted:.3g} predicted, {measured:.3g} {unit} measured ({off:+.0f}%)"


def main(argv: Sequence[str] | None = None) -> int:
    """Check every model asked for; exit code 1 when one missed a goal."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "models", nargs="*", metavar="VARIANT:FORMAT", help="default: every one that fits here"
    )
    parser.add_argument("--context", type=int, default=4096)
    parser.add_argument("--threads", type=int, default=usable_cores())
    parser.add_argument("--file", action="append", default=[], metavar="VARIANT:FORMAT=PATH")
    parser.add_argument(
        "--folder", type=Path, help="where the random models are written; default: a temporary one"
    )
    parser.add_argument("--vocab", type=Path, help="give the random models the vocabulary of this GGUF")
    parser.add_argument("--rounds", type=int, default=3, help="probe and measure so often, in turn")
    parser.add_argument("--dry-run", action="store_true", help="print only; keep no row")
    given = parser.parse_args(argv)
    kept = dict(word.split("=", 1) for word in given.file)
    models = [tuple(word.split(":", 1)) for word in given.models] or fitting()
    missed = False
    for variant, name in models:
        if variant not in VARIANTS or name not in FORMATS:
            parser.error(f"there is no {variant}:{name}; formats are {', '.join(FORMATS)}")
        with tempfile.TemporaryDirectory(dir=given.folder, prefix="plan-check-") as folder:
            row = check(variant, name, Path(folder), given, kept.get(f"{variant}:{name}"))
        if row is None:
            continue
        print(row.line(), flush=True)
        missed |= bool(row.misses())
        if not given.dry_run:
            keep(row)
    return int(missed)


def fitting() -> list[tuple[str, str]]:
    """What a plan for this machine does not refuse, smallest first."""
    return [(choice.variant, choice.format) for choice in plan().choices if choice.verdict != "no"]


def check(
    variant: str, name: str, folder: Path, given: argparse.Namespace, path: str | None = None
) -> Row | None:
    """Predict and measure one model; None, and a line that says so, where the disk is too small for it."""
    spec, context, threads = VARIANTS[variant], given.context, given.threads
    formats = mix_formats(text_tensors(spec), name)
    needed = (0 if path else file_bytes(spec, formats)) + packed_file_bytes(spec, formats) + _SPARE_DISK_BYTES
    free = shutil.disk_usage(folder).free
    if needed > free:
        print(
            f"{variant} {name}: left out, needs {needed / 1e9:.0f} GB of disk, {free / 1e9:.0f} GB are free"
        )
        return None
    environment = os.environ | {"GEMSTEAD_CACHE": str(folder / "cache")}
    if path is None:
        path = str(folder / "model.gguf")
        make = [sys.executable, str(ROOT / "bench/make_random.py"), variant, name, path]
        make += [] if given.vocab is None else ["--vocab", str(given.vocab)]
        subprocess.run(make, check=True, stdout=subprocess.DEVNULL)
    load = Load(context, 1, threads, has_text=False)
    rates, told = [], []
    for _ in range(given.rounds):  # in turn: a slow minute of the machine falls on both
        rates.extend(measured_rates(threads) for _ in range(_PROBES))
        told.append(told_by_bench(path, threads, environment))
    held = conversation(path, context, kv_needed(spec, load), environment)
    rates.extend(measured_rates(threads) for _ in range(_PROBES))
    speeds = [Speed(spec, formats, kv_bytes_per_token(spec, "f16"), one) for one in rates]
    return Row(
        date=datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d"),
        commit=commit(),
        machine=str(this_machine()),
        threads=threads,
        variant=variant,
        format=name,
        context=context,
        p_bytes=footprint(spec, formats, load).total,
        m_bytes=int(held["peak_bytes"]),
        p_prefill=median(PROMPT / speed.prompt_s(PROMPT) for speed in speeds),
        m_prefill=median(one["prefill"] for one in told),
        p_decode=median(speed.decode_tok_s(NEW_TOKENS // 4) for speed in speeds),
        m_decode=median(one["decode"] for one in told),
        p_deep_prompt_s=median(speed.prompt_s(context - NEW_TOKENS - 1) for speed in speeds[-2 * _PROBES :]),
        m_deep_prompt_s=held["prompt_s"],
        bytes_s=median(one.bytes_s for one in rates),
        int8_s=median(one.int8_s for one in rates),
        others=median(one["others"] for one in told),
    )


def told_by_bench(path: str, threads: int, environment: Mapping[str, str]) -> dict[str, float]:
    """Prefill and decode of one sequence, and what others used meanwhile, from `gemstead bench`."""
    words = ["bench", path, "--quick", "--json", "--threads", str(threads)]
    ran = subprocess.run(
        [sys.executable, "-m", "gemstead", *words],
        check=True,
        capture_output=True,
        text=True,
        env=environment,
    )
    report = json.loads(ran.stdout)
    found = {
        row["measure"]: row["value"]["median"]
        for row in report["rows"]
        if row["sequences"] == 1 and (row["measure"], row["depth"]) in (("prefill", 0), ("decode", 0))
    }
    return found | {"others": report["others"] or 0.0}


def conversation(path: str, context: int, memory: int, environment: Mapping[str, str]) -> dict[str, float]:
    """The most memory that one whole conversation took, and how long its prompt."""
    words = [path, str(context), str(memory), str(NEW_TOKENS), "0"]
    ran = subprocess.run(
        [sys.executable, "-c", CONVERSATION, *words],
        check=True,
        capture_output=True,
        text=True,
        env=environment,
    )
    found: dict[str, float] = json.loads(ran.stdout)
    return found


def keep(row: Row, file: Path = FILE) -> None:
    """Put the row in the file, in place of an older one of the same model."""
    key = (row.variant, row.format)
    rows = [old for old in read(file) if (old["variant"], old["format"]) != key]
    rows.append({name: str(value) for name, value in asdict(row).items()})
    order = {pair: n for n, pair in enumerate((v, f) for v in VARIANTS for f in FORMATS)}
    rows.sort(key=lambda old: order[old["variant"], old["format"]])
    with file.open("w", newline="", encoding="utf-8") as out:
        writer = csv.DictWriter(out, [field.name for field in fields(Row)], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def read(file: Path = FILE) -> list[dict[str, str]]:
    """The rows kept so far."""
    if not file.exists():
        return []
    with file.open(encoding="utf-8") as lines:
        return list(csv.DictReader(lines))


if __name__ == "__main__":
    sys.exit(main())
