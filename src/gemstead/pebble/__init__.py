"""The embedded model: pebble.gguf lies beside this file. recipes/pebble/ makes it."""

from __future__ import annotations

from pathlib import Path


def path() -> Path:
    """Where the embedded model's weights are."""
    return Path(__file__).with_name("pebble.gguf")
