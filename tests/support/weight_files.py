"""Small Gemma 4 models as files: random tensors of a spec, and weight files written by hand, byte by byte."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

from gemstead.spec.model import DrafterSpec, ModelSpec
from gemstead.spec.tensors import drafter_tensors, text_tensors
from gemstead.weights.model_file import write_model_folder, write_model_gguf
from gemstead.weights.vocabulary import Vocabulary


def random_tensors(spec: ModelSpec | DrafterSpec, seed: int = 0) -> dict[str, np.ndarray]:
    """Every tensor of the spec by canonical name: normal values, a permutation for index tensors."""
    rng = np.random.default_rng(seed)
    rows = text_tensors(spec) if isinstance(spec, ModelSpec) else drafter_tensors(spec)
    return {
        row.name: rng.permutation(row.shape[0])
        if row.integer
        else rng.normal(size=row.shape).astype(np.float32)
        for row in rows
    }


def numbered_vocabulary(size: int) -> Vocabulary:
    """A vocabulary of made-up tokens with Gemma's first three special ids."""
    special = {"bos": 2, "eos": 1, "padding": 0}
    tokens = [f"t{i}" for i in range(size)]
    return Vocabulary(tokens, [3] * 3 + [1] * (size - 3), ["t 1", "t1 2"], special=special)


def save_gguf(path: Path, spec: ModelSpec | DrafterSpec, formats: str = "f32") -> dict[str, np.ndarray]:
    """A random model of the spec as one GGUF with a vocabulary; its tensors."""
    tensors = random_tensors(spec)
    write_model_gguf(path, spec, tensors, formats, vocabulary=numbered_vocabulary(spec.vocab_size))
    return tensors


def save_folder(folder: Path, spec: ModelSpec | DrafterSpec, formats: str = "f32") -> dict[str, np.ndarray]:
    """A random model of the spec as a new folder with config.json and model.safetensors; its tensors."""
    folder.mkdir(parents=True)
    tensors = random_tensors(spec)
    write_model_folder(folder, spec, tensors, formats)
    return tensors


def split_folder(folder: Path, shards: int) -> list[Path]:
    """Cut model.safetensors of a folder into shards with an index, as the safetensors package writes them."""
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(tensors)
    paths, weight_map = [], {}
    for k in range(shards):
        path = folder / f"model-{k + 1:05d}-of-{shards:05d}.safetensors"
        save_file({name: tensors[name] for name in names[k::shards]}, path)
        weight_map |= dict.fromkeys(names[k::shards], path.name)
        paths.append(path)
    index = {"metadata": {"total_size": 0}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return paths


def text(value: str | bytes) -> bytes:
    """A GGUF string."""
    raw = value.encode() if isinstance(value, str) else value
    return struct.pack("<Q", len(raw)) + raw


def entry(name: str | bytes, dims: tuple[int, ...], kind: int = 0, offset: int = 0) -> bytes:
    """A line of a GGUF's tensor list; dims fastest first."""
    return text(name) + struct.pack(f"<I{len(dims)}QIQ", len(dims), *dims, kind, offset)


def key(name: str | bytes, kind: int, raw: bytes) -> bytes:
    """A metadata key of a GGUF with the bytes of its value."""
    return text(name) + struct.pack("<I", kind) + raw


def array(kind: int, count: int, raw: bytes = b"") -> bytes:
    """The bytes of a GGUF array value."""
    return struct.pack("<IQ", kind, count) + raw


def container(
    *,
    keys: tuple[bytes, ...] = (),
    tensors: tuple[bytes, ...] = (),
    data: int = 64,
    version: int = 3,
    counts: tuple[int, int] | None = None,
) -> bytes:
    """A GGUF file from its pieces; `counts` overrides the announced (tensors, keys)."""
    tensor_count, key_count = counts or (len(tensors), len(keys))
    head = b"GGUF" + struct.pack("<IQQ", version, tensor_count, key_count)
    head += b"".join(keys) + b"".join(tensors)
    return head + bytes(-len(head) % 32) + bytes(data)


def safetensors(header: object, data: int = 0, *, length: int | None = None) -> bytes:
    """A safetensors file from a header (JSON-able, or bytes as they are); `length` overrides its length."""
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(raw) if length is None else length) + raw + bytes(data)
