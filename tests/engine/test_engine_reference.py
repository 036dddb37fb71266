"""The same properties on the real forward: every tiny model on the numpy backend, exactly."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from gemstead.backend.reference import ReferenceBackend
from gemstead.engine.draft import MtpDrafter, NgramDrafter
from gemstead.engine.engine import Engine
from gemstead.engine.options import EngineOptions
from gemstead.spec.variants import DRAFTERS, VARIANTS
from gemstead.types import SamplingParams
from support.memory_store import MemoryStore

TINY = [name for name in VARIANTS if name.startswith("tiny-")]
MODES = [SamplingParams(temperature=0, max_tokens=14), SamplingParams(seed=5, max_tokens=14, top_k=12)]


class Contrary:
    """Guesses at random, often wrongly."""

    needs_hidden = False

    def __init__(self):
        self.rng = np.random.default_rng(0)

    def propose(self, wants, forward):  # noqa: ARG002
        return [self.rng.integers(0, 6, k).tolist() for _, k in wants]


@cache
def backend(name):
    store = MemoryStore(VARIANTS[name], scale=0.3)
    store.tensors["embed_tokens"].values[:] *= 0.2  # tied: else a token mostly follows itself
    return ReferenceBackend(store, MemoryStore(DRAFTERS[name], seed=1))


def make(name, drafter=None, **options):
    options = {"page_tokens": 4, "memory_bytes": 8 << 20, "max_rows": 64, **options}
    return Engine(backend(name), EngineOptions(**options), drafter)


def prompts(count=3):
    rng = np.random.default_rng(1)
    base = rng.integers(3, 256, 40).tolist()
    return [base[: 10 * i] + rng.integers(3, 256, 5 + 4 * i).tolist() for i in range(count)]


def run(engine, *sequences):
    while engine.has_work:
        engine.step()
    for s in sequences:
        assert s.error is None, s.error
    return [[a.token_id for a in s.outputs] for s in sequences]


@cache
def plain(name, mode):
    """Each prompt alone, in one piece, without reuse or drafts."""
    outputs = []
    for prompt in prompts():
        engine = make(name, prefix_reuse=False)
        outputs += run(engine, engine.submit(prompt, MODES[mode]))
    return outputs


def drafters():
    return [None, NgramDrafter(2, 3), MtpDrafter(), Contrary()]


@pytest.mark.parametrize("name", TINY)
@pytest.mark.parametrize("mode", [0, 1])
def test_company_chunks_reuse_and_drafts_change_nothing(name, mode):
    for drafter in drafters():
        engine = make(name, drafter, max_rows=20, draft_tokens=3, max_sequences=4)
        for _ in range(2):  # the second time from kept pages
            assert run(engine, *[engine.submit(p, MODES[mode]) for p in prompts()]) == plain(name, mode)
        assert engine.stats().cached_tokens > 0
        assert engine.stats().draft_failures == 0


@pytest.mark.parametrize("name", TINY)
def test_losing_all_pages_changes_nothing(name):
    engine = make(name, MtpDrafter(), draft_tokens=2)
    sequences = [engine.submit(p, MODES[1]) for p in prompts()]
    for step in range(12):
        engine.step()
        live = engine.scheduler.live
        if step % 3 == 2 and live:
            engine.scheduler.preempt(live[-1])
    assert run(engine, *sequences) == plain(name, 1)
    assert engine.stats().preemptions > 0


@pytest.mark.parametrize("name", TINY)
def test_too_little_memory_for_all_changes_nothing(name):
    page = 4 * sum(backend(name).capabilities().kv_bytes_per_token)
    engine = make(name, NgramDrafter(), memory_bytes=26 * page, max_rows=16, max_sequences=16)
    assert run(engine, *[engine.submit(p, MODES[0]) for p in prompts()]) == plain(name, 0)
    assert engine.stats().cache_bytes <= 26 * page


@pytest.mark.parametrize("name", TINY)
def test_scores_in_chunks_are_scores_at_once(name):
    ids = prompts(4)[3]
    scores = []
    for max_rows in (64, 16):
        engine = make(name, max_rows=max_rows)
        sequence = engine.submit(ids, SamplingParams(max_tokens=0), want_scores=True)
        run(engine, sequence)
        scores.append(np.concatenate(sequence.scores))
    assert scores[0].shape == (len(ids), 256)
    assert np.array_equal(scores[0], scores[1])
    greedy = engine.submit(ids, SamplingParams(temperature=0, max_tokens=1))
    assert run(engine, greedy) == [[int(scores[0][-1].argmax())]]
