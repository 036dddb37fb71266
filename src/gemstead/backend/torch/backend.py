"""The PyTorch backend: the five methods over TextModel's layers, with K/V in pages, on CPU or CUDA.

Text only. It borrows the stores, and reads per-layer embedding rows from the target's as it runs, so
they must outlive it. `module` is the trainable model itself. Called by the engine.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from gemstead.backend.base import Batch, Capabilities, Floats, Ints, Logits, Media
from gemstead.backend.native.choosing import native_chooser
from gemstead.backend.reference.drafter import check_pair
from gemstead.backend.torch.adapters import Adapted, bound
from gemstead.backend.torch.cache import PagedCache, Rows, attend_pages, spans_of
from gemstead.backend.torch.drafter import DraftModel
from gemstead.backend.torch.layers import rms
from gemstead.backend.torch.model import TextModel
from gemstead.errors import BackendError, ConfigError, InputError
from gemstead.spec.model import DrafterSpec, LayerSpec, ModelSpec

if TYPE_CHECKING:
    from gemstead.weights.adapter import Adapter
    from gemstead.weights.store import Store

# A model of at most this size in float32 is computed in float32: exactness is then cheap.
SMALL_BYTES = 1 << 30
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def choose_dtype(store: Store) -> str:
    """float32 for a small model or one saved in float32, else bfloat16, which the models were trained in."""
    size = 4 * sum(
        math.prod(t.shape) for name, t in store.tensors.items() if name != "embed_tokens_per_layer"
    )
    return "float32" if size <= SMALL_BYTES or store.tensors["embed_tokens"].format == "f32" else "bfloat16"


class TorchBackend:
    """The `Backend` of backend/base.py in PyTorch.

    device: "cpu", "cuda", ... (None: CUDA where there is one). dtype: "float32" or "bfloat16" (None:
    see choose_dtype); the choice stands in `dtype`. threads: of the CPU (None: torch's default).
    """

    def __init__(
        self,
        store: Store,
        drafter: Store | None = None,
        device: str | None = None,
        dtype: str | None = None,
        threads: int | None = None,
        adapters: Mapping[str, Adapter] | None = None,
    ) -> None:
        """BackendError for a device that is not there or a drafter that does not fit."""
        if not isinstance(store.spec, ModelSpec):
            raise BackendError(f"{store.spec.name} is a drafter: open the model it drafts for, with drafter=")
        if drafter is not None and not isinstance(drafter.spec, DrafterSpec):
            raise BackendError(f"{drafter.spec.name} is a model, not a drafter: give a drafter or none")
        if dtype is not None and dtype not in DTYPES:
            raise ConfigError(
                f"dtype={dtype!r} is not one of {', '.join(DTYPES)}; leave it out to let it be chosen"
            )
        if threads is not None:
            torch.set_num_threads(threads)
        self.device, self.dtype = _device(device), DTYPES[dtype or choose_dtype(store)]
        self.spec: ModelSpec = store.spec
        self._module: TextModel | None = TextModel.from_store(
            store, device=self.device, dtype=self.dtype, per_layer_resident=False
        )
        self._digests = {name: adapter.digest for name, adapter in (adapters or {}).items()}
        self._adapters = [bound(adapter, self.module) for adapter in (adapters or {}).values()]
        self._drafter: DraftModel | None = None
        if drafter is not None:
            assert isinstance(drafter.spec, DrafterSpec)
            check_pair(self.spec, drafter.spec)
            self._drafter = DraftModel.from_store(drafter, self.device, self.dtype)
        models = [m for m in (self._module, self._drafter) if m is not None]
        self._bytes = sum(p.numel() * p.element_size() for m in models for p in m.parameters())
        self._bytes += sum(term.nbytes for terms in self._adapters for term in terms.values())

    @property
    def module(self) -> TextModel:
        """The model itself, for training and LoRA; its per-layer table stays in the store."""
        if self._module is None:
            raise BackendError("this backend is closed: open the model again")
        return self._module

    def capabilities(self) -> Capabilities:
        """What this backend holds and what its K/V costs; weights_bytes counts what is resident."""
        wide = 2 * self.dtype.itemsize
        return Capabilities(
            name="torch",
            spec=self.spec,
            drafter=None if self._drafter is None else self._drafter.spec,
            kv_bytes_per_token=tuple(
                wide * len(p.layers) * p.num_kv_heads * p.head_dim for p in self.spec.pools
            ),
            weights_bytes=self._bytes,
            free_bytes=torch.cuda.mem_get_info(self.device)[0] if self.device.type == "cuda" else None,
            adapters=self._digests,
            choose=native_chooser(),
        )

    def new_cache(self, num_pages: tuple[int, ...], page_tokens: int) -> PagedCache:
        """K/V memory on the device; CapacityError when it has not that much."""
        return PagedCache(self.spec, num_pages, page_tokens, self.device, self.dtype)

    def encode(self, media: Media) -> Floats:
        """InputError: this backend reads text only."""
        raise InputError(
            f"the torch backend cannot read {media.kind}: it reads text only; leave the part out"
        )

    def forward(self, batch: Batch) -> Logits:
        """One forward, or one draft step when the batch carries hidden states."""
        with torch.inference_mode():
            logits, hidden = self.forward_tensors(batch)
            keep_hidden = batch.want_hidden or batch.hidden_TD is not None
            return Logits(_floats(logits), _floats(hidden) if keep_hidden else None)

    def forward_tensors(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The same as tensors, logits and hidden state, differentiable: also through what the cache holds."""
        model, cache, ids = self.module, batch.cache, batch.token_ids
        assert isinstance(cache, PagedCache), "a batch carries a cache made by new_cache of this backend"
        if len(ids) and not 0 <= int(ids.min()) <= int(ids.max()) < self.spec.vocab_size:
            raise InputError(
                f"a token id of {int(ids.min())}..{int(ids.max())} is outside the vocabulary of "
                f"{self.spec.name}: ids go from 0 to {self.spec.vocab_size - 1}; "
                f"use the tokenizer of this model"
            )
        return (self._rows if batch.hidden_TD is None else self._draft)(model, batch, cache)

    def close(self) -> None:
        """Let go of the weights; a second close does nothing."""
        self._module = self._drafter = None
        self._adapters.clear()

    def _rows(self, model: TextModel, batch: Batch, cache: PagedCache) -> tuple[Tensor, Tensor]:
        spec, pool_of = self.spec, self.spec.pool_of_layer
        x_TD = model.embed(self._tensor(batch.token_ids))
        linear = Adapted.of(self._adapters, batch, self.device)
        ple = model.per_layer_inputs(self._tensor(batch.token_ids), x_TD, linear)
        rows = Rows(spans_of(batch), cache, x_TD)
        keep_R = self._tensor(batch.logit_rows)
        for layer in model.layers:
            i, a = layer.spec.index, layer.spec.attention
            source = layer.spec.kv_source
            h_TD = layer.normed(x_TD)
            if layer.spec.owns_kv:
                slots_T = rows.write_slots(pool_of[i])
                cache.keys[i][slots_T], cache.values[i][slots_T] = layer.self_attn.keys_values(
                    h_TD, rows.rope(a), linear
                )
            if i == spec.last_kv_layer:
                # No layer from here on writes K/V: a row whose logits nobody reads has done its work.
                if not len(batch.logit_rows):
                    return x_TD.new_zeros((0, spec.vocab_size)), x_TD[:0]
                rows = Rows(spans_of(batch, batch.logit_rows), cache, x_TD)
                x_TD, h_TD, linear = x_TD[keep_R], h_TD[keep_R], linear.keep(keep_R)
                ple = [p if p is None else p[keep_R] for p in ple]
            q_TNH = layer.self_attn.queries(h_TD, rows.rope(a), linear)
            groups = rows.groups(pool_of[i], a.window)
            attended_TNH = attend_pages(q_TNH, cache.keys[source], cache.values[source], groups)
            x_TD = layer.finish(x_TD, attended_TNH, ple[i], linear)
        hidden_RD = rms(x_TD, model.norm, spec.rms_norm_eps)
        return model.head(hidden_RD) if batch.want_logits else hidden_RD[:, :0], hidden_RD

    def _draft(self, model: TextModel, batch: Batch, cache: PagedCache) -> tuple[Tensor, Tensor]:
        if self._drafter is None:
            raise BackendError(f"a draft step was asked, but {self.spec.name} was opened without a drafter")
        embedding_TD = model.embed(self._tensor(batch.token_ids))
        rows = Rows(spans_of(batch), cache, embedding_TD)
        hidden_TD = torch.from_numpy(batch.hidden_TD).to(embedding_TD)

        def attend(layer: LayerSpec, q_TNH: Tensor) -> Tensor:
            source, window = self.spec.last_kv_layer_of(layer.attention.kind), layer.attention.window
            # A drafter's query sits on the last cached token and sees `window` tokens before it
            # (transformers counts so); a page already released is masked.
            groups = rows.groups(self.spec.pool_of_layer[source], None if window is None else window + 1)
            return attend_pages(q_TNH, cache.keys[source], cache.values[source], groups)

        logits, following = self._drafter(embedding_TD, hidden_TD, rows.positions_T, attend)
        keep_R = self._tensor(batch.logit_rows)
        return logits[keep_R], following[keep_R]

    def _tensor(self, values: Ints) -> Tensor:
        return torch.from_numpy(values).to(self.device, torch.int64)


def _device(name: str | None) -> torch.device:
    """The device of that name, tried out; CUDA where there is one when no name is given."""
    name = name or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.empty(1, device=name).device
    except (RuntimeError, AssertionError) as error:  # torch raises either, depending on its build
        reason = str(error).splitlines()[0]
        raise BackendError(
            f"the device {name!r} cannot be used ({reason}); use cpu, or leave it out"
        ) from error


def _floats(x: Tensor) -> Floats:
    found: Floats = x.float().cpu().numpy()
    return found
