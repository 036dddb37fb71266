"""unpack.py against the gguf package, bit for bit, on random and extreme blocks."""

import gguf
import numpy as np
import pytest
from gguf import GGMLQuantizationType

from gemstead.weights.formats import TABLE
from support.blocks import QUANTIZED, random_blocks


def theirs(name: str) -> GGMLQuantizationType:
    return GGMLQuantizationType(TABLE[name].ggml_type)


@pytest.mark.parametrize("name", QUANTIZED)
def test_unpack_equals_the_gguf_package(name: str) -> None:
    blocks = random_blocks(name, 700, seed=len(name))
    want = gguf.quants.dequantize(blocks, theirs(name))
    got = TABLE[name].unpack(blocks)
    np.testing.assert_array_equal(got.view(np.uint32), want.reshape(got.shape).view(np.uint32))


@pytest.mark.parametrize("name", QUANTIZED)
def test_unpack_of_wholly_random_bits_equals_the_gguf_package(name: str) -> None:
    """Infinite and NaN scales too; NaNs need only be NaN in both."""
    rng = np.random.default_rng(1)
    blocks = rng.integers(0, 256, (500, TABLE[name].block_bytes), dtype=np.uint8)
    with np.errstate(all="ignore"):
        want = gguf.quants.dequantize(blocks, theirs(name)).reshape(500, -1)
    np.testing.assert_array_equal(TABLE[name].unpack(blocks), want)


def test_integers_read_as_numbers() -> None:
    ids = np.array([[0, 1, 262143, -5]], dtype="<i8")
    np.testing.assert_array_equal(TABLE["i64"].unpack(ids.view(np.uint8)).ravel(), [0, 1, 262143, -5])
    np.testing.assert_array_equal(
        TABLE["i32"].unpack(ids.astype("<i4").view(np.uint8)).ravel(), [0, 1, 262143, -5]
    )
    np.testing.assert_array_equal(
        TABLE["f64"].unpack(np.array([0.1, -2.0]).view(np.uint8)).ravel(), np.float32([0.1, -2.0])
    )
