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


def test_the_sum():
    held = footprint(VARIANTS["e4b"], formats("e4b"), Load(4096), media_bytes=7)
    parts = (held.weights, held.kv, held.work, held.media, held.drafter, held.program)
    assert held.total == sum(parts)
    assert held.media == 7


def test_a_tokenizer_is_counted_where_there_is_one():
    with_text, without = (
        footprint(VARIANTS["e2b"], formats("e2b"), Load(4096, has_text=text)).total for text in (True, False)
    )
    assert 30e6 < with_text - without < 60e6
