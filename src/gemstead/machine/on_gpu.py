"""Which models the GPU of a machine has room for with the backend torch, and the most they could write there.

No speed is foretold: what is told is a bound, the memory's own rate over the bytes that a token needs. Above:
plan.py, cli/plan.py.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

from gemstead.machine.costs import Costs, Step
from gemstead.machine.fit import Load, kv_needed
from gemstead.machine.gpus import Gpu
from gemstead.spec.tensors import text_tensors
from gemstead.spec.variants import VARIANTS

_BFLOAT16 = 2  # bytes: whatever the file's format is, torch computes a large model in this
_BY_ROWS = "embed_tokens_per_layer"  # stays in the file
# The part of the free memory that weights and K/V may take: our choice, the rest is PyTorch's own.
_ROOMY_SHARE = 0.85


@dataclass(frozen=True, slots=True)
class OnGpu:
    """A variant on a GPU in bfloat16: weights and K/V, whether they fit beside PyTorch itself, and the tokens
    a second of each user that its memory does not allow to exceed (None: its rate is not known)."""

    variant: str
    gpu: str
    memory_bytes: int
    fits: bool
    most_tok_s: float | None


def on_gpu(variant: str, gpus: Sequence[Gpu], load: Load, depth: int) -> Iterator[OnGpu]:
    """The variant on the GPU with most room, after `depth` tokens; nothing where there is none."""
    if not gpus:
        return
    gpu, spec = max(gpus, key=lambda one: one.free_bytes), VARIANTS[variant]
    per_token = [2 * _BFLOAT16 * len(p.layers) * p.num_kv_heads * p.head_dim for p in spec.pools]
    sizes = {row.name: _BFLOAT16 * math.prod(row.shape) for row in text_tensors(spec)}
    held = sum(size for name, size in sizes.items() if name != _BY_ROWS) + kv_needed(spec, load, per_token)
    step = Costs(spec, sizes, per_token).of(Step(depth, 1, load.users))
    most = None if gpu.bytes_s is None else gpu.bytes_s / step.bytes
    yield OnGpu(variant, gpu.name, held, held <= _ROOMY_SHARE * gpu.free_bytes, most)


def what_is_missing() -> str | None:
    """What to do before `--backend torch` uses a GPU; None: nothing, by the version of PyTorch."""
    try:
        found = version("torch")
    except PackageNotFoundError:
        return "pip install 'gemstead[torch]'"
    if found.endswith("+cpu"):
        return f"torch {found} is installed, which uses no GPU: install it anew from pytorch.org with CUDA"
    return None
