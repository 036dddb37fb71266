"""Adapter folders as PEFT and others write them, and everything that is refused, by name."""

from __future__ import annotations

import json

import numpy as np
import pytest

from gemstead.errors import WeightsError
from gemstead.spec.tensors import dense_linears
from gemstead.spec.variants import VARIANTS
from gemstead.weights.adapter import open_adapter
from support.adapters import CONFIG, adapter_arrays, save_adapter, write_adapter

SPEC = VARIANTS["tiny-e2b"]
FIRST = "layers.0.self_attn.q_proj"


def only(name):
    return lambda linear: linear == name


def refusal(folder, spec=SPEC):
    with pytest.raises(WeightsError) as caught:
        open_adapter(folder, spec)
    return str(caught.value)


@pytest.mark.parametrize(
    "prefix",
    [
        "base_model.model.model.language_model.",
        "base_model.model.model.",
        "base_model.model.language_model.model.",
        "base_model.model.language_model.",
        "base_model.model.",
        "model.",
        "",
    ],
)
def test_names_with_any_prefix(tmp_path, prefix):
    arrays = adapter_arrays(SPEC, prefix=prefix)
    with open_adapter(write_adapter(tmp_path / "a", arrays), SPEC) as adapter:
        assert set(adapter.terms) == {t.name for t in dense_linears(SPEC)}
        term = adapter.terms[FIRST]
        assert (term.a.float32() == arrays[f"{prefix}{FIRST}.lora_A.weight"]).all()
        assert (term.b.float32() == arrays[f"{prefix}{FIRST}.lora_B.weight"]).all()
        assert term.scale == 6 / 4
        assert adapter.nbytes == sum(x.nbytes for x in arrays.values())
        assert adapter.rank == 4


def test_names_of_a_state_dict_saved_by_hand(tmp_path):
    arrays = adapter_arrays(SPEC, wanted=only(FIRST))
    arrays = {name.replace(".weight", ".default.weight"): x for name, x in arrays.items()}
    with open_adapter(write_adapter(tmp_path / "a", arrays), SPEC) as adapter:
        assert list(adapter.terms) == [FIRST]


def test_a_file_in_the_folder_names_the_folder(tmp_path):
    folder = save_adapter(tmp_path / "a", SPEC)
    for name in ("adapter_model.safetensors", "adapter_config.json"):
        open_adapter(folder / name, SPEC).close()


def test_the_digest_is_of_what_decides_the_result(tmp_path):
    def digest(seed=0, **config):
        with open_adapter(save_adapter(tmp_path / "a", SPEC, seed, **config), SPEC) as adapter:
            return adapter.digest

    assert digest() == digest(task_type="CAUSAL_LM")
    assert len({digest(), digest(1), digest(lora_alpha=7), digest(use_rslora=True)}) == 4


def test_encoders_and_layers_without_own_keys_are_passed_over(tmp_path):
    arrays = adapter_arrays(SPEC, wanted=only(FIRST))
    for name in (
        "base_model.model.model.vision_tower.encoder.layers.0.self_attn.q_proj.linear",
        "base_model.model.model.embed_audio.embedding_projection",
        f"base_model.model.model.language_model.layers.{SPEC.num_layers - 1}.self_attn.k_proj",
    ):
        arrays |= {
            f"{name}.lora_A.weight": np.ones((4, 3), "f"),
            f"{name}.lora_B.weight": np.ones((5, 4), "f"),
        }
    with open_adapter(write_adapter(tmp_path / "a", arrays), SPEC) as adapter:
        assert list(adapter.terms) == [FIRST]
        assert adapter.passed_over == 4


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("base_model.model.model.layers.0.self_attn.q_proj.lora_magnitude_vector", "holds DoRA"),
        ("base_model.model.model.embed_tokens.lora_embedding_A", "LoRA on the embeddings"),
        ("base_model.model.lm_head.lora_A.weight", "LoRA on the head"),
        ("base_model.model.model.layers.0.experts.gate_up_proj.lora_A.weight", "LoRA on the experts"),
        ("base_model.model.model.layers.0.self_attn.q_proj.lora_B.bias", "a bias of its own"),
        ("base_model.model.lm_head.modules_to_save.weight", "modules saved whole"),
        (
            "base_model.model.model.layers.99.self_attn.q_proj.lora_A.weight",
            "has no base_model.model.model.layers.99",
        ),
        ("something", "has no something"),
    ],
)
def test_tensors_that_are_refused(tmp_path, name, words):
    arrays = {**adapter_arrays(SPEC, wanted=only(FIRST)), name: np.ones((4, 4), "f")}
    assert words in refusal(write_adapter(tmp_path / "a", arrays))


def test_an_adapter_of_another_model_names_all_that_differs(tmp_path):
    wide = adapter_arrays(SPEC, wanted=lambda name: name.startswith("layers.0."))
    wide = {name: np.concatenate([x, x], axis=1 if "lora_A" in name else 0) for name, x in wide.items()}
    said = refusal(write_adapter(tmp_path / "a", wide))
    for t in dense_linears(SPEC):
        assert (f"{t.name}.lora_A.weight' is" in said) == t.name.startswith("layers.0.")
    assert "needs (4, 64)" in said
    assert "trained on this model" in said


def test_files_that_are_no_whole_adapter(tmp_path):
    folder = save_adapter(tmp_path / "a", SPEC)
    assert "no such folder" in refusal(tmp_path / "nothing")
    arrays = adapter_arrays(SPEC, wanted=only(FIRST))
    a, b = arrays
    assert "no lora_B for layers.0" in refusal(write_adapter(tmp_path / "half", {a: arrays[a]}))
    twice = {**arrays, f"model.{FIRST}.lora_A.weight": arrays[a]}
    assert "is there twice" in refusal(write_adapter(tmp_path / "twice", twice))
    assert "changes nothing" in refusal(
        write_adapter(tmp_path / "none", {"model.vision_tower.x.lora_A.weight": arrays[a]})
    )
    assert "holds NaN" in refusal(write_adapter(tmp_path / "nan", {a: arrays[a] * np.nan, b: arrays[b]}))
    assert "is i64" in refusal(
        write_adapter(tmp_path / "ints", {k: np.ones_like(x, int) for k, x in arrays.items()}, kind="i64")
    )
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")
    assert "adapter_model.bin is a Python pickle" in refusal(folder)
    (folder / "adapter_model.bin").unlink()
    assert "adapter_model.safetensors is missing" in refusal(folder)
    (folder / "config.json").write_text("{}")
    assert "it holds a whole model" in refusal(folder)
    folder = save_adapter(tmp_path / "pickled", SPEC)
    (folder / "adapter_model.safetensors").write_bytes(b"\x80\x02}q\x00." + b" " * 50)
    assert "pickle" in refusal(folder)
    (folder / "adapter_config.json").write_text(json.dumps([CONFIG]))
    assert "not an object" in refusal(folder)
