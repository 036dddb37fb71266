"""Per-layer embeddings (PLE): a second, small embedding that every layer of E2B and E4B mixes in.

MODEL.md 2. `per_layer_inputs` makes the rows once, for the layers that will run; `inject` is the step
at the end of a layer. Called by model.py.
"""

from __future__ import annotations

import math

from gemstead.backend.base import Floats, Ints
from gemstead.backend.reference.norms import gelu, rms_norm
from gemstead.backend.reference.weights import Weights
from gemstead.spec.model import LayerSpec, ModelSpec


def per_layer_inputs(w: Weights, spec: ModelSpec, ids_T: Ints, x_TD: Floats, layers: range) -> Floats:
    """For each row its inputs to `layers`, [T, len(layers), P]; x is the scaled embedding.

    Half comes from the token's own row of a table, half from a projection of the embedding.
    """
    width = spec.hidden_size_per_layer_input
    begin, end = layers.start * width, layers.stop * width
    shape = (len(ids_T), len(layers), width)
    context_TLP = w.linear("per_layer_model_projection", x_TD, begin, end).reshape(shape)
    context_TLP *= 1.0 / math.sqrt(spec.hidden_size)
    context_TLP = rms_norm(context_TLP, w.vector("per_layer_projection_norm"), spec.rms_norm_eps)
    token_TLP = w.rows("embed_tokens_per_layer", ids_T)[:, begin:end].reshape(shape)
    context_TLP += token_TLP * math.sqrt(width)
    context_TLP *= math.sqrt(0.5)
    return context_TLP


def inject(w: Weights, layer: LayerSpec, x_TD: Floats, ple_TP: Floats, eps: float) -> Floats:
    """What a layer adds to the residual from its per-layer input, [T, D]."""
    name = f"layers.{layer.index}."
    gate_TP = gelu(w.linear(name + "per_layer_input_gate", x_TD)) * ple_TP
    return rms_norm(
        w.linear(name + "per_layer_projection", gate_TP), w.vector(name + "post_per_layer_input_norm"), eps
    )
