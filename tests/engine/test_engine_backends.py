"""The same properties on real forwards: every tiny model on the numpy and the native backend, exactly."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gemstead.backend import open_backend
from gemstead.backend.native import is_built
from gemstead.engine.draft import MtpDrafter, NgramDrafter
from gemstead.engine.engine import Engine
from gemstead.engine.options import EngineOptions
from gemstead.spec.variants import DRAFTERS, VARIANTS
from gemstead.types import SamplingParams
from gemstead.weights.model_file import write_model_gguf
from gemstead.weights.store import open_store
from support.memory_store import MemoryStore

TINY = [name for name in VARIANTS if name.startswith("tiny-")]
MODES = [SamplingParams(temperature=0, max_tokens=14), SamplingParams(seed=5, max_tokens=14, top_k=12)]
# Backend, the format of its weights and that of its K/V.
KINDS = [
    ("reference", "f32", "f16"),
    ("native", "f32", "f16"),
    ("native", "q4_0", "f16"),
    ("native", "q4_0", "q8_0"),
]


class Contrary:
    """Guesses at random, often wrongly."""

    needs_hidden = False

    def __init__(self):
        self.rng = np.random.default_rng(0)

    def propose(self, wants, forward):  # noqa: ARG002
        return [self.rng.integers(0, 6, k).tolist() for _, k in wants]


MODELS = [(*kind, name) for kind in KINDS for name in TINY]


def broad(spec):
    """The spec with heads of twice the width: q8_0 takes whole blocks of 32."""

    def wider(attention):
        return replace(attention, head_dim=2 * attention.head_dim, rope_pairs=2 * attention.rope_pairs)

    return replace(spec, layers=tuple(replace(x, attention=wider(x.attention)) for x in spec.layers))


@pytest.fixture(scope="module", params=MODELS, ids="-".join)
def made(request, tmp_path_factory):
    """A backend with its drafter, and what each of its prompts gives alone."""
    kind, fmt, kv, name = request.param
    if kind == "native" and not is_built():
        pytest.skip("the native engine is not built")
    shape = broad if kv == "q8_0" else lambda spec: spec
    stores = [MemoryStore(shape(VARIANTS[name]), scale=0.3), MemoryStore(shape(DRAFTERS[name]), seed=1)]
    stores[0].tensors["embed_tokens"].values[:] *= 0.2  # tied: else a token mostly follows itself
    if kind == "native":
        home = tmp_path_factory.mktemp("engine")
        for i, store in enumerate(stores):
            arrays = {n: t.values for n, t in store.tensors.items()}
            write_model_gguf(home / f"{i}.gguf", store.spec, arrays, fmt)
            stores[i] = open_store(home / f"{i}.gguf")
    backend = open_backend(kind, *stores, kv=kv)
    yield Made(backend)
    backend.close()
    for store in stores:
        store.close()


class Made:
    """Engines over one backend."""

    def __init__(self, backend):
        self.backend = backend
        self.plain = cache(self._plain)

    def engine(self, drafter=None, **options):
        options = {"page_tokens": 4, "memory_bytes": 8 << 20, "max_rows": 64, **options}
        return Engine(self.backend, EngineOptions(**options), drafter)

    def _plain(self, mode, page_tokens=4):
        """Each prompt alone, in one piece, without reuse or drafts. The size of pages decides last bits."""
        outputs = []
        for prompt in prompts():
            engine = self.engine(prefix_reuse=False, page_tokens=page_tokens)
            outputs += run(engine, engine.submit(prompt, MODES[mode]))
        return outputs


def prompts(count=3):
    rng = np.random.default_rng(1)
    base = rng.integers(3, 256, 40).tolist()
    return [base[: 10 * i] + rng.integers(3, 256, 5 + 4 * i).tolist() for i in range(count)]


def run(engine, *sequences):
    while engine.has_work:
        engine.step()
    for s in sequences:
        assert s.error is None, s.error
    return [ids(s) for s in sequences]


def ids(sequence):
    return [a.token_id for a in sequence.outputs]


def drafters():
    return [None, NgramDrafter(2, 3), MtpDrafter(), Contrary()]


@pytest.mark.parametrize("mode", [0, 1])
def test_company_chunks_reuse_and_drafts_change_nothing(made, mode):
    for drafter in drafters():
        engine = made.engine(drafter, max_rows=20, draft_tokens=3, max_sequences=4)
        for _ in range(2):  # the second time from kept pages
            assert run(engine, *[engine.submit(p, MODES[mode]) for p in prompts()]) == made.plain(mode)
        assert engine.stats().cached_tokens > 0
        assert engine.stats().draft_failures == 0


def test_losing_all_pages_changes_nothing(made):
    engine = made.engine(MtpDrafter(), draft_tokens=2)
    sequences = [engine.submit(p, MODES[1]) for p in prompts()]
    for step in range(12):
        engine.step()
        live = engine.scheduler.live
        if step % 3 == 2 and live:
            engine.scheduler.preempt(live[-1])
    assert run(engine, *sequences) == made.plain(1)
    assert engine.stats().preemptions > 0


def test_too_little_memory_for_all_changes_nothing(made):
    page = 4 * sum(made.backend.capabilities().kv_bytes_per_token)
    engine = made.engine(NgramDrafter(), memory_bytes=26 * page, max_rows=16, max_sequences=16)
    assert run(engine, *[engine.submit(p, MODES[0]) for p in prompts()]) == made.plain(0)
    assert engine.stats().cache_bytes <= 26 * page


def test_pages_from_disk_change_nothing(made, tmp_path):
    for _ in range(2):  # the second engine finds what the first one read
        engine = made.engine(MtpDrafter(), draft_tokens=2, prefix_folder=tmp_path)
        assert run(engine, *[engine.submit(p, MODES[1]) for p in prompts()]) == made.plain(1)
        engine.close()
    assert engine.stats().cached_tokens > 20


@given(data=st.data())
@settings(max_examples=6, deadline=None)
def test_any_schedule_changes_nothing(made, data):
    """Submitted, cancelled and set back at random, in steps of any size, with any drafter."""
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    page_tokens = data.draw(st.sampled_from([1, 3, 4, 16]))
    engine = made.engine(
        data.draw(st.sampled_from(drafters())),
        page_tokens=page_tokens,
        max_rows=data.draw(st.sampled_from([8, 13, 64])),
        max_sequences=data.draw(st.integers(1, 6)),
        draft_tokens=data.draw(st.integers(1, 4)),
        prefix_reuse=data.draw(st.booleans()),
    )
    asked = [(int(rng.integers(3)), int(rng.integers(2))) for _ in range(6)]
    sequences = []
    while len(sequences) < len(asked) or engine.has_work:
        if len(sequences) < len(asked) and rng.random() < 0.4:
            prompt, mode = asked[len(sequences)]
            sequences.append(engine.submit(prompts()[prompt], MODES[mode]))
        if sequences and rng.random() < 0.03:
            engine.cancel(sequences[rng.integers(len(sequences))])
        if engine.scheduler.live and rng.random() < 0.05:
            engine.scheduler.preempt(engine.scheduler.live[-1])
        engine.step()
    for sequence, (prompt, mode) in zip(sequences, asked, strict=True):
        assert sequence.error is None, sequence.error
        wanted = made.plain(mode, page_tokens)[prompt]
        got = ids(sequence)
        assert got == (wanted[: len(got)] if sequence.finish_reason == "cancelled" else wanted)
    assert all(c.live == 0 for c in engine.pages.counts())


def test_scores_in_chunks_are_scores_at_once(made):
    prompt = prompts(4)[3]
    scores = []
    for max_rows in (64, 16):
        engine = made.engine(max_rows=max_rows)
        sequence = engine.submit(prompt, SamplingParams(max_tokens=0), collect="scores")
        run(engine, sequence)
        scores.append(np.concatenate(sequence.scores))
    assert scores[0].shape == (len(prompt), 256)
    assert np.array_equal(scores[0], scores[1])
    greedy = engine.submit(prompt, SamplingParams(temperature=0, max_tokens=1))
    assert run(engine, greedy) == [[int(scores[0][-1].argmax())]]
