"""What this machine usually does, from the last measurements: load changes by the minute, a machine does not.

One small JSON file in the cache folder. What was measured with another processor, kernel or number of threads
does not count, nor what is a month old. Without a cache folder nothing is kept. Used by host.py.
"""

from __future__ import annotations

import json
import math
import platform
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import astuple
from pathlib import Path
from typing import Any

from gemstead.backend.native.library import isa_name
from gemstead.errors import WeightsError
from gemstead.machine.rates import KernelRates, Rates
from gemstead.weights.packed_file import default_folder
from gemstead.weights.writing import whole_file

_MOST_AGE_S = 30 * 24 * 3600.0
_MOST_READINGS = 16
_VERSION = 2


def usual(measured: Rates, processor: str, threads: int, folder: Path | None = None) -> Rates:
    """The upper quartile, rate by rate, of what was measured now and lately. What is measured now is kept.

    Not the best: a processor is often a little faster for a second than it stays. Not the median: others'
    load takes away and never adds.
    """
    packed = default_folder()
    folder = folder or (None if packed is None else packed.parent)
    if folder is None:
        return measured
    path, key = folder / "rates.json", [_VERSION, processor, threads, platform.release(), isa_name()]
    now = time.time()
    readings = [*_read(path, key, now), (now, measured)][-_MOST_READINGS:]
    with suppress(OSError, WeightsError):
        folder.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as file:
            file.write(json.dumps({"key": key, "readings": list(map(_as_json, readings))}).encode())
    return _quartile([rates for _, rates in readings])


def _read(path: Path, key: list[object], now: float) -> list[tuple[float, Rates]]:
    """When what was measured, oldest first, of what is kept under this key; nothing where that is damaged."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        kept = json.loads(path.read_text("utf-8"))
        if kept["key"] == key:
            readings = [(float(one["time"]), _rates(one)) for one in kept["readings"]]
            return [one for one in readings if 0 <= now - one[0] < _MOST_AGE_S]
    return []


def _rates(one: Mapping[str, Any]) -> Rates:
    return Rates(
        float(one["bytes_s"]),
        float(one["int8_s"]),
        {name: KernelRates(*map(float, pair)) for name, pair in one["kernels"].items()},
    )


def _as_json(reading: tuple[float, Rates]) -> dict[str, object]:
    at, rates = reading
    kernels = {name: astuple(pair) for name, pair in rates.kernels.items()}
    return {"time": at, "bytes_s": rates.bytes_s, "int8_s": rates.int8_s, "kernels": kernels}


def _quartile(readings: list[Rates]) -> Rates:
    newest = readings[-1]
    kernels = {
        name: KernelRates(
            _upper(one.kernels[name].bytes_s for one in readings if name in one.kernels),
            _upper(one.kernels[name].operations_s for one in readings if name in one.kernels),
        )
        for name in newest.kernels
    }
    return Rates(_upper(one.bytes_s for one in readings), _upper(one.int8_s for one in readings), kernels)


def _upper(values: Iterable[float]) -> float:
    """The value that three quarters do not exceed."""
    ranked = sorted(values)
    return ranked[math.ceil(0.75 * len(ranked)) - 1]
