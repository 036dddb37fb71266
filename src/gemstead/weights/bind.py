"""Binds stored tensors to the canonical names of spec/tensors.py and lists everything that does not fit.

Refuses a model with a missing, unknown, doubled or misshapen tensor, and a NaN where it costs nothing to
look. Neighbours: store.py, tensor.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from gemstead.errors import WeightsError
from gemstead.spec.model import DrafterSpec, ModelSpec
from gemstead.spec.tensors import (
    TensorSpec,
    drafter_tensors,
    is_ignorable,
    text_tensors,
    unsupported_reason,
)
from gemstead.weights.mapped import StoredTensor
from gemstead.weights.tensor import Tensor

_SHOWN = 20  # tensors named per kind of fault
# Read while opening, so that a NaN is named here and not noticed by the sampler later: a small model whole,
# of a large one the norms and scales (5 MB in the 31B).
_READ_BYTES = 8 << 20

Finder = Callable[[TensorSpec, Mapping[str, StoredTensor]], list[tuple[str, ...]]]


def in_safetensors(wanted: TensorSpec, stored: Mapping[str, StoredTensor]) -> list[tuple[str, ...]]:
    """The stored names that are this tensor: each alternative present."""
    return [(name,) for name in wanted.hf_names if name in stored]


def in_gguf(wanted: TensorSpec, stored: Mapping[str, StoredTensor]) -> list[tuple[str, ...]]:
    """The stored names that are this tensor: each alternative whose parts are all present."""
    return [names for names in wanted.gguf if all(name in stored for name in names)]


def bind(
    spec: ModelSpec | DrafterSpec, stored: Mapping[str, StoredTensor], find: Finder, path: Path
) -> dict[str, Tensor]:
    """Canonical name -> tensor for everything the forward reads; one WeightsError for all faults."""
    wanted = text_tensors(spec) if isinstance(spec, ModelSpec) else drafter_tensors(spec)
    tensors: dict[str, Tensor] = {}
    used: set[str] = set()
    missing: list[str] = []
    wrong: list[str] = []
    for row in wanted:
        found = find(row, stored)
        if not found:
            missing.append(row.name)
            continue
        used.update(name for names in found for name in names)
        fault = _fault(row, found, stored, spec.vocab_size)
        if fault:
            wrong.append(fault)
        else:
            tensors[row.name] = Tensor(row.name, row.shape, [stored[name] for name in found[0]])
    wrong += [f"{tensor.name} holds NaN or infinity" for tensor in _read(tensors) if not tensor.is_finite()]
    unknown = [name for name in stored if name not in used and not is_ignorable(name, spec)]
    _raise_faults(path, spec, {"missing": missing, "wrong": wrong, "unknown": unknown})
    return tensors


def _fault(
    row: TensorSpec, found: Sequence[tuple[str, ...]], stored: Mapping[str, StoredTensor], vocab_size: int
) -> str | None:
    """What is wrong with the stored form of one tensor, if anything."""
    if len(found) > 1:
        return f"{row.name} is there twice: {' and '.join('+'.join(names) for names in found)}"
    parts = [stored[name] for name in found[0]]
    shape = parts[0].shape
    if len(parts) > 1 and all(
        len(x.shape) > 2 and _without_rows(x) == _without_rows(parts[0]) for x in parts
    ):
        shape = (*shape[:-2], sum(part.shape[-2] for part in parts), shape[-1])
    if shape != row.shape:
        seen = " + ".join(str(list(part.shape)) for part in parts)
        return f"{row.name} has the shape {seen}, the model needs {list(row.shape)}"
    for part in parts:
        if (part.format.name in ("i32", "i64")) != row.integer:
            return f"{row.name} is {part.format.name}; {'integers' if row.integer else 'weights'} are needed"
    if row.integer and parts[0].nbytes > _READ_BYTES:
        return f"{row.name} takes {parts[0].nbytes} bytes; at most {_READ_BYTES} are believable"
    if row.integer:
        ids = Tensor(row.name, row.shape, parts).int64()
        if ids.min() < 0 or ids.max() >= vocab_size:
            return f"{row.name} holds ids from {ids.min()} to {ids.max()} for a vocabulary of {vocab_size}"
    return None


def _read(tensors: Mapping[str, Tensor]) -> list[Tensor]:
    """The tensors to look into while opening: all, or the vectors, or none, as _READ_BYTES allows."""
    vectors = [tensor for tensor in tensors.values() if len(tensor.shape) == 1]
    groups = (list(tensors.values()), vectors)
    return next((group for group in groups if sum(x.nbytes for x in group) <= _READ_BYTES), [])


def _without_rows(part: StoredTensor) -> tuple[int, ...]:
    return (*part.shape[:-2], part.shape[-1])


def _raise_faults(path: Path, spec: ModelSpec | DrafterSpec, faults: Mapping[str, list[str]]) -> None:
    """One WeightsError for all faults, each kind cut to its first _SHOWN."""
    lines: list[str] = []
    for kind, entries in faults.items():
        reasons = [unsupported_reason(name) or name for name in entries] if kind == "unknown" else entries
        lines += [f"  - {kind}: {text[:300]}" for text in reasons[:_SHOWN]]
        if len(entries) > _SHOWN:
            lines.append(f"  - {kind}: ... {len(entries)} in all")
    if lines:
        count = sum(map(len, faults.values()))
        raise WeightsError(
            f"{path} does not hold exactly the tensors of {spec.name} "
            f"({spec.num_layers} layers, hidden size {spec.hidden_size}); {count} "
            f"{'fault' if count == 1 else 'faults'}:\n" + "\n".join(lines)
        )
