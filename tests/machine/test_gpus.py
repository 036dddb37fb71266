"""GPUs through the driver's library: one that a test compiles, since few machines here have the real one."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from gemstead.machine.gpus import Gpu, gpus

NVML = """
#include <string.h>
typedef struct { unsigned long long total, free, used; } memory;
int nvmlInit_v2(void) { return INIT; }
int nvmlShutdown(void) { return 0; }
int nvmlDeviceGetCount_v2(unsigned* n) { *n = 2; return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned i, void** d) { *d = (void*)(unsigned long long)(i + 1); return 0; }
int nvmlDeviceGetName(void* d, char* name, unsigned n) { strncpy(name, "NVIDIA Test", n); return 0; }
int nvmlDeviceGetMemoryInfo(void* d, memory* m) {
    m->total = 80000000000ull; m->free = 79000000000ull; m->used = 1000000000ull;
    return d == (void*)2 ? 15 : 0;
}
#ifndef OLD
int nvmlDeviceGetMaxClockInfo(void* d, int kind, unsigned* mhz) { *mhz = 2619; return kind == 2 ? RATE : 2; }
int nvmlDeviceGetMemoryBusWidth(void* d, unsigned* bits) { *bits = 5120; return 0; }
#endif
"""


@pytest.fixture
def driver(tmp_path):
    """A library that answers as NVML does; the second GPU is lost (error 15)."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler here to build a stand-in for NVML")

    def build(*defined):
        (tmp_path / "nvml.c").write_text(NVML)
        path = tmp_path / "nvml.so"
        words = [f"-D{word}" for word in ("INIT=0", "RATE=0", *defined)]
        subprocess.run(
            [compiler, "-w", "-shared", "-fPIC", *words, "-o", path, tmp_path / "nvml.c"], check=True
        )
        return str(path)

    return build


def test_the_ones_that_answer(driver):
    """An H100's clock and bus: 3.35 TB/s, as its data sheet has it."""
    assert gpus(driver()) == (Gpu("NVIDIA Test", 80_000_000_000, 79_000_000_000, 3_352_320_000_000),)


@pytest.mark.parametrize("defined", ["OLD", "RATE=3"])
def test_one_that_does_not_tell_its_memorys_rate(driver, defined):
    assert [gpu.bytes_s for gpu in gpus(driver(defined))] == [None]


def test_a_driver_that_does_not_start(driver):
    assert gpus(driver("INIT=9")) == ()


def test_no_driver():
    assert gpus("libno-such-driver.so.1") == ()
