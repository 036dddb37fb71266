"""LoRA adapters as PEFT saves them, with random values, and models with an adapter merged into them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from gemstead.spec.model import ModelSpec
from gemstead.spec.tensors import dense_linears
from gemstead.weights.adapter import open_adapter
from gemstead.weights.safetensors import write_safetensors
from gemstead.weights.writing import entry_from_array

CONFIG = {"peft_type": "LORA", "r": 4, "lora_alpha": 6, "bias": "none", "target_modules": ["q_proj"]}


def adapter_arrays(
    spec: ModelSpec,
    rank: int = 4,
    seed: int = 0,
    prefix: str = "base_model.model.model.",
    wanted: Callable[[str], bool] = lambda _: True,
) -> dict[str, np.ndarray]:
    """Matrices of every wanted linear by the names of the file; B is as large as after some training."""
    rng = np.random.default_rng(seed)
    arrays = {}
    for linear in dense_linears(spec):
        rows, columns = linear.shape
        if wanted(linear.name):
            a, b = rng.normal(size=(rank, columns)) * columns**-0.5, 0.05 * rng.normal(size=(rows, rank))
            arrays[f"{prefix}{linear.name}.lora_A.weight"] = a.astype(np.float32)
            arrays[f"{prefix}{linear.name}.lora_B.weight"] = b.astype(np.float32)
    return arrays


def write_adapter(
    folder: Path,
    arrays: Mapping[str, np.ndarray],
    config: Mapping[str, Any] | None = None,
    kind: str = "f32",
) -> Path:
    """A new adapter folder; `config` changes CONFIG, None takes a field out."""
    folder.mkdir(parents=True, exist_ok=True)
    fields = {k: v for k, v in {**CONFIG, **(config or {})}.items() if v is not None}
    (folder / "adapter_config.json").write_text(json.dumps(fields))
    entries = [entry_from_array(name, values, kind) for name, values in arrays.items()]
    write_safetensors(folder / "adapter_model.safetensors", entries, {"format": "pt"})
    return folder


def save_adapter(folder: Path, spec: ModelSpec, seed: int = 0, kind: str = "f32", **config: Any) -> Path:
    """A random adapter for every linear of the spec."""
    return write_adapter(folder, adapter_arrays(spec, config.get("r", 4), seed), config, kind)


def merge(arrays: Mapping[str, np.ndarray], folder: Path, spec: ModelSpec) -> dict[str, np.ndarray]:
    """The model's tensors with W + scale * B A in place of every W the adapter knows."""
    merged = dict(arrays)
    with open_adapter(folder, spec) as adapter:
        for name, term in adapter.terms.items():
            added = term.b.float32().astype(np.float64) @ term.a.float32().astype(np.float64)
            merged[name] = (merged[name] + term.scale * added).astype(np.float32)
    return merged
