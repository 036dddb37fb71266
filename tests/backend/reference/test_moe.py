"""The router and its experts against a plain loop in float64."""

from __future__ import annotations

import numpy as np
from tests.support.memory_store import MemoryStore

from gemstead.backend.reference.moe import experts, route
from gemstead.backend.reference.weights import Weights
from gemstead.spec.variants import VARIANTS

SPEC = VARIANTS["tiny-26b"]
MOE = SPEC.layers[0].moe
NAME, EPS = "layers.0.", SPEC.rms_norm_eps
STORE = MemoryStore(SPEC, scale=0.5)
X_TD = np.random.default_rng(1).standard_normal((9, SPEC.hidden_size)).astype(np.float32)


def value(name):
    return STORE.tensors[NAME + name].values.astype(np.float64)


def normed(x):
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + EPS)


def test_each_row_gets_its_best_experts_with_weights_that_sum_to_one_before_scaling():
    best_TX, weight_TX = route(Weights(STORE), NAME, MOE, X_TD, EPS)
    scores = (normed(X_TD) * value("router.scale") / np.sqrt(SPEC.hidden_size)) @ value("router.proj").T
    expected = np.argsort(-scores, axis=-1)[:, : MOE.top_k_experts]
    assert np.array_equal(best_TX, expected)
    unscaled = weight_TX / value("router.per_expert_scale")[best_TX]
    np.testing.assert_allclose(unscaled.sum(-1), 1, rtol=1e-5)
    assert (np.diff(unscaled, axis=-1) <= 0).all()


def test_the_answer_is_the_weighted_sum_of_the_chosen_mlps():
    w = Weights(STORE)
    best_TX, weight_TX = route(w, NAME, MOE, X_TD, EPS)
    h = normed(X_TD) * value("pre_feedforward_layernorm_2")
    expected = np.zeros_like(h)
    for t in range(len(h)):
        for e, share in zip(best_TX[t], weight_TX[t], strict=True):
            gate, up = np.split(value("experts.gate_up_proj")[e] @ h[t], 2)
            act = gate / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (gate + 0.044715 * gate**3)))
            expected[t] += share * (value("experts.down_proj")[e] @ (act * up))
    np.testing.assert_allclose(experts(w, NAME, MOE, X_TD, EPS), expected, rtol=1e-4, atol=1e-4)
