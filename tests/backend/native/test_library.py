"""The core's view of formats and structs is the Python side's, bit for bit."""

from __future__ import annotations

import importlib
import shutil
import subprocess
import sys

import numpy as np
import pytest

from gemstead.backend.native import layout
from gemstead.backend.native.library import address, library
from gemstead.weights import formats

FORMATS = ("f32", "f16", "bf16", "q8_0", "q4_0", "q4_1", "q5_0", "q5_1")
FORMATS += ("q4_k", "q5_k", "q6_k", "iq4_nl", "iq4_xs")


@pytest.mark.parametrize("name", FORMATS)
def test_rows_unpack_bit_for_bit(name):
    row = formats.get(name)
    raw = np.random.default_rng(1).integers(0, 256, (64, row.block_bytes)).astype(np.uint8)
    if row.block == 1:  # a whole row of single values
        raw = raw[:32]
    wanted = row.unpack(raw)
    got = np.empty(wanted.size, np.float32)
    assert library().gs_unpack_row(row.ggml_type, address(raw), wanted.size, address(got)) == 0
    wanted, number = wanted.ravel(), ~np.isnan(wanted.ravel())  # which NaN it is, nobody reads
    assert np.array_equal(number, ~np.isnan(got))
    assert np.array_equal(wanted.view(np.uint32)[number], got.view(np.uint32)[number])


def test_the_structs_are_those_of_the_header(root_header):
    assert layout.header() == root_header
    assert library().gs_layout_bytes() == layout.total_bytes()


@pytest.fixture
def root_header(pytestconfig):
    return (pytestconfig.rootpath / "native/include/layout.h").read_text("utf-8")


def test_the_cores_own_tests_pass(pytestconfig):
    command = [sys.executable, str(pytestconfig.rootpath / "native/build.py"), "test"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "all kernels agree" in done.stdout
    assert "every chunk once" in done.stdout


@pytest.mark.parametrize("sanitizers", ["address,undefined", "thread"])
def test_the_cores_own_tests_pass_under_sanitizers(pytestconfig, sanitizers):
    command = [
        sys.executable,
        str(pytestconfig.rootpath / "native/build.py"),
        "test",
        "--sanitize",
        sanitizers,
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode == 77:
        pytest.skip(done.stdout.strip())
    assert done.returncode == 0, done.stdout + done.stderr
    assert "every chunk once" in done.stdout


def test_make_builds_with_the_same_flags(pytestconfig, monkeypatch):
    """`make -C native test` needs no Python; here only what it would do is read, for it takes a minute."""
    root = pytestconfig.rootpath
    monkeypatch.syspath_prepend(str(root / "native"))
    build = importlib.import_module("build")
    lines = (root / "native/Makefile").read_text("utf-8").splitlines()
    assert f"FLAGS = {' '.join(build.FLAGS)}" in lines
    assert f"$(OUT)/%/scalar.o: EXTRA += {' '.join(build.SCALAR_FLAGS)}" in lines
    if shutil.which("make") is None:
        pytest.skip("make is not installed")
    told = subprocess.run(
        ["make", "-n", "-B", "-C", root / "native", "test"], capture_output=True, text=True, check=True
    )
    for source in build.sources("kernels", "src", "tests"):
        assert f"-c {source.relative_to(root / 'native').as_posix()} " in told.stdout


@pytest.mark.parametrize("option", ["--emulate=avx512", "--arm"])
def test_the_kernels_of_other_machines_agree_too(pytestconfig, option):
    """AVX-512 by SIMDe and NEON by QEMU, where those are installed."""
    command = [sys.executable, str(pytestconfig.rootpath / "native/build.py"), "test", option]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode == 77:
        pytest.skip(done.stdout.strip())
    assert done.returncode == 0, done.stdout + done.stderr
    assert "all kernels agree" in done.stdout
