"""A Store's tensors as the structs the core reads: in place where it can, packed where that is faster.

Holds the packed pieces and the small vectors; everything else stays in the file's map. Neighbours:
packing.py, library.py, backend.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import numpy.typing as npt

from gemstead.backend.native import layout
from gemstead.backend.native.library import address, floats, ints
from gemstead.backend.native.packing import code_of, copies_of, kind_of, pieces, readable
from gemstead.backend.reference.rope import frequencies
from gemstead.spec.model import DrafterSpec, LayerSpec, ModelSpec

if TYPE_CHECKING:
    from gemstead.weights.store import Store
    from gemstead.weights.tensor import Tensor

# Struct field -> tensor, below layers.N.
_MATRICES = {
    "q_proj": "self_attn.q_proj",
    "k_proj": "self_attn.k_proj",
    "v_proj": "self_attn.v_proj",
    "o_proj": "self_attn.o_proj",
    "gate_proj": "mlp.gate_proj",
    "up_proj": "mlp.up_proj",
    "down_proj": "mlp.down_proj",
    "router": "router.proj",
    "expert_gate_up": "experts.gate_up_proj",
    "expert_down": "experts.down_proj",
    "per_layer_input_gate": "per_layer_input_gate",
    "per_layer_projection": "per_layer_projection",
}
_VECTORS = {
    "input_norm": "input_layernorm",
    "q_norm": "self_attn.q_norm",
    "k_norm": "self_attn.k_norm",
    "post_attention_norm": "post_attention_layernorm",
    "pre_feedforward_norm": "pre_feedforward_layernorm",
    "post_feedforward_norm": "post_feedforward_layernorm",
    "post_per_layer_input_norm": "post_per_layer_input_norm",
    "router_scale": "router.scale",
    "per_expert_scale": "router.per_expert_scale",
    "pre_feedforward_norm_2": "pre_feedforward_layernorm_2",
    "post_feedforward_norm_1": "post_feedforward_layernorm_1",
    "post_feedforward_norm_2": "post_feedforward_layernorm_2",
}


class _Structs:
    """The structs of some layers, and the memory they point into."""

    def __init__(self, store: Store, names: list[str], threads: int) -> None:
        self._files: list[BinaryIO] = []
        self._tensors = store.tensors
        self._pieces = pieces(store, [name for name in names if name in store.tensors], threads)
        self._kept: list[Any] = []
        self._vectors: dict[str, npt.NDArray[np.float32]] = {}
        self._rope = {a: self._keep(frequencies(a)) for a in {x.attention for x in store.spec.layers}}

    def _base(self, spec: ModelSpec | DrafterSpec, target: ModelSpec) -> layout.Spec:
        """What a model and a drafter say alike; the pools are the model's."""
        pools = [layout.Pool(p.num_kv_heads, p.head_dim, len(p.layers), p.v_from_k) for p in target.pools]
        return layout.Spec(
            hidden_size=spec.hidden_size,
            vocab_size=spec.vocab_size,
            num_layers=spec.num_layers,
            num_pools=len(pools),
            rms_norm_eps=spec.rms_norm_eps,
            final_logit_softcapping=spec.final_logit_softcapping or 0.0,
            pools=(layout.Pool * layout.MAX_POOLS)(*pools),
            embed_tokens=self._table("embed_tokens"),
            norm=self._vector("norm"),
        )

    def _layer(self, x: LayerSpec, target: ModelSpec, source: int) -> layout.Layer:
        """A layer that reads the K/V which layer `source` of the target owns."""
        a, at, pool = x.attention, f"layers.{x.index}.", target.pool_of_layer[source]
        found = layout.Layer(
            pool=pool,
            slot=target.pools[pool].layers.index(source),
            owns_kv=int(x.owns_kv),
            window=a.window or 0,
            num_heads=a.num_heads,
            num_kv_heads=a.num_kv_heads,
            head_dim=a.head_dim,
            rope_pairs=a.rope_pairs,
            v_from_k=int(a.v_from_k),
            intermediate_size=x.intermediate_size,
            num_experts=x.moe.num_experts if x.moe else 0,
            top_k_experts=x.moe.top_k_experts if x.moe else 0,
            expert_size=x.moe.intermediate_size if x.moe else 0,
            layer_scalar=float(self._tensors[at + "layer_scalar"].float32()[0]),
            rope=floats(self._rope[a]),
        )
        for field, name in _MATRICES.items():
            if at + name in self._tensors:
                setattr(found, field, self._matrix(at + name))
        for field, name in _VECTORS.items():
            if at + name in self._tensors:
                setattr(found, field, self._vector(at + name))
        return found

    def _vector(self, name: str) -> Any:
        if name not in self._vectors:
            self._vectors[name] = np.ascontiguousarray(self._tensors[name].float32())
        return floats(self._vectors[name])

    def _table(self, name: str) -> layout.Matrix:
        """A matrix of which single rows are read, as it lies in the file: from there, so that what lies
        around them takes no memory of ours."""
        tensor = self._tensors[name]
        data = readable(tensor, 0, tensor.shape[0])
        found = self._struct(tensor, self._keep_if_new(data, tensor), packed=False)
        part = tensor.parts[0]
        if len(tensor.parts) == 1 and kind_of(tensor.format) == tensor.format:
            file = part.file.reopened()
            if file is not None:
                self._files.append(file)
                found.file, found.offset = 1 + file.fileno(), part.start
        return found

    def close(self) -> None:
        """Close the files that rows are read from; no forward may follow."""
        while self._files:
            self._files.pop().close()

    def __del__(self) -> None:
        self.close()

    def _matrix(self, name: str) -> layout.Matrix:
        tensor = self._tensors[name]
        if name in self._pieces:
            return self._struct(tensor, self._pieces[name], packed=True)
        data = readable(tensor, 0, tensor.shape[0])  # plain numbers: a view, or the parts joined
        return self._struct(tensor, self._keep(data), packed=False)

    def _struct(self, tensor: Tensor, data: npt.NDArray[Any], packed: bool) -> layout.Matrix:
        rows, columns = tensor.shape[-2:]
        return layout.Matrix(address(data), code_of(tensor), int(packed), copies_of(tensor), 0, rows, columns)

    def _keep(self, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        self._kept.append(array)
        return array

    def _keep_if_new(self, array: npt.NDArray[Any], tensor: Tensor) -> npt.NDArray[Any]:
        return array if kind_of(tensor.format) == tensor.format else self._keep(array)


class Weights(_Structs):
    """The structs of one model: `spec` and `layers`."""

    def __init__(self, store: Store, threads: int) -> None:
        spec = store.spec
        assert isinstance(spec, ModelSpec)
        super().__init__(store, matrices_of(spec), threads)
        layers = (self._layer(x, spec, x.index if x.kv_source is None else x.kv_source) for x in spec.layers)
        self.layers = (layout.Layer * spec.num_layers)(*layers)
        self.spec = self._base(spec, spec)
        self.spec.last_kv_layer = spec.last_kv_layer
        self.spec.per_layer_width = spec.hidden_size_per_layer_input
        self.spec.head = self._matrix("embed_tokens")
        if spec.hidden_size_per_layer_input:
            self.spec.embed_tokens_per_layer = self._table("embed_tokens_per_layer")
            self.spec.per_layer_model_projection = self._matrix("per_layer_model_projection")
            self.spec.per_layer_projection_norm = self._vector("per_layer_projection_norm")


class DrafterWeights(_Structs):
    """The structs of a drafter over the K/V of `target`: `drafter` and `layers`."""

    def __init__(self, store: Store, target: ModelSpec, threads: int) -> None:
        spec = store.spec
        assert isinstance(spec, DrafterSpec)
        super().__init__(store, matrices_of(spec), threads)
        kinds = (x.attention.kind for x in spec.layers)
        sources = [target.last_kv_layer_of(kind) for kind in kinds]
        layers = [self._layer(x, target, source) for x, source in zip(spec.layers, sources, strict=True)]
        for layer in layers:
            layer.window += bool(layer.window)  # one more than the target's: backend/base.py Batch
        self.layers = (layout.Layer * spec.num_layers)(*layers)
        self.drafter = layout.Drafter(
            spec=self._base(spec, target),
            num_centroids=spec.num_centroids,
            centroid_top_k=spec.centroid_top_k,
            pre_projection=self._matrix("pre_projection"),
            post_projection=self._matrix("post_projection"),
        )
        if spec.num_centroids:
            order = self._tensors["masked_embedding.token_ordering"].int64().astype(np.int32)
            self.drafter.centroids = self._matrix("masked_embedding.centroids")
            self.drafter.token_ordering = ints(self._keep(order))
        else:
            self.drafter.spec.head = self._matrix("embed_tokens")


def matrices_of(spec: ModelSpec | DrafterSpec) -> list[str]:
    """What a forward may multiply with, in its order; every other matrix is a table of rows to look up."""
    if isinstance(spec, ModelSpec):
        outer = ["embed_tokens", "per_layer_model_projection"]
    else:
        outer = ["pre_projection", "post_projection"]
        outer.append("masked_embedding.centroids" if spec.num_centroids else "embed_tokens")
    return outer + [f"layers.{i}.{name}" for i in range(spec.num_layers) for name in _MATRICES.values()]
