"""Memory told beforehand: the engine's own page counts, and what each part follows."""

from __future__ import annotations

import pytest

from gemstead.backend.native.backend import kv_bytes_per_token
from gemstead.engine.options import EngineOptions
from gemstead.engine.pages import page_counts
from gemstead.machine.fit import Load, footprint, kv_needed
from gemstead.spec.tensors import text_tensors
from gemstead.spec.variants import VARIANTS
from gemstead.weights.mixture import mix_formats

NAMES = ("e2b", "e4b", "12b", "26b-a4b", "31b")


def formats(name, mixture="q4_0"):
    return mix_formats(text_tensors(VARIANTS[name]), mixture)


@pytest.mark.parametrize("users", [1, 3, 20])
@pytest.mark.parametrize("name", NAMES)
def test_the_engine_cuts_enough_pages_from_what_is_needed_and_not_from_less(name, users):
    spec, context = VARIANTS[name], 8192
    needed = kv_needed(spec, Load(context, users))

    def room(memory):
        options = EngineOptions(memory, context, max_sequences=max(16, users))
        counts = page_counts(
            spec.pools, kv_bytes_per_token(spec, "f16"), options.budget(spec.max_position_embeddings)
        )
        full = next(n for n, pool in zip(counts, spec.pools, strict=True) if pool.window is None)
        window = next(n for n, pool in zip(counts, spec.pools, strict=True) if pool.window)
        return full * 32 >= users * context and window * 32 >= users * (spec.pools[0].window + 512)

    assert room(needed)
    assert not room(int(0.98 * needed))


def test_lookups_saturate_at_the_table():
    few, many, all_ = (
        footprint(VARIANTS["e2b"], formats("e2b"), Load(8192, different_tokens=n)).lookups
        for n in (100, 10_000, 262_144)
    )
    assert 100 * 2 * 65_536 * 0.9 < few < 100 * 2.5 * 65_536
    assert few < many < all_
    tables = 2.35e9 * 0.82 + 0.403e9 * 0.82  # MODEL.md: parameters of both, in q6_k
    assert all_ == pytest.approx(tables, rel=0.01)


def test_the_sum_and_what_cannot_be_missed():
    held = footprint(VARIANTS["e4b"], formats("e4b"), Load(4096), media_bytes=7)
    parts = (held.weights, held.lookups, held.kv, held.work, held.media, held.drafter, held.program)
    assert held.total == sum(parts)
    assert held.least == held.total - held.lookups
    assert held.media == 7


def test_a_tokenizer_is_counted_where_there_is_one():
    with_text, without = (
        footprint(VARIANTS["e2b"], formats("e2b"), Load(4096, has_text=text)).total for text in (True, False)
    )
    assert 100e6 < with_text - without < 300e6
