"""Small random Gemma 4 models made and saved by transformers: what parity tests compare against.

One row of KINDS per kind of model, one of DRAFTERS per kind of drafter. A model is built once per
test process and kept in a temporary folder, as transformers' own save_pretrained writes it.
"""

from __future__ import annotations

import atexit
import os
import tempfile
from collections.abc import Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")

torch = pytest.importorskip("torch", reason="parity tests compare with transformers, which needs torch")
transformers = pytest.importorskip("transformers", reason="parity tests compare with transformers")

torch.set_num_threads(1)  # the models are tiny: a second thread waits longer than it works

SLIDING, FULL = "sliding_attention", "full_attention"


def pattern(*runs: int) -> list[str]:
    """Layer types: for each number, so many sliding layers and then a full one."""
    return [kind for run in runs for kind in [SLIDING] * run + [FULL]]


def rope(
    fraction: float = 0.25, theta: float = 1e6, sliding_theta: float = 1e4, **extra: float
) -> dict[str, Any]:
    return {
        SLIDING: {"rope_type": "default", "rope_theta": sliding_theta},
        FULL: {"rope_type": "proportional", "partial_rotary_factor": fraction, "rope_theta": theta, **extra},
    }


COMMON: Mapping[str, Any] = {
    "vocab_size": 320,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_attention_heads": 4,
    "head_dim": 16,
    "global_head_dim": 32,
    "sliding_window": 8,
    "max_position_embeddings": 512,
    "hidden_size_per_layer_input": 0,
    "vocab_size_per_layer_input": 320,
    "final_logit_softcapping": 30.0,
    "tie_word_embeddings": True,
}
_SMALL: Mapping[str, Any] = {"hidden_size_per_layer_input": 32, "num_key_value_heads": 1}

KINDS: Mapping[str, Mapping[str, Any]] = {
    # The five of the family, in small: what a layer can be.
    "e2b": {
        **_SMALL,
        "layer_types": pattern(4, 4, 4),
        "num_kv_shared_layers": 5,
        "use_double_wide_mlp": True,
    },
    "e4b": {**_SMALL, "layer_types": pattern(5, 5), "num_kv_shared_layers": 5, "num_key_value_heads": 2},
    "12b": {
        "layer_types": pattern(5, 1),
        "num_key_value_heads": 2,
        "num_global_key_value_heads": 1,
        "attention_k_eq_v": True,
    },
    "26b": {
        "layer_types": pattern(2, 2),
        "num_key_value_heads": 2,
        "num_global_key_value_heads": 1,
        "attention_k_eq_v": True,
        "enable_moe_block": True,
        "num_experts": 8,
        "top_k_experts": 3,
        "moe_intermediate_size": 32,
    },
    "31b": {
        "layer_types": pattern(5),
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "num_global_key_value_heads": 2,
        "attention_k_eq_v": True,
    },
    # Corners of the description that no released model visits.
    "odd-sizes": {
        **_SMALL,
        "hidden_size": 54,
        "intermediate_size": 77,
        "vocab_size": 211,
        "vocab_size_per_layer_input": 211,
        "hidden_size_per_layer_input": 10,
        "num_attention_heads": 6,
        "num_key_value_heads": 3,
        "head_dim": 10,
        "global_head_dim": 22,
        "sliding_window": 5,
        "layer_types": pattern(1, 0, 2, 1),
        "num_kv_shared_layers": 3,
    },
    "no-softcap": {
        "layer_types": pattern(1, 1),
        "num_key_value_heads": 4,
        "final_logit_softcapping": None,
        "rms_norm_eps": 1e-5,
        "rope_parameters": rope(fraction=0.5, theta=5e4, sliding_theta=500.0, factor=4.0),
    },
    "full-rotary": {
        **_SMALL,
        "layer_types": pattern(0, 2, 1),
        "num_key_value_heads": 2,
        "use_double_wide_mlp": True,
        "rope_parameters": rope(fraction=1.0, factor=8.0),
    },
    "moe-ple": {
        **_SMALL,
        "layer_types": pattern(1, 1, 1),
        "num_key_value_heads": 2,
        "num_kv_shared_layers": 2,
        "enable_moe_block": True,
        "num_experts": 5,
        "top_k_experts": 1,
        "moe_intermediate_size": 24,
    },
}

DRAFTERS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    # kind of drafter -> (kind of its target, its own settings)
    "e2b": ("e2b", {"num_centroids": 32, "centroid_intermediate_top_k": 4, "use_ordered_embeddings": True}),
    "e4b": ("e4b", {"num_centroids": 64, "centroid_intermediate_top_k": 5, "use_ordered_embeddings": True}),
    "12b": ("12b", {}),
    "26b": ("26b", {}),
    "31b": ("31b", {}),
    "odd-sizes": ("odd-sizes", {"hidden_size": 26, "num_attention_heads": 3}),
}


@dataclass(frozen=True)
class Saved:
    """A model of transformers, in evaluation mode, and the folder it was saved to."""

    folder: Path
    model: Any


@cache
def _home() -> Path:
    home = tempfile.TemporaryDirectory(prefix="gemstead-models-")
    atexit.register(home.cleanup)
    return Path(home.name)


def text_config(kind: str, family: str = "Gemma4", **changes: Any) -> Any:
    """transformers' configuration of a kind, with changes; "Gemma4Unified" is the family of the 12B."""
    settings = {**COMMON, **KINDS[kind], **changes}
    settings.setdefault("num_hidden_layers", len(settings["layer_types"]))
    if family == "Gemma4Unified":
        settings = {k: v for k, v in settings.items() if "per_layer" not in k and "moe" not in k}
    config = getattr(transformers, f"{family}TextConfig")(**settings)
    config._attn_implementation = "eager"
    return config


@cache
def saved_model(kind: str, seed: int = 0, dtype: str = "float32", family: str = "Gemma4") -> Saved:
    """A random model of the kind, saved in `dtype` and, as `model`, loaded back in float32."""
    model = getattr(transformers, f"{family}ForCausalLM")(text_config(kind, family))
    randomise(model, seed)
    return _save(model, f"{family}-{kind}-{seed}-{dtype}", dtype)


@cache
def saved_whole_model(kind: str = "e2b", seed: int = 0) -> Saved:
    """The same text model inside Gemma4ForConditionalGeneration, as the released files have it."""
    vision = {
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "position_embedding_size": 64,
    }
    config = transformers.Gemma4Config(
        text_config=text_config(kind).to_dict(), vision_config=vision, audio_config=None
    )
    config._attn_implementation = "eager"
    model = transformers.Gemma4ForConditionalGeneration(config)
    randomise(model, seed)
    return _save(model, f"whole-{kind}-{seed}", "float32")


@cache
def saved_drafter(kind: str, seed: int = 0, family: str = "Gemma4") -> Saved:
    """A random drafter for the target `DRAFTERS[kind][0]` of the same family."""
    target, own = DRAFTERS[kind]
    head = {k: v for k, v in own.items() if "centroid" in k or k == "use_ordered_embeddings"}
    changes = {
        "hidden_size": 32,
        "intermediate_size": 48,
        "layer_types": pattern(3),
        "num_kv_shared_layers": 4,
        "hidden_size_per_layer_input": 0,
        "vocab_size_per_layer_input": 0,
        "enable_moe_block": False,
        "use_double_wide_mlp": False,
        "final_logit_softcapping": None,
        **{k: v for k, v in own.items() if k not in head},
    }
    with all_layers_shared():
        config = getattr(transformers, f"{family}AssistantConfig")(
            text_config=text_config(target, family, **changes),
            backbone_hidden_size={**COMMON, **KINDS[target]}["hidden_size"],
            **head,
        )
        config._attn_implementation = "eager"
        model = getattr(transformers, f"{family}AssistantForCausalLM")(config)
        randomise(model, seed + 1000)
        return _save(model, f"drafter-{family}-{kind}-{seed}", "float32")


@contextmanager
def all_layers_shared() -> Any:
    """transformers 5.23 refuses a configuration whose layers all share K/V, which every drafter's do."""
    classes = (transformers.Gemma4TextConfig, transformers.Gemma4UnifiedTextConfig)
    originals = [config_class.kv_sharing_modes for config_class in classes]
    for config_class, original in zip(classes, originals, strict=True):
        config_class.kv_sharing_modes = property(partial(_sharing_modes, original.fget))
    try:
        yield
    finally:
        for config_class, original in zip(classes, originals, strict=True):
            config_class.kv_sharing_modes = original


def _sharing_modes(original: Any, config: Any) -> list[str | None]:
    if config.num_kv_shared_layers == config.num_hidden_layers:
        return ["reuse"] * config.num_hidden_layers
    return original(config)


def randomise(model: Any, seed: int) -> None:
    """Values that matter everywhere: norms and scalars away from 1, matrices that keep rows alive."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in [*model.named_parameters(), *model.named_buffers()]:
            if name.endswith("token_ordering"):
                value.copy_(torch.randperm(len(value), generator=generator))
            elif name.endswith("layer_scalar"):
                value.copy_(0.5 + torch.rand(value.shape, generator=generator))
            elif not value.is_floating_point() or "inv_freq" in name or name.endswith("embed_scale"):
                continue
            elif value.ndim < 2:
                # Scores of spread sqrt(head_dim) would make attention a toss that rounding decides.
                size = 0.25 if "q_norm" in name else 1.0
                value.copy_(size * (1 + 0.3 * torch.randn(value.shape, generator=generator)))
            else:
                spread = 0.3 if "embed" in name else 1.2 * value.shape[-1] ** -0.5
                value.copy_(spread * torch.randn(value.shape, generator=generator))


def random_ids(kind: str, count: int, seed: int = 0) -> np.ndarray:
    """Token ids of a kind's vocabulary."""
    vocab_size = {**COMMON, **KINDS[kind]}["vocab_size"]
    return np.random.default_rng(seed).integers(0, vocab_size, count, dtype=np.int32)


def theirs(saved: Saved, ids: np.ndarray) -> np.ndarray:
    """transformers' logits of one sequence, float32 [T, V]."""
    with torch.no_grad():
        return saved.model(torch.from_numpy(ids.astype(np.int64))[None]).logits[0].float().numpy()


def _save(model: Any, name: str, dtype: str) -> Saved:
    folder = _home() / name
    model.to(getattr(torch, dtype)).save_pretrained(folder)
    if dtype != "float32":
        # Loaded again, not converted back: buffers such as the embedding's scale would stay rounded.
        model = type(model).from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
    return Saved(folder, model.eval())
