"""Sequences with different adapters in one engine: each gets what it gets alone, and they share no page."""

from __future__ import annotations

from contextlib import ExitStack
from functools import cache

import pytest
from tests.engine.test_engine_backends import ids, prompts, run

from gemstead.backend import open_backend
from gemstead.backend.native import is_built
from gemstead.engine.draft import MtpDrafter, NgramDrafter
from gemstead.engine.engine import Engine
from gemstead.engine.options import EngineOptions
from gemstead.errors import InputError
from gemstead.spec.variants import DRAFTERS, VARIANTS
from gemstead.types import SamplingParams
from gemstead.weights.adapter import open_adapter
from gemstead.weights.model_file import write_model_gguf
from gemstead.weights.store import open_store
from support.adapters import save_adapter
from support.memory_store import MemoryStore

GREEDY = SamplingParams(temperature=0, max_tokens=14)
KINDS = [("reference", "f32"), ("native", "f32"), ("native", "q4_0")]
MODELS = [(*kind, name) for kind in KINDS for name in ("tiny-e2b", "tiny-12b", "tiny-26b")]
WHO = [None, "one", "two"]


@pytest.fixture(scope="module", params=MODELS, ids="-".join)
def made(request, tmp_path_factory):
    kind, fmt, name = request.param
    if kind == "native" and not is_built():
        pytest.skip("the native engine is not built")
    home, spec = tmp_path_factory.mktemp("engine"), VARIANTS[name]
    memory = [MemoryStore(spec, scale=0.3), MemoryStore(DRAFTERS[name], seed=1)]
    memory[0].tensors["embed_tokens"].values[:] *= 0.2  # tied: else a token mostly follows itself
    with ExitStack() as stack:
        stores = []
        for i, store in enumerate(memory):
            path = home / f"{i}.gguf"
            write_model_gguf(path, store.spec, {n: t.values for n, t in store.tensors.items()}, fmt)
            stores.append(stack.enter_context(open_store(path)))
        adapters = {}
        for seed, adapter in enumerate(WHO[1:]):
            folder = save_adapter(home / adapter, spec, seed, lora_alpha=20)
            adapters[adapter] = stack.enter_context(open_adapter(folder, spec))
        backend = open_backend(kind, *stores, adapters=adapters)
        yield Made(backend)
        backend.close()


class Made:
    """Engines over one backend, and what each prompt gives alone under each adapter."""

    def __init__(self, backend):
        self.backend = backend
        self.plain = cache(self._plain)

    def engine(self, drafter=None, **options):
        options = {"page_tokens": 4, "memory_bytes": 8 << 20, "max_rows": 64, **options}
        return Engine(self.backend, EngineOptions(**options), drafter)

    def _plain(self, who):
        outputs = []
        for prompt in prompts():
            engine = self.engine(prefix_reuse=False)
            outputs += run(engine, engine.submit(prompt, GREEDY, adapter=who))
        return outputs


def test_adapters_change_the_answer(made):
    assert len({str(made.plain(who)) for who in WHO}) == 3


@pytest.mark.parametrize("drafter", [None, NgramDrafter(2, 3), MtpDrafter()], ids=["none", "ngram", "mtp"])
def test_company_chunks_reuse_and_drafts_change_nothing(made, drafter):
    engine = made.engine(drafter, max_rows=20, draft_tokens=3, max_sequences=5)
    for _ in range(2):  # the second time from kept pages
        asked = [(who, i) for i in range(3) for who in WHO]
        sequences = [engine.submit(prompts()[i], GREEDY, adapter=who) for who, i in asked]
        assert run(engine, *sequences) == [made.plain(who)[i] for who, i in asked]
    assert engine.stats().cached_tokens > 0
    assert engine.stats().draft_failures == 0


def test_losing_all_pages_changes_nothing(made):
    engine = made.engine(MtpDrafter(), draft_tokens=2)
    sequences = [engine.submit(prompts()[2], GREEDY, adapter=who) for who in WHO]
    for step in range(9):
        engine.step()
        if step % 3 == 2 and engine.scheduler.live:
            engine.scheduler.preempt(engine.scheduler.live[-1])
    assert run(engine, *sequences) == [made.plain(who)[2] for who in WHO]
    assert engine.stats().preemptions > 0


def test_a_prompt_is_read_anew_for_each_adapter(made):
    engine, prompt, cached = made.engine(), prompts()[2], []
    for who in (*WHO, *WHO):
        sequence = engine.submit(prompt, GREEDY, adapter=who)
        run(engine, sequence)
        cached.append(sequence.cached_tokens)
    assert cached[:3] == [0, 0, 0]
    assert min(cached[3:]) > 0
    other = engine.submit(prompt, GREEDY, adapter="one", salt=b"another caller")
    run(engine, other)
    assert other.cached_tokens == 0


def test_pages_on_disk_belong_to_what_the_adapter_holds_not_to_its_name(made, tmp_path):
    prompt, cached = prompts()[2], []
    for swapped in (False, False, True):
        engine = made.engine(prefix_folder=tmp_path)
        if swapped:  # the name of one, the matrices of the other
            engine.adapters = {"one": b"other matrices", "two": b"and others"}
        sequence = engine.submit(prompt, GREEDY, adapter="one")
        run(engine, sequence)
        cached.append(sequence.cached_tokens)
        engine.close()
    assert cached[0] == cached[2] == 0
    assert cached[1] > 0


def test_an_unknown_adapter_is_refused_by_name(made):
    engine = made.engine()
    with pytest.raises(InputError, match=r"no adapter 'three' here; open are one, two"):
        engine.submit(prompts()[0], GREEDY, adapter="three")
    assert not engine.has_work
    assert ids(engine.submit(prompts()[0], GREEDY)) == []
