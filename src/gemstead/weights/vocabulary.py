"""The vocabulary a GGUF carries: tokens, their types, merges and special ids, checked against each other.

Says nothing about how text is cut (text/tokenizer.py does). Neighbours: gguf.py, store.py.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gemstead.errors import WeightsError
from gemstead.weights.gguf import GgufFile, read_gguf
from gemstead.weights.gguf_values import NumberArray, StringArray
from gemstead.weights.mapped import brief


@dataclass(frozen=True)
class Vocabulary:
    """The vocabulary kept in a GGUF: token i is `tokens[i]` of ggml type `types[i]` (1 normal, 2 unknown,
    3 control, 4 user defined, 5 unused, 6 byte). `merges` are "left right" in order of rank.
    """

    tokens: list[str]
    types: list[int]
    merges: list[str]
    scores: list[float] = field(default_factory=list)
    model: str = "gemma4"
    special: Mapping[str, int] = field(default_factory=dict)


def vocabulary_of(file: GgufFile) -> Vocabulary | None:
    """The vocabulary in a GGUF's metadata, or None; WeightsError when it contradicts itself."""
    key = "tokenizer.ggml."
    if f"{key}tokens" not in file.metadata:
        return None
    tokens = _list(file, f"{key}tokens", str)
    types = _list(file, f"{key}token_type", int) or [1] * len(tokens)
    scores = _list(file, f"{key}scores", float)
    for name, values in (("token_type", types), ("scores", scores)):
        if values and len(values) != len(tokens):
            raise WeightsError(
                f"{file.paths[0]}: {key}{name} has {len(values)} entries for {len(tokens)} tokens"
            )
    model = file.metadata.get(f"{key}model", "")
    return Vocabulary(
        tokens, types, _list(file, f"{key}merges", str), scores, str(model), _special(file, len(tokens))
    )


def _list(file: GgufFile, key: str, kind: type) -> list[Any]:
    """The array at `key` with elements of `kind`; empty when absent."""
    value = file.metadata.get(key, [])
    if isinstance(value, (StringArray, NumberArray)):
        value = value.tolist()
    if not isinstance(value, list) or not set(map(type, value)) <= {kind}:
        raise WeightsError(f"{file.paths[0]}: {key} must be an array of {kind.__name__}")
    return value


def _special(file: GgufFile, size: int) -> dict[str, int]:
    """Ids named by keys like tokenizer.ggml.bos_token_id: {"bos": 2}."""
    found: dict[str, int] = {}
    for key, value in file.metadata.items():
        match = re.fullmatch(r"tokenizer\.ggml\.(\w+)_token_id", key)
        if match is None:
            continue
        if type(value) is not int or not 0 <= value < size:
            raise WeightsError(f"{file.paths[0]}: {key} = {brief(value)} is no id of a vocabulary of {size}")
        found[match[1]] = value
    return found


def read_vocabulary(path: str | Path) -> Vocabulary:
    """The vocabulary of a GGUF file, also of one that holds no tensors; WeightsError when there is none."""
    file = read_gguf(Path(path))
    try:
        vocabulary = vocabulary_of(file)
    finally:
        file.close()
    if vocabulary is None:
        raise WeightsError(f"{path} holds no vocabulary (no tokenizer.ggml.tokens)")
    return vocabulary
