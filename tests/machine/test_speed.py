"""Speeds follow from rates, bytes and operations; where they are measured is bench/plan_check.py."""

from __future__ import annotations

import pytest

from gemstead.backend.native.backend import kv_bytes_per_token
from gemstead.machine.costs import Step
from gemstead.machine.rates import derived_rates
from gemstead.machine.speed import READ_SHARE, Speed, reached_rates
from gemstead.spec.tensors import text_tensors
from gemstead.spec.variants import VARIANTS
from gemstead.weights.mixture import mix_formats


def speed(name, bytes_s=30e9, int8_s=300e9, mixture="q4_0"):
    spec = VARIANTS[name]
    return Speed(
        spec,
        mix_formats(text_tensors(spec), mixture),
        kv_bytes_per_token(spec, "f16"),
        derived_rates(bytes_s, int8_s),
    )


def test_decoding_is_bound_by_memory_and_reading_by_products():
    slow, fast_memory, fast_products = (
        speed("e2b"),
        speed("e2b", bytes_s=60e9),
        speed("e2b", int8_s=600e9),
    )
    assert fast_memory.decode_tok_s(100) == pytest.approx(2 * slow.decode_tok_s(100), rel=0.05)
    assert fast_products.decode_tok_s(100) == pytest.approx(slow.decode_tok_s(100), rel=0.05)
    assert fast_products.prompt_s(512) == pytest.approx(slow.prompt_s(512) / 2, rel=0.1)


def test_a_decoded_token_takes_its_bytes():
    """1.406 GB (shared/perf.md), read by kernels that reach most of the memory's rate."""
    rates = reached_rates(24e9, 300e9)
    assert rates.kernel("q4_0").bytes_s * READ_SHARE == pytest.approx(24e9)
    spec = VARIANTS["e2b"]
    found = Speed(spec, mix_formats(text_tensors(spec), "q4_0"), kv_bytes_per_token(spec, "f16"), rates)
    assert found.decode_tok_s(0) == pytest.approx(24 / 1.406, rel=0.05)


def test_long_contexts_and_company_cost():
    found = speed("e4b")
    assert found.decode_tok_s(16_384) < found.decode_tok_s(0)
    assert found.decode_tok_s(0, 4) < found.decode_tok_s(0) < 4 * found.decode_tok_s(0, 4)
    assert found.prompt_s(2048) > 4 * found.prompt_s(512)
    assert found.step_s(Step(rows=1)) == pytest.approx(1 / found.decode_tok_s(0))
