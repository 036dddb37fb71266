"""The table of formats: sizes, chunking, and what it refuses to pack."""

import gguf
import numpy as np
import pytest
from gguf import GGMLQuantizationType

from gemstead.errors import WeightsError
from gemstead.weights import formats
from gemstead.weights.formats import TABLE
from support.blocks import QUANTIZED, random_blocks


def theirs(name: str) -> GGMLQuantizationType:
    return GGMLQuantizationType(TABLE[name].ggml_type)


def test_unpack_crosses_chunks() -> None:
    blocks = random_blocks("q4_k", 1000, seed=5)
    want = np.concatenate([TABLE["q4_k"].unpack(blocks[i : i + 7]) for i in range(0, 1000, 7)])
    np.testing.assert_array_equal(TABLE["q4_k"].unpack(blocks), want)


def test_unpack_of_strided_blocks() -> None:
    blocks = random_blocks("q6_k", 20, seed=6)
    np.testing.assert_array_equal(TABLE["q6_k"].unpack(blocks[::2]), TABLE["q6_k"].unpack(blocks)[::2])


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


@pytest.mark.parametrize("name", [name for name in TABLE if name not in ("i32", "i64")])
def test_a_block_is_finite_exactly_when_all_its_values_are(name: str) -> None:
    row = TABLE[name]
    blocks = np.random.default_rng(7).integers(0, 256, (2000, row.block_bytes), dtype=np.uint8)
    blocks[:500] &= 0xBF  # half the exponents cannot be all ones
    found = [row.is_finite(block) for block in blocks]
    assert found == [bool(np.isfinite(row.unpack(block)).all()) for block in blocks]
    assert row.is_finite(blocks[np.array(found)])
