"""vision_config and audio_config -> facts."""

from __future__ import annotations

from gemstead.spec.fields import Fields, Problems
from gemstead.spec.hf_media import read_audio, read_vision
from gemstead.spec.variants import VARIANTS


def top(**values) -> Fields:
    return Fields(values, "", Problems())


def test_absent_senses():
    assert read_vision(top(vision_config=None)) is None
    assert read_audio(top()) is None


def test_encoder_free_senses():
    vision = {"model_type": "gemma4_unified_vision", "mm_embed_dim": 3840, "num_soft_tokens": 280}
    audio = {"model_type": "gemma4_unified_audio", "audio_embed_dim": 640}
    assert read_vision(top(vision_config=vision)) == VARIANTS["12b"].vision
    assert read_audio(top(audio_config=audio)) == VARIANTS["12b"].audio


def test_rope_of_the_vision_tower_in_both_spellings():
    nested = {"model_type": "gemma4_vision", "rope_parameters": {"rope_theta": 50.0, "rope_type": "axial"}}
    flat = {"model_type": "gemma4_vision", "rope_theta": 50.0}
    for config in (nested, flat):
        vision = read_vision(top(vision_config=config))
        assert vision is not None
        assert vision.rope_theta == 50.0


def test_number_of_soft_tokens_in_every_spelling():
    plain = {"model_type": "gemma4_vision"}
    for fields in (
        top(vision_config=plain | {"default_output_length": 140}),
        top(vision_config=plain, vision_soft_tokens_per_image=140),
    ):
        vision = read_vision(fields)
        assert vision is not None
        assert vision.default_output_tokens == 140


def test_unknown_fields_do_not_keep_the_text_decoder_from_loading():
    fields = top(vision_config={"model_type": "gemma4_vision", "global_head_dim": 64, "mystery": 1})
    assert read_vision(fields) is not None
    assert fields.problems.found == []


def test_wrong_values_are_told():
    fields = top(vision_config={"hidden_size": "x"}, audio_config={"num_hidden_layers": -1})
    read_vision(fields)
    read_audio(fields)
    assert [
        "vision_config.hidden_size" in x or "audio_config.num_hidden_layers" in x
        for x in fields.problems.found
    ] == [
        True,
        True,
    ]
