"""What adapter_config.json may say, and what is refused by name."""

from __future__ import annotations

import math

import pytest

from gemstead.errors import WeightsError
from gemstead.spec.tensors import dense_linears
from gemstead.spec.variants import VARIANTS
from gemstead.weights.adapter import open_adapter
from support.adapters import adapter_arrays, save_adapter, write_adapter

SPEC = VARIANTS["tiny-e2b"]
FIRST = "layers.0.self_attn.q_proj"


def only(name):
    return lambda linear: linear == name


def refusal(folder):
    with pytest.raises(WeightsError) as caught:
        open_adapter(folder, SPEC)
    return str(caught.value)


def test_scales(tmp_path):
    folder = tmp_path / "a"
    ranks = {"layers.0.self_attn.q_proj": 2, "down_proj": 3}
    arrays = {}
    for linear in dense_linears(SPEC):
        rank = 2 if linear.name == FIRST else 3 if linear.name.endswith("down_proj") else 4
        arrays |= adapter_arrays(SPEC, rank, wanted=only(linear.name))
    alphas = {"k_proj": 9, "^model.layers.1.mlp.down_proj": 12, "p_proj": 1000, "^layers.0.mlp.up_proj": 1000}
    for stabilised in (False, True):
        config = {"rank_pattern": ranks, "alpha_pattern": alphas, "use_rslora": stabilised}
        with open_adapter(write_adapter(folder, arrays, config), SPEC) as adapter:
            for name, rank, alpha in (
                (FIRST, 2, 6),
                ("layers.0.self_attn.k_proj", 4, 9),
                ("layers.1.mlp.down_proj", 3, 12),
                ("layers.2.mlp.down_proj", 3, 6),
                ("layers.0.mlp.up_proj", 4, 6),
            ):
                divisor = math.sqrt(rank) if stabilised else rank
                assert adapter.terms[name].scale == alpha / divisor, name


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("peft_type", "LOHA", "'LOHA'; gemstead runs LORA"),
        ("use_dora", True, "use_dora = True (DoRA)"),
        ("modules_to_save", ["lm_head"], "modules_to_save"),
        ("bias", "all", "bias = 'all'"),
        ("lora_bias", True, "lora_bias = True"),
        ("target_parameters", ["mlp.experts.gate_up_proj"], "LoRA on the experts"),
        ("trainable_token_indices", [1, 2], "trained tokens"),
        ("layer_replication", [[0, 2]], "copied layers"),
        ("alora_invocation_tokens", [5], "activated LoRA"),
        ("init_lora_weights", "pissa_niter_4", "changed base weights"),
        ("init_lora_weights", "olora", "changed base weights"),
        ("fan_in_fan_out", True, "fan_in_fan_out"),
        ("something_new", {"a": 1}, "something_new = {'a': 1}"),
        ("r", 0, "the rank r is 0; allowed are 1 to 4096"),
        ("r", True, "the rank r is True"),
        ("r", None, "the rank r is None"),
        ("lora_alpha", -1, "the alpha lora_alpha is -1"),
        ("lora_alpha", "8", "the alpha lora_alpha is '8'"),
        ("rank_pattern", {"q_proj": 5000}, "the rank q_proj is 5000"),
        ("rank_pattern", {"(a+)+$": 4}, "no regular expressions"),
        ("alpha_pattern", [1], "alpha_pattern is [1]"),
        ("use_rslora", "yes", "use_rslora is 'yes'"),
    ],
)
def test_settings_that_are_refused(tmp_path, field, value, words):
    assert words in refusal(write_adapter(tmp_path / "a", adapter_arrays(SPEC), {field: value}))


@pytest.mark.parametrize("field", ["loftq_config", "lora_dropout", "target_modules", "peft_version"])
def test_settings_of_the_training_are_passed_over(tmp_path, field):
    value = {"loftq_config": {"loftq_bits": 4}, "lora_dropout": 0.1}.get(field, "all-linear")
    open_adapter(save_adapter(tmp_path / "a", SPEC, **{field: value}), SPEC).close()
