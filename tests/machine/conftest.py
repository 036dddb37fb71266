"""What tests measure of a busy machine must not count in its own plans."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache folder of the test's own."""
    monkeypatch.setenv("GEMSTEAD_CACHE", str(tmp_path / "cache"))
