"""The embedded model: pebble.gguf lies beside this file. recipes/pebble/ makes it."""

from __future__ import annotations

from pathlib import Path


def path() -> Path:
    """Where the embedded model's weights are."""
    return Path(__file__).with_name("pebble.gguf")


def sha256() -> str:
    """The hash that they should have: in pebble.sha256, which `sha256sum -c` reads too."""
    return path().with_suffix(".sha256").read_text("ascii").split()[0]
