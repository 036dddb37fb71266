"""Writes a whole Gemma 4 model or drafter: one GGUF (also llama.cpp reads it) or a config.json folder.

From a spec and tensors by canonical name. Refuses a spec the container cannot say, by reading its own
description back before anything is written. Neighbours: gguf_write.py, safetensors.py, quantize.py.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gemstead.errors import ConfigError, WeightsError
from gemstead.spec.describe import config_of, metadata_of, rope_freqs_of
from gemstead.spec.gguf import Tensors, drafter_from_metadata, model_from_metadata
from gemstead.spec.hf import drafter_from_config, model_from_config
from gemstead.spec.model import DrafterSpec, ModelSpec
from gemstead.spec.tensors import TensorSpec, drafter_tensors, text_tensors
from gemstead.weights.formats import get
from gemstead.weights.gguf_write import Value, write_gguf
from gemstead.weights.mapped import listed
from gemstead.weights.mixture import choose_formats
from gemstead.weights.safetensors import write_safetensors
from gemstead.weights.tensor import Tensor
from gemstead.weights.vocabulary import Vocabulary
from gemstead.weights.writing import Bytes, Entry, entry_from_array, whole_file

Spec = ModelSpec | DrafterSpec
Source = npt.NDArray[Any] | Tensor
_VALUES_AT_ONCE = 1 << 22  # converted at a time when a tensor changes its format


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

    `formats`: one format for every tensor that may be quantized (see mixture.choose_formats), or a
    format by canonical name, f32 where a name is absent. A stored tensor that keeps its format is
    copied byte for byte. `metadata` is written too and wins over what the spec says. The encoders for
    images and sound are not written. WeightsError when tensors are missing, unknown or misshapen, or
    when GGUF cannot say the spec.
    """
    rows = _checked_rows(spec, tensors)
    chosen = choose_formats(rows, formats) if isinstance(formats, str) else formats
    entries = [_entry(row, row.gguf[0][0], tensors[row.name], chosen, "i32") for row in rows]
    entries += rope_entries(spec)
    keys = model_keys(spec, entries, vocabulary, chat_template, metadata or {})
    write_gguf(Path(path), keys, entries)


def rope_entries(spec: Spec) -> list[Entry]:
    """The tensor rope_freqs.weight, where the spec needs it."""
    divisors = np.array(rope_freqs_of(spec), dtype=np.float32)
    return [entry_from_array("rope_freqs.weight", divisors, "f32")] if divisors.size else []


def model_keys(
    spec: Spec,
    entries: Sequence[Entry],
    vocabulary: Vocabulary | None,
    chat_template: str | None,
    metadata: Mapping[str, Value],
) -> dict[str, Value]:
    """The GGUF keys of a model that is written with these tensors; WeightsError when they cannot say it."""
    keys: dict[str, Value] = {
        "general.type": "model",
        "general.name": spec.name,
        "general.quantization_version": 2,
        **metadata_of(spec),
    }
    if vocabulary is not None:
        keys |= vocabulary_metadata(vocabulary, spec.vocab_size)
    if chat_template is not None:
        keys["tokenizer.chat_template"] = chat_template
    keys |= metadata
    divisors = np.array(rope_freqs_of(spec), dtype=np.float32).tolist()
    _check_metadata(keys, spec, Tensors({entry.name: entry.shape for entry in entries}, divisors))
    return keys


def write_model_folder(
    folder: str | Path, spec: Spec, tensors: Mapping[str, Source], format_name: str = "bf16"
) -> None:
    """Write config.json and model.safetensors, as transformers reads them, into an existing folder.

    `format_name` is f32, f16 or bf16, for every tensor. WeightsError as in write_model_gguf.
    """
    folder = Path(folder)
    rows = _checked_rows(spec, tensors)
    config = config_json(spec)
    chosen = {row.name: "i64" if row.integer else format_name for row in rows}
    entries = [_entry(row, hf_name(row), tensors[row.name], chosen, "i64") for row in rows]
    write_safetensors(folder / "model.safetensors", entries, {"format": "pt"})
    with whole_file(folder / "config.json") as file:
        file.write(json.dumps(config, indent=2).encode())


def config_json(spec: Spec) -> dict[str, Any]:
    """The config.json of a spec; WeightsError when it cannot say it."""
    try:
        config = config_of(spec)
        back = _read_config(config, spec)
    except ConfigError as error:
        raise WeightsError(f"cannot write {spec.name} as config.json: {error}") from error
    _check_same(back, spec, "config.json")
    return config


def hf_name(row: TensorSpec) -> str:
    """The name a text-only save of transformers gives a tensor: only the decoder is under `model.`."""
    outside = row.name.startswith(("pre_projection", "post_projection", "masked_embedding"))
    return row.hf[0] if outside else f"model.{row.hf[0]}"


def _checked_rows(spec: Spec, tensors: Mapping[str, Source]) -> tuple[TensorSpec, ...]:
    """The tensors to write, once `tensors` are exactly those."""
    rows = text_tensors(spec) if isinstance(spec, ModelSpec) else drafter_tensors(spec)
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
    return rows


def _entry(
    row: TensorSpec, name: str, source: Source, chosen: Mapping[str, str], integer_format: str
) -> Entry:
    """The tensor under the name it has in the file, in its chosen format."""
    fmt = get(chosen.get(row.name, integer_format if row.integer else "f32"))
    if not isinstance(source, Tensor):
        return entry_from_array(name, source, fmt.name)
    if source.format == fmt.name and len(source.parts) == 1:
        return Entry(name, row.shape, fmt, source.raw)
    if row.integer:
        return entry_from_array(name, source.int64(), fmt.name)

    def converted() -> Iterator[Bytes]:
        step = max(1, _VALUES_AT_ONCE // max(1, int(np.prod(row.shape[1:]))))
        for start in range(0, row.shape[0], step):
            yield fmt.pack(source.float32(start, min(start + step, row.shape[0])))

    return Entry(name, row.shape, fmt, converted)


def vocabulary_metadata(vocabulary: Vocabulary, vocab_size: int) -> dict[str, Value]:
    """The GGUF keys of a vocabulary; WeightsError unless it has one token for each embedding row."""
    counts = {len(vocabulary.tokens), len(vocabulary.types), len(vocabulary.scores) or vocab_size}
    if counts != {vocab_size}:
        raise WeightsError(
            f"cannot write a vocabulary of {len(vocabulary.tokens)} tokens, {len(vocabulary.types)} types "
            f"and {len(vocabulary.scores)} scores with {vocab_size} embedding rows"
        )
    keys: dict[str, Value] = {
        "tokenizer.ggml.model": vocabulary.model,
        "tokenizer.ggml.tokens": vocabulary.tokens,
        "tokenizer.ggml.token_type": vocabulary.types,
        "tokenizer.ggml.merges": vocabulary.merges,
        "tokenizer.ggml.add_bos_token": True,
        "tokenizer.ggml.add_space_prefix": False,
    }
    if vocabulary.scores:
        keys["tokenizer.ggml.scores"] = vocabulary.scores
    return keys | {f"tokenizer.ggml.{name}_token_id": value for name, value in vocabulary.special.items()}


def _check_metadata(keys: Mapping[str, Value], spec: Spec, tensors: Tensors) -> None:
    """WeightsError unless these keys and tensors, read back, give the same spec."""
    read = model_from_metadata if isinstance(spec, ModelSpec) else drafter_from_metadata
    try:
        back = read(keys, spec.name, spec.vocab_size, tensors)
    except ConfigError as error:
        raise WeightsError(f"cannot write {spec.name} as GGUF: {error}") from error
    _check_same(back, spec, "GGUF")


def _read_config(config: Mapping[str, Any], spec: Spec) -> Spec:
    if isinstance(spec, ModelSpec):
        return model_from_config(config, spec.name)
    return drafter_from_config(config, spec.name)


def _check_same(back: Spec, spec: Spec, container: str) -> None:
    """WeightsError naming the fields that were lost on the way; senses are not written anywhere yet."""
    if isinstance(spec, ModelSpec) and isinstance(back, ModelSpec):
        spec, back = (replace(x, vision=None, audio=None) for x in (spec, back))
    lost: Sequence[str] = [x.name for x in fields(spec) if getattr(back, x.name) != getattr(spec, x.name)]
    if lost:
        raise WeightsError(f"cannot write {spec.name}: {container} cannot say its {listed(list(lost))}")
