"""Thoughts under a budget and a reserve: closed in time, never cut, the same after any rollback."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gemstead.engine.constraint import unpack_mask
from gemstead.engine.grammar import Turn, TurnRules
from gemstead.engine.thoughts import ThoughtRules, Thoughts
from gemstead.text.answers import answer_grammar
from gemstead.text.grammar import call_grammar
from gemstead.types import Tool
from support.grammars import TOKENIZER, VOCABULARY

IDS = TOKENIZER.control
SIZE = TOKENIZER.vocab_size
OPEN, CLOSE, EOS = IDS.channel_open, IDS.channel_close, 106
LABEL, NEWLINE = tuple(TOKENIZER.encode("thought\n")), tuple(TOKENIZER.encode("\n"))
EMPTY = len(LABEL) + 1
WORD = TOKENIZER.encode("model")[0]
TOOL = Tool("add", "", {"properties": {"a": {"type": "integer"}}, "required": ["a"]})
CALL = call_grammar([TOOL], IDS)


def rules(limit=1000, reserve=0, budget=None):
    return ThoughtRules(OPEN, CLOSE, IDS.call_open, IDS.call_close, LABEL, NEWLINE, limit, reserve, budget)


def thoughts(inner=None, *, in_thought=False, **limits):
    return Thoughts(rules(**limits), SIZE, inner, in_thought=in_thought)


def turn(*, in_thought=False, **more):
    wanted = TurnRules(
        IDS.call_open, IDS.call_close, **{"thought_open": OPEN, "thought_close": CLOSE, "call": CALL, **more}
    )
    return Turn(VOCABULARY, wanted, in_thought=in_thought)


def allowed(running):
    mask = running.mask()
    return set(range(SIZE)) if mask is None else set(np.flatnonzero(unpack_mask(mask, SIZE)).tolist())


def write(running, ids):
    """Feed what the model wants to say, with what it is made to say in between; what came out."""
    out = []
    for token_id in ids:
        while len(allowed(running)) == 1 and token_id not in allowed(running):
            (forced,) = allowed(running)
            running.accept(forced)
            out.append(forced)
        running.accept(token_id)
        out.append(token_id)
    return out


def test_a_budget_closes_the_thought_as_the_template_does():
    running = thoughts(budget=20)
    out = write(running, [OPEN, *LABEL, *[WORD] * 40])
    inside = out[1 : out.index(CLOSE) + 1]
    assert len(inside) <= 20
    assert tuple(inside[-1 - len(NEWLINE) :]) == (*NEWLINE, CLOSE)
    assert inside[len(LABEL) : -1 - len(NEWLINE)] == [WORD] * (20 - len(LABEL) - len(NEWLINE) - 1)


def test_no_second_thought_once_the_budget_is_spent():
    running = thoughts(budget=12)
    write(running, [OPEN, *LABEL, *[WORD] * 20])
    assert OPEN not in allowed(running)
    assert WORD in allowed(running)


def test_off_lets_an_empty_thought_through_once():
    running = thoughts(budget=0)
    assert running.mask() is None
    assert write(running, [OPEN, WORD]) == [OPEN, *LABEL, CLOSE, WORD]
    assert allowed(running) == set(range(SIZE)) - {OPEN}


def test_a_thought_that_the_prompt_opened():
    assert write(thoughts(in_thought=True, budget=0), [WORD]) == [CLOSE, WORD]
    assert CLOSE not in write(thoughts(in_thought=True), [WORD] * 50)


def test_the_answer_keeps_its_reserve():
    running = thoughts(limit=60, reserve=30, in_thought=True)
    out = write(running, [WORD] * 50)
    assert out.index(CLOSE) + 1 == 30
    assert OPEN not in allowed(running)


def test_a_newline_is_not_doubled():
    running = thoughts(limit=40, reserve=20, in_thought=True)
    out = write(running, [WORD, *NEWLINE] * 10)
    closing = out.index(CLOSE)
    assert tuple(out[closing - 2 * len(NEWLINE) : closing]) != NEWLINE * 2


def test_a_channel_token_in_a_call_is_no_thought():
    running = thoughts(budget=0)
    for token_id in (IDS.call_open, OPEN, WORD):
        running.accept(token_id)
    assert running.mask() is None
    running.accept(IDS.call_close)
    running.accept(OPEN)
    assert allowed(running) == {LABEL[0]}


def test_a_call_ends_a_thought():
    running = thoughts(turn(), budget=EMPTY + 20)
    for token_id in (OPEN, *LABEL, IDS.call_open):
        running.accept(token_id)
    for token_id in TOKENIZER.encode("call:add{a:1234567890123}"):
        assert token_id in allowed(running)
        running.accept(token_id)


def walk(running, rng, most):
    """Random allowed tokens, thoughts and calls opened often; what came out."""
    ids = []
    for _ in range(most):
        choices = allowed(running)
        assert choices, "nothing may follow"
        liked = sorted(choices & {OPEN, CLOSE, IDS.call_open, IDS.call_close, EOS, *LABEL})
        pick = int(rng.choice(liked)) if liked and rng.random() < 0.4 else int(rng.choice(sorted(choices)))
        running.accept(pick)
        ids.append(pick)
        if pick in VOCABULARY.eos_ids or running.is_done():
            break
    return ids


def spent(ids, in_thought):
    """Tokens inside thoughts, the closing one included, counted as the parser sees them."""
    state, count = "thought" if in_thought else "text", 0
    for token_id in ids:
        count += state == "thought"
        if state == "call":
            state = "text" if token_id == IDS.call_close else "call"
        else:
            state = {OPEN: "thought", CLOSE: "text", IDS.call_open: "call"}.get(token_id, state)
    return count, state


def inner_of(kind, in_thought):
    return {
        "none": lambda: None,
        "calls": lambda: turn(in_thought=in_thought),
        "required": lambda: turn(in_thought=in_thought, required=True),
        "choice": lambda: turn(
            in_thought=in_thought, call=None, answer=answer_grammar("regex", "[a-z ]{4,30}")
        ),
    }[kind]()


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    kind=st.sampled_from(["none", "calls", "required", "choice"]),
    in_thought=st.booleans(),
    limit=st.integers(1, 80),
    reserve=st.integers(0, 40),
    budget=st.none() | st.integers(0, 30),
)
def test_any_walk_keeps_budget_and_reserve(seed, kind, in_thought, limit, reserve, budget):
    limits = {"limit": limit, "reserve": reserve, "budget": budget}
    running = thoughts(inner_of(kind, in_thought), in_thought=in_thought, **limits)
    ids = walk(running, np.random.default_rng(seed), limit)
    count, state = spent(ids, in_thought)
    if budget is not None:
        assert count <= max(budget, EMPTY)
    if len(ids) == limit and limit > EMPTY + 1:
        assert state != "thought"
        assert limit - count >= min(reserve, limit - EMPTY - 1)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    kind=st.sampled_from(["none", "calls", "required", "choice"]),
    in_thought=st.booleans(),
    budget=st.none() | st.integers(0, 30),
    back=st.integers(0, 40),
)
def test_rollback_is_never_having_gone_there(seed, kind, in_thought, budget, back):
    limits = {"limit": 50, "reserve": 10, "budget": budget, "in_thought": in_thought}
    running = thoughts(inner_of(kind, in_thought), **limits)
    ids = walk(running, np.random.default_rng(seed), 40)
    back = min(back, len(ids))
    running.rollback(back)
    again = thoughts(inner_of(kind, in_thought), **limits)
    for token_id in ids[: len(ids) - back]:
        again.accept(token_id)
    assert allowed(running) == allowed(again)
    for token_id in ids[len(ids) - back :]:
        assert token_id in allowed(running)
        running.accept(token_id)


@pytest.mark.parametrize("in_thought", [False, True])
def test_without_an_inner_constraint_nothing_costs_a_mask(in_thought):
    running = thoughts(in_thought=in_thought)
    for token_id in [WORD] * 100:
        assert running.mask() is None
        running.accept(token_id)
    assert not running.is_done()
