"""The scheduler: fair shares, decode rows first, room for whoever is oldest."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from gemstead.engine.engine import Engine
from gemstead.engine.options import EngineOptions
from gemstead.engine.pages import PageBudget, Pages
from gemstead.engine.sampler import Sampler
from gemstead.engine.scheduler import Scheduler, fair_shares
from gemstead.engine.sequence import Sequence
from gemstead.spec.model import PoolSpec
from gemstead.types import SamplingParams
from support.hashing_backend import HashingBackend

POOLS = (PoolSpec("sliding", 1, 2, 8, (0,)), PoolSpec("full", 1, 4, None, (1,)))


def make(pages=40, max_rows=12, max_sequences=4, draft_tokens=3):
    budget = PageBudget(1 << 20, 4, 400, max_sequences, span_tokens=max_rows + 2 * draft_tokens)
    held = Pages(POOLS, (pages, pages), budget, slack=draft_tokens, reuse=True)
    rules = {"max_rows": max_rows, "max_sequences": max_sequences, "draft_tokens": draft_tokens}
    return held, Scheduler(held, score_rows=5, **rules)


def sequence(pages, prompt, generated=0, n_cached=None, first=0, client=b""):
    ids = list(range(first, first + prompt))
    made = Sequence(ids, 300, Sampler(SamplingParams(seed=0), ids, 1000), pages.new_table(), client=client)
    made.ids += [9] * generated
    made.n_cached = (len(made.ids) - 1 if generated else 0) if n_cached is None else n_cached
    return made


def live(pages, scheduler, *sequences):
    for s in sequences:
        assert pages.grow(s.table, s.n_cached)
        scheduler.live.append(s)


@given(st.lists(st.integers(0, 50), max_size=8), st.integers(0, 100))
@example([18, 18], 35)  # one row short: somebody gets 17
def test_shares_are_fair(needs, budget):
    shares = fair_shares(needs, budget)
    assert sum(shares) == min(budget, sum(needs))
    assert all(s <= n for s, n in zip(shares, needs, strict=True))
    unmet = [s for s, n in zip(shares, needs, strict=True) if s < n]
    if unmet:
        assert max(shares) - min(unmet) <= 1  # nobody who wants more has two rows less than another


def test_decode_rows_come_first_and_prompts_share_the_rest():
    pages, scheduler = make()
    decoding = sequence(pages, 10, generated=2)
    reading = [sequence(pages, 50), sequence(pages, 3), sequence(pages, 50)]
    live(pages, scheduler, reading[0], decoding, *reading[1:])
    plan = scheduler.plan({decoding: [5, 6]})
    assert [(r.sequence, r.count, r.drafted) for r in plan] == [
        (decoding, 1, (5, 6)),
        (reading[0], 3, ()),
        (reading[1], 3, ()),
        (reading[2], 3, ()),
    ]
    assert [r.reaches_end for r in plan] == [True, False, True, False]
    assert [r.total - r.first_logit_row for r in plan] == [3, 0, 1, 0]


def test_drafts_leave_every_decoding_sequence_its_row():
    pages, scheduler = make(max_rows=5, max_sequences=4)
    live(pages, scheduler, *(sequence(pages, 4, generated=1, first=10 * i) for i in range(3)))
    assert scheduler.draft_wants(4) == []
    pages, scheduler = make(max_rows=6, max_sequences=4)
    live(pages, scheduler, *(sequence(pages, 4, generated=1, first=10 * i) for i in range(3)))
    assert [k for _, k in scheduler.draft_wants(4)] == [1, 1, 1]


def test_no_draft_beyond_the_end():
    pages, scheduler = make()
    made = sequence(pages, 4, generated=1)
    made.limit = len(made.ids) + 2
    live(pages, scheduler, made)
    assert scheduler.draft_wants(4) == [(made, 1)]
    made.limit = len(made.ids) + 1
    assert scheduler.draft_wants(4) == []


def test_drafts_are_dropped_before_anyone_loses_pages():
    pages, scheduler = make(pages=4)
    made = [sequence(pages, 6, generated=2, n_cached=7, first=10 * i) for i in range(2)]
    live(pages, scheduler, *made)
    plan = scheduler.plan({made[0]: [1, 2]})
    assert [(r.sequence, r.drafted) for r in plan] == [(made[0], ()), (made[1], ())]
    assert scheduler.preemptions == 0


def test_the_youngest_gives_its_pages_to_the_oldest():
    pages, scheduler = make(pages=6)
    made = [sequence(pages, 7, generated=2, n_cached=8, first=10 * i) for i in range(3)]
    live(pages, scheduler, *made)
    plan = scheduler.plan({})
    assert [r.sequence for r in plan] == made[:2]
    assert scheduler.live == made[:2]
    assert list(scheduler.waiting) == made[2:]
    assert made[2].n_cached == 0


def test_a_sequence_that_lost_its_pages_this_step_gets_none_for_its_drafts():
    pages, scheduler = make(pages=7)
    made = [sequence(pages, 7, generated=2, n_cached=8, first=10 * i) for i in range(3)]
    live(pages, scheduler, *made)
    scheduler.plan({made[2]: [1, 2]})
    assert list(scheduler.waiting) == made[2:]
    assert made[2].table.blocks == 0
    assert [c.live for c in pages.counts()] == [6, 6]


def test_when_nobody_can_read_on_the_youngest_gives_way():
    pages, scheduler = make(pages=4)
    old, young = sequence(pages, 100, n_cached=8), sequence(pages, 100, n_cached=8, first=200)
    live(pages, scheduler, old, young)
    plan = scheduler.plan({})
    assert [(r.sequence, r.count) for r in plan] == [(old, 8)]
    assert scheduler.live == [old]


def test_nobody_is_let_in_whose_prompt_would_not_fit():
    pages, scheduler = make(pages=20)
    first, big, small = sequence(pages, 40), sequence(pages, 41, first=100), sequence(pages, 4, first=200)
    scheduler.waiting.extend([first, big, small])
    scheduler.admit()
    assert scheduler.live == [first]  # and small waits its turn behind big
    scheduler.remove(first)
    scheduler.admit()
    assert scheduler.live == [big, small]


def test_a_lone_sequence_is_always_let_in():
    pages, scheduler = make(pages=10)
    made = sequence(pages, 40)
    scheduler.waiting.append(made)
    scheduler.admit()
    assert scheduler.live == [made]


def test_remove_from_the_queue():
    pages, scheduler = make()
    made = sequence(pages, 4)
    scheduler.waiting.append(made)
    scheduler.remove(made)
    assert not scheduler.waiting


def test_clients_take_turns():
    pages, scheduler = make(max_sequences=3)
    greedy = [sequence(pages, 3, first=10 * i, client=b"a") for i in range(5)]
    modest = sequence(pages, 3, first=100, client=b"b")
    other = sequence(pages, 3, first=200, client=b"c")
    scheduler.waiting.extend([*greedy, modest, other])
    scheduler.admit()
    assert scheduler.live == [greedy[0], modest, other]
    scheduler.remove(other)
    scheduler.admit()
    assert scheduler.live == [greedy[0], modest, greedy[1]]  # nobody else waits
    late = sequence(pages, 3, first=300, client=b"b")
    scheduler.waiting.append(late)
    scheduler.remove(greedy[0])
    scheduler.admit()
    assert scheduler.live[-1] is greedy[2]  # one each: who waited longest
    assert list(scheduler.waiting) == [*greedy[3:], late]


def test_who_lost_its_pages_comes_before_all_clients():
    pages, scheduler = make(max_sequences=2)
    lost = sequence(pages, 3, client=b"a")
    scheduler.waiting.extend([lost, sequence(pages, 3, first=50, client=b"a")])
    scheduler.admit()
    scheduler.preempt(lost)
    scheduler.waiting.append(sequence(pages, 3, first=90, client=b"b"))
    scheduler.admit()
    assert scheduler.live[-1] is lost


def test_a_long_prompt_never_takes_a_token_from_others():
    engine = Engine(HashingBackend(), EngineOptions(max_rows=16, page_tokens=4, draft_tokens=0))
    talking = engine.submit([1, 2, 3], SamplingParams(max_tokens=40), eos_ids=[])
    engine.step()
    long = engine.submit([5] * 300, SamplingParams(max_tokens=1), eos_ids=[])
    steps = 0
    while not long.outputs:
        before = talking.num_generated
        engine.step()
        steps += 1
        assert talking.num_generated == before + 1  # every step has at most one chunk, and a token for it
    assert steps >= 300 // 16
