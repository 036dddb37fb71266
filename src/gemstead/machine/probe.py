"""What this machine is, and two probes of what it allows: memory read per second, products per second.

The probes run in a process of their own: their memory is not the model's, and their BLAS threads do not
meet its threads. One probe takes a few hundredths of a second, so it fits between measurements.
"""

from __future__ import annotations

import ctypes
import os
import platform
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gemstead.backend.native.cores import usable_cores
from gemstead.backend.native.library import check, isa_name, library
from gemstead.errors import BackendError
from gemstead.machine.memory import available_bytes, total_bytes
from gemstead.weights.mapped import Closing

# The extensions that decide how fast a matrix product can be, best first; names of /proc/cpuinfo.
_ISA = ("avx512_vnni", "avx_vnni", "avx512f", "avx2", "i8mm", "asimddp", "asimd")
_SIDE = 1024  # of the square matrices that are multiplied
_LEAST_S = 0.05  # a probe repeats until it has taken this long
_LEAST_BYTES = 64 << 20
_ROOT = Path("/")
_MOST_SHARE = 8  # of the available memory, a probe takes at most one part in so many
_ONE_THREAD = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Machine:
    """The machine in words and numbers; `cores` are those this process may use."""

    processor: str
    isa: str
    cores: int
    memory_bytes: int

    def __str__(self) -> str:
        isa = f" ({self.isa})" if self.isa else ""
        return f"{self.processor}{isa}, {self.cores} cores, {self.memory_bytes / 2**30:.1f} GiB"


def this_machine() -> Machine:
    """The machine this runs on."""
    described = ""
    if Path("/proc/cpuinfo").exists():
        described = Path("/proc/cpuinfo").read_text("utf-8", errors="replace")
    facts = {key.strip(): value.strip() for key, _, value in _pairs(described)}
    flags = (facts.get("flags") or facts.get("Features") or "").split()
    return Machine(
        processor=facts.get("model name") or platform.processor() or platform.machine(),
        isa=next((name for name in _ISA if name in flags), ""),
        cores=usable_cores(),
        memory_bytes=total_bytes(),
    )


def core_kinds(root: Path = _ROOT) -> tuple[int, ...]:
    """How many processors of each speed this process may use, the fastest first; () where nobody says."""
    if not hasattr(os, "sched_getaffinity"):
        return ()
    speeds: Counter[int] = Counter()
    for processor in os.sched_getaffinity(0):
        folder = root / f"sys/devices/system/cpu/cpu{processor}"
        for name in ("cpu_capacity", "cpufreq/cpuinfo_max_freq"):  # ARM's own measure, else the clock
            with suppress(OSError, ValueError):
                speeds[int((folder / name).read_text("ascii"))] += 1
                break
    return tuple(count for _, count in sorted(speeds.items(), reverse=True))


def _pairs(described: str) -> list[tuple[str, str, str]]:
    """The `key : value` lines of the first processor."""
    return [line.partition(":") for line in described.split("\n\n")[0].splitlines()]


@dataclass(frozen=True)
class Reading:
    """What the machine allowed at one moment: bytes read and operations done per second."""

    bytes_s: float
    operations_s: float


class Prober(Closing):
    """Both probes on `threads` threads over `size_bytes` of memory (less where little is left).

    in_int8: what computes multiplies int8, so that is what is probed; else float32.
    """

    def __init__(self, threads: int, size_bytes: int, *, in_int8: bool = False) -> None:
        self.threads, self.in_int8 = threads, in_int8
        self.size_bytes = max(_LEAST_BYTES, min(size_bytes, available_bytes() // _MOST_SHARE))
        # Not multiprocessing: the child must see these variables before it imports numpy.
        code = (
            f"import sys; sys.path[:] = {sys.path!r}; from gemstead.machine.probe import serve; "
            f"serve({threads}, {self.size_bytes}, in_int8={in_int8})"
        )
        self._process = subprocess.Popen(
            [sys.executable, "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is for us: the child ends when its stdin does
            env={**os.environ, **dict.fromkeys(_ONE_THREAD, "1")},
            text=True,
        )

    @property
    def pids(self) -> tuple[int, ...]:
        """The probing process."""
        return (self._process.pid,)

    @property
    def about(self) -> dict[str, str]:
        """What is probed, in words."""
        threads = f"{self.threads} thread{'s' * (self.threads > 1)}"
        return {
            "bytes_s": f"memory read: numpy's maximum over {self.size_bytes >> 20} MiB, {threads}",
            "operations_s": f"int8 multiply-adds in registers alone, {isa_name()}, {threads}"
            if self.in_int8
            else f"float32 matrix product: numpy's, {_SIDE} x {_SIDE}, {threads}",
        }

    def read(self) -> Reading:
        """Probe both now; BackendError when the probing process has died."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write("probe\n")
            self._process.stdin.flush()
            answer = self._process.stdout.readline().split()
        except OSError:
            answer = []
        if len(answer) != 2:
            raise BackendError(
                f"the process that probes the machine ended (exit code {self._process.poll()}) where two "
                f"numbers were expected; it needs {self.size_bytes:,} bytes of memory, so free some"
            )
        return Reading(float(answer[0]), float(answer[1]))

    def close(self) -> None:
        """End the probing process."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with suppress(OSError):  # a question that was never read
                    pipe.close()


def memory_rate(threads: int, size_bytes: int) -> float:
    """Bytes read per second, asked once and in this process: it gives back its memory."""
    with ThreadPoolExecutor(threads) as pool:
        parts = list(pool.map(_filled, [size_bytes // threads // 4] * threads))
        return _rate(pool, _maximum, parts) * parts[0].nbytes


def int8_rate(threads: int) -> float:
    """Operations per second (a product and its addition are two) of the core's best int8 instructions."""
    products, rounds, spent = ctypes.c_int64(), 1, 0.0
    while spent < _LEAST_S / 2:  # one call in the end: who starts threads again and again measures that
        rounds *= 4
        start = time.perf_counter()
        check(library().gs_peak(threads, rounds, ctypes.byref(products)), "probing")
        spent = time.perf_counter() - start
    return 2 * products.value / spent


def serve(threads: int, size_bytes: int, *, in_int8: bool) -> None:
    """The probing process: for each line read, write the two rates."""
    with ThreadPoolExecutor(threads) as pool:
        parts = list(pool.map(_filled, [size_bytes // threads // 4] * threads))
        count = 0 if in_int8 else 2 * threads
        squares = [_filled(_SIDE * _SIDE).reshape(_SIDE, _SIDE) for _ in range(count)]
        pairs = list(zip(squares[::2], squares[1::2], strict=True))
        for _ in sys.stdin:
            bytes_s = _rate(pool, _maximum, parts) * parts[0].nbytes
            operations_s = int8_rate(threads) if in_int8 else _rate(pool, _product, pairs) * 2 * _SIDE**3
            sys.stdout.write(f"{bytes_s} {operations_s}\n")
            sys.stdout.flush()


def _filled(count: int) -> Floats:
    """So many numbers, each page touched by the thread that will read it."""
    return np.full(count, 0.5, dtype=np.float32)


def _maximum(part: Floats) -> None:
    part.view(np.int32).max()  # a load and a comparison per vector: numpy's cheapest pass over memory


def _product(pair: tuple[Floats, Floats]) -> None:
    np.matmul(*pair)


def _rate(pool: ThreadPoolExecutor, work: Callable[[Any], None], parts: Sequence[Any]) -> float:
    """How often per second `work` is done, all threads together."""
    done, start = 0, time.perf_counter()
    while (spent := time.perf_counter() - start) < _LEAST_S:
        list(pool.map(work, parts))
        done += len(parts)
    return done / spent
