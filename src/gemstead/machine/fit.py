"""How much memory a model will take on a machine: the engine's own arithmetic, added up.

Weights and work are backend/native/footprint.py's, pages engine/pages.py's. What the rest of the program
takes is measured. Above: plan.py.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass

from gemstead.backend.native.backend import kv_bytes_per_token
from gemstead.backend.native.footprint import Work, angle_bytes, held_weights, work_bytes
from gemstead.engine.options import EngineOptions
from gemstead.engine.pages import blocks_of, page_counts, window_blocks
from gemstead.spec.model import DrafterSpec, ModelSpec
from gemstead.spec.tensors import text_tensors
from gemstead.weights.formats import get

# A process with a model open and nothing computed: Python, numpy, the core; for each token of the vocabulary
# the file's header; and what a tokenizer adds. Measured with 4,096 and 262,144 tokens, Linux, 2026-11-26.
PROGRAM_BYTES, _HEADER_BYTES_A_TOKEN, _TEXT_BYTES_A_TOKEN = 52 << 20, 190, 145
# What such a process has mapped beside the model's files and K/V (VmSize), and what a thread may add.
_PROGRAM_ADDRESSES, _THREAD_ADDRESSES = 300 << 20, 136 << 20
_LOGITS_COPIES = 3


@dataclass(frozen=True, slots=True)
class Footprint:
    """Bytes of memory by what they are for. Rows of tables are not here: they are read from the file."""

    weights: int
    kv: int
    work: int
    media: int
    drafter: int
    program: int

    @property
    def total(self) -> int:
        """The most the process will hold."""
        return sum(astuple(self))


@dataclass(frozen=True, slots=True)
class Load:
    """What a model is to do: so many users at once, each with up to so many tokens.

    has_text: a tokenizer is open too.
    """

    context_tokens: int
    users: int = 1
    threads: int = 1
    kv: str = "f16"
    has_text: bool = True


def kv_needed(spec: ModelSpec, load: Load, per_token: Sequence[int] | None = None) -> int:
    """The least ceiling under which the engine cuts pages for all users' whole contexts at once.

    `per_token`: what a backend's Capabilities say; None: the native engine's.
    """
    per_token = per_token or kv_bytes_per_token(spec, load.kv)
    options = EngineOptions()
    context = min(load.context_tokens, spec.max_position_embeddings)

    def pages_of(memory_bytes: int) -> tuple[int, ...]:
        cut = EngineOptions(
            memory_bytes=memory_bytes,
            context_tokens=context,
            max_sequences=max(options.max_sequences, load.users),
        )
        return page_counts(spec.pools, per_token, cut.budget(spec.max_position_embeddings))

    def cost(counts: tuple[int, ...]) -> int:
        return sum(n * size * options.page_tokens for n, size in zip(counts, per_token, strict=True))

    budget = EngineOptions(context_tokens=context).budget(spec.max_position_embeddings)
    blocks = blocks_of(context, options.page_tokens)
    wanted = tuple(
        load.users * (blocks if p.window is None else min(blocks, window_blocks(p.window, budget)))
        for p in spec.pools
    )
    low, high = cost(wanted), cost(pages_of(1 << 62))
    while low < high:
        middle = (low + high) // 2
        enough = all(have >= want for have, want in zip(pages_of(middle), wanted, strict=True))
        low, high = (low, middle) if enough else (middle + 1, high)
    return low


def footprint(
    spec: ModelSpec,
    formats: Mapping[str, str],
    load: Load,
    media_bytes: int = 0,
    drafter: DrafterSpec | None = None,
) -> Footprint:
    """What the model holds at most while it does this; `formats` by tensor name (absent: f32)."""
    options = EngineOptions()
    context = min(load.context_tokens, spec.max_position_embeddings)
    every = {row.name: formats.get(row.name, "f32") for row in text_tensors(spec)}
    weights = held_weights(spec, every)
    rows = min(options.max_rows, load.users * context)
    work = Work(rows, min(load.users, rows), load.users, context, load.threads)
    a_token = _HEADER_BYTES_A_TOKEN + (_TEXT_BYTES_A_TOKEN if load.has_text else 0)
    logits = _LOGITS_COPIES * load.users * spec.vocab_size * 4
    return Footprint(
        weights=weights.resident,
        kv=kv_needed(spec, load) + angle_bytes(spec, context),
        work=work_bytes(spec, every, work) + logits,
        media=media_bytes,
        drafter=0 if drafter is None else _drafter_bytes(drafter),
        program=PROGRAM_BYTES + a_token * spec.vocab_size,
    )


class _AllBf16(dict[str, str]):
    """The formats of a drafter as Google gives it: bf16 throughout."""

    def __missing__(self, name: str) -> str:
        return "bf16"


def _drafter_bytes(spec: DrafterSpec) -> int:
    """All of it: a step looks at thousands of rows of its table."""
    held = held_weights(spec, _AllBf16())
    return held.resident + sum(table.rows * table.row_bytes for table in held.tables)


def file_bytes(spec: ModelSpec, formats: Mapping[str, str]) -> int:
    """All tensors of the text model as a file holds them."""
    return sum(get(formats.get(row.name, "f32")).nbytes(row.shape) for row in text_tensors(spec))


def packed_file_bytes(spec: ModelSpec, formats: Mapping[str, str]) -> int:
    """What the rearranged copy takes, on disk or, where there is no room for it, in memory alone."""
    return held_weights(spec, {row.name: formats.get(row.name, "f32") for row in text_tensors(spec)}).packed


def addresses(spec: ModelSpec, formats: Mapping[str, str], held: Footprint, threads: int) -> tuple[int, int]:
    """The least and the most that the process maps, which ulimit -v counts: whole files and all pages."""
    largest = max(math.prod(row.shape) for row in text_tensors(spec))
    least = file_bytes(spec, formats) + packed_file_bytes(spec, formats) + held.kv + held.work + held.drafter
    return least + _PROGRAM_ADDRESSES, least + _PROGRAM_ADDRESSES + threads * _THREAD_ADDRESSES + largest
