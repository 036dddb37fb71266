"""The core's own tests, in C++: every kernel against its definition, every chunk of a job run once."""

from __future__ import annotations

import subprocess
import sys


def test_the_cores_own_tests_pass(pytestconfig):
    command = [sys.executable, str(pytestconfig.rootpath / "native/build.py"), "test"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "all kernels agree" in done.stdout
    assert "every chunk once" in done.stdout
