"""A token chosen from a row of logits by the core: gs_choose (ADR 0014).

engine/choosing.py is its definition. Neighbours: backend.py, and torch's, offer it to the engine.
"""

from __future__ import annotations

import ctypes

import numpy as np

from gemstead.backend.base import LEAST_TEMPERATURE, Choice, Floats
from gemstead.backend.native import layout
from gemstead.backend.native.library import address, check, floats, ints, library
from gemstead.errors import BackendError
from gemstead.types import TokenLogprob


def native_chooser() -> NativeChooser | None:
    """For a backend that gives its rows to numpy: None where there is no core that can be used."""
    try:
        library()
    except BackendError:
        return None
    return NativeChooser()


class NativeChooser:
    """Holds the memory that a choice is worked out in: for one thread at a time."""

    def __init__(self) -> None:
        self._work = np.empty(0, np.float32)

    def __call__(self, row_V: Floats, choice: Choice) -> tuple[int, TokenLogprob | None]:
        """The token, and its log-probability where that is wanted; BackendError when none can be chosen."""
        size, params = row_V.size, choice.params
        if self._work.size < 2 * size + 1:
            self._work = np.empty(2 * size + 1, np.float32)
        row_V = np.ascontiguousarray(row_V)
        top = min(params.logprobs or 0, size)
        ids = (ctypes.c_int32 * (1 + top))()
        logprobs = (ctypes.c_double * (1 + top))()
        struct = _struct(row_V, choice, top)
        wanted = None if params.logprobs is None else logprobs
        status = library().gs_choose(ctypes.byref(struct), address(self._work), ids, wanted)
        check(status, "choosing a token")
        if params.logprobs is None:
            return ids[0], None
        return ids[0], TokenLogprob(
            token_id=ids[0],
            logprob=logprobs[0],
            top=tuple(zip(ids[1:], logprobs[1:], strict=True)),
        )


def _struct(row_V: Floats, choice: Choice, top: int) -> layout.Choice:
    """The choice as the core reads it; it points into the arrays of both."""
    params = choice.params
    struct = layout.Choice(
        row=floats(row_V),
        u=choice.u,
        vocab_size=row_V.size,
        top_k=params.top_k,
        top=top,
        temperature=0.0 if params.temperature == 0 else max(params.temperature, LEAST_TEMPERATURE),
        top_p=params.top_p,
        min_p=params.min_p,
        repetition=params.repetition_penalty,
        presence=params.presence_penalty,
        frequency=params.frequency_penalty,
    )
    if choice.allowed is not None:
        struct.allowed = ctypes.cast(address(choice.allowed), ctypes.POINTER(ctypes.c_uint32))
    if choice.seen_ids.size:
        struct.num_seen, struct.seen = choice.seen_ids.size, ints(choice.seen_ids)
        struct.counts = ints(choice.seen_counts)
    if choice.biased_ids.size:
        struct.num_biased, struct.biased = choice.biased_ids.size, ints(choice.biased_ids)
        struct.biases = floats(choice.biases)
    if choice.forbidden_ids.size:
        struct.num_forbidden, struct.forbidden = choice.forbidden_ids.size, ints(choice.forbidden_ids)
    return struct
