"""Masks in both forms, and the small constraint the engine's tests use."""

from __future__ import annotations

import numpy as np
import pytest

from gemstead.engine.constraint import OneOf, all_but, only, unpack_mask


@pytest.mark.parametrize("dtype", [np.uint32, np.int32])
def test_packed_bits_are_tokens_from_the_lowest_bit(dtype):
    words = np.array([0b1001, 1 << 31], np.uint32).view(dtype)
    assert np.flatnonzero(unpack_mask(words, 64)).tolist() == [0, 3, 63]
    assert unpack_mask(words, 40).size == 40


def test_a_mask_must_cover_the_vocabulary():
    with pytest.raises(ValueError, match="covers 5 tokens; the vocabulary has 6"):
        unpack_mask(np.ones(5, bool), 6)
    assert unpack_mask(np.ones(8, bool), 6).size == 6


def test_only_some_and_all_but_some():
    assert only(5, (1, 3)).tolist() == [False, True, False, True, False]
    assert all_but(5, {1, 3}).tolist() == [True, False, True, False, True]
    assert not only(3, ()).any()
    assert all_but(3, ()).all()


def test_one_of_allows_its_choices_and_nothing_else():
    constraint = OneOf([[1, 2], [1, 3, 4], [5]], end_ids=[9], vocab_size=10)

    def allowed():
        return np.flatnonzero(constraint.mask()).tolist()

    assert allowed() == [1, 5]
    constraint.accept(1)
    assert allowed() == [2, 3]
    constraint.accept(2)
    assert allowed() == [9]
    with pytest.raises(ValueError):
        constraint.accept(3)
    constraint.rollback(1)
    constraint.accept(3)
    constraint.accept(4)
    assert not constraint.is_done()
    constraint.accept(9)
    assert constraint.is_done()
    constraint.rollback(4)
    assert allowed() == [1, 5]
