"""The multi-token-prediction drafter in PyTorch: four small layers over the target's own K/V.

It owns no K/V and writes none. Layers are those of layers.py; backend.py gives it the target's
embeddings and pages. Refuses nothing: check_pair has compared it with its target.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from gemstead.backend.torch.layers import Layer, empty, rms, rope_table, softcap
from gemstead.backend.torch.loading import fill
from gemstead.spec.model import DrafterSpec, LayerSpec

if TYPE_CHECKING:
    from gemstead.weights.store import Store


class MaskedEmbedding(nn.Module):
    """The "ordered embeddings" head: token_ordering lists the vocabulary cluster by cluster."""

    def __init__(self, spec: DrafterSpec) -> None:
        super().__init__()
        self.centroids = empty(spec.num_centroids, spec.hidden_size)
        self.register_buffer("token_ordering", torch.empty(spec.vocab_size, dtype=torch.int64))


class DraftModel(nn.Module):
    """A drafter built from its DrafterSpec; parameters carry the names of spec/tensors.py."""

    def __init__(self, spec: DrafterSpec) -> None:
        super().__init__()
        self.spec = spec
        d, backbone = spec.hidden_size, spec.backbone_hidden_size
        self.embed_tokens, self.norm = empty(spec.vocab_size, d), empty(d)
        self.pre_projection, self.post_projection = empty(d, 2 * backbone), empty(backbone, d)
        if spec.num_centroids:
            self.masked_embedding = MaskedEmbedding(spec)
        self.layers = nn.ModuleList(Layer(layer, d, spec.rms_norm_eps) for layer in spec.layers)

    @classmethod
    def from_store(cls, store: Store, device: torch.device, dtype: torch.dtype) -> DraftModel:
        """The drafter of an opened store."""
        assert isinstance(store.spec, DrafterSpec), "a target is opened by TextModel"
        with torch.device("meta"):
            model = cls(store.spec)
        fill(model, store.tensors, device, dtype)
        return model

    def forward(
        self,
        embedding: Tensor,
        hidden: Tensor,
        positions: Tensor,
        attend: Callable[[LayerSpec, Tensor], Tensor],
    ) -> tuple[Tensor, Tensor]:
        """Logits [T, V] float32 and the state for the next step [T, backbone].

        `embedding` [T, backbone] is the target's, scaled; `attend` gathers for a layer's queries
        [T, N, H] what they see in the target's cache.
        """
        x = functional.linear(torch.cat((embedding, hidden), dim=-1), self.pre_projection)
        for layer in self.layers:
            rope = rope_table(layer.spec.attention, positions, x.dtype)
            q = layer.self_attn.queries(layer.normed(x), rope)
            x = layer.finish(x, attend(layer.spec, q), None)
        x = rms(x, self.norm, self.spec.rms_norm_eps)
        logits = self.centroid_head(x) if self.spec.num_centroids else functional.linear(x, self.embed_tokens)
        logits = softcap(logits.float(), self.spec.final_logit_softcapping)
        return logits, functional.linear(x, self.post_projection)

    def centroid_head(self, x: Tensor) -> Tensor:
        """Scores of the tokens in the best clusters; every other token gets their minimum minus 1."""
        masked = self.masked_embedding
        best = functional.linear(x, masked.centroids).topk(self.spec.centroid_top_k, dim=-1).indices
        tokens = masked.token_ordering.view(self.spec.num_centroids, -1)[best].flatten(1)
        scores = (self.embed_tokens[tokens] @ x[:, :, None])[..., 0].float()
        floor = scores.min(dim=-1, keepdim=True).values - 1.0
        return floor.repeat(1, self.spec.vocab_size).scatter_(1, tokens, scores)
