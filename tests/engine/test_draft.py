"""Drafters, each by itself."""

from __future__ import annotations

import numpy as np

from gemstead.backend.base import Logits
from gemstead.engine.draft import MtpDrafter, NgramDrafter, NoDraft
from gemstead.engine.pages import PageTable
from gemstead.engine.sampler import Sampler
from gemstead.engine.sequence import Sequence
from gemstead.types import SamplingParams


def sequence(ids):
    return Sequence(list(ids), 1000, Sampler(SamplingParams(seed=0), ids, 100), PageTable(2))


def never(*_):
    raise AssertionError("this drafter needs no forward")


def slow_ngram(ids, k, sizes=(4, 3, 2)):
    for n in sizes:
        for end in range(len(ids) - 1, n - 1, -1):
            if ids[end - n : end] == ids[-n:]:
                return ids[end : end + k]
    return []


def test_no_draft():
    assert NoDraft().propose([(sequence([1]), 3)], never) == [[]]


def test_ngram_finds_the_latest_longest_match():
    rng = np.random.default_rng(0)
    drafter = NgramDrafter()
    for _ in range(30):
        ids = rng.integers(0, 4, int(rng.integers(1, 12))).tolist()
        s = sequence(ids)
        for _ in range(30):
            assert drafter.propose([(s, 3)], never) == [slow_ngram(s.ids, 3)]
            s.ids.append(int(rng.integers(0, 4)))


def test_ngram_forgets_sequences_that_are_gone():
    drafter = NgramDrafter()
    drafter.propose([(sequence([1, 2, 1, 2]), 2)], never)
    assert len(drafter._indexes) == 0


def test_mtp_feeds_token_and_state_step_by_step():
    calls = []

    def forward(sequences, token_ids, hidden):
        calls.append((list(token_ids), hidden[:, 0].tolist()))
        values = np.zeros((len(sequences), 50), np.float32)
        values[np.arange(len(sequences)), [t + 1 for t in token_ids]] = 1
        return Logits(values, hidden + 10)

    a, b, c = sequence([1, 2]), sequence([5]), sequence([7])
    a.hidden, b.hidden = np.float32([0.5, 0]), np.float32([1.5, 0])
    guesses = MtpDrafter().propose([(a, 1), (b, 3), (c, 2)], forward)
    assert guesses == [[3], [6, 7, 8], []]  # c has no state yet
    assert calls == [([2, 5], [0.5, 1.5]), ([6], [11.5]), ([7], [21.5])]
