"""Work a few pieces ahead: in order, never further ahead than said, and what nobody takes is not begun."""

from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest

from gemstead.weights.ahead import in_order


def test_results_come_in_order_and_a_few_ahead():
    begun = []

    def work(number):
        begun.append(number)
        return number

    with ThreadPoolExecutor(1) as pool:
        results = in_order(pool, (partial(work, n) for n in range(20)), 3)
        for number, result in enumerate(results):
            assert result == number
            assert len(begun) <= number + 1 + 3 + 1
    assert begun == list(range(20))


def test_a_failure_ends_it_and_the_rest_is_not_done():
    done = []

    def work(number):
        if number == 2:
            raise ValueError("two")
        done.append(number)

    with ThreadPoolExecutor(1) as pool:
        results = in_order(pool, (partial(work, n) for n in range(1000)), 4)
        with pytest.raises(ValueError, match="two"):
            list(results)
    assert done[:2] == [0, 1]
    assert len(done) <= 2 + 5
