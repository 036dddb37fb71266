"""The best that was measured of this machine, kept between plans: load changes by the minute, it does not.

One small JSON file in the cache folder. What was measured with another processor, kernel or number of threads
does not count, nor what is a month old. Without a cache folder nothing is kept. Used by host.py.
"""

from __future__ import annotations

import json
import os
import platform
import time
from contextlib import suppress
from dataclasses import astuple
from pathlib import Path

from gemstead.backend.native.library import isa_name
from gemstead.machine.rates import KernelRates, Rates
from gemstead.weights.packed_file import default_folder

_MOST_AGE_S = 30 * 24 * 3600.0
_VERSION = 1


def best_known(measured: Rates, processor: str, threads: int, folder: Path | None = None) -> Rates:
    """The larger, rate by rate, of what was measured now and what is kept; what comes of it is kept."""
    packed = default_folder()
    folder = folder or (None if packed is None else packed.parent)
    if folder is None:
        return measured
    path, key = folder / "rates.json", [_VERSION, processor, threads, platform.release(), isa_name()]
    now = time.time()
    kept, since = _read(path, key, now)
    best = measured if kept is None else _better(measured, kept)
    if best != kept:
        fresh = {"key": key, "since": now if since is None else since, **_as_json(best)}
        with suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            part = path.with_name(f"rates.{os.getpid()}.part")
            part.write_text(json.dumps(fresh), "utf-8")
            part.replace(path)
    return best


def _read(path: Path, key: list[object], now: float) -> tuple[Rates | None, float | None]:
    """What is kept under this key, and since when; (None, None) where that is nothing."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        kept = json.loads(path.read_text("utf-8"))
        if kept["key"] == key and 0 <= now - kept["since"] < _MOST_AGE_S:
            kernels = {name: KernelRates(*map(float, pair)) for name, pair in kept["kernels"].items()}
            return Rates(float(kept["bytes_s"]), float(kept["int8_s"]), kernels), float(kept["since"])
    return None, None


def _better(one: Rates, two: Rates) -> Rates:
    kernels = {name: rates.better(two.kernels.get(name)) for name, rates in one.kernels.items()}
    return Rates(max(one.bytes_s, two.bytes_s), max(one.int8_s, two.int8_s), kernels)


def _as_json(rates: Rates) -> dict[str, object]:
    kernels = {name: astuple(pair) for name, pair in rates.kernels.items()}
    return {"bytes_s": rates.bytes_s, "int8_s": rates.int8_s, "kernels": kernels}
