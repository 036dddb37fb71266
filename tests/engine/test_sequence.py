"""A sequence's own arithmetic, and what counts as token ids."""

from __future__ import annotations

import numpy as np
import pytest

from gemstead.engine.constraint import OneOf
from gemstead.engine.pages import PageTable
from gemstead.engine.sampler import Sampler
from gemstead.engine.sequence import Sequence, check_ids
from gemstead.errors import InputError
from gemstead.types import SamplingParams


def sequence(limit=6, **more):
    return Sequence([1, 2, 3], limit, Sampler(SamplingParams(seed=0), (), 10), PageTable(2), **more)


def test_it_ends_by_itself():
    s = sequence(eos_ids=frozenset({9}))
    assert (s.prompt_tokens, s.num_generated, s.room, s.is_decoding) == (3, 0, 3, False)
    s.append(5, None)
    s.n_cached = 3
    assert (s.num_generated, s.room, s.is_decoding, s.finish_reason) == (1, 2, True, None)
    s.append(9, None)
    assert s.finish_reason == "stop"
    assert [a.token_id for a in s.outputs] == [5, 9]
    assert s.first_token_s <= s.last_token_s


def test_it_ends_when_full_and_when_its_constraint_is_over():
    s = sequence(limit=4)
    s.append(5, None)
    assert s.finish_reason == "length"
    constraint = OneOf([[5]], [], 10)
    s = sequence(constraint=constraint)
    constraint.accept(5)
    s.append(5, None)
    assert s.finish_reason == "stop"


@pytest.mark.parametrize(
    "good", [[0, 9], (3,), range(4), np.array([1, 2]), np.array([7], np.uint8), [np.int64(3)]]
)
def test_ids_of_any_kind_become_a_list_of_ints(good):
    ids = check_ids(good, 10)
    assert ids == [int(i) for i in good]
    assert all(type(i) is int for i in ids)


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        ([], "at least one"),
        (5, "at least one"),
        ([1, 10], "token id 10 at position 1"),
        ([-1], "token id -1 at position 0"),
        ([1, 2.5], "2.5"),
        ([True, False], "True"),
        ([None], "None"),
        ([[1, 2]], "shape"),
        ([[1], [2, 3]], "cannot be read"),
        ("12", "str"),
        (b"12", "bytes"),
        ([2**80], "not a whole number|token id"),
        ([2**63], "token id 9223372036854775808"),
        (["1"], "'1'"),
        (None, "shape"),
    ],
)
def test_other_ids_are_refused_by_name(bad, says):
    with pytest.raises(InputError, match=says):
        check_ids(bad, 10)
