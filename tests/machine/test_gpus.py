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
"""


@pytest.fixture
def driver(tmp_path):
    """A library that answers as NVML does; the second GPU is lost (error 15)."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler here to build a stand-in for NVML")

    def build(init):
        (tmp_path / "nvml.c").write_text(NVML)
        path = tmp_path / f"nvml{init}.so"
        subprocess.run(
            [compiler, "-shared", "-fPIC", f"-DINIT={init}", "-o", path, tmp_path / "nvml.c"], check=True
        )
        return str(path)

    return build


def test_the_ones_that_answer(driver):
    assert gpus(driver(0)) == (Gpu("NVIDIA Test", 80_000_000_000, 79_000_000_000),)


def test_a_driver_that_does_not_start(driver):
    assert gpus(driver(9)) == ()


def test_no_driver():
    assert gpus("libno-such-driver.so.1") == ()
