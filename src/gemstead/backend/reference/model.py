"""The text model: token ids in, logits out, one readable pass through the layers.

MODEL.md 2 in code, for every variant: what differs between them is data in the LayerSpec. Uses the
sibling modules for each step; called by backend.py. Refuses token ids outside the vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from gemstead.backend.base import Batch, Floats, Ints, Logits
from gemstead.backend.reference.adapters import Adapted
from gemstead.backend.reference.attention import attention, write_kv
from gemstead.backend.reference.cache import PagedCache, Rows
from gemstead.backend.reference.feed_forward import feed_forward
from gemstead.backend.reference.norms import rms_norm, softcap
from gemstead.backend.reference.ple import inject, per_layer_inputs
from gemstead.backend.reference.rope import Rotation, rotation
from gemstead.backend.reference.weights import Weights
from gemstead.errors import InputError
from gemstead.spec.model import AttentionSpec, LayerSpec, ModelSpec


@dataclass(frozen=True, slots=True)
class Context:
    """What layers first.. need to know of the rows they work on, besides the residual itself."""

    rows: Rows
    turns: Mapping[AttentionSpec, Rotation]  # of every row, for each kind of attention in the model
    ple_TLP: Floats | None  # per-layer inputs of layers first.., where the model has them
    first: int


def forward(w: Adapted, spec: ModelSpec, batch: Batch, cache: PagedCache) -> Logits:
    """Write the K/V of all rows; logits (and the final hidden state) of `batch.logit_rows`."""
    eps, ids_T, keep_R = spec.rms_norm_eps, batch.token_ids, batch.logit_rows
    embedding_TD = x_TD = embed(w, spec, ids_T)
    context = prepare(w, spec, ids_T, x_TD, Rows.of(batch), range(spec.last_kv_layer))

    for layer in spec.layers:
        h_TD = rms_norm(x_TD, w.vector(f"layers.{layer.index}.input_layernorm"), eps)
        if layer.owns_kv:
            write_kv(w, layer, h_TD, context.turns[layer.attention], context.rows, cache, eps)
        if layer.index == spec.last_kv_layer:
            # No K/V is written from here on: a row whose logits nobody reads has done its work.
            x_TD, h_TD, rows, w = x_TD[keep_R], h_TD[keep_R], context.rows.keep(keep_R), w.keep(keep_R)
            if not len(keep_R):
                break
            rest = range(layer.index, spec.num_layers)
            context = prepare(w, spec, ids_T[keep_R], embedding_TD[keep_R], rows, rest)
        x_TD = decoder_layer(w, layer, x_TD, h_TD, context, cache, eps)

    hidden_RD = rms_norm(x_TD, w.vector("norm"), eps)
    if not batch.want_logits:
        return Logits(hidden_RD[:, :0], hidden_RD if batch.want_hidden else None)
    logits_RV = softcap(w.linear("embed_tokens", hidden_RD), spec.final_logit_softcapping)
    return Logits(logits_RV, hidden_RD if batch.want_hidden else None)


def decoder_layer(
    w: Weights, layer: LayerSpec, x_TD: Floats, h_TD: Floats, context: Context, cache: PagedCache, eps: float
) -> Floats:
    """The residual after one layer; h is x after the layer's first norm, its K/V already written."""
    name = f"layers.{layer.index}."
    o_TD = attention(w, layer, h_TD, context.turns[layer.attention], context.rows, cache, eps)
    x_TD = x_TD + rms_norm(o_TD, w.vector(name + "post_attention_layernorm"), eps)
    y_TD = feed_forward(w, layer, x_TD, eps)
    x_TD = x_TD + rms_norm(y_TD, w.vector(name + "post_feedforward_layernorm"), eps)
    if context.ple_TLP is not None:
        x_TD = x_TD + inject(w, layer, x_TD, context.ple_TLP[:, layer.index - context.first], eps)
    return x_TD * w.vector(name + "layer_scalar")


def embed(w: Weights, spec: ModelSpec, ids_T: Ints) -> Floats:
    """The scaled embedding of each token, [T, D]: table row times sqrt(hidden_size)."""
    known = min(spec.vocab_size, spec.vocab_size_per_layer_input or spec.vocab_size)
    if len(ids_T) and not 0 <= int(ids_T.min()) <= int(ids_T.max()) < known:
        raise InputError(
            f"a token id of {int(ids_T.min())}..{int(ids_T.max())} is outside the vocabulary of {spec.name}: "
            f"ids go from 0 to {known - 1}; use the tokenizer of this model"
        )
    return w.rows("embed_tokens", ids_T) * math.sqrt(spec.hidden_size)


def prepare(
    w: Weights, spec: ModelSpec, ids_T: Ints, embedding_TD: Floats, rows: Rows, layers: range
) -> Context:
    """The context of `layers` for the given rows."""
    turns = {a: rotation(a, rows.positions_T) for a in {layer.attention for layer in spec.layers}}
    has_ple = spec.hidden_size_per_layer_input > 0
    ple_TLP = per_layer_inputs(w, spec, ids_T, embedding_TD, layers) if has_ple else None
    return Context(rows, turns, ple_TLP, layers.start)
