"""Chooses a number format for each tensor of a model: one for all, or mixed as llama-quantize mixes them.

Norms, scalars, the router and index tensors keep their precision; rows that do not fill a block fall
back to a format with a smaller one. Neighbours: formats.py, model_file.py, quantize.py.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from types import MappingProxyType

from gemstead.errors import WeightsError
from gemstead.spec.tensors import TensorSpec
from gemstead.weights.formats import get, writable


@dataclass(frozen=True)
class Mixture:
    """A format people ask for by name: `body` for the matrices, `tables` for the embeddings, `finer` for
    the tensors that suffer most. `file_type` is general.file_type, as llama.cpp's llama_ftype numbers it.
    """

    file_type: int
    body: str
    tables: str
    finer: str | None = None


MIXTURES: Mapping[str, Mixture] = MappingProxyType(
    {
        "f32": Mixture(0, "f32", "f32"),
        "f16": Mixture(1, "f16", "f16"),
        "bf16": Mixture(32, "bf16", "bf16"),
        "q8_0": Mixture(7, "q8_0", "q8_0"),
        "q6_k": Mixture(18, "q6_k", "q6_k"),
        "q5_k_m": Mixture(17, "q5_k", "q6_k", "q6_k"),
        "q5_k_s": Mixture(16, "q5_k", "q6_k"),
        "q5_1": Mixture(9, "q5_1", "q6_k"),
        "q5_0": Mixture(8, "q5_0", "q6_k"),
        "q4_k_m": Mixture(15, "q4_k", "q6_k", "q6_k"),
        "q4_k_s": Mixture(14, "q4_k", "q6_k"),
        "q4_1": Mixture(3, "q4_1", "q6_k"),
        "q4_0": Mixture(2, "q4_0", "q6_k"),
    }
)
PLAIN = ("f32", "f16", "bf16")  # what safetensors holds too

_TABLES = ("embed_tokens", "embed_tokens_per_layer")
# For rows that no block of 256 divides, as llama-quantize does; then f16 for what no block of 32 divides.
_SMALLER = MappingProxyType({"q4_k": "q5_0", "q5_k": "q5_1", "q6_k": "q8_0"})
_FALLBACKS = ("q8_0", "f16")


def choose_formats(rows: Sequence[TensorSpec], wanted: str) -> dict[str, str]:
    """A format by tensor name: `wanted` where a tensor may be quantized and its rows are whole blocks.

    Where they are not, q8_0, else f16. Tensors that may not be quantized are absent (f32).
    """
    get(wanted)
    return {row.name: _that_fits(row.shape[-1], wanted, *_FALLBACKS) for row in rows if row.may_quantize}


def mix_formats(
    rows: Sequence[TensorSpec], mixture: str, overrides: Sequence[tuple[str, str]] = ()
) -> dict[str, str]:
    """A format by tensor name as the mixture says; tensors that may not be quantized are absent (f32).

    `overrides` are (pattern, format) with * and ? in the pattern; the last that matches a name wins.
    WeightsError for an unknown mixture or format, and for a pattern that no tensor matches.
    """
    mixed = MIXTURES.get(mixture)
    if mixed is None:
        raise WeightsError(f"there is no format {mixture!r} to write; choose one of {', '.join(MIXTURES)}")
    layers = 1 + max((int(m[1]) for row in rows if (m := re.match(r"layers\.(\d+)\.", row.name))), default=0)
    chosen = {}
    for row in rows:
        if row.may_quantize:
            chosen[row.name] = _of_mixture(row.name, mixed, layers)
    for pattern, name in overrides:
        chosen |= dict.fromkeys(_named(rows, pattern, name), name)
    widths = {row.name: row.shape[-1] for row in rows}
    return {
        name: _that_fits(widths[name], wanted, _SMALLER.get(wanted, "f16"), "f16")
        for name, wanted in chosen.items()
    }


def _that_fits(width: int, *names: str) -> str:
    """The first format whose blocks fill a row of `width` values."""
    return next((name for name in names if width % get(name).block == 0), names[-1])


def _of_mixture(name: str, mixed: Mixture, layers: int) -> str:
    """What the mixture gives this tensor, were all rows whole blocks."""
    if name in _TABLES:
        return mixed.tables
    if name == "per_layer_model_projection" and get(mixed.body).quantized:
        return "bf16"
    return mixed.finer if mixed.finer and is_finer(name, layers) else mixed.body


def is_finer(name: str, layers: int) -> bool:
    """Whether a mixture spends more: V and down in the outer eighths and every third layer between."""
    if not name.endswith(("v_proj", "down_proj")):
        return False
    layer, eighth = int(name.split(".")[1]), layers // 8
    return layer < eighth or layer >= 7 * layers // 8 or (layer - eighth) % 3 == 2


def _named(rows: Sequence[TensorSpec], pattern: str, name: str) -> list[str]:
    """The tensors that match a pattern; WeightsError when there are none, or no such format."""
    if name not in writable():
        raise WeightsError(
            f"there is no format {name!r} to write for {pattern!r}; choose one of {', '.join(writable())}"
        )
    found = [row.name for row in rows if row.may_quantize and fnmatchcase(row.name, pattern)]
    if not found:
        raise WeightsError(
            f"no tensor that may be quantized has a name like {pattern!r}; "
            "gemstead show MODEL --json lists the names"
        )
    return found
