"""Every tensor of a Gemma 4 text decoder and of its drafters, once: name, shape, names in files.

Data for weights/, which looks the names up and checks the shapes. Nothing here opens a file, and the
encoders for images and sound are only known as names to pass over.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from gemstead.spec.model import DrafterSpec, LayerSpec, ModelSpec

HF_PREFIXES = ("model.language_model.", "model.", "language_model.model.", "language_model.", "")
"""Prefixes a `TensorSpec.hf` name may carry: multimodal saves, text-only saves, older saves, bare."""


@dataclass(frozen=True)
class TensorSpec:
    """One tensor the forward reads.

    `shape` is in Hugging Face order ([out, in]; GGUF lists the same extents fastest first).
    `hf`: alternative names, each to be looked up after each of HF_PREFIXES.
    `gguf`: alternatives; each is a tuple of GGUF tensors to be joined along axis -2 (usually one).
    `may_quantize`: a writer may choose a block format; a reader accepts any format for any tensor.
    `integer`: the values are int64 indices, not weights.
    """

    name: str
    shape: tuple[int, ...]
    hf: tuple[str, ...]
    gguf: tuple[tuple[str, ...], ...]
    may_quantize: bool
    integer: bool = False

    @property
    def hf_names(self) -> tuple[str, ...]:
        """Every full name this tensor can have in safetensors, most usual first."""
        return tuple(prefix + name for prefix in HF_PREFIXES for name in self.hf)


def _tensor(
    name: str, shape: tuple[int, ...], *gguf: str | tuple[str, ...], hf: str = "", keep_exact: bool = False
) -> TensorSpec:
    """A row of the table: `hf` defaults to `name`.weight; a plain GGUF string is one part."""
    return TensorSpec(
        name=name,
        shape=shape,
        hf=(hf or f"{name}.weight",),
        gguf=tuple((alternative,) if isinstance(alternative, str) else alternative for alternative in gguf),
        may_quantize=len(shape) >= 2 and not keep_exact,
    )


def text_tensors(spec: ModelSpec) -> tuple[TensorSpec, ...]:
    """All tensors the text forward of `spec` reads, in layer order; the head is `embed_tokens` itself."""
    hidden, width = spec.hidden_size, spec.hidden_size_per_layer_input
    rows = [
        _tensor("embed_tokens", (spec.vocab_size, hidden), "token_embd.weight"),
        _tensor("norm", (hidden,), "output_norm.weight"),
    ]
    if width:
        total = spec.num_layers * width
        per_layer_vocab = spec.vocab_size_per_layer_input
        rows += [
            _tensor("embed_tokens_per_layer", (per_layer_vocab, total), "per_layer_token_embd.weight"),
            _tensor("per_layer_model_projection", (total, hidden), "per_layer_model_proj.weight"),
            _tensor("per_layer_projection_norm", (width,), "per_layer_proj_norm.weight"),
        ]
    for layer in spec.layers:
        rows += _layer_tensors(layer, hidden)
    return tuple(rows)


def dense_linears(spec: ModelSpec) -> tuple[TensorSpec, ...]:
    """The matrices every row is multiplied with: what an adapter can add to. Neither experts nor the head."""
    return tuple(t for t in text_tensors(spec) if len(t.shape) == 2 and not t.name.startswith("embed_tokens"))


def drafter_tensors(spec: DrafterSpec) -> tuple[TensorSpec, ...]:
    """All tensors the drafter reads: no K/V projections, two projections to and from the target's width."""
    hidden, backbone = spec.hidden_size, spec.backbone_hidden_size
    rows = [
        _tensor("embed_tokens", (spec.vocab_size, hidden), "token_embd.weight"),
        _tensor("norm", (hidden,), "output_norm.weight"),
        _tensor("pre_projection", (hidden, 2 * backbone), "nextn.pre_projection.weight"),
        _tensor("post_projection", (backbone, hidden), "nextn.post_projection.weight"),
    ]
    if spec.num_centroids:
        centroids = (spec.num_centroids, hidden)
        rows.append(_tensor("masked_embedding.centroids", centroids, "masked_embd_centroids.weight"))
        rows.append(
            TensorSpec(
                name="masked_embedding.token_ordering",
                shape=(spec.vocab_size,),
                hf=("masked_embedding.token_ordering",),
                gguf=(("masked_embd_ordering",), ("masked_embd_ordering.weight",)),
                may_quantize=False,
                integer=True,
            )
        )
    for layer in spec.layers:
        rows += _layer_tensors(layer, hidden)
    return tuple(rows)


def _layer_tensors(layer: LayerSpec, hidden: int) -> Iterator[TensorSpec]:
    at, blk = f"layers.{layer.index}", f"blk.{layer.index}"
    yield _tensor(f"{at}.input_layernorm", (hidden,), f"{blk}.attn_norm.weight")
    yield from _attention_tensors(layer, hidden)
    yield _tensor(f"{at}.post_attention_layernorm", (hidden,), f"{blk}.post_attention_norm.weight")
    yield _tensor(f"{at}.pre_feedforward_layernorm", (hidden,), f"{blk}.ffn_norm.weight")
    width = layer.intermediate_size
    yield _tensor(f"{at}.mlp.gate_proj", (width, hidden), f"{blk}.ffn_gate.weight")
    yield _tensor(f"{at}.mlp.up_proj", (width, hidden), f"{blk}.ffn_up.weight")
    yield _tensor(f"{at}.mlp.down_proj", (hidden, width), f"{blk}.ffn_down.weight")
    yield from _moe_tensors(layer, hidden)
    yield _tensor(f"{at}.post_feedforward_layernorm", (hidden,), f"{blk}.post_ffw_norm.weight")
    if layer.per_layer_width:
        width = layer.per_layer_width
        yield _tensor(f"{at}.per_layer_input_gate", (width, hidden), f"{blk}.inp_gate.weight")
        yield _tensor(f"{at}.per_layer_projection", (hidden, width), f"{blk}.proj.weight")
        yield _tensor(f"{at}.post_per_layer_input_norm", (hidden,), f"{blk}.post_norm.weight")
    yield _tensor(f"{at}.layer_scalar", (1,), f"{blk}.layer_output_scale.weight", hf=f"{at}.layer_scalar")


def _attention_tensors(layer: LayerSpec, hidden: int) -> Iterator[TensorSpec]:
    a = layer.attention
    at, blk = f"layers.{layer.index}.self_attn", f"blk.{layer.index}"
    queries, keys = a.num_heads * a.head_dim, a.num_kv_heads * a.head_dim
    yield _tensor(f"{at}.q_proj", (queries, hidden), f"{blk}.attn_q.weight")
    yield _tensor(f"{at}.q_norm", (a.head_dim,), f"{blk}.attn_q_norm.weight")
    if layer.owns_kv:
        yield _tensor(f"{at}.k_proj", (keys, hidden), f"{blk}.attn_k.weight")
        yield _tensor(f"{at}.k_norm", (a.head_dim,), f"{blk}.attn_k_norm.weight")
        if not a.v_from_k:
            yield _tensor(f"{at}.v_proj", (keys, hidden), f"{blk}.attn_v.weight")
    yield _tensor(f"{at}.o_proj", (hidden, queries), f"{blk}.attn_output.weight")


def _moe_tensors(layer: LayerSpec, hidden: int) -> Iterator[TensorSpec]:
    if layer.moe is None:
        return
    experts, width = layer.moe.num_experts, layer.moe.intermediate_size
    at, blk = f"layers.{layer.index}", f"blk.{layer.index}"
    # A wrong choice of expert costs far more than the few bytes a quantised router would save.
    yield _tensor(f"{at}.router.proj", (experts, hidden), f"{blk}.ffn_gate_inp.weight", keep_exact=True)
    yield _tensor(f"{at}.router.scale", (hidden,), f"{blk}.ffn_gate_inp.scale", hf=f"{at}.router.scale")
    per_expert = f"{at}.router.per_expert_scale"
    yield _tensor(per_expert, (experts,), f"{blk}.ffn_down_exps.scale", hf=per_expert)
    yield _tensor(
        f"{at}.experts.gate_up_proj",
        (experts, 2 * width, hidden),
        f"{blk}.ffn_gate_up_exps.weight",
        (f"{blk}.ffn_gate_exps.weight", f"{blk}.ffn_up_exps.weight"),
        hf=f"{at}.experts.gate_up_proj",
    )
    down = f"{at}.experts.down_proj"
    yield _tensor(down, (experts, hidden, width), f"{blk}.ffn_down_exps.weight", hf=down)
    for name, gguf in (
        ("pre_feedforward_layernorm_2", "pre_ffw_norm_2"),
        ("post_feedforward_layernorm_1", "post_ffw_norm_1"),
        ("post_feedforward_layernorm_2", "post_ffw_norm_2"),
    ):
        yield _tensor(f"{at}.{name}", (hidden,), f"{blk}.{gguf}.weight")


_SHARED_KV = re.compile(
    r"(?:layers\.(\d+)\.self_attn\.(?:k_proj|v_proj|k_norm)|blk\.(\d+)\.attn_(?:k|v|k_norm))\.weight"
)
_PASSED_OVER = re.compile(
    r"(?:model\.)?(?:vision_tower|audio_tower|embed_vision|embed_audio|vision_embedder)\."  # HF encoders
    r"|(?:v|a|mm)\."  # encoders kept in the same GGUF
    r"|masked_embd_(?:centroids|ordering)"  # in a GGUF whose drafter scores the whole vocabulary
    r"|(?:blk\.\d+\.)?rope_freqs(?:\.weight)?$"  # derived from the config; spec/gguf.py reads its values
    r"|.*rotary_emb\..*inv_freq$|.*\.embed_scale$"  # buffers of transformers
    r"|(?:model\.|language_model\.)*lm_head\.weight$|output\.weight$"  # copies of the tied embedding
)


def is_ignorable(name: str, spec: ModelSpec | DrafterSpec) -> bool:
    """Whether a file may hold tensor `name` (full HF or GGUF name) although the text forward never reads it.

    True for the encoders of images and sound, K/V weights of layers that read another layer's K/V,
    rotary buffers and a copy of the tied head. Any other unknown name is worth an error.
    """
    if _PASSED_OVER.match(name):
        return True
    bare = next(name.removeprefix(prefix) for prefix in HF_PREFIXES if name.startswith(prefix))
    match = _SHARED_KV.fullmatch(bare)
    if match is None:
        return False
    index = int(match[1] or match[2])
    return index < spec.num_layers and not spec.layers[index].owns_kv


def unsupported_reason(name: str) -> str | None:
    """Why a tensor name marks a file gemstead does not read, or None when it marks nothing special."""
    if re.fullmatch(r"blk\.\d+\.attn_qkv\.(weight|bias)", name):
        return (
            f"{name} is a fused query/key/value matrix, which gemstead does not read; "
            "convert the model again with separate attn_q, attn_k and attn_v tensors"
        )
    if re.fullmatch(r"(blk|.*layers)\.\d+\..*(_proj|attn_(q|k|v|output)|ffn_(gate|up|down))\.bias", name):
        return f"{name} is a bias, and no linear layer of Gemma 4 has one; this is another architecture"
    return None
