"""Which tensor gets which format."""

import pytest

from gemstead.errors import WeightsError
from gemstead.spec.tensors import text_tensors
from gemstead.spec.variants import VARIANTS
from gemstead.weights.quantize import choose_formats


def test_only_what_may_be_quantized_is() -> None:
    rows = text_tensors(VARIANTS["tiny-26b"])
    chosen = choose_formats(rows, "q4_0")
    assert set(chosen) == {row.name for row in rows if row.may_quantize}
    assert chosen["embed_tokens"] == "q4_0"
    assert "norm" not in chosen
    assert "layers.0.router.proj" not in chosen


def test_rows_that_are_no_whole_blocks_fall_back() -> None:
    chosen = choose_formats(text_tensors(VARIANTS["tiny-e2b"]), "q4_k")
    assert set(chosen.values()) == {"q8_0"}
    assert set(choose_formats(text_tensors(VARIANTS["e2b"]), "q4_k").values()) == {"q4_k"}


def test_an_unknown_format_is_refused() -> None:
    with pytest.raises(WeightsError, match="'int4'"):
        choose_formats([], "int4")
