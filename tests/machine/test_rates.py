"""Kernels alone: what is multiplied is right, and rates are read off what is known of a machine."""

from __future__ import annotations

import numpy as np
import pytest

from gemstead.backend.native.library import address, check, library
from gemstead.machine.rates import TYPICAL, derived_rates, measured_rates
from gemstead.weights import formats


@pytest.mark.parametrize("name", ["q8_0", "bf16"])
def test_a_product_is_the_products_of_numpy(name):
    rng = np.random.default_rng(0)
    w, x = rng.standard_normal((48, 256), np.float32), rng.standard_normal((5, 256), np.float32)
    fmt = formats.get(name)
    stored = fmt.pack(w)
    matrix = stored
    if fmt.quantized:
        matrix = np.empty(library().gs_packed_bytes(fmt.ggml_type, 48, 256), np.uint8)
        check(library().gs_pack(fmt.ggml_type, address(stored), 48, 256, address(matrix)), "packing")
    y = np.empty((5, 48), np.float32)
    args = (fmt.ggml_type, address(matrix), 48, 256, address(x), 5, 2, 3, address(y))
    check(library().gs_multiply(*args), "multiplying")
    exact = x @ fmt.unpack(stored).reshape(48, 256).T
    assert np.abs(y - exact).max() < 0.03 * np.abs(exact).max()  # rows of x in int8


def test_what_cannot_be_multiplied_is_refused():
    x = np.zeros(64, np.float32)
    assert library().gs_multiply(2, address(x), 1, 33, address(x), 1, 1, 1, address(x)) != 0
    assert library().gs_multiply(0, address(x), 1, 32, address(x), 0, 1, 1, address(x)) != 0


def test_derived_rates_follow_memory_and_int8():
    one, two = derived_rates(10e9, 100e9), derived_rates(20e9, 100e9)
    for name in TYPICAL:
        assert two.kernel(name).bytes_s == 2 * one.kernel(name).bytes_s
        assert two.kernel(name).operations_s == one.kernel(name).operations_s
    assert one.kernel("q5_1") == one.kernel("q8_0")  # what has no kernel of its own becomes q8_0
    assert one.kernel("f16") == one.kernel("bf16")


def test_this_machine_in_a_few_seconds():
    rates = measured_rates(1)
    assert rates.int8_s == rates.kernels["q4_0"].operations_s > 1e8
    assert rates.kernel("f32") == rates.kernels["bf16"]
