"""Gemma 4's text decoder as a PyTorch module: the forward that trains, without a cache.

Keys and values that later layers share travel as plain local values, so neither gradient
checkpointing nor the missing cache can lose them. Parameters carry the names of spec/tensors.py.
It refuses media: tokens only. The cached forward over the same layers is backend.py.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from gemstead.backend.torch.attention import attend, take, visible
from gemstead.backend.torch.layers import Layer, Linear, Rope, compute_dtype, empty, rms, rope_table, softcap
from gemstead.backend.torch.loading import fill
from gemstead.spec.model import ModelSpec

if TYPE_CHECKING:
    from gemstead.weights.store import Store
    from gemstead.weights.tensor import Tensor as StoredTensor

KV = tuple[Tensor, Tensor]


def block(
    layer: Layer,
    x: Tensor,
    ple: Tensor | None,
    kv: KV | None,
    ropes: tuple[Rope, Rope],
    mask: Tensor,
    columns: Tensor | None,
) -> tuple[Tensor, KV]:
    """One whole layer without a cache: `kv` is the source layer's, or None where this layer owns it.

    With `columns`, every column of x gives its keys and values but only those go further. `ropes` are
    those of the keys and of the queries.
    """
    h = layer.normed(x)
    if kv is None:
        kv = layer.self_attn.keys_values(h, ropes[0])
    if columns is not None:
        x, h = take(x, columns), take(h, columns)
    return layer.finish(x, attend(layer.self_attn.queries(h, ropes[1]), *kv, mask), ple), kv


class TextModel(nn.Module):
    """The text decoder of any Gemma 4 variant, built from its ModelSpec.

    `checkpointing` recomputes each layer in the backward pass to save memory; loss and gradients
    stay identical. With `per_layer_source` the big table of per-layer embeddings is not a parameter:
    its rows are read from there, one per token.
    """

    def __init__(self, spec: ModelSpec, per_layer_source: StoredTensor | None = None) -> None:
        super().__init__()
        self.spec, self.per_layer_source = spec, per_layer_source
        self.checkpointing = False
        d, p, eps = spec.hidden_size, spec.hidden_size_per_layer_input, spec.rms_norm_eps
        self.embed_tokens, self.norm = empty(spec.vocab_size, d), empty(d)
        if p:
            if per_layer_source is None:
                self.embed_tokens_per_layer = empty(spec.vocab_size_per_layer_input, spec.num_layers * p)
            self.per_layer_model_projection = empty(spec.num_layers * p, d)
            self.per_layer_projection_norm = empty(p)
        self.layers = nn.ModuleList(Layer(layer, d, eps) for layer in spec.layers)

    @classmethod
    def from_store(
        cls,
        store: Store,
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        per_layer_resident: bool = True,
    ) -> TextModel:
        """The model of an opened store, dequantised to `dtype` tensor by tensor.

        With per_layer_resident False the store must stay open, and the per-layer table cannot be
        trained nor written by `to_tensors`.
        """
        assert isinstance(store.spec, ModelSpec), "a drafter is opened by DraftModel"
        away = not per_layer_resident and store.spec.hidden_size_per_layer_input > 0
        with torch.device("meta"):
            model = cls(store.spec, store.tensors["embed_tokens_per_layer"] if away else None)
        fill(model, store.tensors, torch.device(device), dtype)
        return model

    def to_tensors(self) -> dict[str, npt.NDArray[np.float32]]:
        """Every parameter by canonical name as float32 numpy, for the writers of weights/."""
        named = self.named_parameters()
        return {name: p.detach().to("cpu", torch.float32).numpy() for name, p in named}

    def embed(self, token_ids: Tensor) -> Tensor:
        """Token embeddings [..., D] times sqrt(D), rounded to the weights' dtype as in transformers."""
        x = functional.embedding(token_ids, self.embed_tokens)
        return x * torch.tensor(math.sqrt(self.spec.hidden_size), dtype=x.dtype)

    def per_layer_inputs(
        self, token_ids: Tensor, x: Tensor, linear: Linear = functional.linear
    ) -> list[Tensor | None]:
        """One PLE vector [..., P] per layer: the token's own row joined with a projection of x."""
        p, count = self.spec.hidden_size_per_layer_input, self.spec.num_layers
        if not p:
            return [None] * count
        if self.per_layer_source is None:
            token = functional.embedding(token_ids, self.embed_tokens_per_layer)
        else:
            token = torch.from_numpy(self.per_layer_source.rows(token_ids.cpu().numpy())).to(x.device)
        token = token.to(x.dtype) * math.sqrt(p)
        context = linear(x, self.per_layer_model_projection) * self.spec.hidden_size**-0.5
        context = rms(
            context.unflatten(-1, (count, p)), self.per_layer_projection_norm, self.spec.rms_norm_eps
        )
        return list(((context + token.unflatten(-1, (count, p))) * 2**-0.5).unbind(-2))

    def head(self, x: Tensor) -> Tensor:
        """Logits of final-normed rows, softcapped, in float32."""
        return softcap(functional.linear(x, self.embed_tokens).float(), self.spec.final_logit_softcapping)

    def forward(
        self,
        token_ids: Tensor,
        *,
        positions: Tensor | None = None,
        segments: Tensor | None = None,
        wanted: Tensor | None = None,
    ) -> Tensor:
        """Logits [B, T, V] of token_ids [B, T]; float32, after the softcap.

        positions [B or 1, T] count each row's tokens (default 0..T-1). segments [B, T]: tokens see only
        their own segment, so several documents can share a row. wanted [B, W]: column numbers per
        row whose logits to return, [B, W, V]; the other columns stop after the last KV-owning layer,
        exactly as in prefill. Repeat a column to pad.
        """
        return self.head(self.hidden(token_ids, positions=positions, segments=segments, wanted=wanted))

    def hidden(
        self,
        token_ids: Tensor,
        *,
        positions: Tensor | None = None,
        segments: Tensor | None = None,
        wanted: Tensor | None = None,
    ) -> Tensor:
        """The final-norm hidden states [B, T or W, D]; arguments as in forward."""
        if positions is None:
            positions = torch.arange(token_ids.shape[1], device=token_ids.device)[None]
        x = self.embed(token_ids)
        ple = self.per_layer_inputs(token_ids, x)
        kinds = dict.fromkeys(layer.attention for layer in self.spec.layers)
        dtype = compute_dtype(x)
        rope = key_rope = {a: rope_table(a, positions, x.dtype) for a in kinds}
        mask = {a: visible(positions, segments, a.window, None, dtype) for a in kinds}
        kv: dict[int, KV] = {}
        for layer in self.layers:
            i, a, columns = layer.spec.index, layer.spec.attention, None
            if i == self.spec.last_kv_layer and wanted is not None:
                columns = wanted
                ple = [p if p is None else take(p, wanted) for p in ple]
                rope = {a: (take(cos, wanted), take(sin, wanted)) for a, (cos, sin) in rope.items()}
                mask = {a: visible(positions, segments, a.window, wanted, dtype) for a in kinds}
            source = None if layer.spec.owns_kv else kv[layer.spec.kv_source]
            x, kv[i] = self._block(layer, x, ple[i], source, (key_rope[a], rope[a]), mask[a], columns)
        return rms(x, self.norm, self.spec.rms_norm_eps)

    def _block(self, *args: Any) -> tuple[Tensor, KV]:
        if self.checkpointing and torch.is_grad_enabled():
            return checkpoint(block, *args, use_reentrant=False)
        return block(*args)

    @torch.no_grad()
    def init_weights(self, seed: int) -> None:
        """Fill every parameter for training from scratch.

        Linears have std 1/sqrt(fan-in); the embedding half of that, so that logits start well inside
        the softcap. q_norm and k_norm start at H^-1/4: attention has no 1/sqrt(H) of its own. The
        post norms start at 1/sqrt(branches), which keeps the residual stream near the embedding's size.
        """
        generator = torch.Generator().manual_seed(seed)
        branches = self.spec.num_layers * (3 if self.spec.hidden_size_per_layer_input else 2)
        for name, parameter in self.named_parameters():
            leaf = name.rpartition(".")[2]
            if parameter.dim() == 1:
                parameter.fill_(1.0)
                if leaf in ("q_norm", "k_norm"):
                    parameter.fill_(parameter.shape[0] ** -0.25)
                elif leaf.startswith("post_"):
                    parameter.fill_(branches**-0.5)
                continue
            std = parameter.shape[-1] ** -0.5
            if leaf == "embed_tokens":
                std /= 2
            elif leaf == "embed_tokens_per_layer":
                std = self.spec.hidden_size_per_layer_input**-0.5
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * std)
