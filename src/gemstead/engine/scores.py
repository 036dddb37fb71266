"""All scores a model gives along a text, a few rows at a time: what measuring and comparing stand on.

A row of Gemma's vocabulary takes a megabyte, so nothing here keeps more than the rows of one step.
Neighbours: engine.py steps, importance.py and machine/compare.py look at the rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Sequence as Listing

from gemstead.backend.base import Backend, Floats
from gemstead.engine.engine import Engine
from gemstead.engine.options import EngineOptions
from gemstead.types import SamplingParams

_FORWARD = SamplingParams(max_tokens=0)
_SPARE_BYTES = 16 << 20  # of K/V pages beyond two contexts: windows and ragged ends


def reading_engine(backend: Backend, context_tokens: int) -> Engine:
    """An engine with room for one text of this length, which reuses nothing of an earlier one."""
    per_token = sum(backend.capabilities().kv_bytes_per_token)
    memory = 2 * per_token * context_tokens + _SPARE_BYTES
    options = EngineOptions(
        memory_bytes=memory, context_tokens=context_tokens, max_sequences=1, prefix_reuse=False
    )
    return Engine(backend, options)


def score_rows(engine: Engine, token_ids: Listing[int]) -> Iterator[Floats]:
    """float32 [rows, V] one after the other: after each token, the scores of the next.

    Errors are those of Engine.submit, and of the step that fails. Nobody else may step the engine.
    """
    sequence = engine.submit(token_ids, _FORWARD, collect="scores")
    try:
        while not sequence.is_finished or sequence.scores:
            while sequence.scores:
                yield sequence.scores.pop(0)
            if not sequence.is_finished:
                engine.step()
        if sequence.error is not None:
            raise sequence.error
    finally:
        engine.cancel(sequence)
