"""The sampler against slow and obvious versions of itself."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gemstead.backend.native.choosing import NativeChooser
from gemstead.backend.native.library import is_built
from gemstead.engine import choosing
from gemstead.engine.choosing import best, nucleus
from gemstead.engine.constraint import pack_mask
from gemstead.engine.sampler import Sampler, uniform
from gemstead.errors import BackendError, InputError
from gemstead.types import SamplingParams


@pytest.fixture(params=["numpy", "native"])
def choose(request):
    """Both ways from a row to a token; every test that asks for it holds both to the same."""
    if request.param == "numpy":
        return choosing.choose
    if not is_built():
        pytest.skip("the native engine is not built here: no C++ compiler")
    return NativeChooser()


def row(seed, size=300, spread=2.0, steps=None):
    values = np.random.default_rng(seed).standard_normal(size) * spread
    return (values if steps is None else np.round(values * steps) / steps).astype(np.float32)


def slow_distribution(values, params, prompt=(), output=(), suppressed=()):
    """Token -> probability, with Python loops and a full sort."""
    logits = {i: float(v) for i, v in enumerate(values)}
    for i in set(prompt) | set(output):
        logits[i] = (
            logits[i] / params.repetition_penalty if logits[i] > 0 else logits[i] * params.repetition_penalty
        )
    for i in set(output):
        logits[i] -= params.presence_penalty + params.frequency_penalty * list(output).count(i)
    for i in suppressed:
        del logits[i]
    order = sorted(logits, key=lambda i: (-logits[i], i))
    if params.temperature == 0:
        return {order[0]: 1.0}
    if params.top_k:
        order = order[: params.top_k]
    peak = logits[order[0]]
    weights = [math.exp((logits[i] - peak) / params.temperature) for i in order]
    if params.top_p < 1:
        mass, count = 0.0, 0
        while count < len(order) and (count == 0 or mass < params.top_p * sum(weights)):
            mass += weights[count]
            count += 1
        order, weights = order[:count], weights[:count]
    if params.min_p:
        kept = [(i, w) for i, w in zip(order, weights, strict=True) if w >= params.min_p * max(weights)]
        order, weights = [i for i, _ in kept], [w for _, w in kept]
    return {i: w / sum(weights) for i, w in zip(order, weights, strict=True)}


def drawn_distribution(choose, values, params, prompt=(), output=(), suppressed=(), draws=400):
    """Token -> probability, by feeding evenly spaced numbers instead of random ones."""
    counts = {}
    sampler = Sampler(params, prompt, values.size, suppressed)
    for token in output:
        sampler._seen.add(token)
    for i in range(draws):
        sampler.seed = i
        token, _ = choose(values, sampler.choice(0, None))
        counts[token] = counts.get(token, 0) + 1 / draws
    return counts


# A saved seed gives the same answer in a later version: Philox is stable by numpy's own promise.
PINNED = [0.011546754286331562, 0.44205212947108785]

SETTINGS = [
    {},
    {"temperature": 0},
    {"temperature": 0.3},
    {"top_k": 0},
    {"top_k": 3, "top_p": 0.6},
    {"top_k": 0, "top_p": 1.0},
    {"top_k": 0, "top_p": 0.0},
    {"top_k": 0, "top_p": 1.0, "min_p": 0.3},
    {"top_k": 10, "min_p": 1.0},
    {"repetition_penalty": 1.5, "presence_penalty": 0.5, "frequency_penalty": 0.7},
    {"temperature": 1e-9},
]


@pytest.mark.parametrize("given_params", SETTINGS)
def test_the_distribution_is_the_slow_ones(monkeypatch, choose, given_params):
    params = SamplingParams(**given_params)
    monkeypatch.setattr("gemstead.engine.sampler.uniform", lambda seed, index: (seed + 0.5) / 2000)  # noqa: ARG005
    for seed in range(3):
        values = row(seed, steps=4)  # many ties
        seen = {"prompt": (1, 2, 3, 250), "output": (5, 5, 9) if "presence_penalty" in given_params else ()}
        slow = slow_distribution(values, params, **seen, suppressed=(7, 8))
        fast = drawn_distribution(choose, values, params, **seen, suppressed=(7, 8), draws=2000)
        assert fast.keys() <= slow.keys()
        for token, p in slow.items():
            assert fast.get(token, 0.0) == pytest.approx(p, abs=1.1 / 2000)


@given(st.integers(0, 10**6), st.integers(1, 40), st.sampled_from([1, 7, 600, 5000, 20_000]))
@settings(max_examples=60, deadline=None)
def test_best_is_the_head_of_a_full_sort(seed, count, size):
    values = row(seed, size=size, steps=(None, 2)[seed % 2])
    expected = sorted(range(size), key=lambda i: (-values[i], i))[:count]
    assert best(values, count).tolist() == expected


@pytest.mark.parametrize("mass", [0.0, 0.1, 0.5, 0.9, 0.99, 0.999])
@pytest.mark.parametrize("spread", [0.01, 0.5, 5.0])
def test_a_wide_nucleus_is_the_smallest_set_with_the_mass(mass, spread):
    values = row(4, size=40_000, spread=spread)
    values[100:200] = -np.inf
    values -= values.max()
    weights = np.exp(values)
    chosen = np.flatnonzero(nucleus(weights, mass))
    order = np.argsort(-values, kind="stable")
    running = np.cumsum(weights[order].astype(np.float64))
    count = min(int(np.searchsorted(running, mass * running[-1])) + 1, values.size)
    assert abs(len(chosen) - count) <= 1  # sums in another order
    assert set(chosen.tolist()) <= set(order[: count + 1].tolist())


@pytest.mark.parametrize("mass", [0.0, 0.3, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("highest", [2, 3, 50, 100_000])
def test_a_nucleus_of_whole_numbers_is_exact(mass, highest):
    weights = np.random.default_rng(highest).integers(1, highest, 30_000).astype(np.float32)
    order = np.argsort(-weights, kind="stable")
    running = np.cumsum(weights[order].astype(np.float64))
    count = int(np.searchsorted(running, mass * running[-1])) + 1
    assert np.flatnonzero(nucleus(weights, mass)).tolist() == sorted(order[:count].tolist())


@pytest.mark.parametrize("mass", [0.2, 0.4, 0.6, 0.8])
def test_a_nucleus_ends_where_its_mass_is_reached(choose, mass):
    params = SamplingParams(top_k=0, top_p=mass)
    choice = replace(Sampler(params, (), 5).choice(0, None), u=0.99)
    assert choose(np.ones(5, np.float32), choice)[0] == round(5 * mass) - 1


def test_the_last_token_with_weight_is_drawn_at_the_very_end(choose):
    values = np.full(1000, -np.inf, np.float32)
    values[[2, 600, 601]] = 0.0
    choice = replace(Sampler(SamplingParams(top_k=0, top_p=1.0), (), 1000).choice(0, None), u=1.0)
    assert choose(values, choice)[0] == 601


def test_penalties_are_counted_in_float32(choose):
    values = np.random.default_rng(3).normal(size=64).astype(np.float32)
    params = SamplingParams(temperature=0, frequency_penalty=0.1)
    sampler = Sampler(params, (), 64, choose=choose)
    slow = values.copy()
    for index in range(60):
        token_id, _ = sampler.choose(values, index)
        assert token_id == slow.argmax()
        count = sampler._seen.arrays()[1][sampler._seen.arrays()[0].tolist().index(token_id)]
        slow[token_id] = values[token_id] - np.float32(0.1) * np.float32(count)


def test_the_core_refuses_choices_that_contradict_themselves():
    if not is_built():
        pytest.skip("the native engine is not built here: no C++ compiler")
    core, values = NativeChooser(), np.ones(5, np.float32)
    choice = Sampler(SamplingParams(), (), 5).choice(0, None)
    outside = np.array([5], np.int32)
    for bad in (
        replace(choice, forbidden_ids=outside),
        replace(choice, forbidden_ids=-outside),
        replace(choice, biased_ids=outside, biases=np.ones(1, np.float32)),
        replace(choice, seen_ids=outside, seen_counts=outside),
    ):
        with pytest.raises(BackendError, match="outside the vocabulary"):
            core(values, bad)
    with pytest.raises(BackendError, match="one token at least"):
        core(values[:0], choice)


def test_a_wide_draw_has_the_right_frequencies(choose, monkeypatch):
    monkeypatch.setattr("gemstead.engine.sampler.uniform", lambda seed, index: (index + 0.5) / 500)  # noqa: ARG005
    values = row(5, size=100_003, spread=0.5)
    sampler = Sampler(SamplingParams(top_k=0, top_p=1.0, seed=0), (), values.size, choose=choose)
    tokens = np.array([sampler.choose(values, i)[0] for i in range(500)])
    assert (np.diff(tokens) >= 0).all()
    cumulative = np.cumsum(np.exp(values.astype(np.float64)))
    assert np.allclose(cumulative[tokens] / cumulative[-1], (np.arange(500) + 0.5) / 500, atol=1e-3)


def test_a_token_without_weight_is_never_drawn(choose, monkeypatch):
    values = np.full(2000, -np.inf, np.float32)
    values[[3, 1500]] = 0
    for u in (0.0, 0.25, 0.5, 0.75, 1 - 2**-53):
        monkeypatch.setattr("gemstead.engine.sampler.uniform", lambda seed, index, u=u: u)  # noqa: ARG005
        for params in (SamplingParams(top_k=0, top_p=1.0, seed=0), SamplingParams(seed=0)):
            token, _ = Sampler(params, (), 2000, choose=choose).choose(values, 0)
            assert token == (3 if u < 0.5 else 1500)


def test_draws_depend_on_seed_and_index_only():
    assert uniform(1, 2) == uniform(1, 2)
    numbers = {uniform(seed, index) for seed in (0, 1, 2**64 - 1) for index in range(100)}
    assert len(numbers) == 300
    assert 0.4 < sum(numbers) / 300 < 0.6
    assert all(0 <= n < 1 for n in numbers)
    assert [uniform(0, 0), uniform(7, 3)] == PINNED


def test_without_a_seed_two_samplers_differ():
    params = SamplingParams()
    assert Sampler(params, (), 10).seed != Sampler(params, (), 10).seed


def test_logprobs_are_the_models_own(choose):
    values = row(1)
    params = SamplingParams(logprobs=5, seed=1, temperature=0.1, top_k=2, repetition_penalty=2.0)
    token, found = Sampler(params, (0, 1), values.size, choose=choose).choose(values, 0)
    exact = values.astype(np.float64) - np.log(np.exp(values.astype(np.float64)).sum())
    assert found.token_id == token
    assert found.logprob == pytest.approx(exact[token], abs=1e-5)
    assert [i for i, _ in found.top] == np.argsort(-values, kind="stable")[:5].tolist()
    assert all(lp == pytest.approx(exact[i], abs=1e-5) for i, lp in found.top)
    _, all_of_them = Sampler(SamplingParams(logprobs=64), (), 64, choose=choose).choose(values[:64], 0)
    assert sum(math.exp(lp) for _, lp in all_of_them.top) == pytest.approx(1, abs=1e-5)
    _, only_chosen = Sampler(SamplingParams(logprobs=0), (), values.size, choose=choose).choose(values, 0)
    assert only_chosen.top == ()
    assert Sampler(SamplingParams(), (), values.size, choose=choose).choose(values, 0)[1] is None


def test_the_row_is_left_alone(choose):
    values = row(1)
    values.flags.writeable = False
    params = SamplingParams(repetition_penalty=2.0, presence_penalty=1.0)
    Sampler(params, (0, 1), values.size, (5,), choose=choose).choose(values, 0, np.ones(values.size, bool))


def test_penalties_count_what_was_emitted(choose):
    values = np.zeros(10, np.float32)
    values[3] = 1.0
    sampler = Sampler(SamplingParams(temperature=0, frequency_penalty=0.4), (), 10, choose=choose)
    assert [sampler.choose(values, i)[0] for i in range(5)] == [3, 3, 3, 0, 1]


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_rows_that_are_not_numbers_are_refused(choose, bad):
    values = row(1)
    values[7] = bad
    with pytest.raises(BackendError, match="not numbers"):
        Sampler(SamplingParams(), (), values.size, choose=choose).choose(values, 0)


def test_nothing_allowed_is_refused(choose):
    values = row(1)
    with pytest.raises(BackendError, match="forbid"):
        Sampler(SamplingParams(), (), values.size, choose=choose).choose(
            values, 0, np.zeros(values.size, bool)
        )


def test_suppressed_ids_beyond_the_vocabulary_do_not_matter(choose):
    assert Sampler(SamplingParams(temperature=0), (), 3, (2, 258882), choose=choose).choose(row(1, 3), 0)[
        0
    ] in (0, 1)


def test_a_bias_is_added_before_anything_is_forbidden(choose):
    row = np.zeros(8, dtype=np.float32)
    row[3] = 2.0
    assert (
        Sampler(SamplingParams(temperature=0, logit_bias=((5, 2.5),)), [], 8, choose=choose).choose(row, 0)[0]
        == 5
    )
    assert (
        Sampler(SamplingParams(temperature=0, logit_bias=((3, -100.0),)), [], 8, choose=choose).choose(
            row, 0
        )[0]
        != 3
    )
    assert (
        Sampler(SamplingParams(temperature=0, logit_bias=((5, 100.0),)), [], 8, [5], choose=choose).choose(
            row, 0
        )[0]
        == 3
    )
    assert row[3] == 2.0
    with pytest.raises(InputError, match="ids go up to 7"):
        Sampler(SamplingParams(logit_bias=((8, 1.0),)), [], 8, choose=choose)


@pytest.mark.parametrize("size", [1, 2, 31, 255, 257, 1000, 70_001])
@pytest.mark.parametrize("given_params", [*SETTINGS, {"top_k": 700}, {"top_k": 0, "top_p": 0.999}])
def test_the_core_chooses_what_numpy_chooses(size, given_params):
    if not is_built():
        pytest.skip("the native engine is not built here: no C++ compiler")
    core, rng = NativeChooser(), np.random.default_rng(size)
    for case in range(12):
        values = row(case, size, spread=(0.1, 1, 8)[case % 3], steps=(None, 2)[case % 2])
        values[rng.random(size) < 0.1 * (case % 4)] = -np.inf
        allowed = rng.random(size) < 0.7
        allowed[rng.integers(size)] = values[values.argmax()] > -np.inf
        biases = tuple((int(i), float(rng.normal())) for i in set(rng.integers(0, size, case % 5)))
        params = SamplingParams(**{"logprobs": 3, "logit_bias": biases} | given_params)
        sampler = Sampler(params, rng.integers(0, size, 5).tolist(), size, rng.integers(0, size, case % 2))
        if sampler._seen is not None:
            for token_id in (0, 0, size - 1):
                sampler._seen.add(token_id)
        choice = sampler.choice(case, pack_mask(allowed, size) if case % 3 else None)
        if not np.isfinite(values.max()) or not np.isfinite(choosing.adjusted(values, choice).max()):
            for choose in (core, choosing.choose):
                with pytest.raises(BackendError, match=r"not numbers|forbid"):
                    choose(values, choice)
            continue
        token_id, logprob = core(values, choice)
        wanted_id, wanted = choosing.choose(values, choice)
        assert [i for i, _ in logprob.top] == [i for i, _ in wanted.top]
        assert np.allclose([p for _, p in logprob.top], [p for _, p in wanted.top], atol=1e-5)
        assert token_id == logprob.token_id
        assert logprob.logprob == pytest.approx(
            float(values[token_id] - values[wanted_id]) + wanted.logprob, abs=1e-5
        )
        # Sums in another order: where the draw falls may differ by so much, and no more.
        near = [replace(choice, u=min(max(choice.u + by, 0.0), 1 - 2**-53)) for by in (-1e-5, 1e-5)]
        low, high = (choosing.choose(values, other)[0] for other in near)
        order = np.arange(size)
        if params.top_k:
            adjusted = choosing.adjusted(values, choice)
            order = np.argsort(np.argsort(-adjusted, kind="stable"), kind="stable")
        assert order[low] <= order[token_id] <= order[high]
