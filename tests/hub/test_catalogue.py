"""The catalogue is sound: every variant, every repository once, nothing that contradicts the specs."""

from __future__ import annotations

import pytest

from gemstead.hub.catalogue import catalogue, words
from gemstead.spec.variants import VARIANTS

ROWS = catalogue().rows


def test_every_released_variant_is_there():
    assert {row.variant for row in ROWS} == {
        name for name in VARIANTS if not name.startswith("tiny-") and name != "pebble"
    }


def test_names_and_repositories_are_unique():
    for values in ([row.name.lower() for row in ROWS], [row.repo.lower() for row in ROWS]):
        assert len(set(values)) == len(values)


def test_each_variant_begins_with_a_file_of_known_size():
    recommended = catalogue().recommended()
    assert [row.variant for row in recommended] == ["e2b", "e4b", "12b", "26b-a4b", "31b"]
    assert all(row.weights and row.weights_bytes and row.mmproj for row in recommended)


def test_drafters_are_rows_too():
    drafters = [row.drafter for row in ROWS if row.drafter]
    assert len(drafters) >= 15
    assert all(catalogue().by_repo(name) is not None for name in drafters)


def test_kinds():
    assert {row.kind for row in ROWS} == {"gguf", "safetensors"}
    assert all(row.weights is None or row.weights.endswith(".gguf") for row in ROWS)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Gemma-4:E2B-it", ["gemma", "4", "e2b", "it"]),
        ("e2b-Q4-K-M", ["e2b", "q4_k_m"]),
        ("E2B_q4_0-it", ["e2b", "q4_0", "it"]),
        ("UD-Q4_K_XL", ["ud", "q4_k_xl"]),
        ("q8", ["q8"]),
        ("iq4_nl", ["iq4_nl"]),
        ("", []),
    ],
)
def test_words(text, expected):
    assert words(text) == expected
