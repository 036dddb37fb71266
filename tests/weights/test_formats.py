"""formats.py against the gguf package, bit for bit, on random and extreme blocks."""

import gguf
import numpy as np
import pytest
from gguf import GGMLQuantizationType

from gemstead.errors import WeightsError
from gemstead.weights import formats
from gemstead.weights.formats import TABLE

QUANTIZED = [name for name, row in TABLE.items() if row.quantized]
SCALES = {  # byte positions of the float16 fields
    "q8_0": (0,),
    "q4_0": (0,),
    "q5_0": (0,),
    "iq4_nl": (0,),
    "iq4_xs": (0,),
    "q4_1": (0, 2),
    "q5_1": (0, 2),
    "q4_k": (0, 2),
    "q5_k": (0, 2),
    "q2_k": (80, 82),
    "q3_k": (108,),
    "q6_k": (208,),
}
EXTREME = np.array([0.0, -0.0, 6e-8, -6e-8, 6.1e-5, 1.0, -1.0, 65504.0, -65504.0], dtype="<f2")


def random_blocks(name: str, count: int, seed: int) -> np.ndarray:
    """Blocks of random bits whose scale fields are finite and often extreme."""
    rng = np.random.default_rng(seed)
    blocks = rng.integers(0, 256, (count, TABLE[name].block_bytes), dtype=np.uint8)
    for at in SCALES[name]:
        scale = np.where(rng.random(count) < 0.5, rng.choice(EXTREME, count), rng.normal(0, 0.1, count))
        blocks[:, at : at + 2] = scale.astype("<f2").view(np.uint8).reshape(count, 2)
    return blocks


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


def test_unpack_crosses_chunks() -> None:
    blocks = random_blocks("q4_k", 1000, seed=5)
    want = np.concatenate([TABLE["q4_k"].unpack(blocks[i : i + 7]) for i in range(0, 1000, 7)])
    np.testing.assert_array_equal(TABLE["q4_k"].unpack(blocks), want)


def test_unpack_of_strided_blocks() -> None:
    blocks = random_blocks("q6_k", 20, seed=6)
    np.testing.assert_array_equal(TABLE["q6_k"].unpack(blocks[::2]), TABLE["q6_k"].unpack(blocks)[::2])


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


def test_integers_read_as_numbers() -> None:
    ids = np.array([[0, 1, 262143, -5]], dtype="<i8")
    np.testing.assert_array_equal(TABLE["i64"].unpack(ids.view(np.uint8)).ravel(), [0, 1, 262143, -5])
    np.testing.assert_array_equal(
        TABLE["i32"].unpack(ids.astype("<i4").view(np.uint8)).ravel(), [0, 1, 262143, -5]
    )
    np.testing.assert_array_equal(
        TABLE["f64"].unpack(np.array([0.1, -2.0]).view(np.uint8)).ravel(), np.float32([0.1, -2.0])
    )


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [("q8_0", np.nan, "q8_0"), ("q4_0", np.inf, "q4_0"), ("f16", 1e6, "65504"), ("q4_1", 1e30, "bf16")],
)
def test_pack_refuses_what_the_format_cannot_hold(name: str, value: float, says: str) -> None:
    with pytest.raises(WeightsError, match=says):
        TABLE[name].pack(np.full((1, 32), value, dtype=np.float32))


def test_refusals_name_the_format() -> None:
    with pytest.raises(WeightsError, match="multiple of 32"):
        TABLE["q4_0"].pack(np.zeros((2, 40), dtype=np.float32))
    with pytest.raises(WeightsError, match="cannot write iq4_nl"):
        TABLE["iq4_nl"].pack(np.zeros((2, 32), dtype=np.float32))
    with pytest.raises(WeightsError, match="'q9'"):
        formats.get("q9")


@pytest.mark.parametrize("name", QUANTIZED)
def test_table_sizes_are_ggml_s(name: str) -> None:
    assert gguf.GGML_QUANT_SIZES[theirs(name)] == (TABLE[name].block, TABLE[name].block_bytes)
