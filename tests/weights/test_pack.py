"""pack.py: the simple formats equal the gguf package's, the K formats stay within their bounds."""

import gguf
import numpy as np
import pytest
from gguf import GGMLQuantizationType

from gemstead.weights.formats import TABLE


def theirs(name: str) -> GGMLQuantizationType:
    return GGMLQuantizationType(TABLE[name].ggml_type)


@pytest.mark.parametrize("name", ["f32", "f16", "bf16", "q8_0", "q4_0", "q4_1", "q5_0", "q5_1"])
@pytest.mark.parametrize("scale", [1.0, 1e-3, 3e-8, 900.0])
def test_pack_equals_the_gguf_package(name: str, scale: float) -> None:
    rng = np.random.default_rng(2)
    values = (rng.normal(0, scale, (37, 256))).astype(np.float32)
    values[3] = 0
    values[4, :32] = np.arange(32) * np.float32(scale)
    values[5, 32:64] = np.float32(scale) / 2
    with np.errstate(all="ignore"):
        want = gguf.quants.quantize(values, theirs(name))
    np.testing.assert_array_equal(TABLE[name].pack(values), want.view(np.uint8).reshape(37, -1))


def test_bf16_is_the_gguf_package_on_every_kind_of_bits() -> None:
    rng = np.random.default_rng(3)
    bits = rng.integers(0, 2**32, (64, 256), dtype=np.uint32)
    special = [
        0,
        0x80000000,
        0x7F800000,
        0xFF800000,
        0x7FFFFFFF,
        0x7F800001,
        0x00000001,
        0x3F808000,
        0x3F818000,
    ]
    bits[0, : len(special)] = special
    values = bits.view(np.float32)
    want = gguf.quants.quantize(values, GGMLQuantizationType.BF16)
    np.testing.assert_array_equal(TABLE["bf16"].pack(values), want)
    got = TABLE["bf16"].unpack(TABLE["bf16"].pack(values))
    np.testing.assert_array_equal(
        got.view(np.uint32).ravel(),
        gguf.quants.dequantize(want, GGMLQuantizationType.BF16).view(np.uint32).ravel(),
    )


@pytest.mark.parametrize(
    ("name", "bound"), [("q4_k", 0.085), ("q5_k", 0.045), ("q6_k", 0.022), ("q8_0", 0.006)]
)
def test_rounding_error_stays_within_the_format(name: str, bound: float) -> None:
    """Relative root mean square error on normal values; q4_0 would be at 0.09, so q4_k must beat it."""
    values = np.random.default_rng(4).normal(0, 0.02, (64, 1024)).astype(np.float32)
    back = TABLE[name].unpack(TABLE[name].pack(values)).reshape(values.shape)
    assert np.sqrt(((back - values) ** 2).mean() / (values**2).mean()) < bound


@pytest.mark.parametrize("name", ["q4_k", "q5_k", "q6_k"])
def test_k_encoders_survive_constant_and_tiny_blocks(name: str) -> None:
    values = np.zeros((6, 256), dtype=np.float32)
    values[1] = 0.5
    values[2] = -0.5
    values[3] = 1e-12
    values[4, 7] = 3.0
    values[5] = 1e4
    back = TABLE[name].unpack(TABLE[name].pack(values)).reshape(values.shape)
    np.testing.assert_allclose(back, values, atol=0.05, rtol=0.05)
