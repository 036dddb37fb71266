"""What the tests of weights/ share: the process's memory, and small models as files."""

from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture
def rss_mb() -> Callable[[], float]:
    """The process's resident memory in MB, now; skips where /proc does not tell."""
    statm = Path("/proc/self/statm")
    if not statm.exists():
        pytest.skip("needs /proc/self/statm to measure memory")
    return lambda: int(statm.read_text().split()[1]) * 4096 / 1e6
