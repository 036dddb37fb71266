"""Writes a whole Gemma 4 model or drafter as one GGUF that gemstead and llama.cpp both read.

From a spec and tensors by canonical name; refuses a spec that GGUF's keys cannot say, by reading its
own keys back before writing. Keys: MODEL.md 7.2. Neighbours: gguf_write.py, quantize.py, spec/gguf.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gemstead.errors import ConfigError, WeightsError
from gemstead.spec.gguf import drafter_from_metadata, model_from_metadata
from gemstead.spec.model import AttentionSpec, DrafterSpec, LayerSpec, ModelSpec
from gemstead.spec.tensors import TensorSpec, drafter_tensors, text_tensors
from gemstead.weights.formats import Format, get
from gemstead.weights.gguf_write import Value, write_gguf
from gemstead.weights.mapped import listed
from gemstead.weights.quantize import choose_formats
from gemstead.weights.tensor import Tensor
from gemstead.weights.vocabulary import Vocabulary
from gemstead.weights.writing import Bytes, Entry, entry_from_array

Spec = ModelSpec | DrafterSpec
Source = npt.NDArray[Any] | Tensor
_UNUSED_FREQUENCY = 1e30  # divisor that stops a pair from turning (MODEL.md section 2, RoPE)
_ROWS_AT_ONCE = 1 << 22  # values converted at a time when a tensor changes its format


def write_model_gguf(
    path: str | Path,
    spec: Spec,
    tensors: Mapping[str, Source],
    formats: str | Mapping[str, str] = "f32",
    *,
    vocabulary: Vocabulary | None = None,
    chat_template: str | None = None,
    metadata: Mapping[str, Value] | None = None,
) -> None:
    """Write the model `spec` with `tensors` (canonical name -> array or stored tensor) to `path`.

    `formats`: one format for every tensor that may be quantized (see quantize.choose_formats), or a
    format by canonical name, f32 where a name is absent. A stored tensor that keeps its format is
    copied byte for byte. `metadata` is written too and wins over what the spec says.
    WeightsError when tensors are missing, unknown or misshapen, or GGUF cannot say the spec.
    """
    rows = text_tensors(spec) if isinstance(spec, ModelSpec) else drafter_tensors(spec)
    _check_tensors(rows, tensors, spec)
    chosen = choose_formats(rows, formats) if isinstance(formats, str) else formats
    entries = [_entry(row, tensors[row.name], _format_of(row, chosen)) for row in rows]
    entries.append(entry_from_array("rope_freqs.weight", _rope_freqs(spec), "f32"))
    keys = spec_metadata(spec)
    if vocabulary is not None:
        keys |= vocabulary_metadata(vocabulary, spec.vocab_size)
    if chat_template is not None:
        keys["tokenizer.chat_template"] = chat_template
    keys |= metadata or {}
    _check_keys(keys, spec)
    write_gguf(Path(path), keys, entries)


def _check_tensors(rows: tuple[TensorSpec, ...], tensors: Mapping[str, Source], spec: Spec) -> None:
    wanted = {row.name: row.shape for row in rows}
    faults = [f"{name} is missing" for name in wanted if name not in tensors]
    faults += [f"{name} is unknown" for name in tensors if name not in wanted]
    faults += [
        f"{name} has the shape {list(tensors[name].shape)} instead of {list(shape)}"
        for name, shape in wanted.items()
        if name in tensors and tuple(tensors[name].shape) != shape
    ]
    if faults:
        raise WeightsError(f"cannot write {spec.name}: {listed(faults)}")


def _format_of(row: TensorSpec, chosen: Mapping[str, str]) -> Format:
    return get(chosen.get(row.name, "i32" if row.integer else "f32"))


def _entry(row: TensorSpec, source: Source, fmt: Format) -> Entry:
    """The tensor under its GGUF name, in `fmt`."""
    name = row.gguf[0][0]
    if not isinstance(source, Tensor):
        return entry_from_array(name, source, fmt.name)
    if source.format == fmt.name and len(source.parts) == 1:
        return Entry(name, row.shape, fmt, lambda: source.raw())
    if row.integer:
        return entry_from_array(name, source.int64(), fmt.name)

    def converted() -> Iterator[Bytes]:
        step = max(1, _ROWS_AT_ONCE // max(1, int(np.prod(row.shape[1:]))))
        for start in range(0, row.shape[0], step):
            yield fmt.pack(source.float32(start, min(start + step, row.shape[0])))

    return Entry(name, row.shape, fmt, converted)


def _rope_freqs(spec: Spec) -> npt.NDArray[np.float32]:
    """The frequency divisors of the full layers' pairs: the factor where they turn, 1e30 elsewhere."""
    full = _only(spec, "full")
    divisors = np.full(full.head_dim // 2, _UNUSED_FREQUENCY, dtype=np.float32)
    divisors[: full.rope_pairs] = full.rope_factor
    return divisors


def _only(spec: Spec, kind: str) -> AttentionSpec:
    """The attention all layers of a kind share; WeightsError when there is none or more than one."""
    found = list(dict.fromkeys(layer.attention for layer in spec.layers if layer.attention.kind == kind))
    if len(found) != 1:
        raise WeightsError(
            f"cannot write {spec.name} as GGUF: its layers have {len(found)} forms of {kind} attention; "
            "GGUF's keys describe exactly one"
        )
    return found[0]


def _per_layer(values: list[int]) -> Value:
    """One number when all layers agree, else the list."""
    return values[0] if len(set(values)) == 1 else values


def spec_metadata(spec: Spec) -> dict[str, Value]:
    """The GGUF keys that say `spec` (MODEL.md 7.2)."""
    arch = "gemma4" if isinstance(spec, ModelSpec) else "gemma4-assistant"
    sliding, full = _only(spec, "sliding"), _only(spec, "full")
    layers = spec.layers
    own: dict[str, Value] = {
        "block_count": len(layers),
        "context_length": spec.max_position_embeddings,
        "embedding_length": spec.hidden_size,
        "feed_forward_length": _per_layer([layer.intermediate_size for layer in layers]),
        "attention.head_count": _per_layer([layer.attention.num_heads for layer in layers]),
        "attention.head_count_kv": _per_layer([layer.attention.num_kv_heads for layer in layers]),
        "attention.layer_norm_rms_epsilon": float(spec.rms_norm_eps),
        "attention.key_length": full.head_dim,
        "attention.value_length": full.head_dim,
        "attention.key_length_swa": sliding.head_dim,
        "attention.value_length_swa": sliding.head_dim,
        "attention.sliding_window": sliding.window or 0,
        "attention.sliding_window_pattern": [layer.attention.kind == "sliding" for layer in layers],
        "attention.shared_kv_layers": sum(not layer.owns_kv for layer in layers),
        "rope.freq_base": float(full.rope_theta),
        "rope.freq_base_swa": float(sliding.rope_theta),
        "rope.dimension_count": full.head_dim,
        "rope.dimension_count_swa": sliding.head_dim,
    }
    if spec.final_logit_softcapping is not None:
        own["final_logit_softcapping"] = float(spec.final_logit_softcapping)
    own |= _model_keys(spec, layers) if isinstance(spec, ModelSpec) else _drafter_keys(spec)
    general: dict[str, Value] = {
        "general.architecture": arch,
        "general.type": "model",
        "general.name": spec.name,
        "general.quantization_version": 2,
    }
    tokens = _token_keys(spec) if isinstance(spec, ModelSpec) else {}
    return general | {f"{arch}.{key}": value for key, value in own.items()} | tokens


def _model_keys(spec: ModelSpec, layers: tuple[LayerSpec, ...]) -> dict[str, Value]:
    keys: dict[str, Value] = {"embedding_length_per_layer_input": spec.hidden_size_per_layer_input}
    moe = layers[0].moe
    if moe is not None:
        keys["expert_count"] = moe.num_experts
        keys["expert_used_count"] = moe.top_k_experts
        keys["expert_feed_forward_length"] = moe.intermediate_size
    return keys


def _drafter_keys(spec: DrafterSpec) -> dict[str, Value]:
    return {
        "embedding_length_out": spec.backbone_hidden_size,
        "nextn_predict_layers": len(spec.layers),
    }


def _token_keys(spec: ModelSpec) -> dict[str, Value]:
    keys: dict[str, Value] = {
        "tokenizer.ggml.bos_token_id": spec.tokens.bos,
        "tokenizer.ggml.eos_token_id": spec.tokens.eos[0],
        "tokenizer.ggml.padding_token_id": spec.tokens.pad,
        "tokenizer.ggml.add_bos_token": True,
        "tokenizer.ggml.add_space_prefix": False,
    }
    if spec.tokens.suppressed:
        keys["tokenizer.ggml.suppress_tokens"] = list(spec.tokens.suppressed)
    return keys


def vocabulary_metadata(vocabulary: Vocabulary, vocab_size: int) -> dict[str, Value]:
    """The GGUF keys of a vocabulary; WeightsError unless it has one token for each embedding row."""
    if len(vocabulary.tokens) != vocab_size:
        raise WeightsError(
            f"cannot write a vocabulary of {len(vocabulary.tokens)} tokens with {vocab_size} embedding rows"
        )
    keys: dict[str, Value] = {
        "tokenizer.ggml.model": vocabulary.model,
        "tokenizer.ggml.tokens": vocabulary.tokens,
        "tokenizer.ggml.token_type": vocabulary.types,
        "tokenizer.ggml.merges": vocabulary.merges,
    }
    if vocabulary.scores:
        keys["tokenizer.ggml.scores"] = vocabulary.scores
    return keys | {f"tokenizer.ggml.{name}_token_id": value for name, value in vocabulary.special.items()}


def _check_keys(keys: Mapping[str, Value], spec: Spec) -> None:
    """WeightsError unless these keys, read back, give the same spec (senses apart: GGUF has no room)."""
    name = spec.name
    back: Spec
    wanted: Spec
    try:
        if isinstance(spec, ModelSpec):
            wanted = replace(spec, vision=None, audio=None)
            back = replace(model_from_metadata(keys, name, spec.vocab_size), vision=None, audio=None)
        else:
            wanted, back = spec, drafter_from_metadata(keys, name, spec.vocab_size)
    except ConfigError as error:
        raise WeightsError(f"cannot write {name} as GGUF: {error}") from error
    if back != wanted:
        differing = [f.name for f in fields(wanted) if getattr(back, f.name) != getattr(wanted, f.name)]
        raise WeightsError(
            f"cannot write {name} as GGUF: its keys cannot say this model's {listed(differing)}"
        )
