"""Masks and softmax attention in PyTorch, over local keys or gathered ones; no weights here.

Scale is 1: Gemma 4's queries and keys are normed. Used by model.py (rows of packed documents) and
cache.py (pages). Shape letters as in layers.py.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional


def visible(
    positions: Tensor, segments: Tensor | None, window: int | None, columns: Tensor | None, dtype: torch.dtype
) -> Tensor:
    """The mask to add to scores: 0 for a key of the query's own segment and past, in the window; else -inf.

    positions [B or 1, T]; segments [B, T]; columns [B, W] restricts the queries. The mask is
    [B or 1, 1, T or W, T], or, for a window that divides T at least three times, one
    [window, 2 * window] mask per block of queries: [B or 1, blocks, 1, window, 2 * window].
    """
    facts = [positions] if segments is None else [positions, segments]
    pairs = []
    length, block = positions.shape[1], window or 0
    blocked = columns is None and 0 < 3 * block <= length and length % block == 0
    for x in facts:
        if blocked:  # a block's keys are its own columns and the block before; 2^30 back is out of any window
            keys = functional.pad(x, (block, 0), value=-(1 << 30)).unfold(1, 2 * block, block)
            pairs.append((x.unflatten(1, (-1, block))[..., None], keys[..., None, :]))
        else:
            queries = x if columns is None else take(x, columns)
            pairs.append((queries[..., None], x[..., None, :]))
    distance = pairs[0][0] - pairs[0][1]
    seen = distance >= 0
    if window is not None:
        seen = seen & (distance < window)
    for query, key in pairs[1:]:
        seen = seen & (query == key)
    mask = torch.zeros(seen.shape, dtype=dtype, device=seen.device)
    return mask.masked_fill_(~seen, -math.inf).unsqueeze(-3)


def take(x: Tensor, columns: Tensor) -> Tensor:
    """Columns [B, W] of x [B or 1, T, ...]."""
    rows = torch.arange(len(columns), device=columns.device)[:, None]
    return x.expand(len(columns), *x.shape[1:])[rows, columns]


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    """Softmax attention [B, T, N, H], scale 1: q [B, T, N, H], k and v [B, S, K, H], mask as of `visible`."""
    batch, rows, heads, _ = q.shape
    if mask.dim() == 5:
        window = mask.shape[-2]
        mask = mask.expand(batch, *mask.shape[1:]).flatten(0, 1)
        q = q.unflatten(1, (-1, window)).flatten(0, 1)
        k, v = (_with_block_before(x, window) for x in (k, v))
    q, k, v = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)
    group = heads // k.shape[1]
    if rows == 1:  # decoding: the heads that share a key become its rows, and no key is copied
        out = functional.scaled_dot_product_attention(
            q.reshape(batch, -1, group, q.shape[-1]), k, v, attn_mask=mask, scale=1.0
        )
        return out.reshape(batch, 1, heads, -1)
    if q.dtype == torch.bfloat16 and q.device.type == "cpu":
        out = _attend_plainly(q, k, v, mask)
    else:
        k, v = (x[:, :, None].expand(-1, -1, group, -1, -1).flatten(1, 2) for x in (k, v))
        out = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=1.0)
    return out.transpose(1, 2).reshape(batch, rows, heads, -1)


def _attend_plainly(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    """The same in three steps: torch's fused CPU kernel takes twice the time in bfloat16 (2.13, AVX-512)."""
    batch, kv_heads, keys, _ = k.shape
    rows = q.reshape(batch, kv_heads, -1, q.shape[-1])
    scores = (rows @ k.transpose(-1, -2)).view(batch, kv_heads, -1, q.shape[2], keys).add_(mask[:, None])
    return (scores.softmax(-1).view(batch, kv_heads, -1, keys) @ v).view(q.shape)


def _with_block_before(x: Tensor, window: int) -> Tensor:
    """x [B, T, K, H] as [B * blocks, 2 * window, K, H]: each block after the one before it."""
    padded = functional.pad(x, (0, 0, 0, 0, window, 0))
    return padded.unfold(1, 2 * window, window).permute(0, 1, 4, 2, 3).flatten(0, 1)
