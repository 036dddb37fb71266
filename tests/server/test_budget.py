"""Memory shared out under one ceiling."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest

from gemstead.errors import ConfigError
from gemstead.machine.memory import LEAST_KV_BYTES, available_bytes
from gemstead.server.budget import MOST_RESPONSES_BYTES, SHARE, Budget
from gemstead.server.served import AdapterOffer, Offer

GIB = 1 << 30
SPEC = SimpleNamespace(vocab_size=1000)


def offer(name: str, weights_bytes: int) -> Offer:
    return Offer(name, None, SPEC, weights_bytes)  # type: ignore[arg-type]


SMALL, LARGE = offer("small", GIB), offer("large", 6 * GIB)


def test_all_that_fit_share_evenly():
    budget = Budget.of([SMALL, LARGE], 12 * GIB)
    assert budget.kv_bytes(SMALL) == budget.kv_bytes(LARGE) > LEAST_KV_BYTES
    assert sum(map(budget.bytes_of, budget.offers)) <= budget.room_bytes
    assert budget.room_bytes + budget.fixed_bytes == 12 * GIB


def test_those_that_do_not_fit_together_fit_alone():
    budget = Budget.of([SMALL, LARGE], 7 * GIB)
    assert all(budget.bytes_of(one) <= budget.room_bytes for one in budget.offers)
    assert sum(map(budget.bytes_of, budget.offers)) > budget.room_bytes
    assert budget.kv_bytes(SMALL) > budget.kv_bytes(LARGE) > LEAST_KV_BYTES


def test_what_can_never_fit_is_told_at_the_start():
    with pytest.raises(ConfigError, match="large can never be opened"):
        Budget.of([SMALL, LARGE], 6 * GIB)


def test_without_a_ceiling_the_machine_decides_and_never_refuses():
    assert Budget.of([SMALL]).ceiling_bytes >= available_bytes() * SHARE * 0.8
    huge = offer("huge", 1 << 50)
    budget = Budget.of([SMALL, huge])
    assert budget.bytes_of(huge) <= budget.room_bytes


def test_adapters_take_room_from_contexts():
    tuned = replace(SMALL, adapters=(AdapterOffer("a", parameters=GIB // 4),))  # a GiB in float32
    bare, full = Budget.of([SMALL], 4 * GIB), Budget.of([tuned], 4 * GIB)
    assert full.bytes_of(tuned) <= full.room_bytes
    assert bare.kv_bytes(SMALL) - full.kv_bytes(tuned) == GIB
    with pytest.raises(ConfigError, match="adapters"):
        Budget.of([tuned], 2 * GIB)


def test_responses_have_their_part():
    assert Budget.of([SMALL], 2 * GIB).responses_bytes == MOST_RESPONSES_BYTES
    tiny = Budget.of([offer("tiny", 1)], 640 << 20)
    assert tiny.responses_bytes == 40 << 20
