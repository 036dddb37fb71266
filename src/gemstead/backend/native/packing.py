"""Quantized matrices in the kernels' order: packed by several threads, or mapped from where they are kept.

Decides which tensors are packed and as what; formats the core has no reader for become q8_0. A big
model's pieces go through weights/packed_file.py, so that they are packed once per machine. Neighbour:
weights.py, which puts their addresses into structs.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from gemstead.backend.native.library import address, check, library
from gemstead.errors import WeightsError
from gemstead.weights import formats
from gemstead.weights.ahead import in_order
from gemstead.weights.fingerprint import fingerprint
from gemstead.weights.packed_file import PackedCache, default_folder

if TYPE_CHECKING:
    from gemstead.weights.store import Store
    from gemstead.weights.tensor import Tensor

Bytes = npt.NDArray[np.uint8]

PLAIN = ("f32", "f16", "bf16")
_READ = (*PLAIN, "q4_0", "q4_1", "q5_0", "q5_1", "q8_0", "q4_k", "q5_k", "q6_k", "iq4_nl", "iq4_xs")
_KERNELS = ("q4_0", "q8_0", "q4_k", "q6_k")
_SAME_AS_Q8_0 = ("q5_0", "iq4_nl")  # integers and a scale a block: no value moves
_SAMPLED_ROWS = 64
_ALIGNMENT = 64  # bytes: a cache line
_CONVERTED_ROWS = 1024  # of a matrix that becomes q8_0, at a time
_KEPT_BYTES = 64 << 20  # less than this is packed anew in less time than a file costs


def kind_of(format_name: str) -> str:
    """The format the core gets: the file's own, or q8_0 where it has no reader or the parts differ."""
    return format_name if format_name in _READ else "q8_0"


def computed_as(format_name: str) -> str:
    """The format that is multiplied with: the file's own where it has a kernel, else q8_0."""
    return format_name if format_name in (*PLAIN, *_KERNELS) else "q8_0"


def repacking_error(tensor: Tensor) -> float | None:
    """How far q8_0 is from a matrix's own values, of its first rows: root of mean squares, relative.

    None where the values cannot be packed.
    """
    if tensor.format in _SAME_AS_Q8_0:
        return 0.0
    values = tensor.float32(0, 1 if len(tensor.shape) > 2 else min(_SAMPLED_ROWS, tensor.shape[0]))
    q8_0 = formats.get("q8_0")
    try:
        off = q8_0.unpack(q8_0.pack(values)).reshape(values.shape) - values
    except WeightsError:  # not numbers, or rows that are no whole blocks: opening says so
        return None
    return float(np.sqrt(np.square(off).mean() / max(np.square(values).mean(), 1e-30)))


def readable(tensor: Tensor, first: int, last: int) -> Bytes:
    """Entries first:last of the leading axis as bytes the core reads, parts joined."""
    kind = kind_of(tensor.format)
    if kind == tensor.format:
        raws = [raw[first:last] for raw in tensor.raw()]
        return raws[0] if len(raws) == 1 else np.concatenate(raws, axis=-2)
    pack = formats.get(kind).pack
    pieces = [
        pack(tensor.float32(row, min(row + _CONVERTED_ROWS, last)))
        for row in range(first, last, _CONVERTED_ROWS)
    ]
    return np.concatenate(pieces)


def pieces(store: Store, names: list[str], threads: int) -> dict[str, Bytes]:
    """Each of these matrices whose format is packed, every copy (expert) in strips, one behind the other."""
    tensors = [store.tensors[name] for name in names if is_packed(store.tensors[name].format)]
    sizes = {tensor.name: packed_bytes(tensor.format, tensor.shape) for tensor in tensors}
    folder = default_folder() if sum(sizes.values()) >= _KEPT_BYTES else None
    if folder is not None:
        with contextlib.suppress(OSError):
            cache, key = PackedCache(folder), fingerprint(store, "packed 2", repr(list(sizes.items())))
            found = cache.open(key, sizes)
            if found is None and cache.keep(key, sizes, _packed(tensors, threads)):
                found = cache.open(key, sizes)
            if found is not None:
                return found
    return dict(zip(sizes, _packed(tensors, threads), strict=True))


def _packed(tensors: list[Tensor], threads: int) -> Iterator[Bytes]:
    """Packed in order, a few ahead of whoever takes them."""
    if sum(tensor.nbytes for tensor in tensors) < _KEPT_BYTES:  # over before threads would have begun
        yield from map(_pack, tensors)
        return
    from concurrent.futures import ThreadPoolExecutor  # loads logging: a big model's matter

    with ThreadPoolExecutor(threads) as pool:
        yield from in_order(pool, (partial(_pack, tensor) for tensor in tensors), threads)


def _pack(tensor: Tensor) -> Bytes:
    rows, columns = tensor.shape[-2:]
    code, whole = code_of(tensor), packed_bytes(tensor.format, tensor.shape)
    target, size = _aligned(whole), whole // copies_of(tensor)
    for copy in range(copies_of(tensor)):
        first, last = (copy, copy + 1) if len(tensor.shape) == 3 else (0, rows)
        data = np.ascontiguousarray(readable(tensor, first, last))
        status = library().gs_pack(code, address(data), rows, columns, address(target) + copy * size)
        check(status, f"packing {tensor.name}")
    for part in tensor.parts:
        part.release()  # the packed copy is the one that stays
    return target


def copies_of(tensor: Tensor) -> int:
    """How many matrices a tensor holds: its experts, or 1."""
    return tensor.shape[0] if len(tensor.shape) == 3 else 1


def code_of(tensor: Tensor) -> int:
    """The ggml type of what the core gets."""
    return formats.get(kind_of(tensor.format)).ggml_type or 0


def is_packed(format_name: str) -> bool:
    """Whether a matrix of this format is rearranged; plain numbers are read as they lie in the file."""
    return kind_of(format_name) not in PLAIN


def packed_bytes(format_name: str, shape: tuple[int, ...]) -> int:
    """What a matrix takes once packed, all its copies (experts) together."""
    code = formats.get(kind_of(format_name)).ggml_type or 0
    return math.prod(shape[:-2]) * int(library().gs_packed_bytes(code, *shape[-2:]))


def _aligned(size: int) -> Bytes:
    raw = np.empty(size + _ALIGNMENT, np.uint8)
    start = -address(raw) % _ALIGNMENT
    return raw[start : start + size]
