"""The multi-token-prediction drafter: a few small layers that guess the next token from the target's K/V.

MODEL.md 8. It owns no K/V and writes none: every step of a round looks from the same position, that
of the target's last cached token. Uses the target's embeddings; called by backend.py.
"""

from __future__ import annotations

import numpy as np

from gemstead.backend.base import Batch, Floats, Logits
from gemstead.backend.reference.attention import look_back, queries
from gemstead.backend.reference.cache import PagedCache, Rows
from gemstead.backend.reference.feed_forward import feed_forward
from gemstead.backend.reference.model import embed
from gemstead.backend.reference.norms import rms_norm, softcap
from gemstead.backend.reference.rope import rotation
from gemstead.backend.reference.weights import Weights, times_rows
from gemstead.errors import BackendError
from gemstead.spec.layers import drafter_mismatches
from gemstead.spec.model import DrafterSpec, LayerSpec, ModelSpec


def check_pair(target: ModelSpec, drafter: DrafterSpec) -> None:
    """BackendError, listing every reason, when the drafter cannot read this target."""
    faults = drafter_mismatches(target, drafter)
    if faults:
        raise BackendError(
            f"{drafter.name} cannot draft for {target.name}: {'; '.join(faults)}. "
            f"Use the drafter published for this model, or none."
        )


def draft(
    w: Weights, spec: DrafterSpec, target_w: Weights, target: ModelSpec, batch: Batch, cache: PagedCache
) -> Logits:
    """One draft step: scores of the next token, and the state to feed to the next step."""
    assert batch.hidden_TD is not None, "a draft step carries hidden states"
    eps, rows = spec.rms_norm_eps, Rows.of(batch)
    embedding_TD = embed(target_w, target, batch.token_ids)
    x_TD = w.linear("pre_projection", np.concatenate([embedding_TD, batch.hidden_TD], axis=1))

    for layer in spec.layers:
        name = f"layers.{layer.index}."
        h_TD = rms_norm(x_TD, w.vector(name + "input_layernorm"), eps)
        o_TD = borrowed_attention(w, layer, h_TD, target, rows, cache, eps)
        x_TD = x_TD + rms_norm(o_TD, w.vector(name + "post_attention_layernorm"), eps)
        y_TD = feed_forward(w, layer, x_TD, eps)
        x_TD = x_TD + rms_norm(y_TD, w.vector(name + "post_feedforward_layernorm"), eps)
        x_TD = x_TD * w.vector(name + "layer_scalar")

    x_RD = rms_norm(x_TD, w.vector("norm"), eps)[batch.logit_rows]
    logits_RV = centroid_head(w, spec, x_RD) if spec.num_centroids else w.linear("embed_tokens", x_RD)
    return Logits(softcap(logits_RV, spec.final_logit_softcapping), w.linear("post_projection", x_RD))


def borrowed_attention(
    w: Weights, layer: LayerSpec, h_TD: Floats, target: ModelSpec, rows: Rows, cache: PagedCache, eps: float
) -> Floats:
    """Attention over the target's last K/V of the same kind, [T, D].

    The query sits on the last cached token; its window reaches `window` tokens before that one, one
    more than the target's own rows see (transformers counts so). A page the engine has already
    released is left out: the target checks every draft, so a draft may see a little less.
    """
    a, source = layer.attention, target.last_kv_layer_of(layer.attention.kind)
    q_TNH = queries(w, layer, h_TD, rotation(a, rows.positions_T), eps)
    blended_TNH = np.empty_like(q_TNH)
    for span in rows.spans:
        assert span.stop - span.start == 1, "a draft step has one row a sequence"
        last = span.sequence.position
        first = 0 if a.window is None else max(0, last - a.window)
        first = cache.held_from(source, span.sequence, first)
        k_SKH, v_SKH = cache.read(source, span.sequence, first, last)
        blended_TNH[span.start] = look_back(q_TNH[span.start], k_SKH, v_SKH)
    return w.linear(f"layers.{layer.index}.self_attn.o_proj", blended_TNH.reshape(len(h_TD), -1))


def centroid_head(w: Weights, spec: DrafterSpec, x_RD: Floats) -> Floats:
    """Scores of the tokens in the best clusters only; every other token gets their minimum minus 1.

    MODEL.md 8.2: token_ordering lists the vocabulary cluster by cluster.
    """
    tokens_CM = w.integers("masked_embedding.token_ordering").reshape(spec.num_centroids, -1)
    cluster_RC = w.linear("masked_embedding.centroids", x_RD)
    best_RC = np.argsort(-cluster_RC, axis=-1, kind="stable")[:, : spec.centroid_top_k]
    logits_RV = np.empty((len(x_RD), spec.vocab_size), np.float32)
    for r, x_D in enumerate(x_RD):
        tokens = tokens_CM[best_RC[r]].ravel()
        scores = times_rows(x_D[None], w.rows("embed_tokens", tokens))[0]
        logits_RV[r] = scores.min() - 1.0
        logits_RV[r, tokens] = scores
    return logits_RV
