"""Bodies within limits, hostile ones included."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemstead.server.body import MAX_DEPTH, depth_of, parse_object
from gemstead.server.refusals import Refusal

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner, max_size=4)
    ),
    max_leaves=20,
)


def real_depth(value) -> int:
    if isinstance(value, dict):
        return 1 + max(map(real_depth, value.values()), default=0)
    if isinstance(value, list):
        return 1 + max(map(real_depth, value), default=0)
    return 0


@given(st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), VALUES, max_size=4))
def test_what_json_writes_is_read_back_and_its_depth_is_right(value):
    for ascii_only in (True, False):
        body = json.dumps(value, ensure_ascii=ascii_only).encode()
        assert parse_object(body) == value
        assert depth_of(body) == real_depth(value)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"[1]", "list"),
        (b'{"a": NaN}', "NaN"),
        (b'{"a": "\xff"}', "UTF-8"),
        (b'{"a": "\\ud800"}', "surrogate"),
        (b'{"a":' * 65 + b"1" + b"}" * 65, "nested"),
        (b"[" * 100_000, "nested"),
    ],
)
def test_bad_bodies(body, said):
    with pytest.raises(Refusal, match=said) as caught:
        parse_object(body)
    assert caught.value.status == 400


def test_a_whole_pair_of_surrogates_is_a_character():
    assert parse_object(b'{"a": "\\ud83d\\ude00"}') == {"a": "\U0001f600"}
    assert MAX_DEPTH == 64


@pytest.mark.parametrize("body", [b'"' + b'\\"' * 1_000_000, b'{"a' * 300_000, b'"\\' * 500_000])
def test_counting_takes_time_in_proportion(body):
    began = time.process_time()
    depth_of(body)
    assert time.process_time() - began < 5
