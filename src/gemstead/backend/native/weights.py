"""A Store's tensors as the structs the core reads: in place where it can, packed where that is faster.

Holds the packed pieces and the small vectors; everything else stays in the file's map. Neighbours:
packing.py, library.py, backend.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from gemstead.backend.native import layout
from gemstead.backend.native.library import address, floats
from gemstead.backend.native.packing import kind_of, pieces, readable
from gemstead.backend.reference.rope import frequencies
from gemstead.spec.model import LayerSpec, ModelSpec
from gemstead.weights import formats

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


class Weights:
    """The structs of one model, and the memory they point into."""

    def __init__(self, store: Store, threads: int) -> None:
        assert isinstance(store.spec, ModelSpec)
        self._tensors = store.tensors
        self._pieces = pieces(store, _matrix_names(store), threads)
        self._kept: list[Any] = []
        self._vectors: dict[str, npt.NDArray[np.float32]] = {}
        spec = store.spec
        self._rope = {a: self._keep(frequencies(a)) for a in {x.attention for x in spec.layers}}
        self.layers = (layout.Layer * spec.num_layers)(*(self._layer(spec, x) for x in spec.layers))
        self.spec = self._spec(spec)

    def _spec(self, spec: ModelSpec) -> layout.Spec:
        pools = [layout.Pool(p.num_kv_heads, p.head_dim, len(p.layers)) for p in spec.pools]
        found = layout.Spec(
            hidden_size=spec.hidden_size,
            vocab_size=spec.vocab_size,
            num_layers=spec.num_layers,
            num_pools=len(pools),
            last_kv_layer=spec.last_kv_layer,
            per_layer_width=spec.hidden_size_per_layer_input,
            rms_norm_eps=spec.rms_norm_eps,
            final_logit_softcapping=spec.final_logit_softcapping or 0.0,
            pools=(layout.Pool * layout.MAX_POOLS)(*pools),
            embed_tokens=self._table("embed_tokens"),
            head=self._matrix("embed_tokens"),
            norm=self._vector("norm"),
        )
        if spec.hidden_size_per_layer_input:
            found.embed_tokens_per_layer = self._table("embed_tokens_per_layer")
            found.per_layer_model_projection = self._matrix("per_layer_model_projection")
            found.per_layer_projection_norm = self._vector("per_layer_projection_norm")
        return found

    def _layer(self, spec: ModelSpec, x: LayerSpec) -> layout.Layer:
        a, at, pool = x.attention, f"layers.{x.index}.", spec.pool_of_layer[x.index]
        found = layout.Layer(
            pool=pool,
            slot=spec.pools[pool].layers.index(x.kv_source if x.kv_source is not None else -1),
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
        """A matrix of which single rows are read: as it lies in the file."""
        tensor = self._tensors[name]
        kind, data = readable(tensor, 0, tensor.shape[0])
        return self._struct(tensor, kind, self._keep_if_new(data, tensor), packed=False)

    def _matrix(self, name: str) -> layout.Matrix:
        tensor = self._tensors[name]
        if name in self._pieces:
            return self._struct(tensor, kind_of(tensor), self._pieces[name], packed=True)
        data = readable(tensor, 0, tensor.shape[0])[1]  # plain numbers: a view, or the parts joined
        return self._struct(tensor, kind_of(tensor), self._keep(data), packed=False)

    def _struct(self, tensor: Tensor, kind: str, data: npt.NDArray[Any], packed: bool) -> layout.Matrix:
        rows, columns = tensor.shape[-2:]
        copies = tensor.shape[0] if len(tensor.shape) == 3 else 1
        code = formats.get(kind).ggml_type or 0
        return layout.Matrix(address(data), code, int(packed), copies, 0, rows, columns)

    def _keep(self, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        self._kept.append(array)
        return array

    def _keep_if_new(self, array: npt.NDArray[Any], tensor: Tensor) -> npt.NDArray[Any]:
        return array if kind_of(tensor) == tensor.format else self._keep(array)


def _matrix_names(store: Store) -> list[str]:
    """The tensors that are multiplied with, each once, in the order of the forward."""
    names = ["embed_tokens", "per_layer_model_projection"]
    layers = range(getattr(store.spec, "num_layers", 0))
    names += [f"layers.{i}.{name}" for i in layers for name in _MATRICES.values()]
    return [name for name in names if name in store.tensors]
