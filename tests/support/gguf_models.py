"""GGUF files of random quantised Gemma 4 models, written by the `gguf` package, and what they mean.

The blocks are random bytes with scales of a sensible size, so every bit pattern a format allows turns
up; their meaning is what gguf's own dequantize says.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import gguf
import numpy as np

from gemstead.spec.model import ModelSpec
from gemstead.spec.tensors import TensorSpec, text_tensors

Q = gguf.GGMLQuantizationType
FormatOf = Callable[[TensorSpec], str]

# Byte offsets of the float16 fields of a block, and their sizes for values of spread about 0.05.
_SCALES = {
    "Q4_0": ((0, 0.011),),
    "Q8_0": ((0, 7e-4),),
    "Q4_K": ((0, 2.2e-4), (2, 1.65e-3)),
    "Q6_K": ((208, 4e-5),),
}


def write_gguf(
    path: Path, spec: ModelSpec, format_of: FormatOf, seed: int = 0, split_experts: bool = False
) -> dict[str, np.ndarray]:
    """Write a model and return its dequantised tensors by canonical name.

    `format_of` names the format wanted of a matrix; vectors, and rows no block divides, are F32.
    """
    rng = np.random.default_rng(seed)
    writer = gguf.GGUFWriter(path, "gemma4")
    _write_metadata(writer, spec)
    meaning = {}
    for tensor in text_tensors(spec):
        names = tensor.gguf[0]
        if split_experts and len(tensor.gguf) > 1:
            names = tensor.gguf[1]
        shape = list(tensor.shape)
        if len(names) > 1:
            shape[-2] //= len(names)
        parts = [_add(writer, name, tuple(shape), format_of(tensor), rng) for name in names]
        meaning[tensor.name] = parts[0] if len(parts) == 1 else np.concatenate(parts, axis=-2)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return meaning


def _add(
    writer: gguf.GGUFWriter, name: str, shape: tuple[int, ...], wanted: str, rng: np.random.Generator
) -> np.ndarray:
    """Write one random tensor; return its values."""
    if len(shape) == 1:
        values = (1 + 0.2 * rng.standard_normal(shape)).astype(np.float32)
        # Small queries keep attention from turning on the last bit: see models.randomise.
        values *= np.float32(0.25 if "attn_q_norm" in name else 1.0)
        writer.add_tensor(name, values)
        return values
    kind = Q[wanted]
    block, block_bytes = gguf.GGML_QUANT_SIZES[kind]
    if wanted == "F32" or shape[-1] % block:
        values = (0.05 * rng.standard_normal(shape)).astype(np.float32)
        writer.add_tensor(name, values)
        return values
    blocks = rng.integers(0, 256, (*shape[:-1], shape[-1] // block, block_bytes), dtype=np.uint8)
    for offset, size in _SCALES[wanted]:
        scale = (size * rng.uniform(0.8, 1.2, blocks.shape[:-1])).astype(np.float16)
        blocks[..., offset : offset + 2] = scale[..., None].view(np.uint8)
    stored = blocks.reshape(*shape[:-1], -1)
    writer.add_tensor(name, stored, raw_dtype=kind)
    return gguf.quants.dequantize(stored, kind).reshape(shape)


def _write_metadata(writer: gguf.GGUFWriter, spec: ModelSpec) -> None:
    """The keys llama.cpp's converter writes for gemma4."""
    sliding = next(x.attention for x in spec.layers if x.attention.kind == "sliding")
    full = next(x.attention for x in spec.layers if x.attention.kind == "full")
    moe = spec.layers[0].moe
    integers = {
        "block_count": spec.num_layers,
        "context_length": spec.max_position_embeddings,
        "embedding_length": spec.hidden_size,
        "attention.head_count": full.num_heads,
        "attention.key_length": full.head_dim,
        "attention.value_length": full.head_dim,
        "attention.key_length_swa": sliding.head_dim,
        "attention.value_length_swa": sliding.head_dim,
        "attention.sliding_window": sliding.window,
        "attention.shared_kv_layers": sum(not x.owns_kv for x in spec.layers),
        "embedding_length_per_layer_input": spec.hidden_size_per_layer_input,
        "rope.dimension_count": full.head_dim,
        "rope.dimension_count_swa": sliding.head_dim,
    }
    if moe is not None:
        integers["expert_count"] = moe.num_experts
        integers["expert_used_count"] = moe.top_k_experts
        integers["expert_feed_forward_length"] = moe.intermediate_size
    for key, value in integers.items():
        writer.add_uint32(f"gemma4.{key}", value)
    reals = {
        "attention.layer_norm_rms_epsilon": spec.rms_norm_eps,
        "rope.freq_base": full.rope_theta,
        "rope.freq_base_swa": sliding.rope_theta,
        "final_logit_softcapping": spec.final_logit_softcapping or 0.0,
    }
    for key, value in reals.items():
        writer.add_float32(f"gemma4.{key}", value)
    layers = spec.layers
    writer.add_array("gemma4.feed_forward_length", [x.intermediate_size for x in layers])
    writer.add_array("gemma4.attention.head_count_kv", [x.attention.num_kv_heads for x in layers])
    writer.add_array(
        "gemma4.attention.sliding_window_pattern", [x.attention.kind == "sliding" for x in layers]
    )
    divisors = np.full(full.head_dim // 2, 1e30, np.float32)
    divisors[: full.rope_pairs] = 1.0
    writer.add_tensor("rope_freqs.weight", divisors)
