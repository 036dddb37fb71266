"""From one row of logits to one token, and its log-probability.

Order: penalties, biases, forbidden tokens, temperature, top_k, top_p, min_p, then one draw. A draw depends
on (seed, index of the emitted token) and on nothing else, so drafting, preemption and batching
never change an output. Refuses rows that are not numbers. Used by engine.py row by row.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from gemstead.backend.base import Floats
from gemstead.engine.constraint import Mask, unpack_mask
from gemstead.errors import BackendError, InputError
from gemstead.types import SamplingParams, TokenLogprob

Indices = npt.NDArray[np.intp]

_GROUPS = 512


def uniform(seed: int, index: int) -> float:
    """The one random number in [0, 1) of the token emitted at `index` of a sequence with `seed`."""
    bits = np.random.Philox(key=seed, counter=[index, 0, 0, 0]).random_raw()
    return float(int(bits) >> 11) * 2.0**-53


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


def nucleus(weights_V: Floats, mass: float) -> Indices:
    """The smallest set of greatest weights with `mass` < 1 of their sum; never empty, ties to the lowest.

    All weights below a V-th of the rest of the mass make less than that rest together, so none of them is
    inside; what is left is sorted.
    """
    total = float(weights_V.sum(dtype=np.float64))
    able = np.flatnonzero(weights_V >= np.float32((1 - mass) * total / weights_V.size))
    weights = weights_V[able]
    descending = np.sort(weights)[::-1]
    count = int(np.searchsorted(np.cumsum(descending, dtype=np.float64), mass * total)) + 1
    least = descending[min(count, descending.size) - 1]
    inside = able[weights > least]
    return np.concatenate([inside, able[weights == least][: count - inside.size]])


def _draw(weights: Floats, u: float) -> int:
    """Position at which the running sum passes u of the total; never one without weight.

    Groups first, then inside the one group: a running sum over all of a vocabulary costs 20 times more.
    """
    starts = np.arange(0, weights.size, _GROUPS)
    groups = np.cumsum(np.add.reduceat(weights, starts, dtype=np.float64))
    goal = u * float(groups[-1])
    group = int(np.searchsorted(groups, goal, side="right"))
    if group == groups.size:  # u * total rounded up to the total
        group = int(np.searchsorted(groups, groups[-1]))
    before = float(groups[group - 1]) if group else 0.0
    inside = weights[group * _GROUPS : (group + 1) * _GROUPS]
    running = np.cumsum(inside, dtype=np.float64)
    position = int(np.searchsorted(running, goal - before, side="right"))
    if position == inside.size:
        position = int(np.flatnonzero(inside)[-1])
    return group * _GROUPS + position


class Penalties:
    """Counts of seen tokens, and what they take from the logits.

    As in vLLM: repetition looks at prompt and output (positive logits divided, negative multiplied),
    presence and frequency at the output only (subtracted once, and per occurrence).
    """

    def __init__(self, params: SamplingParams, prompt_ids: Iterable[int], vocab_size: int) -> None:
        self._params = params
        self._seen = np.zeros(vocab_size, dtype=np.bool_)
        self._seen[list(prompt_ids)] = True
        self._counts = np.zeros(vocab_size, dtype=np.int32)

    @staticmethod
    def wanted(params: SamplingParams) -> bool:
        """Whether any penalty is on."""
        return (params.repetition_penalty, params.presence_penalty, params.frequency_penalty) != (1, 0, 0)

    def saw(self, token_id: int) -> None:
        """A token was emitted."""
        self._seen[token_id] = True
        self._counts[token_id] += 1

    def apply(self, values_V: Floats) -> None:
        """Penalise in place."""
        if self._params.repetition_penalty != 1.0:
            seen = np.flatnonzero(self._seen)
            factor = np.float32(self._params.repetition_penalty)
            values = values_V[seen]
            values_V[seen] = np.where(values > 0, values / factor, values * factor)
        emitted = np.flatnonzero(self._counts)
        values_V[emitted] -= np.float32(self._params.presence_penalty)
        values_V[emitted] -= np.float32(self._params.frequency_penalty) * self._counts[emitted]


class Sampler:
    """One sequence's way of choosing: its parameters, its seed, its penalties."""

    def __init__(
        self,
        params: SamplingParams,
        prompt_ids: Iterable[int],
        vocab_size: int,
        suppressed: Iterable[int] = (),
    ) -> None:
        self.params = params
        self.seed = secrets.randbits(64) if params.seed is None else params.seed
        self._penalties = Penalties(params, prompt_ids, vocab_size) if Penalties.wanted(params) else None
        self._suppressed = [i for i in suppressed if i < vocab_size]
        self._biased = [token_id for token_id, _ in params.logit_bias]
        self._biases = np.asarray([bias for _, bias in params.logit_bias], dtype=np.float32)
        if max(self._biased, default=0) >= vocab_size:
            raise InputError(
                f"logit_bias = {max(self._biased)} is not in the vocabulary; ids go up to {vocab_size - 1}"
            )

    def choose(self, row_V: Floats, index: int, mask: Mask | None = None) -> tuple[int, TokenLogprob | None]:
        """The token at `index` of the output. `row_V` is read only; see the module for the order."""
        if not np.isfinite(row_V.max()):
            raise BackendError(
                "the model's logits are not numbers (NaN or infinite); its weights may be damaged"
            )
        values = self._adjusted(row_V, mask)
        if values is not row_V and not np.isfinite(values.max()):
            raise BackendError(
                "no token may follow: the constraint and the suppressed ids forbid all of them"
            )
        token_id = int(values.argmax()) if self.params.temperature == 0 else self._sample(values, index)
        if self._penalties is not None:
            self._penalties.saw(token_id)
        if self.params.logprobs is None:
            return token_id, None
        return token_id, logprob_of(row_V, token_id, self.params.logprobs)

    def _adjusted(self, row_V: Floats, mask: Mask | None) -> Floats:
        if self._penalties is None and mask is None and not self._suppressed and not self._biased:
            return row_V
        values = row_V.copy()
        if self._penalties is not None:
            self._penalties.apply(values)
        values[self._biased] += self._biases
        if mask is not None:
            values[~unpack_mask(mask, values.size)] = -np.inf
        values[self._suppressed] = -np.inf
        return values

    def _sample(self, values_V: Floats, index: int) -> int:
        params = self.params
        kept = best(values_V, params.top_k) if 0 < params.top_k < values_V.size else None
        scaled = values_V if kept is None else values_V[kept]
        scaled = (scaled - scaled.max()) / np.float32(max(params.temperature, 1e-6))
        weights = np.exp(scaled)
        if params.top_p < 1.0:
            inside = nucleus(weights, params.top_p)
            weights = weights[inside]
            kept = inside if kept is None else kept[inside]
        if params.min_p > 0.0:
            weights[weights < params.min_p * weights.max()] = 0.0
        position = _draw(weights, uniform(self.seed, index))
        return position if kept is None else int(kept[position])
