"""The engine against an oracle that knows no pages, batches or drafts: design.md's properties 1-4 and 8."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gemstead.engine.constraint import OneOf
from gemstead.engine.draft import MtpDrafter, NgramDrafter
from gemstead.engine.engine import Engine
from gemstead.engine.options import EngineOptions
from gemstead.engine.pages import LEFT_BEHIND
from gemstead.engine.sampler import Sampler
from gemstead.errors import BackendError, CeilingError, ConfigError, ContextError, InputError
from gemstead.types import SamplingParams
from support.hashing_backend import VOCAB, HashingBackend, hashing_spec, oracle_logits

GREEDY = SamplingParams(temperature=0, max_tokens=20)
PAGE = 4
TOKEN_BYTES = 32  # both pools


class Adversary:
    """Guesses out of a seeded hat: nonsense, too many, too few, invalid ids, exceptions."""

    needs_hidden = False

    def __init__(self, seed=0):
        self.rng = np.random.default_rng(seed)

    def propose(self, wants, forward):  # noqa: ARG002
        if self.rng.random() < 0.1:
            raise RuntimeError("no ideas today")
        guesses = [self.rng.integers(-1, VOCAB + 1, self.rng.integers(0, 9)).tolist() for _ in wants]
        return guesses[: int(self.rng.integers(0, len(wants) + 1))] if self.rng.random() < 0.2 else guesses


class Prophet:
    """Guesses the greedy continuation by the oracle: everything it says is accepted."""

    needs_hidden = False

    def __init__(self, spec):
        self.spec = spec

    def propose(self, wants, forward):  # noqa: ARG002
        guesses = []
        for sequence, k in wants:
            ids = list(sequence.ids)
            for _ in range(k):
                ids.append(int(oracle_logits(ids, self.spec).argmax()))
            guesses.append(ids[len(sequence.ids) :])
        return guesses


DRAFTERS = {
    "none": lambda spec: None,  # noqa: ARG005
    "ngram": lambda spec: NgramDrafter(),  # noqa: ARG005
    "mtp": lambda spec: MtpDrafter(),  # noqa: ARG005
    "adversary": lambda spec: Adversary(),  # noqa: ARG005
    "prophet": Prophet,
}


def make_engine(backend=None, drafter="none", pages=400, **options):
    backend = backend or HashingBackend()
    options = {"page_tokens": PAGE, "max_rows": 32, "max_sequences": 6, "adapt_depth": False, **options}
    options.setdefault("memory_bytes", pages * options["page_tokens"] * TOKEN_BYTES)
    return Engine(backend, EngineOptions(**options), DRAFTERS[drafter](backend.spec))


def oracle(prompt, params, spec, constraint=None):
    """The output one token at a time, every row from scratch."""
    ids = list(prompt)
    sampler = Sampler(params, ids, spec.vocab_size, spec.tokens.suppressed)
    for index in range(params.max_tokens):
        mask = None if constraint is None else constraint.mask()
        ids.append(sampler.choose(oracle_logits(ids, spec), index, mask)[0])
        if constraint is not None:
            constraint.accept(ids[-1])
        if ids[-1] in spec.tokens.eos:
            break
    return ids[len(prompt) :]


def run(engine, *sequences):
    for _ in range(10_000):
        if not engine.has_work:
            break
        engine.step()
        check_pages(engine)
    outputs = []
    for s in sequences:
        if s.error is not None:
            raise s.error
        assert s.is_finished
        outputs.append([a.token_id for a in s.outputs])
    return outputs


def check_pages(engine):
    """Property 4: free + live + kept = total; shared pages are final; the ceiling holds."""
    live = engine.scheduler.live
    for p, (pool, counts) in enumerate(zip(engine.pages.pools, engine.pages.counts(), strict=True)):
        assert counts.free + counts.live + counts.kept == counts.total
        held = [page for s in live for page in s.table.pages[p] if page != LEFT_BEHIND]
        assert len(set(held)) == counts.live
        for s in live:
            for block, page in enumerate(s.table.pages[p]):
                if page != LEFT_BEHIND and pool.references(page) > 1:
                    assert (block + 1) * engine.pages.page_tokens <= s.n_cached
    assert engine.stats().cache_bytes <= engine.options.memory_bytes


def prompts(rng, count, longest=60):
    """Some with common beginnings."""
    base = rng.integers(0, VOCAB, longest).tolist()
    made = []
    for _ in range(count):
        shared = int(rng.integers(0, longest)) if rng.random() < 0.6 else 0
        own = rng.integers(0, VOCAB, rng.integers(1, longest - shared + 1)).tolist()
        made.append(base[:shared] + own)
    return made


@pytest.mark.parametrize("drafter", DRAFTERS)
@pytest.mark.parametrize("temperature", [0.0, 0.9])
@pytest.mark.parametrize("adapt", [False, True])
def test_drafting_never_changes_the_output(drafter, temperature, adapt):
    spec = hashing_spec(eos=(4,))
    params = SamplingParams(temperature=temperature, seed=11, max_tokens=30, top_k=5, repetition_penalty=1.2)
    rng = np.random.default_rng(3)
    engine = make_engine(HashingBackend(spec), drafter, adapt_depth=adapt)
    asked = prompts(rng, 6)
    sequences = [engine.submit(p, params) for p in asked]
    assert run(engine, *sequences) == [oracle(p, params, spec) for p in asked]


def test_good_guesses_are_kept_and_save_steps():
    plain, fast = make_engine(), make_engine(drafter="prophet")
    for engine in (plain, fast):
        run(engine, engine.submit([1, 2, 3], GREEDY))
    assert fast.stats().accepted_tokens == 15  # 1 + 3 x (4 + 1) + (3 + 1) tokens
    assert fast.stats().steps == 5
    assert plain.stats().steps == 20


def test_guesses_that_do_not_pay_are_asked_for_less_and_less():
    engine = make_engine(drafter="adversary", adapt_depth=True, context_tokens=2000)
    run(engine, engine.submit([1, 2, 3], SamplingParams(temperature=0, max_tokens=400)))
    stats = engine.stats()
    assert stats.drafted_tokens < stats.steps  # a fixed depth of 4 asks for more than two a step


def test_mtp_gets_the_hidden_state_of_the_right_row():
    engine = make_engine(drafter="mtp")
    outputs = run(engine, *[engine.submit(p, GREEDY) for p in ([1], [2, 3, 4, 5, 6], [7] * 30)])
    assert engine.stats().draft_failures == 0  # the backend checks every hidden state it is given
    assert engine.stats().accepted_tokens > 0
    assert all(len(o) == 20 for o in outputs)


@pytest.mark.parametrize("max_rows", [6, 7, 13, 64])
def test_chunked_prefill_is_whole_prefill(max_rows):
    prompt = np.random.default_rng(1).integers(0, VOCAB, 50).tolist()
    engine = make_engine(max_rows=max_rows)
    assert run(engine, engine.submit(prompt, GREEDY)) == [oracle(prompt, GREEDY, engine.spec)]
    assert engine._backend.most_rows <= max_rows


@pytest.mark.parametrize("page_tokens", [1, 3, 5, 7, 16])
@pytest.mark.parametrize("drafter", ["none", "mtp"])
def test_reuse_at_any_place_and_page_size(page_tokens, drafter):
    """Windows that do not end where pages do: the row after the reused part still sees all of its own."""
    ids = np.random.default_rng(1).integers(0, VOCAB, 60).tolist()
    room = {"memory_bytes": 1 << 20, "context_tokens": 200, "max_sequences": 30}
    engine = make_engine(page_tokens=page_tokens, drafter=drafter, draft_tokens=1, **room)
    run(engine, engine.submit(ids, GREEDY))
    for n in range(1, 60, 2):
        prompt = [*ids[:n], 7]
        sequence = engine.submit(prompt, GREEDY)
        assert run(engine, sequence) == [oracle(prompt, GREEDY, engine.spec)]
        assert n - sequence.cached_tokens < page_tokens  # nothing was evicted: all of it is found
    assert engine.stats().draft_failures == 0


def test_prefix_reuse_changes_nothing_but_the_work():
    prompt = np.random.default_rng(1).integers(0, VOCAB, 50).tolist()
    on, off = make_engine(), make_engine(prefix_reuse=False)
    for engine in (on, off):
        first = run(engine, engine.submit(prompt, GREEDY))[0]
        follow_up = [*prompt, *first, 5, 6, 7]
        second = engine.submit(follow_up, GREEDY)
        assert run(engine, second) == [oracle(follow_up, GREEDY, engine.spec)]
        assert second.cached_tokens == (68 if engine is on else 0)
        again = engine.submit(prompt, GREEDY)
        assert run(engine, again) == [first]
    assert on.stats().rows < off.stats().rows
    assert on.stats().cached_tokens > 0
    salted = on.submit(prompt, GREEDY, salt=b"other")
    run(on, salted)
    assert salted.cached_tokens == 0


def test_the_batch_does_not_change_an_output():
    """Property 1, on the engine's side: the same request alone and in company."""
    rng = np.random.default_rng(5)
    asked = prompts(rng, 12)
    params = SamplingParams(temperature=1.0, seed=3, max_tokens=12)
    alone = [run(e := make_engine(), e.submit(p, params))[0] for p in asked]
    engine = make_engine()
    assert run(engine, *[engine.submit(p, params) for p in asked]) == alone


@given(
    seed=st.integers(0, 2**32 - 1),
    pages=st.integers(30, 90),
    drafter=st.sampled_from(sorted(DRAFTERS)),
    reuse=st.booleans(),
    page_tokens=st.sampled_from([1, 3, 4, 5]),
)
@settings(max_examples=20, deadline=None)
def test_random_histories_under_memory_pressure(seed, pages, drafter, reuse, page_tokens):
    """Submit and cancel at random while pages run out: outputs are the oracle's, pages add up."""
    rng = np.random.default_rng(seed)
    memory = pages * 4 * TOKEN_BYTES
    engine = make_engine(
        drafter=drafter, prefix_reuse=reuse, page_tokens=page_tokens, memory_bytes=memory, draft_tokens=2
    )
    params = [SamplingParams(temperature=0.8, seed=i, max_tokens=int(rng.integers(1, 40))) for i in range(10)]
    asked = [p[: engine.max_sequence_tokens - 1] for p in prompts(rng, 10)]
    sequences = []
    for _ in range(2000):
        if len(sequences) < 10 and rng.random() < 0.5:
            i = len(sequences)
            sequences.append(engine.submit(asked[i], params[i]))
        if sequences and rng.random() < 0.02:
            engine.cancel(sequences[rng.integers(len(sequences))])
        engine.step()
        check_pages(engine)
        if len(sequences) == 10 and not engine.has_work:
            break
    assert not engine.has_work
    for s, prompt, p in zip(sequences, asked, params, strict=True):
        assert s.error is None, s.error
        got = [a.token_id for a in s.outputs]
        wanted = oracle(prompt, p, engine.spec)[: engine.max_sequence_tokens - len(prompt)]
        assert got == (wanted[: len(got)] if s.finish_reason == "cancelled" else wanted)
    assert all(c.live == 0 for c in engine.pages.counts())


def test_preempted_and_resumed_is_never_stopped():
    """Property 8 at this stage: losing all pages at any step and coming back gives the same output."""
    prompt = np.random.default_rng(2).integers(0, VOCAB, 30).tolist()
    params = SamplingParams(temperature=1.0, seed=9, max_tokens=25, frequency_penalty=0.5)
    for reuse in (True, False):
        for when in range(1, 26, 3):
            engine = make_engine(drafter="mtp", prefix_reuse=reuse, draft_tokens=1)
            sequence = engine.submit(prompt, params)
            for _ in range(when):
                engine.step()
            if not sequence.is_finished:
                engine.scheduler.preempt(sequence)
                assert all(c.live == 0 for c in engine.pages.counts())
            assert run(engine, sequence) == [oracle(prompt, params, engine.spec)]
            assert engine.stats().preemptions <= 1


def test_a_preempted_sequence_is_the_next_to_run():
    engine = make_engine(max_sequences=2)
    first, second, third = (engine.submit([i], GREEDY) for i in (1, 2, 3))
    engine.step()
    engine.scheduler.preempt(second)
    engine.step()
    assert engine.scheduler.live == [first, second]
    assert list(engine.scheduler.waiting) == [third]


def test_preempted_scores_start_again():
    prompt = np.random.default_rng(1).integers(0, VOCAB, 30).tolist()
    engine = make_engine(max_rows=8)
    sequence = engine.submit(prompt, SamplingParams(max_tokens=0), collect="scores")
    engine.step()
    engine.step()
    engine.scheduler.preempt(sequence)
    run(engine, sequence)
    assert sum(len(rows) for rows in sequence.scores) == 30


def test_memory_pressure_preempts_the_youngest_and_all_finish():
    engine = make_engine(pages=24)
    params = SamplingParams(temperature=0, max_tokens=60)
    asked = [[i] * 10 for i in range(5)]
    sequences = [engine.submit(p, params) for p in asked]
    finished = []
    while engine.has_work:
        engine.step()
        check_pages(engine)
        finished += [i for i, s in enumerate(sequences) if s.is_finished and i not in finished]
    assert engine.stats().preemptions > 0
    assert finished[0] == 0
    assert run(engine, *sequences) == [oracle(p, params, engine.spec) for p in asked]


@pytest.mark.parametrize("when", range(12))
def test_cancel_at_any_step(when):
    """Property 3: pages return and no token follows; the others do not notice."""
    engine = make_engine(drafter="ngram", max_rows=8)
    rng = np.random.default_rng(when)
    asked = prompts(rng, 3)
    sequences = [engine.submit(p, GREEDY) for p in asked]
    for _ in range(when):
        engine.step()
    victim = sequences[1]
    engine.cancel(victim)
    before = list(victim.outputs)
    assert victim.finish_reason == "cancelled"
    assert victim not in engine.scheduler.live
    check_pages(engine)
    engine.cancel(victim)  # again: nothing
    others = run(engine, sequences[0], sequences[2])
    assert others == [oracle(p, GREEDY, engine.spec) for p in (asked[0], asked[2])]
    assert list(victim.outputs) == before
    assert all(c.live == 0 for c in engine.pages.counts())


def test_a_finished_sequence_cannot_be_cancelled():
    engine = make_engine()
    sequence = engine.submit([1], GREEDY)
    run(engine, sequence)
    engine.cancel(sequence)
    assert sequence.finish_reason == "length"


def test_one_failing_sequence_ends_alone():
    backend = HashingBackend(hashing_spec(suppressed=(22, 21)))
    backend.fail_on, backend.nan_on = {22}, {21}
    engine = make_engine(backend)
    good, bad, nan, also_good = (engine.submit(p, GREEDY) for p in ([1, 2], [3, 22], [4, 21], [5]))
    assert run(engine, good, also_good) == [oracle(p, GREEDY, engine.spec) for p in ([1, 2], [5])]
    assert isinstance(bad.error, BackendError)
    assert "a token this backend cannot bear" in str(bad.error)
    assert isinstance(nan.error, BackendError)
    assert bad.finish_reason == nan.finish_reason == "error"
    assert engine.stats().failed_sequences == 2
    assert all(c.live == 0 for c in engine.pages.counts())


def test_a_prompt_that_never_fits_is_refused_with_numbers():
    engine = make_engine(pages=20)
    limit = engine.max_sequence_tokens
    said = rf"prompt of {limit + 5} tokens: .* hold {limit - 1} tokens .* would allow .*memory="
    with pytest.raises(CeilingError, match=said):
        engine.submit([1] * (limit + 5))
    fits = engine.submit([1] * (limit - 2), GREEDY)
    assert len(run(engine, fits)[0]) == 2
    assert fits.finish_reason == "length"


def test_the_context_is_a_limit_too():
    engine = make_engine(context_tokens=30)
    assert engine.max_sequence_tokens == 30
    sequence = engine.submit([1] * 10, SamplingParams())
    assert len(run(engine, sequence)[0]) == 20
    with pytest.raises(ContextError, match=r"prompt is too long: 30 tokens > 29 maximum \(.* 30 tokens here"):
        engine.submit([1] * 30)
    assert engine.submit([1] * 29).error is None


def test_stop_at_end_ids_and_at_max_tokens():
    spec = hashing_spec()
    long = oracle([1, 2], GREEDY, spec)
    engine = make_engine(HashingBackend(spec), "prophet")
    end = long[6]
    sequence = engine.submit([1, 2], GREEDY, eos_ids=(end,))
    assert run(engine, sequence) == [long[: long.index(end) + 1]]
    assert sequence.finish_reason == "stop"
    none = engine.submit([1, 2], SamplingParams(max_tokens=0))
    assert none.finish_reason == "length"
    assert not engine.has_work


def test_bad_ids():
    engine = make_engine()
    for bad in ([], [VOCAB], [-1], [1.5], "12", [[1]], [True], [None], [2**70]):
        with pytest.raises(InputError):
            engine.submit(bad)


def test_scores_are_the_logits_of_every_row():
    prompt = np.random.default_rng(1).integers(0, VOCAB, 50).tolist()
    engine = make_engine(max_rows=8)
    run(engine, engine.submit(prompt, GREEDY))  # kept pages must not be reused for scores
    sequence = engine.submit(prompt, SamplingParams(max_tokens=0), collect="scores")
    run(engine, sequence)
    expected = [oracle_logits(prompt[: i + 1], engine.spec) for i in range(50)]
    assert np.array_equal(np.concatenate(sequence.scores), expected)


def test_a_constraint_holds_with_every_drafter():
    choices = [[5, 6, 7], [5, 6, 8, 9, 10, 11], [12]]
    for drafter in DRAFTERS:
        for seed in range(6):
            engine = make_engine(drafter=drafter)
            params = SamplingParams(seed=seed, max_tokens=20)
            sequence = engine.submit([1, 2], params, constraint=OneOf(choices, [4], VOCAB), eos_ids=(4,))
            (output,) = run(engine, sequence)
            assert output[:-1] in choices
            assert output[-1] == 4
            twin = OneOf(choices, [4], VOCAB)
            assert output == oracle([1, 2], params, hashing_spec(eos=(4,)), twin)


def test_a_constraint_that_breaks_fails_its_own_sequence():
    class Broken(OneOf):
        def mask(self):
            raise ValueError("bad grammar")

    engine = make_engine()
    broken = engine.submit([1], GREEDY, constraint=Broken([], [], VOCAB))
    nothing = engine.submit([1], GREEDY, constraint=OneOf([], [], VOCAB))
    fine = engine.submit([1], GREEDY)
    run(engine, fine)
    assert str(broken.error) == "bad grammar"
    assert "forbid" in str(nothing.error)


def test_a_short_prompt_does_not_wait_for_a_long_one():
    engine = make_engine(max_rows=8)
    long = engine.submit([1] * 200, GREEDY)
    short = engine.submit([2] * 4, GREEDY)
    while not short.is_finished:
        engine.step()
    assert not long.outputs
    assert run(engine, short, long)[1] == oracle([1] * 200, GREEDY, engine.spec)


def test_threads_may_wait_for_their_own_sequences():
    engine = make_engine()
    rng = np.random.default_rng(0)
    asked = prompts(rng, 12)
    results = {}

    def consume(i):
        sequence = engine.submit(asked[i], GREEDY)
        got = []
        while True:
            engine.wait(sequence)
            if not sequence.outputs:
                break
            got.append(sequence.outputs.popleft().token_id)
            if i % 4 == 3 and len(got) == 5:
                engine.cancel(sequence)
                break
        results[i] = got

    threads = [threading.Thread(target=consume, args=(i,)) for i in range(12)]
    for t in threads:
        t.start()
    for t in threads:
        t.join(60)
    for i, prompt in enumerate(asked):
        assert results[i] == oracle(prompt, GREEDY, engine.spec)[: 5 if i % 4 == 3 else 20]
    while engine.has_work:
        engine.step()
    assert all(c.live == 0 for c in engine.pages.counts())


def test_close_cancels_everything():
    engine = make_engine()
    sequences = [engine.submit([i + 1], GREEDY) for i in range(9)]
    engine.step()
    engine.close()
    assert {s.finish_reason for s in sequences} == {"cancelled"}
    assert not engine.has_work


def test_a_drafter_the_backend_does_not_have():
    with pytest.raises(ConfigError, match="draft head"):
        make_engine(HashingBackend(with_drafter=False), "mtp")


def test_a_backend_that_takes_more_memory_than_it_said():
    class Greedy(HashingBackend):
        def new_cache(self, num_pages, page_tokens):
            return super().new_cache(tuple(2 * n for n in num_pages), page_tokens)

    with pytest.raises(BackendError, match="kv_bytes_per_token"):
        make_engine(Greedy(hashing_spec(context=100000)))
