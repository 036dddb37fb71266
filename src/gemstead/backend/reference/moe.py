"""Mixture of experts: a router picks a few of many small MLPs for each row and weighs their answers.

MODEL.md 2 (26B-A4B). Only the picked experts are unpacked. Called by feed_forward.py.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from gemstead.backend.base import Floats
from gemstead.backend.reference.norms import gelu, rms_norm
from gemstead.backend.reference.weights import Weights
from gemstead.spec.model import MoeSpec

Picks = npt.NDArray[np.intp]


def route(w: Weights, name: str, moe: MoeSpec, x_TD: Floats, eps: float) -> tuple[Picks, Floats]:
    """The experts of each row and their weights, [T, top_k] both, from the residual x itself."""
    r_TD = rms_norm(x_TD, None, eps) * w.vector(name + "router.scale")
    r_TD *= 1.0 / math.sqrt(x_TD.shape[-1])
    score_TE = w.linear(name + "router.proj", r_TD)
    share_TE = np.exp(score_TE - score_TE.max(axis=-1, keepdims=True))
    share_TE /= np.add.reduce(share_TE, axis=-1, keepdims=True)
    best_TX = np.argsort(-share_TE, axis=-1, kind="stable")[:, : moe.top_k_experts]
    weight_TX = np.take_along_axis(share_TE, best_TX, axis=-1)
    weight_TX /= np.add.reduce(weight_TX, axis=-1, keepdims=True)
    return best_TX, weight_TX * w.vector(name + "router.per_expert_scale")[best_TX]


def experts(w: Weights, name: str, moe: MoeSpec, x_TD: Floats, eps: float) -> Floats:
    """The weighted sum of each row's experts, [T, D].

    Experts go in ascending order, so a row adds its own in the same order in any batch.
    """
    best_TX, weight_TX = route(w, name, moe, x_TD, eps)
    h_TD = rms_norm(x_TD, w.vector(name + "pre_feedforward_layernorm_2"), eps)
    y_TD = np.zeros_like(h_TD)
    for e in np.unique(best_TX):
        rows, place = np.nonzero(best_TX == e)
        gate_up = w.expert(name + "experts.gate_up_proj", int(e), h_TD[rows])
        gate, up = gate_up[:, : moe.intermediate_size], gate_up[:, moe.intermediate_size :]
        answer = w.expert(name + "experts.down_proj", int(e), gelu(gate) * up)
        y_TD[rows] += weight_TX[rows, place][:, None] * answer
    return y_TD
