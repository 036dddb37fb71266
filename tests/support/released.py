"""Facts about the released Gemma 4 models, from the folder beside the checkout.

Tests that ask for them skip by name where that folder is absent.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).parents[3] / "shared" / "gemma4"
NAMES: Mapping[str, str] = {"e2b": "E2B", "e4b": "E4B", "12b": "12B", "26b-a4b": "26B-A4B", "31b": "31B"}
"""gemstead's name of a variant -> its name in the files."""


@cache
def _read(name: str) -> dict[str, Any] | None:
    path = FOLDER / name
    return json.loads(path.read_text()) if path.exists() else None


def _or_skip(name: str) -> dict[str, Any]:
    found = _read(name)
    if found is None:
        pytest.skip(f"{FOLDER / name} is not here: it holds facts about the released models")
    return found


def released_row(variant: str, drafter: bool = False) -> dict[str, Any]:
    """The row of configs.json for a variant of gemstead, or for its drafter."""
    return _or_skip("configs.json")[("drafter-" if drafter else "") + NAMES[variant]]


def released_tensors(variant: str, drafter: bool = False) -> dict[str, tuple[int, ...]]:
    """Every tensor of the released safetensors: name -> shape."""
    rows = _or_skip("tensors.json")[("drafter-" if drafter else "") + NAMES[variant]]
    return {name: tuple(shape) for name, shape in rows.items()}


def config_json(variant: str, drafter: bool = False) -> dict[str, Any]:
    """A row of configs.json as the config.json it describes."""
    row = released_row(variant, drafter)
    text = {key: value for key, value in row["text_config"].items() if key != "derived"}
    unified = "Unified" in row["architecture"]
    if drafter:
        keys = (
            "backbone_hidden_size",
            "use_ordered_embeddings",
            "num_centroids",
            "centroid_intermediate_top_k",
        )
        kind = "gemma4_unified_assistant" if unified else "gemma4_assistant"
        return {"model_type": kind, "text_config": text, **{key: row[key] for key in keys}}
    media = {key: row[key] for key in ("vision_config", "audio_config")}
    kind = "gemma4_unified" if unified else "gemma4"
    return {"model_type": kind, "text_config": text, **media, **row["special_token_ids"]}
