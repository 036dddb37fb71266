"""Fills a module's parameters from a store, a slice at a time, so that memory peaks near the model's size.

The store has checked names and shapes already. Used by model.py and drafter.py; reads weights/.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from gemstead.weights.tensor import Tensor as StoredTensor

SLICE_BYTES = 64 << 20  # of float32 unpacked at once; a 262,144-row embedding takes some 25 slices


def fill(
    module: nn.Module, tensors: Mapping[str, StoredTensor], device: torch.device, dtype: torch.dtype
) -> None:
    """Replace every parameter and buffer of a module built on the meta device by the tensor of its name."""
    for name, old in list(module.named_parameters()):
        owner, _, leaf = name.rpartition(".")
        value = unpack(tensors[name], device, dtype)
        setattr(module.get_submodule(owner), leaf, nn.Parameter(value, requires_grad=old.requires_grad))
    for name, _ in list(module.named_buffers()):
        owner, _, leaf = name.rpartition(".")
        setattr(module.get_submodule(owner), leaf, torch.from_numpy(tensors[name].int64()).to(device))


def unpack(tensor: StoredTensor, device: torch.device, dtype: torch.dtype) -> Tensor:
    """A tensor as `dtype` on `device`, dequantised slice by slice along its leading axis."""
    out = torch.empty(tensor.shape, dtype=dtype, device=device)
    step = max(1, SLICE_BYTES // (4 * math.prod(tensor.shape[1:])))
    for start in range(0, tensor.shape[0], step):
        stop = min(start + step, tensor.shape[0])
        out[start:stop] = torch.from_numpy(tensor.float32(start, stop))
    return out
