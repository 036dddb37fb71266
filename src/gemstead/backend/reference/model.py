"""The text model: token ids in, logits out, one readable pass through the layers.

MODEL.md 2 in code, for every variant: what differs between them is data in the LayerSpec. Uses the
sibling modules for each step; called by backend.py. Refuses token ids outside the vocabulary.
"""

from __future__ import annotations

import math

from gemstead.backend.base import Batch, Floats, Ints, Logits
from gemstead.backend.reference.attention import attention, write_kv
from gemstead.backend.reference.cache import PagedCache, Rows
from gemstead.backend.reference.feed_forward import feed_forward
from gemstead.backend.reference.norms import rms_norm, softcap
from gemstead.backend.reference.ple import inject, per_layer_inputs
from gemstead.backend.reference.rope import Rotation, rotation
from gemstead.backend.reference.weights import Weights
from gemstead.errors import InputError
from gemstead.spec.model import AttentionSpec, ModelSpec


def embed(w: Weights, spec: ModelSpec, ids_T: Ints) -> Floats:
    """The scaled embedding of each token, [T, D]: table row times sqrt(hidden_size)."""
    if len(ids_T) and not 0 <= int(ids_T.min()) <= int(ids_T.max()) < spec.vocab_size:
        raise InputError(
            f"a token id of {int(ids_T.min())}..{int(ids_T.max())} is outside the vocabulary of {spec.name}: "
            f"ids go from 0 to {spec.vocab_size - 1}; use the tokenizer of this model"
        )
    return w.rows("embed_tokens", ids_T) * math.sqrt(spec.hidden_size)


def rotations(spec: ModelSpec, rows: Rows) -> dict[AttentionSpec, Rotation]:
    """The rotation of every row, once for each kind of attention in the model."""
    return {a: rotation(a, rows.positions_T) for a in {layer.attention for layer in spec.layers}}


def forward(w: Weights, spec: ModelSpec, batch: Batch, cache: PagedCache) -> Logits:
    """Write the K/V of all rows; logits (and the final hidden state) of `batch.logit_rows`."""
    eps, split = spec.rms_norm_eps, spec.last_kv_layer
    rows, ids_T = Rows.of(batch), batch.token_ids
    embedding_TD = x_TD = embed(w, spec, ids_T)
    turns = rotations(spec, rows)
    layers = range(split)  # the layers ple_TLP is for
    has_ple = spec.hidden_size_per_layer_input > 0
    ple_TLP = per_layer_inputs(w, spec, ids_T, x_TD, layers) if has_ple else None

    for layer in spec.layers:
        name, a = f"layers.{layer.index}.", layer.attention
        h_TD = rms_norm(x_TD, w.vector(name + "input_layernorm"), eps)
        if layer.owns_kv:
            write_kv(w, layer, h_TD, turns[a], rows, cache, eps)
        if layer.index == split:
            # No layer from here on writes K/V, so a row whose logits nobody reads has done its work.
            keep_R = batch.logit_rows
            rows, x_TD, h_TD = rows.keep(keep_R), x_TD[keep_R], h_TD[keep_R]
            turns = rotations(spec, rows)
            layers = range(split, spec.num_layers)
            if has_ple:
                ple_TLP = per_layer_inputs(w, spec, ids_T[keep_R], embedding_TD[keep_R], layers)
            if not len(keep_R):
                break
        o_TD = attention(w, layer, h_TD, turns[a], rows, cache, eps)
        x_TD = x_TD + rms_norm(o_TD, w.vector(name + "post_attention_layernorm"), eps)
        y_TD = feed_forward(w, layer, x_TD, eps)
        x_TD = x_TD + rms_norm(y_TD, w.vector(name + "post_feedforward_layernorm"), eps)
        if ple_TLP is not None:
            x_TD = x_TD + inject(w, layer, x_TD, ple_TLP[:, layer.index - layers.start], eps)
        x_TD = x_TD * w.vector(name + "layer_scalar")

    hidden_RD = rms_norm(x_TD, w.vector("norm"), eps)
    logits_RV = softcap(w.linear("embed_tokens", hidden_RD), spec.final_logit_softcapping)
    return Logits(logits_RV, hidden_RD if batch.want_hidden else None)
