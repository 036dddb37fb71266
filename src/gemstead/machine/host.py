"""The machine a plan is for: this one, probed in about two seconds, or another one from a few figures.

machines.toml has other machines by name, each figure with its source. Decides nothing; above: plan.py.
"""

from __future__ import annotations

import re
import shutil
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from gemstead.errors import ConfigError
from gemstead.machine.fit import PROGRAM_BYTES
from gemstead.machine.gpus import Gpu, gpus
from gemstead.machine.kept import usual
from gemstead.machine.memory import address_limit, anonymous_bytes, available_bytes, container_room
from gemstead.machine.probe import core_kinds, this_machine
from gemstead.machine.quiet import QUIET_SHARE, Watch
from gemstead.machine.rates import Rates, derived_rates, measured_rates
from gemstead.machine.speed import reached_rates

_FREE_SHARE = 0.75  # assumed: of another machine's memory, what its system and other programs leave
# Assumed where only cores are known: operations a second of one with int8 products, as a Raspberry Pi 5's.
_CORE_INT8_S = 40e9
_DEFAULT_CORES = 4
_SLOWER_SHARE = 0.8  # less than this of the best that is known is worth a word


@dataclass(frozen=True)
class Host:
    """A machine: `free_bytes` is what a model may take, `address_bytes` what it may map (None: no limit),
    `disk_bytes` what is free where models are kept (None: not known). `notes` are for the person."""

    about: str
    isa: str
    cores: int
    kinds: tuple[int, ...]
    memory_bytes: int
    free_bytes: int
    rates: Rates
    disk_bytes: int | None = None
    address_bytes: int | None = None
    gpus: tuple[Gpu, ...] = ()
    is_here: bool = False
    source: str | None = None
    notes: tuple[str, ...] = ()


def this_host(models: Path, threads: int | None = None) -> Host:
    """The machine this runs on; `models` is the folder where models are kept."""
    found, watch = this_machine(), Watch()
    # The program that will run the model is counted with it; one such program is running: this one.
    free = available_bytes() + min(anonymous_bytes(), PROGRAM_BYTES)
    room, mapped = container_room(), address_limit()
    measured = measured_rates(threads or found.cores)
    others = watch.others()
    rates = usual(measured, found.processor, threads or found.cores)
    notes = []
    if room is not None and room < found.memory_bytes:
        notes.append("a container or control group limits the memory")
    if mapped is not None:
        notes.append(f"ulimit -v allows {mapped / 1e9:.1f} GB of addresses, files counted")
    if others is not None and others > QUIET_SHARE:
        notes.append(
            f"other programs used {100 * others:.0f}% of the processor meanwhile: alone it is faster"
        )
    if measured.int8_s < _SLOWER_SHARE * rates.int8_s or measured.bytes_s < _SLOWER_SHARE * rates.bytes_s:
        now = f"{measured.bytes_s / 1e9:.0f} GB/s and {measured.int8_s / 1e9:.0f} GOP/s"
        notes.append(f"it was faster before than just now ({now}): the upper quartile of a month counts")
    return Host(
        about=found.processor,
        isa=found.isa,
        cores=threads or found.cores,
        kinds=core_kinds(),
        memory_bytes=found.memory_bytes,
        free_bytes=free,
        rates=rates,
        disk_bytes=_disk_bytes(models),
        address_bytes=mapped,
        gpus=gpus(),
        is_here=True,
        notes=tuple(notes),
    )


def _disk_bytes(folder: Path) -> int:
    """What is free on the disk that holds this folder, or would."""
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    return shutil.disk_usage(there).free


@cache
def machines() -> Mapping[str, dict[str, Any]]:
    """The rows of machines.toml by name."""
    data = tomllib.loads(Path(__file__).with_name("machines.toml").read_text("utf-8"))
    return {row["name"]: row for row in data["machine"]}


def host_of(text: str) -> Host:
    """A machine by its name in machines.toml, or from figures such as "8GB, 4 cores, 20GB/s"."""
    row = machines().get(text.strip().lower())
    if row is not None:
        return Host(
            about=row["about"],
            isa="",
            cores=row["cores"],
            kinds=(),
            memory_bytes=int(row["memory_gb"] * 1e9),
            free_bytes=int(row["memory_gb"] * 1e9 * row["free_share"]),
            rates=reached_rates(row["decode_gb_s"] * 1e9, row["prompt_gop_s"] * 1e9),
            source=row["source"],
        )
    given = _figures(text)
    cores = int(given.get("cores", _DEFAULT_CORES))
    memory = int(given["memory"])
    return Host(
        about=text.strip(),
        isa="",
        cores=cores,
        kinds=(),
        memory_bytes=memory,
        free_bytes=int(memory * _FREE_SHARE),
        rates=derived_rates(given["bandwidth"], given.get("int8", cores * _CORE_INT8_S)),
        disk_bytes=int(given["disk"]) if "disk" in given else None,
    )


# What one part of such a text may be.
_PARTS = (
    ("memory", re.compile(r"([\d.]+) ?(g|m)i?b(?: (?:ram|memory))?"), {"g": 1e9, "m": 1e6}),
    ("cores", re.compile(r"(\d+) ?(c)ores?"), {"c": 1}),
    ("bandwidth", re.compile(r"([\d.]+) ?(g)b/s"), {"g": 1e9}),
    ("int8", re.compile(r"([\d.]+) ?(g|t)ops?(?:/s)?"), {"g": 1e9, "t": 1e12}),
    ("disk", re.compile(r"([\d.]+) ?(g|t)b disk"), {"g": 1e9, "t": 1e12}),
)


def _figures(text: str) -> dict[str, float]:
    """The figures of "8GB, 4 cores, 20GB/s"; ConfigError where one is missing or is none."""
    found: dict[str, float] = {}
    for part in filter(None, (part.strip().lower() for part in text.split(","))):
        for name, pattern, units in _PARTS:
            if (match := pattern.fullmatch(part)) and match[1].count(".") < 2 and float(match[1]) > 0:
                found[name] = float(match[1]) * units[match[2]]
                break
        else:
            raise ConfigError(f"cannot plan for {text!r}: {part!r} is no figure of a machine; {_allowed()}")
    missing = [name for name in ("memory", "bandwidth") if name not in found]
    if missing:
        raise ConfigError(
            f"cannot plan for {text!r}: it does not say its {' and '.join(missing)}; {_allowed()}"
        )
    return found


def _allowed() -> str:
    return (
        'write "8GB, 4 cores, 20GB/s" (memory, cores, how fast memory is read; "160GOP/s" and "64GB disk" '
        f"may follow), or a name: {', '.join(machines())}"
    )
