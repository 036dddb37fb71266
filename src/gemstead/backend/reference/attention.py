"""Attention: each row looks back at the keys its window allows and blends their values.

MODEL.md 2. Grouped heads, no 1/sqrt(H) and no softcap on scores (the norms of q and k do that work).
Writes and reads the paged memory of cache.py; knows nothing of layers around it.
"""

from __future__ import annotations

import numpy as np

from gemstead.backend.base import Floats
from gemstead.backend.reference.cache import PagedCache, Rows
from gemstead.backend.reference.norms import rms_norm
from gemstead.backend.reference.rope import Rotation, rotate
from gemstead.backend.reference.weights import Weights
from gemstead.spec.model import LayerSpec


def write_kv(
    w: Weights, layer: LayerSpec, h_TD: Floats, turn: Rotation, rows: Rows, cache: PagedCache, eps: float
) -> None:
    """Project, normalise and store the keys and values of every row (layers that own K/V)."""
    a, name = layer.attention, f"layers.{layer.index}.self_attn."
    shape = (len(h_TD), a.num_kv_heads, a.head_dim)
    raw_TKH = w.linear(name + "k_proj", h_TD).reshape(shape)
    # K==V layers have no v_proj: the value is the key projection before its norm, and is not rotated.
    v_TKH = raw_TKH if a.v_from_k else w.linear(name + "v_proj", h_TD).reshape(shape)
    k_TKH = rotate(rms_norm(raw_TKH, w.vector(name + "k_norm"), eps), turn)
    cache.write(layer.index, rows, k_TKH, rms_norm(v_TKH, None, eps))


def queries(w: Weights, layer: LayerSpec, h_TD: Floats, turn: Rotation, eps: float) -> Floats:
    """What each row asks for: q_TNH, normalised and rotated."""
    a, name = layer.attention, f"layers.{layer.index}.self_attn."
    q_TNH = w.linear(name + "q_proj", h_TD).reshape(len(h_TD), a.num_heads, a.head_dim)
    return rotate(rms_norm(q_TNH, w.vector(name + "q_norm"), eps), turn)


def attention(
    w: Weights, layer: LayerSpec, h_TD: Floats, turn: Rotation, rows: Rows, cache: PagedCache, eps: float
) -> Floats:
    """The output of self-attention, [T, D]. The K/V of these rows must have been written."""
    q_TNH = queries(w, layer, h_TD, turn, eps)
    source, window = layer.kv_source, layer.attention.window
    assert source is not None, "a text layer has a K/V source"
    blended_TNH = np.empty_like(q_TNH)
    for span in rows.spans:
        seen_first, seen_last = visible(rows, span.start, window)[0], visible(rows, span.stop - 1, window)[1]
        k_SKH, v_SKH = cache.read(source, span.sequence, seen_first, seen_last)
        for t in range(span.start, span.stop):
            first, last = visible(rows, t, window)
            seen = slice(first - seen_first, last + 1 - seen_first)
            blended_TNH[t] = look_back(q_TNH[t], k_SKH[seen], v_SKH[seen])
    return w.linear(f"layers.{layer.index}.self_attn.o_proj", blended_TNH.reshape(len(h_TD), -1))


def visible(rows: Rows, t: int, window: int | None) -> tuple[int, int]:
    """First and last position row t may look at; a window counts the row itself."""
    position = int(rows.positions_T[t])
    return (0 if window is None else max(0, position - window + 1)), position


def look_back(q_NH: Floats, k_SKH: Floats, v_SKH: Floats) -> Floats:
    """One row's attention over exactly the keys it sees. Query head n reads KV head n // (N/K).

    Row by row and head by head, so that the shapes, hence the rounding, depend on this row alone.
    """
    num_kv_heads, head_dim = k_SKH.shape[1:]
    q_KG1H = q_NH.reshape(num_kv_heads, -1, 1, head_dim)
    score_KG1S = q_KG1H @ k_SKH.transpose(1, 2, 0)[:, None]
    score_KG1S -= score_KG1S.max(axis=-1, keepdims=True)
    weight_KG1S = np.exp(score_KG1S, out=score_KG1S)
    total_KG11 = np.add.reduce(weight_KG1S, axis=-1, keepdims=True)
    blend_KG1H: Floats = (weight_KG1S @ v_SKH.transpose(1, 0, 2)[:, None]) / total_KG11
    return blend_KG1H.reshape(q_NH.shape)
