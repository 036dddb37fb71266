"""The depth of drafting on a made-up machine: close to the best fixed depth, never much worse than none."""

from __future__ import annotations

import numpy as np
import pytest

from gemstead.engine.depth import Depth

MOST = 4


def speed(choose, step_seconds, acceptance, steps=3000, noise=0.0, seed=0):
    """Tokens a second of `steps` steps; choose() gives a depth and is told what happened."""
    rng = np.random.default_rng(seed)
    tokens = seconds = 0.0
    for n in range(steps):
        depth, tell = choose()
        a = acceptance(n) if callable(acceptance) else acceptance
        hits = 0
        while hits < depth and rng.random() < a:
            hits += 1
        took = step_seconds[depth] * (1 + noise * rng.standard_normal() ** 2)
        tell(depth, took, hits, hits + (hits < depth))
        tokens, seconds = tokens + 1 + hits, seconds + took
    return tokens / seconds


def fixed(depth):
    return lambda: (depth, lambda *_: None)


def adaptive():
    learned = Depth(MOST)
    return lambda: (learned.choose(1), lambda *seen: learned.observe(1, *seen))


CHEAP = [1.0, 1.05, 1.1, 1.15, 1.2]
DEAR = [1.0, 1.5, 2.0, 2.5, 3.0]
BEND = [1.0, 1.05, 1.1, 2.0, 3.0]


@pytest.mark.parametrize("cost", [CHEAP, DEAR, BEND])
@pytest.mark.parametrize("acceptance", [0.0, 0.2, 0.5, 0.8, 0.95])
@pytest.mark.parametrize("noise", [0.0, 0.2])
def test_close_to_the_best_and_never_far_below_plain(cost, acceptance, noise):
    ours = speed(adaptive(), cost, acceptance, noise=noise)
    others = [speed(fixed(depth), cost, acceptance, noise=noise) for depth in range(MOST + 1)]
    assert ours >= 0.97 * others[0]
    assert ours >= 0.94 * max(others)


@pytest.mark.parametrize("cost", [CHEAP, DEAR, BEND])
@pytest.mark.parametrize("steps", [32, 64, 128, 256, 1000])
@pytest.mark.parametrize("acceptance", [0.0, 0.1])
def test_a_drafter_that_guesses_wrong_costs_a_short_answer_little(cost, steps, acceptance):
    """On average over answers, each with nothing learned yet."""
    ours = [speed(adaptive(), cost, acceptance, steps=steps, seed=seed) for seed in range(40)]
    assert sum(ours) / len(ours) >= 0.97


@pytest.mark.parametrize("steps", [64, 256])
def test_a_good_drafter_pays_in_a_short_answer(steps):
    ours = speed(adaptive(), CHEAP, 0.9, steps=steps)
    assert ours >= 0.85 * speed(fixed(MOST), CHEAP, 0.9, steps=steps)


@pytest.mark.parametrize("cost", [CHEAP, DEAR])
def test_a_machine_that_is_slow_by_the_second_is_not_mistaken_for_a_depth(cost):
    """Steps 0 to 19 at full speed, 20 to 39 at half, and so on: all depths alike."""

    class Swinging(list):
        n = 0

        def __getitem__(self, depth):
            self.n += 1
            return cost[depth] * (1 + self.n // 20 % 2)

    for seed in range(5):
        ours = speed(adaptive(), Swinging(cost), 0.0, steps=1000, seed=seed)
        assert ours >= 0.97 * speed(fixed(0), Swinging(cost), 0.0, steps=1000, seed=seed)


def test_a_change_of_text_is_noticed():
    def acceptance(n):
        return 0.95 if n >= 1500 else 0.0

    ours = speed(adaptive(), DEAR, acceptance)
    assert ours >= 0.97 * speed(fixed(0), DEAR, acceptance)
    later = speed(fixed(MOST), DEAR, 0.95)
    assert ours > (1 + 0.5 * (later - 1)) * 0.95


def test_each_number_of_sequences_is_learned_apart():
    depth = Depth(MOST)
    for sequences, costs in ((1, CHEAP), (8, DEAR)):
        for _ in range(400):
            chosen = depth.choose(sequences)
            depth.observe(sequences, chosen, costs[chosen], chosen // 2, chosen // 2 + (chosen > 1))
    picks = {n: np.bincount([depth.choose(n) for _ in range(20)]).argmax() for n in (1, 8)}
    assert picks[1] > picks[8]


def test_none_wanted_is_none_chosen():
    depth = Depth(0)
    for _ in range(50):
        assert depth.choose(1) == 0
        depth.observe(1, 0, 1.0, 0, 0)


@pytest.mark.parametrize("slow", [1, 2, 3])
def test_a_first_step_that_is_slow_does_not_end_drafting(slow):
    """A drafter's weights come from the disk the first time."""
    depth, steps = Depth(MOST), []
    for _ in range(1500):
        chosen = depth.choose(1)
        first = chosen == slow and slow not in steps
        steps.append(chosen)
        depth.observe(1, chosen, CHEAP[chosen] * (6 if first else 1), chosen, chosen)
    assert np.mean(steps[500:]) > 3.5


def test_a_slow_step_does_not_decide():
    depth = Depth(MOST)
    for _ in range(100):
        chosen = depth.choose(1)
        depth.observe(1, chosen, CHEAP[chosen], chosen, chosen)
    depth.observe(1, MOST, 1000.0, MOST, MOST)  # the machine slept
    assert [depth.choose(1) for _ in range(3)].count(MOST) >= 2
