"""The feed-forward half of a layer: a gated MLP, and beside it the experts of an MoE layer.

MODEL.md 2. Called by model.py and drafter.py; the experts themselves are in moe.py.
"""

from __future__ import annotations

from gemstead.backend.base import Floats
from gemstead.backend.reference.moe import experts
from gemstead.backend.reference.norms import gelu, rms_norm
from gemstead.backend.reference.weights import Weights
from gemstead.spec.model import LayerSpec


def feed_forward(w: Weights, layer: LayerSpec, x_TD: Floats, eps: float) -> Floats:
    """The feed-forward output before its post norm, [T, D], from the residual x."""
    name = f"layers.{layer.index}."
    y_TD = mlp(w, name, rms_norm(x_TD, w.vector(name + "pre_feedforward_layernorm"), eps))
    if layer.moe is None:
        return y_TD
    # The dense MLP is the expert everybody gets; the routed ones look at the residual themselves.
    y_TD = rms_norm(y_TD, w.vector(name + "post_feedforward_layernorm_1"), eps)
    routed_TD = experts(w, name, layer.moe, x_TD, eps)
    return y_TD + rms_norm(routed_TD, w.vector(name + "post_feedforward_layernorm_2"), eps)


def mlp(w: Weights, name: str, h_TD: Floats) -> Floats:
    """down(gelu(gate h) * up h)."""
    inner_TF = gelu(w.linear(name + "mlp.gate_proj", h_TD))
    inner_TF *= w.linear(name + "mlp.up_proj", h_TD)
    return w.linear(name + "mlp.down_proj", inner_TF)
