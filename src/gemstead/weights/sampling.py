"""How a model's own files ask to be sampled: a GGUF's general.sampling keys, or generation_config.json.

Names them as SamplingParams does; judges no value (types.py does) and reads no penalties: those that
travel in files break Gemma's tool calls. Neighbours: store.py above, model.py uses it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_IN_GGUF = {"temp": "temperature", "top_k": "top_k", "top_p": "top_p", "min_p": "min_p"}
_IN_CONFIG = ("temperature", "top_k", "top_p", "min_p")


def from_metadata(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """The sampling options in a GGUF's metadata, by their SamplingParams names."""
    named = ((name, metadata.get(f"general.sampling.{key}")) for key, name in _IN_GGUF.items())
    return {name: value for name, value in named if value is not None}


def from_generation_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """The sampling options of a generation_config.json; do_sample false is temperature 0."""
    found = {name: config[name] for name in _IN_CONFIG if config.get(name) is not None}
    if config.get("do_sample") is False:
        found["temperature"] = 0.0
    return found


def to_metadata(sampling: Mapping[str, Any]) -> dict[str, Any]:
    """The inverse of from_metadata, for a GGUF's writer."""
    keys = {name: f"general.sampling.{key}" for key, name in _IN_GGUF.items()}
    return {
        keys[name]: int(value) if name == "top_k" else float(value)
        for name, value in sampling.items()
        if name in keys and isinstance(value, int | float)
    }


def to_generation_config(sampling: Mapping[str, Any]) -> dict[str, Any]:
    """The inverse of from_generation_config."""
    found = {name: value for name, value in sampling.items() if name in _IN_CONFIG}
    return found | {"do_sample": found.get("temperature") != 0.0}
