"""Compares two models by what they say along the same text: how far apart, how often agreed, how surprised.

One model is open at a time: the first one's scores wait in a file, a row for each token, so memory holds one
model and the rows of a step. Knows no text, only token ids. Above: cli/compare.py.
"""

from __future__ import annotations

import math
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from gemstead.backend import open_backend
from gemstead.engine.engine import Engine
from gemstead.engine.scores import reading_engine, score_rows
from gemstead.errors import CapacityError, ConfigError
from gemstead.spec.model import ModelSpec
from gemstead.types import SamplingParams
from gemstead.weights.store import open_store

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Seen = Callable[[int], None]

_NEW_TOKENS = 16  # written to measure the speed
_PROMPT_TOKENS = 256  # ... after reading so many at most
_SPARE_BYTES = 256 << 20  # of disk, left to others
_GREEDY = SamplingParams(temperature=0.0, max_tokens=_NEW_TOKENS)


@dataclass(frozen=True)
class Passage:
    """Token ids of which those after the first `given` are judged: how well each is foreseen."""

    ids: tuple[int, ...]
    given: int = 1

    @property
    def judged(self) -> int:
        """How many tokens are judged."""
        return len(self.ids) - self.given


@dataclass
class Side:
    """One model and how it did."""

    name: str
    path: str
    format: str
    bytes: int
    backend: str
    prefill_tokens_s: float
    decode_tokens_s: float
    surprise: list[float] = field(default_factory=list)  # nats, of each judged token
    choices: list[int] = field(default_factory=list)  # the likeliest token there

    @property
    def perplexity(self) -> float:
        """Of the judged tokens."""
        return math.exp(sum(self.surprise) / len(self.surprise))


@dataclass(frozen=True)
class Comparison:
    """Two models over the same tokens. `divergence`: KL of the first from the second in nats, by token."""

    first: Side
    second: Side
    divergence: list[float]

    @property
    def agreement(self) -> float:
        """The part of the tokens for which both find the same one the likeliest."""
        same = sum(a == b for a, b in zip(self.first.choices, self.second.choices, strict=True))
        return same / len(self.divergence)

    @property
    def mean(self) -> float:
        """The mean divergence."""
        return sum(self.divergence) / len(self.divergence)

    def quantile(self, part: float) -> float:
        """The divergence that this part of the tokens does not exceed."""
        return float(np.quantile(self.divergence, part))

    def as_json(self) -> dict[str, Any]:
        """Everything, and what follows from it."""
        sides = [
            {name: value for name, value in vars(side).items() if name not in ("surprise", "choices")}
            | {"perplexity": side.perplexity}
            for side in (self.first, self.second)
        ]
        return {
            "first": sides[0],
            "second": sides[1],
            "tokens": len(self.divergence),
            "kl_mean": self.mean,
            "kl_median": self.quantile(0.5),
            "kl_p99": self.quantile(0.99),
            "kl_max": max(self.divergence),
            "top1_agreement": self.agreement,
            "kl": self.divergence,
        }


@dataclass(frozen=True)
class Opening:
    """How to open either model."""

    backend: str = "auto"
    threads: int | None = None


def compare(
    first: Path, second: Path, passages: Sequence[Passage], opening: Opening, seen: Seen = lambda _: None
) -> Comparison:
    """Read the passages with one model, then with the other; `seen` hears of each token judged.

    ConfigError for models with vocabularies of different size, CapacityError without room on the disk for
    the first one's scores.
    """
    sizes = []
    for path in (first, second):
        with open_store(path) as store:
            sizes.append(store.spec.vocab_size)
    if sizes[0] != sizes[1]:
        raise ConfigError(
            f"{first} knows {sizes[0]:,} tokens and {second} {sizes[1]:,}: "
            "they are not two forms of one model"
        )
    divergence: list[float] = []
    with _scratch() as file:

        def keep(log_probs_RV: Floats) -> None:
            log_probs_RV.tofile(file)
            seen(len(log_probs_RV))

        def judge(log_probs_RV: Floats) -> None:
            before_RV = np.fromfile(file, np.float32, log_probs_RV.size).reshape(log_probs_RV.shape)
            for p, q in zip(before_RV.astype(np.float64), log_probs_RV, strict=True):
                divergence.append(max(0.0, float(np.dot(np.exp(p), p - q))))
            seen(len(log_probs_RV))

        one = _read(first, passages, opening, keep)
        file.seek(0)
        other = _read(second, passages, opening, judge)
    return Comparison(one, other, divergence)


def _scratch() -> IO[bytes]:
    """A file without a name, on a disk: /tmp is memory on many systems, /var/tmp is not."""
    folder = None if os.environ.get("TMPDIR") or not os.path.isdir("/var/tmp") else "/var/tmp"  # noqa: PTH112
    return tempfile.TemporaryFile(dir=folder)


def check_room(passages: Sequence[Passage], vocab_size: int) -> None:
    """CapacityError when the disk cannot take the scores of one model."""
    with _scratch() as file:
        place = os.fstatvfs(file.fileno())
    free, needed = place.f_bavail * place.f_frsize, 4 * vocab_size * sum(p.judged for p in passages)
    if free < needed + _SPARE_BYTES:
        raise CapacityError(
            f"comparing needs {needed / 1e9:.1f} GB of disk for a while, {4 * vocab_size / 1e6:.1f} MB a "
            f"token, and {free / 1e9:.1f} GB are free: take fewer --tokens, or set TMPDIR to a folder on "
            "another disk"
        )


def _read(path: Path, passages: Sequence[Passage], opening: Opening, take: Callable[[Floats], None]) -> Side:
    """One model over all passages: `take` gets the log-probabilities of judged tokens' rows, in order."""
    longest = max(len(passage.ids) for passage in passages) + _NEW_TOKENS
    with open_store(path) as store:
        if not isinstance(store.spec, ModelSpec):
            raise ConfigError(f"{path} is a drafter, not a model; it says nothing on its own")
        check_room(passages, store.spec.vocab_size)
        backend = open_backend(opening.backend, store, None, opening.threads)
        try:
            engine = reading_engine(backend, longest)
            side = Side(
                store.spec.name,
                str(path),
                store.main_format,
                store.total_bytes,
                backend.capabilities().name,
                *_speed(engine, passages[0].ids[:_PROMPT_TOKENS]),
            )
            for passage in passages:
                _judge(engine, passage, side, take)
            return side
        finally:
            backend.close()


def _judge(engine: Engine, passage: Passage, side: Side, take: Callable[[Floats], None]) -> None:
    """Read one passage; the row before a judged token is what counts."""
    for first, rows in _numbered(score_rows(engine, passage.ids)):
        start = max(0, passage.given - 1 - first)
        stop = min(len(rows), len(passage.ids) - 1 - first)  # nothing follows the last token
        if start >= stop:
            continue
        log_probs_RV = log_softmax(rows[start:stop])
        targets = passage.ids[first + start + 1 : first + stop + 1]
        side.surprise += [-float(log_probs_RV[i, token]) for i, token in enumerate(targets)]
        side.choices += log_probs_RV.argmax(axis=-1).tolist()
        take(log_probs_RV)


def _numbered(chunks: Iterator[Floats]) -> Iterator[tuple[int, Floats]]:
    at = 0
    for rows in chunks:
        yield at, rows
        at += len(rows)


def log_softmax(scores_RV: Floats) -> Floats:
    """Log-probabilities of rows of scores, summed in float64, a row at a time."""
    out = np.empty_like(scores_RV)
    for row, scores in zip(out, scores_RV, strict=True):
        shifted = scores.astype(np.float64) - float(scores.max())
        row[...] = shifted - math.log(float(np.exp(shifted).sum()))
    return out


def _speed(engine: Engine, ids: Sequence[int]) -> tuple[float, float]:
    """Tokens per second read and written, each measured once after warming up."""
    found = (0.0, 0.0)
    for _ in range(2):
        sequence = engine.submit(ids, _GREEDY, eos_ids=())
        try:
            start = time.perf_counter()
            while not sequence.num_generated and not sequence.is_finished:
                engine.step()
            middle = time.perf_counter()
            while not sequence.is_finished:
                engine.step()
            if sequence.error is not None:
                raise sequence.error
            end = time.perf_counter()
        finally:
            engine.cancel(sequence)
        found = (len(ids) / (middle - start), max(1, sequence.num_generated - 1) / (end - middle))
    return found
