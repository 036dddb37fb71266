"""Which tensor gets which format."""

import pytest

from gemstead.errors import WeightsError
from gemstead.spec.tensors import text_tensors
from gemstead.spec.variants import VARIANTS
from gemstead.weights.formats import get
from gemstead.weights.mixture import MIXTURES, choose_formats, mix_formats


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


def test_the_mixture_of_a_real_shape() -> None:
    spec = VARIANTS["e2b"]
    found = mix_formats(text_tensors(spec), "q4_k_m")
    assert found["embed_tokens"] == found["embed_tokens_per_layer"] == "q6_k"
    assert found["per_layer_model_projection"] == "bf16"
    finer = [i for i in range(spec.num_layers) if found[f"layers.{i}.mlp.down_proj"] == "q6_k"]
    assert finer[:5] == [0, 1, 2, 3, 6]
    assert 0.4 < len(finer) / spec.num_layers < 0.6
    assert found["layers.4.self_attn.q_proj"] == "q4_k"


@pytest.mark.parametrize("name", MIXTURES)
@pytest.mark.parametrize("variant", ["e2b", "26b-a4b", "tiny-e2b", "tiny-26b"])
def test_every_mixture_fits_every_shape(name: str, variant: str) -> None:
    rows = text_tensors(VARIANTS[variant])
    found = mix_formats(rows, name)
    assert set(found) == {row.name for row in rows if row.may_quantize}
    assert all(row.shape[-1] % get(found[row.name]).block == 0 for row in rows if row.may_quantize)


def test_the_last_override_wins() -> None:
    rows = text_tensors(VARIANTS["26b-a4b"])
    overrides = [("*.experts.*", "q5_k"), ("layers.0.experts.*", "q8_0"), ("embed_tokens", "bf16")]
    found = mix_formats(rows, "q4_0", overrides)
    assert found["layers.1.experts.gate_up_proj"] == "q5_k"
    assert found["layers.1.experts.down_proj"] == "q5_1"  # its 704 values are no blocks of 256
    assert found["layers.0.experts.gate_up_proj"] == "q8_0"
    assert found["embed_tokens"] == "bf16"
    assert found["layers.1.mlp.up_proj"] == "q4_0"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (("embed_tokens", "int4"), "no format 'int4'"),
        (("embed_tokens", "q2_k"), "no format 'q2_k'"),  # it can be read, not written
        (("embedings", "q8_0"), "no tensor that may be quantized"),
        (("norm", "q8_0"), "no tensor that may be quantized"),
    ],
)
def test_an_override_that_cannot_be(override: tuple[str, str], message: str) -> None:
    with pytest.raises(WeightsError, match=message):
        mix_formats(text_tensors(VARIANTS["tiny-e2b"]), "q4_0", [override])


def test_an_unknown_mixture_lists_those_there_are() -> None:
    with pytest.raises(WeightsError, match=r"'q9' to write; choose one of f32, .*q4_0"):
        mix_formats([], "q9")
