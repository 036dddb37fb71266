"""config.json -> specs: the released ones, what transformers itself writes, and everything refused."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from gemstead.errors import ConfigError
from gemstead.spec.describe import config_of
from gemstead.spec.hf import drafter_from_config, is_drafter_config, model_from_config
from gemstead.spec.tensors import drafter_tensors, is_ignorable, text_tensors
from gemstead.spec.variants import DRAFTERS, VARIANTS
from support.released import NAMES, config_json, released_row

KINDS = ("e2b", "e4b", "12b", "26b", "31b", "odd-sizes", "no-softcap", "full-rotary", "moe-ple")


@pytest.fixture
def config() -> dict[str, Any]:
    """A sound text-only config.json to break."""
    return copy.deepcopy(config_of(VARIANTS["tiny-e2b"]))


def problems(config: dict[str, Any]) -> list[str]:
    with pytest.raises(ConfigError) as error:
        model_from_config(config, "m")
    return str(error.value).split("\n  - ")[1:]


# -- the released models


@pytest.mark.parametrize("name", NAMES)
def test_released_model(name):
    generation = released_row(name)["generation_config"]
    assert model_from_config(config_json(name), name, generation) == VARIANTS[name]


@pytest.mark.parametrize("name", NAMES)
def test_released_drafter(name):
    config = config_json(name, drafter=True)
    assert is_drafter_config(config)
    assert drafter_from_config(config, f"{name}-drafter") == DRAFTERS[name]


@pytest.mark.parametrize("name", NAMES)
def test_heads_spelled_by_layer_mean_the_same(name):
    config = config_json(name)
    text = config["text_config"]
    override = {"head_dim": text.pop("global_head_dim")}
    heads = text.pop("num_global_key_value_heads")
    if heads is not None:
        override["num_key_value_heads"] = heads
    full = [i for i, kind in enumerate(text["layer_types"]) if kind == "full_attention"]
    text["per_layer_config"] = {f"{i:02d}": override for i in full}
    assert model_from_config(config, name, released_row(name)["generation_config"]) == VARIANTS[name]


def test_early_name_of_the_expert_width():
    config = config_json("26b-a4b")
    text = config["text_config"]
    text["expert_intermediate_size"] = text.pop("moe_intermediate_size")
    assert model_from_config(config, "m").layers == VARIANTS["26b-a4b"].layers


# -- what transformers writes


@pytest.fixture(scope="module")
def hf():
    """tests/support/models.py, which needs torch and transformers."""
    pytest.importorskip("torch", reason="these tests compare with transformers, which needs torch")
    pytest.importorskip("transformers", reason="these tests compare with transformers")
    from support import models

    return models


def written(config: Any, folder: Any) -> dict[str, Any]:
    config.save_pretrained(folder)
    return json.loads((folder / "config.json").read_text())


def assert_tensors_match(spec, rows, model) -> None:
    """Every tensor transformers made is one of ours, of the same shape, or passed over."""
    made = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    for row in rows:
        (alias,) = [alias for alias in row.hf_names if alias in made]
        assert made.pop(alias) == row.shape, row.name
    assert [name for name in made if not is_ignorable(name, spec)] == []


@pytest.mark.parametrize("kind", KINDS)
def test_text_only_save(hf, kind, tmp_path):
    config = hf.text_config(kind)
    spec = model_from_config(written(config, tmp_path), kind)
    with hf.torch.device("meta"):
        model = hf.transformers.Gemma4ForCausalLM(config)
    assert_tensors_match(spec, text_tensors(spec), model)
    rotary = model.model.rotary_emb
    for layer in spec.layers:
        a, kind_name = layer.attention, f"{layer.attention.kind}_attention"
        resolved = config.per_layer_config[kind_name]
        theirs, _ = rotary.rope_init_fns[kind_name](resolved, "cpu", layer_type=kind_name)
        ours = [a.rope_theta ** (-2 * i / a.head_dim) / a.rope_factor for i in range(a.rope_pairs)]
        assert theirs.tolist() == pytest.approx(ours + [0.0] * (a.head_dim // 2 - a.rope_pairs), rel=1e-5)
    sources = [x.kv_source for x in spec.layers]
    modes = config.kv_sharing_modes
    assert [i if mode != "reuse" else sources[i] for i, mode in enumerate(modes)] == sources
    assert all(modes[x.kv_source] == "store" for x in spec.layers if not x.owns_kv)


@pytest.mark.parametrize("kind", ["e2b", "26b"])
def test_whole_model_save(hf, kind, tmp_path):
    vision = {"hidden_size": 32, "num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 16}
    audio = {"num_hidden_layers": 1}
    config = hf.transformers.Gemma4Config(
        text_config=hf.text_config(kind).to_dict(), vision_config=vision, audio_config=audio
    )
    spec = model_from_config(written(config, tmp_path), kind)
    assert spec.layers == model_from_config(written(hf.text_config(kind), tmp_path), kind).layers
    assert spec.vision is not None
    assert spec.vision.hidden_size == 32
    assert spec.audio is not None
    assert spec.audio.num_layers == 1
    assert spec.vocab_size < spec.tokens.image  # ids beyond the vocabulary are no fault


def test_unified_save(hf, tmp_path):
    settings = {**hf.COMMON, **hf.KINDS["12b"], "num_hidden_layers": 8}
    settings = {key: value for key, value in settings.items() if "per_layer" not in key}
    text = hf.transformers.Gemma4UnifiedTextConfig(**settings)
    alone = model_from_config(written(text, tmp_path), "m")
    whole = hf.transformers.Gemma4UnifiedConfig(text_config=text.to_dict())
    spec = model_from_config(written(whole, tmp_path), "m")
    assert spec.layers == alone.layers
    assert spec.bidirectional_media
    assert spec.size_class == "large"
    assert spec.layers[-1].attention.v_from_k
    assert spec.hidden_size_per_layer_input == 0


@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("kind", ["e2b", "12b"])
def test_drafter_save(hf, kind, ordered, tmp_path):
    text = {**hf.COMMON, **hf.KINDS[kind], "layer_types": hf.pattern(3), "num_hidden_layers": 4}
    text |= {"hidden_size_per_layer_input": 0, "vocab_size_per_layer_input": 0, "use_double_wide_mlp": False}
    text |= {"num_kv_shared_layers": 4, "hidden_size": 32}
    with hf.all_layers_shared():
        config = hf.transformers.Gemma4AssistantConfig(
            text_config=hf.transformers.Gemma4TextConfig(**text),
            backbone_hidden_size=64,
            use_ordered_embeddings=ordered,
            num_centroids=32,
            centroid_intermediate_top_k=3,
        )
        saved = written(config, tmp_path)
        with hf.torch.device("meta"):
            model = hf.transformers.Gemma4AssistantForCausalLM(config)
    assert is_drafter_config(saved)
    spec = drafter_from_config(saved, "d")
    assert_tensors_match(spec, drafter_tensors(spec), model)
    assert (spec.num_centroids, spec.centroid_top_k) == ((32, 3) if ordered else (0, 0))
    assert spec.final_logit_softcapping is None
    assert all(layer.kv_source is None for layer in spec.layers)


def test_unified_drafter_save(hf, tmp_path):
    text = {**hf.COMMON, **hf.KINDS["12b"], "layer_types": hf.pattern(3), "num_hidden_layers": 4}
    text = {key: value for key, value in text.items() if "per_layer" not in key}
    inner = hf.transformers.Gemma4UnifiedTextConfig(**text)
    config = hf.transformers.Gemma4UnifiedAssistantConfig(text_config=inner, backbone_hidden_size=64)
    spec = drafter_from_config(written(config, tmp_path), "d")
    assert [layer.attention.num_kv_heads for layer in spec.layers] == [2, 2, 2, 1]


# -- meanings of single fields


def test_defaults_are_those_of_transformers(hf, tmp_path):
    sizes = (
        "hidden_size",
        "intermediate_size",
        "num_hidden_layers",
        "num_attention_heads",
        "num_key_value_heads",
    )
    few = {key: config_of(VARIANTS["tiny-12b"])[key] for key in sizes} | {"vocab_size": 256}
    full = written(hf.transformers.Gemma4TextConfig(**few), tmp_path)
    assert model_from_config(few | {"model_type": "gemma4_text"}, "m") == model_from_config(full, "m")


def test_default_pattern_ends_full(config):
    config |= {"layer_types": None, "num_hidden_layers": 8, "num_kv_shared_layers": 0}
    config["per_layer_config"] = {"5": {"head_dim": 32}, "7": {"head_dim": 32}}
    kinds = [layer.attention.kind for layer in model_from_config(config, "m").layers]
    assert [i for i, kind in enumerate(kinds) if kind == "full"] == [5, 7]


def test_null_global_head_dim_is_head_dim(config):
    config |= {"per_layer_config": None, "global_head_dim": None}
    assert model_from_config(config, "m").layers[-1].attention.head_dim == 16


def test_global_kv_heads_count_only_where_k_is_v(config):
    config |= {"per_layer_config": None, "global_head_dim": 32, "num_key_value_heads": 2}
    config["num_global_key_value_heads"] = 1
    assert model_from_config(config, "m").layers[-1].attention.num_kv_heads == 2
    config["attention_k_eq_v"] = True
    assert model_from_config(config, "m").layers[-1].attention.num_kv_heads == 1


def test_older_rope_fields(config):
    del config["rope_parameters"]
    config |= {"rope_theta": 5e5, "rope_local_base_freq": 2e4, "partial_rotary_factor": 0.5}
    first, *_, last = model_from_config(config, "m").layers
    assert (first.attention.rope_theta, first.attention.rope_pairs) == (2e4, 8)
    assert (last.attention.rope_theta, last.attention.rope_pairs) == (5e5, 8)


def test_rope_factor(config):
    config["rope_parameters"]["full_attention"]["factor"] = 8.0
    assert model_from_config(config, "m").layers[-1].attention.rope_factor == 8.0


@pytest.mark.parametrize("eos", [None, -1, [-1], []])
def test_a_model_that_no_token_ends(config, eos):
    config["eos_token_id"] = eos
    assert model_from_config(config, "m").tokens.eos == ()
    assert model_from_config(config, "m", {"eos_token_id": 9}).tokens.eos == (9,)
    del config["eos_token_id"]
    assert model_from_config(config, "m").tokens.eos == (1,)


@pytest.mark.parametrize("eos", [7, [7, 9]])
def test_eos_of_the_config_and_of_generation(config, eos):
    config["eos_token_id"] = eos
    expected = (7, 9) if isinstance(eos, list) else (7,)
    assert model_from_config(config, "m").tokens.eos == expected
    generation = {"eos_token_id": [1, 106], "temperature": 1.0}
    assert model_from_config(config, "m", generation).tokens.eos == (1, 106)


def test_suppressed_tokens_beyond_the_vocabulary_are_dropped(config):
    spec = model_from_config(config, "m", {"suppress_tokens": [5, 258_882]})
    assert spec.tokens.suppressed == (5,)


def test_end_of_audio_in_both_spellings(config):
    del config["eoa_token_index"]
    config["eoa_token_id"] = 77
    assert model_from_config(config, "m").tokens.audio_end == 77
    config["eoa_token_index"] = 78
    assert "eoa_token_id" in problems(config)[0]


def test_bookkeeping_fields_are_passed_over(config):
    extra = {"use_cache": True, "dtype": "bfloat16", "id2label": {"0": "a"}, "transformers_version": "5.23.0"}
    assert model_from_config(config | extra, "m") == model_from_config(config, "m")


# -- what is refused


FAULTS: list[tuple[dict[str, Any], list[str]]] = [
    ({"attention_bias": True}, ["attention_bias", "true", "false"]),
    ({"hidden_activation": "silu"}, ["hidden_activation", "silu", "gelu_pytorch_tanh"]),
    ({"attn_logit_softcapping": 50.0}, ["attn_logit_softcapping", "50.0", "absent"]),
    ({"attention_scale": 0.0625}, ["attention_scale", "0.0625", "1.0"]),
    ({"tie_word_embeddings": False}, ["tie_word_embeddings", "false"]),
    ({"use_bidirectional_attention": "all"}, ["use_bidirectional_attention", "all", "vision"]),
    ({"quantization_config": {"quant_method": "awq"}}, ["quantization_config", "GGUF"]),
    ({"rope_scaling": {"type": "yarn"}}, ["rope_scaling", "rope_parameters"]),
    ({"mystery": 3}, ["mystery", "3", "not a field gemstead knows"]),
    ({"hidden_size": None}, ["hidden_size", "missing"]),
    ({"hidden_size": "64"}, ["hidden_size", "'64'", "whole number"]),
    ({"hidden_size": True}, ["hidden_size", "true"]),
    ({"hidden_size": 64.5}, ["hidden_size", "64.5"]),
    ({"hidden_size": 2**63}, ["hidden_size", str(2**63)]),
    ({"vocab_size": -1}, ["vocab_size", "-1"]),
    ({"num_hidden_layers": 10**12}, ["num_hidden_layers", "1024"]),
    ({"num_hidden_layers": 7}, ["layer_types", "9", "7"]),
    ({"layer_types": ["sliding_attention"] * 8 + ["linear_attention"]}, ["layer_types", "linear_attention"]),
    ({"layer_types": "full_attention"}, ["layer_types", "list"]),
    ({"layer_types": [["full_attention"]] * 9}, ["layer_types"]),
    ({"layer_types": ["full_attention"] * 8 + ["sliding_attention"]}, ["last layer", "full_attention"]),
    ({"num_attention_heads": 5, "num_key_value_heads": 2}, ["num_attention_heads", "5", "2"]),
    ({"num_kv_shared_layers": 9}, ["num_kv_shared_layers", "9", "8"]),
    ({"num_kv_shared_layers": 7}, ["layer 2", "full", "shares K/V"]),
    ({"rms_norm_eps": 0}, ["rms_norm_eps"]),
    ({"rms_norm_eps": float("nan")}, ["rms_norm_eps", "nan"]),
    ({"final_logit_softcapping": -30}, ["final_logit_softcapping", "-30"]),
    ({"sliding_window": 0}, ["sliding_window", "0"]),
    ({"head_dim": 15}, ["head_dim", "15", "odd"]),
    ({"vocab_size_per_layer_input": 100}, ["vocab_size_per_layer_input", "100", "256"]),
    ({"enable_moe_block": True}, ["num_experts", "missing"]),
    ({"use_double_wide_mlp": "yes"}, ["use_double_wide_mlp", "'yes'", "true or false"]),
    ({"eos_token_id": "</s>"}, ["eos_token_id", "</s>"]),
    ({"rope_parameters": {"full_attention": {}}}, ["rope_parameters", "sliding_attention"]),
    ({"rope_parameters": {"rope_theta": 1e4, "rope_type": "default"}}, ["rope_parameters", "full_attention"]),
    ({"per_layer_config": {"2": {"head_dim": 24}}}, ["per_layer_config", "agree"]),
    ({"per_layer_config": {"99": {"head_dim": 24}}}, ["per_layer_config[99]", "0 to 8"]),
    ({"per_layer_config": {"x": {}}}, ["per_layer_config[x]"]),
    ({"per_layer_config": {"2": {}, "02": {}}}, ["per_layer_config[02]", "layer 2 is there twice"]),
    ({"per_layer_config": {"2": 3}}, ["per_layer_config[2]", "mapping"]),
    ({"per_layer_config": {"2": {"skip": ["mlp"]}}}, ["per_layer_config[2].skip"]),
    ({"global_head_dim": 64}, ["global_head_dim", "64", "32"]),
    (
        {"num_global_key_value_heads": 7},
        ["num_global_key_value_heads is 7 but", "per_layer_config", "agree"],
    ),
    ({"rope_theta": 3.0}, ["rope_theta is 3.0 but rope_parameters.full_attention.rope_theta is 1000000.0"]),
    ({"rope_local_base_freq": 3.0}, ["rope_local_base_freq is 3.0 but rope_parameters.sliding_attention"]),
    ({"partial_rotary_factor": 0.5}, ["partial_rotary_factor is 0.5 but rope_parameters.full_attention"]),
]


@pytest.mark.parametrize(
    ("change", "told"), FAULTS, ids=lambda x: next(iter(x)) if isinstance(x, dict) else ""
)
def test_fault_is_named_with_the_value_seen(config, change, told):
    found = problems(config | change)
    assert any(all(word in problem for word in told) for problem in found), found


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"rope_type": "yarn"}, ["rope_type", "yarn", "proportional"]),
        ({"rope_type": None}, ["partial_rotary_factor", "0.25", "rope_type default"]),
        ({"rope_theta": None}, ["rope_theta", "missing"]),
        ({"partial_rotary_factor": 1.5}, ["full layers", "24 pairs", "16"]),
        ({"partial_rotary_factor": -0.5}, ["full layers", "pairs"]),
        ({"factor": 0}, ["factor", "0"]),
        ({"beta_fast": 32.0}, ["beta_fast", "not a field"]),
    ],
)
def test_rope_fault(config, change, told):
    config["rope_parameters"]["full_attention"] |= change
    found = problems(config)
    assert any(all(word in problem for word in told) for problem in found), found


def test_moe_contradictions(config):
    config |= {"enable_moe_block": True, "num_experts": 4, "top_k_experts": 5}
    config |= {"moe_intermediate_size": 32, "expert_intermediate_size": 16}
    found = problems(config)
    assert any("top_k_experts 5" in problem for problem in found)
    assert any("moe_intermediate_size 32 and expert_intermediate_size 16" in problem for problem in found)


def test_all_faults_come_in_one_error(config):
    config |= {"attention_bias": True, "hidden_activation": "relu", "mystery": 1, "other": [2]}
    config |= {"num_key_value_heads": 3, "vocab_size_per_layer_input": 1, "num_kv_shared_layers": 7}
    found = problems(config)
    assert len(found) >= 7
    for word in ("attention_bias", "relu", "mystery", "other", "num_key_value_heads 3", "shares K/V"):
        assert any(word in problem for problem in found), word


def test_faults_of_both_levels_come_together():
    whole = {"model_type": "gemma4", "text_config": config_of(VARIANTS["tiny-12b"]), "audio_config": None}
    whole["text_config"]["mystery"] = 1
    found = problems(whole | {"tie_word_embeddings": False, "vocab_size": 7, "odd": 1})
    for word in ("text_config.mystery", "tie_word_embeddings", "text_config.vocab_size is 256", "odd"):
        assert any(word in problem for problem in found), word


def test_the_outer_flag_ties_the_head():
    whole = {"model_type": "gemma4", "text_config": config_of(VARIANTS["tiny-12b"]), "audio_config": None}
    whole["text_config"]["tie_word_embeddings"] = False
    assert model_from_config(whole, "m").vocab_size == 256


@pytest.mark.parametrize("model_type", ["gemma3", "gemma3n_text", "llama", None, 4])
def test_other_models_are_refused_by_name(model_type):
    with pytest.raises(ConfigError, match=r"model_type.*gemma4_text"):
        model_from_config({"model_type": model_type}, "m")


def test_drafter_and_model_are_told_apart(config):
    drafter = config_of(DRAFTERS["tiny-e2b"])
    with pytest.raises(ConfigError, match="drafter="):
        model_from_config(drafter, "m")
    with pytest.raises(ConfigError, match="not a drafter"):
        drafter_from_config(config, "m")
    assert not is_drafter_config(config)


@pytest.mark.parametrize("text", [None, {}, 3, []])
def test_missing_text_config(text):
    with pytest.raises(ConfigError, match="text_config"):
        model_from_config({"model_type": "gemma4", "text_config": text}, "m")


@pytest.mark.parametrize("config", [None, [], "gemma4"])
def test_no_mapping_at_all(config):
    with pytest.raises(ConfigError, match="model_type"):
        model_from_config(config, "m")


@pytest.mark.parametrize(
    ("outer", "inner", "told"),
    [
        ({"backbone_hidden_size": None}, {}, "backbone_hidden_size"),
        ({"num_centroids": 7}, {}, "num_centroids 7"),
        ({"centroid_intermediate_top_k": 17}, {}, "centroid_intermediate_top_k 17"),
        ({}, {"hidden_size_per_layer_input": 32}, "hidden_size_per_layer_input"),
        ({}, {"enable_moe_block": True}, "enable_moe_block"),
        ({}, {"use_double_wide_mlp": True}, "use_double_wide_mlp"),
        ({}, {"num_kv_shared_layers": 3}, "num_kv_shared_layers"),
        ({"mystery": 1}, {}, "mystery"),
    ],
)
def test_drafter_faults(outer, inner, told):
    config = config_of(DRAFTERS["tiny-e2b"])
    config["text_config"] |= inner
    with pytest.raises(ConfigError, match=told):
        drafter_from_config(config | outer, "d")


def test_drafter_may_leave_its_sharing_unsaid():
    config = config_of(DRAFTERS["tiny-12b"])
    config["text_config"]["num_kv_shared_layers"] = 0
    assert drafter_from_config(config, "tiny-12b-drafter") == DRAFTERS["tiny-12b"]
