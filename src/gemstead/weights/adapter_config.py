"""What adapter_config.json says of an adapter: rank and scale of each linear, and all we must refuse.

Any field that is set and not known to leave the result alone is refused by name, so that a newer PEFT
cannot ask for something that is silently left out. Neighbour: adapter.py.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gemstead.errors import WeightsError
from gemstead.weights.jsonfile import read_object
from gemstead.weights.mapped import brief

MAX_RANK = 4096  # adapters have 4 to 256; the widest Gemma 4 has 5,376 columns
MAX_ALPHA = 1e6
_MAX_PATTERNS = 10_000

# Set or not, the result is the same: where it came from, which linears were trained (the file holds
# exactly those), how training went.
_HARMLESS = {
    *("auto_mapping", "base_model_name_or_path", "peft_version", "revision", "task_type", "inference_mode"),
    *("target_modules", "exclude_modules", "layers_to_transform", "layers_pattern"),
    *("corda_config", "eva_config", "loftq_config", "lora_ga_config", "lora_dropout", "runtime_config"),
    *("ensure_weight_tying", "megatron_core", "qalora_group_size"),
}
_READ = {
    *("peft_type", "r", "lora_alpha", "use_rslora", "rank_pattern", "alpha_pattern"),
    *("init_lora_weights", "bias"),
}
_MEANING = {
    "use_dora": "DoRA",
    "modules_to_save": "modules saved whole",
    "lora_bias": "biases",
    "target_parameters": "LoRA on the experts' parameters",
    "trainable_token_indices": "trained tokens",
    "alora_invocation_tokens": "activated LoRA",
    "layer_replication": "copied layers",
}
# Starts of A and B that leave the base weights alone; the others subtract the start from them, so that the
# matrices only fit a changed model.
_PLAIN_STARTS = (True, False, None, "gaussian", "eva", "orthogonal")
_PATTERN = re.compile(r"\^?[A-Za-z0-9_.]+")


@dataclass(frozen=True, slots=True)
class Settings:
    """Rank and alpha of an adapter, and of the linears for which they differ."""

    rank: int
    alpha: float
    is_rank_stabilised: bool
    ranks: Mapping[str, int]
    alphas: Mapping[str, float]

    def rank_of(self, module: str) -> int:
        """The rank of the linear at this path of the model."""
        return int(_matching(self.ranks, module, self.rank))

    def scale_of(self, module: str, rank: int) -> float:
        """What B (A x) is multiplied with: alpha / rank, or alpha / sqrt(rank) where rank-stabilised."""
        alpha = float(_matching(self.alphas, module, self.alpha))
        return alpha / (math.sqrt(rank) if self.is_rank_stabilised else rank)


def read_settings(path: Path) -> Settings:
    """The settings in the file; one WeightsError for everything it asks that gemstead does not do."""
    config = read_object(path)
    kind = config.get("peft_type")
    if kind != "LORA":
        raise WeightsError(f"{path}: peft_type is {brief(kind)}; gemstead runs LORA adapters")
    refused = [_refusal(name, value) for name, value in config.items() if _is_asked(name, value)]
    if config.get("bias", "none") != "none":
        refused.append(f"bias = {brief(config['bias'])} (trained biases)")
    start = config.get("init_lora_weights", True)
    if not any(start is x or (isinstance(x, str) and start == x) for x in _PLAIN_STARTS):
        refused.append(
            f"init_lora_weights = {brief(start)} (changed base weights; PEFT can convert it when saving)"
        )
    if refused:
        raise WeightsError(
            f"{path} asks for what gemstead does not compute: {'; '.join(refused[:20])}; merge the "
            "adapter into the model with PEFT (merge_and_unload), or train without"
        )
    stabilised = config.get("use_rslora", False)
    if stabilised not in (True, False, None) or type(stabilised) is int:
        raise WeightsError(f"{path}: use_rslora is {brief(stabilised)}; allowed are true and false")
    return Settings(
        rank=_rank(config.get("r"), path, "r"),
        alpha=_alpha(config.get("lora_alpha"), path, "lora_alpha"),
        is_rank_stabilised=bool(stabilised),
        ranks={k: _rank(v, path, k) for k, v in _patterns(config, "rank_pattern", path).items()},
        alphas={k: _alpha(v, path, k) for k, v in _patterns(config, "alpha_pattern", path).items()},
    )


def _is_asked(name: str, value: Any) -> bool:
    """Whether a field asks for something we neither read nor may pass over."""
    return bool(value) and name not in _HARMLESS and name not in _READ


def _refusal(name: str, value: Any) -> str:
    meaning = f" ({_MEANING[name]})" if name in _MEANING else ""
    return f"{name[:80]} = {brief(value)}{meaning}"


def _rank(value: Any, path: Path, name: str) -> int:
    if type(value) is not int or not 1 <= value <= MAX_RANK:
        raise WeightsError(f"{path}: the rank {name[:80]} is {brief(value)}; allowed are 1 to {MAX_RANK}")
    return value


def _alpha(value: Any, path: Path, name: str) -> float:
    if type(value) not in (int, float) or not 0 <= value <= MAX_ALPHA:
        raise WeightsError(f"{path}: the alpha {name[:80]} is {brief(value)}; allowed are 0 to {MAX_ALPHA:g}")
    return float(value)


def _patterns(config: Mapping[str, Any], name: str, path: Path) -> dict[str, Any]:
    """From ends of module paths to values. PEFT allows any regular expression; a stranger's may never end."""
    patterns = config.get(name) or {}
    if not isinstance(patterns, dict) or len(patterns) > _MAX_PATTERNS:
        raise WeightsError(f"{path}: {name} is {brief(patterns)}; at most {_MAX_PATTERNS} names are allowed")
    odd = [key for key in patterns if not _PATTERN.fullmatch(key)]
    if odd:
        raise WeightsError(
            f"{path}: {name} names {brief(odd[0])}; gemstead reads plain module names such as "
            "'layers.0.self_attn.q_proj', no regular expressions"
        )
    return patterns


def _matching(patterns: Mapping[str, Any], module: str, otherwise: Any) -> Any:
    """The value of the first pattern the path ends with, at a dot; of one with ^ that it equals."""
    for key, value in patterns.items():
        if module == key.removeprefix("^") or (not key.startswith("^") and module.endswith("." + key)):
            return value
    return otherwise
