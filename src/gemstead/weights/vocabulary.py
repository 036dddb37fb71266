"""The vocabulary a GGUF carries: tokens, their types, merges and special ids, checked against each other.

Says nothing about how text is cut (text/tokenizer.py does). Neighbours: gguf.py, store.py.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gemstead.errors import WeightsError
from gemstead.weights.gguf import GgufFile, read_gguf
from gemstead.weights.gguf_values import NumberArray, StringArray
from gemstead.weights.mapped import brief

_KEY = "tokenizer.ggml."
_KINDS: Mapping[str, type] = {"tokens": str, "token_type": int, "merges": str, "scores": float}
_NUMBER_KINDS: Mapping[str, type] = {"f": float, "d": float, "?": bool}  # of struct codes; the others are int

Array = StringArray | NumberArray | list[Any]


@dataclass(frozen=True)
class Vocabulary:
    """The vocabulary kept in a GGUF: token i is `tokens[i]` of ggml type `types[i]` (1 normal, 2 unknown,
    3 control, 4 user defined, 5 unused, 6 byte). `merges` are "left right" in order of rank.
    """

    tokens: Sequence[str]
    types: list[int]
    merges: Sequence[str]
    scores: list[float] = field(default_factory=list)
    model: str = "gemma4"
    special: Mapping[str, int] = field(default_factory=dict)


def vocabulary_of(file: GgufFile, *, in_place: bool = False) -> Vocabulary | None:
    """The vocabulary in a GGUF's metadata, or None; WeightsError when it contradicts itself.

    in_place: tokens and merges stay in the file, which must stay open, and are decoded as they are read.
    """
    if f"{_KEY}tokens" not in file.metadata:
        return None
    check_vocabulary(file)
    arrays = {name: _array(file, name) for name in _KINDS}
    lists: dict[str, Any] = {
        name: values
        if isinstance(values, list) or (in_place and isinstance(values, StringArray))
        else values.tolist()
        for name, values in arrays.items()
    }
    tokens = lists["tokens"]
    return Vocabulary(
        tokens=tokens,
        types=lists["token_type"] or [1] * len(tokens),
        merges=lists["merges"],
        scores=lists["scores"],
        model=str(file.metadata.get(f"{_KEY}model", "")),
        special=_special(file, len(tokens)),
    )


def check_vocabulary(file: GgufFile) -> None:
    """WeightsError when a vocabulary contradicts itself; makes no strings, so it costs milliseconds."""
    if f"{_KEY}tokens" not in file.metadata:
        return
    size = len(_array(file, "tokens"))
    for name in ("token_type", "scores"):
        count = len(_array(file, name))
        if count not in (0, size):
            raise WeightsError(f"{file.paths[0]}: {_KEY}{name} has {count} entries for {size} tokens")
    _array(file, "merges")
    _special(file, size)


def _array(file: GgufFile, name: str) -> Array:
    """The array tokenizer.ggml.`name`, where it is still in the file; empty when absent."""
    value: Array = file.metadata.get(_KEY + name, [])
    kind = _KINDS[name]
    if isinstance(value, StringArray):
        fits = kind is str or not len(value)
    elif isinstance(value, NumberArray):
        fits = kind is _NUMBER_KINDS.get(value.code, int)
    else:
        fits = isinstance(value, list) and set(map(type, value)) <= {kind}
    if not fits:
        raise WeightsError(f"{file.paths[0]}: {_KEY}{name} must be an array of {kind.__name__}")
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
