"""From one row of logits to one token, by numpy: what native/src/choose.cpp does in the core.

Slow and obvious next to that, and its test; the choice of every backend that brings none of its own.
Refuses rows that are not numbers. Neighbour: sampler.py, which says what is to be chosen by.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from gemstead.backend.base import LEAST_TEMPERATURE, Choice, Floats
from gemstead.engine.constraint import unpack_mask
from gemstead.errors import BackendError
from gemstead.types import TokenLogprob

Indices = npt.NDArray[np.intp]

_GROUPS = 512


def choose(row_V: Floats, choice: Choice) -> tuple[int, TokenLogprob | None]:
    """The token, and its log-probability where that is wanted. `row_V` is read only."""
    if not np.isfinite(row_V.max()):
        raise BackendError("the model's logits are not numbers (NaN or infinite); its weights may be damaged")
    values = adjusted(row_V, choice)
    if values is not row_V and not np.isfinite(values.max()):
        raise BackendError("no token may follow: the constraint and the suppressed ids forbid all of them")
    token_id = int(values.argmax()) if choice.params.temperature == 0 else sample(values, choice)
    if choice.params.logprobs is None:
        return token_id, None
    return token_id, logprob_of(row_V, token_id, choice.params.logprobs)


def adjusted(row_V: Floats, choice: Choice) -> Floats:
    """The row with penalties, biases and what is forbidden; itself where there is nothing of all that.

    Penalties as in vLLM: repetition looks at prompt and output (positive logits divided, negative
    multiplied), presence and frequency at the output only (subtracted once, and per occurrence).
    """
    ids, counts = choice.seen_ids, choice.seen_counts
    if choice.allowed is None and not ids.size + choice.forbidden_ids.size + choice.biased_ids.size:
        return row_V
    values = row_V.copy()
    factor = np.float32(choice.params.repetition_penalty)
    seen = values[ids]
    values[ids] = np.where(seen > 0, seen / factor, seen * factor)
    emitted, often = ids[counts > 0], counts[counts > 0]
    values[emitted] -= np.float32(choice.params.presence_penalty)
    values[emitted] -= np.float32(choice.params.frequency_penalty) * often.astype(np.float32)
    values[choice.biased_ids] += choice.biases
    if choice.allowed is not None:
        values[~unpack_mask(choice.allowed, values.size)] = -np.inf
    values[choice.forbidden_ids] = -np.inf
    return values


def sample(values_V: Floats, choice: Choice) -> int:
    """Temperature, top_k, top_p, min_p, and the draw at choice.u."""
    params = choice.params
    kept = best(values_V, params.top_k) if 0 < params.top_k < values_V.size else None
    scaled = values_V if kept is None else values_V[kept]
    scaled = (scaled - scaled.max()) / np.float32(max(params.temperature, LEAST_TEMPERATURE))
    weights = np.exp(scaled)
    if params.top_p < 1.0:
        weights[~nucleus(weights, params.top_p)] = 0.0
    if params.min_p > 0.0:
        weights[weights < np.float32(params.min_p) * weights.max()] = 0.0
    position = draw(weights, choice.u)
    return position if kept is None else int(kept[position])


def best(values_V: Floats, count: int) -> Indices:
    """Indices of the `count` greatest values, greatest first, ties to the lowest index.

    Without sorting V values: the count-th greatest of the groups' maxima is a lower bound of the
    count-th greatest value, and few values pass it.
    """
    size = values_V.size
    if count >= size:
        return np.argsort(-values_V, kind="stable")
    groups = max(_GROUPS, 4 * count)
    width = size // groups
    if width < 2:
        passing = np.arange(size)
    else:
        whole = groups * width
        maxima = values_V[:whole].reshape(groups, width).max(axis=1)
        bound = np.partition(maxima, groups - count)[groups - count]
        passing = np.flatnonzero(values_V >= bound)
    order = np.argsort(-values_V[passing], kind="stable")[:count]
    chosen: Indices = passing[order]
    return chosen


def logprob_of(values_V: Floats, token_id: int, top: int) -> TokenLogprob:
    """Natural-log probability of a token under the model's own distribution, and the `top` best.

    Of the raw logits: before penalties, constraint, temperature and filters.
    """
    peak = float(values_V.max())
    norm = peak + float(np.log(np.exp(values_V - np.float32(peak)).sum(dtype=np.float64)))
    alternatives = best(values_V, top) if top else ()
    return TokenLogprob(
        token_id=token_id,
        logprob=float(values_V[token_id]) - norm,
        top=tuple((int(i), float(values_V[i]) - norm) for i in alternatives),
    )


def nucleus(weights: Floats, mass: float) -> npt.NDArray[np.bool_]:
    """The smallest set of greatest weights with `mass` < 1 of their sum; never empty, ties to the lowest."""
    descending = np.sort(weights)[::-1]
    running = np.cumsum(descending, dtype=np.float64)
    count = min(int(np.searchsorted(running, mass * running[-1])) + 1, weights.size)
    least = descending[count - 1]
    inside: npt.NDArray[np.bool_] = weights > least
    ties = np.flatnonzero(weights == least)
    inside[ties[: count - int(inside.sum())]] = True
    return inside


def draw(weights: Floats, u: float) -> int:
    """Position at which the running sum passes u of the total; never one without weight."""
    running = np.cumsum(weights, dtype=np.float64)
    position = int(np.searchsorted(running, u * float(running[-1]), side="right"))
    return position if position < weights.size else int(np.flatnonzero(weights)[-1])
