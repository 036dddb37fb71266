"""Whole models written and read back; what the writer refuses."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gemstead.errors import WeightsError
from gemstead.spec.model import TokenIds
from gemstead.spec.variants import DRAFTERS, VARIANTS
from gemstead.weights.model_file import write_model_folder, write_model_gguf
from gemstead.weights.store import open_store
from support.weight_files import numbered_vocabulary, random_tensors, save_gguf

TINY = VARIANTS["tiny-e2b"]
ALL = [VARIANTS[name] for name in VARIANTS if name.startswith("tiny")]
ALL += [DRAFTERS[name] for name in DRAFTERS if name.startswith("tiny")]


@pytest.mark.parametrize("spec", ALL, ids=lambda spec: spec.name)
@pytest.mark.parametrize("format_name", ["f32", "bf16", "q4_0"])
def test_every_tiny_model_survives_a_gguf(tmp_path: Path, spec, format_name: str) -> None:
    tensors = random_tensors(spec)
    write_model_gguf(tmp_path / "m.gguf", spec, tensors, format_name)
    with open_store(tmp_path / "m.gguf") as store:
        assert store.spec == spec
        assert {t.format for t in store.tensors.values()} <= {"f32", "i32", format_name}
        bound = {"f32": 0, "bf16": 0.02, "q4_0": 0.5}[format_name]
        for name, tensor in store.tensors.items():
            got = tensor.int64() if tensor.format == "i32" else tensor.float32()
            assert np.abs(got - tensors[name]).max() <= bound


def test_a_models_format_is_that_of_its_layers(tmp_path: Path) -> None:
    tensors = random_tensors(TINY)
    formats = {name: "q8_0" if name.startswith("embed") else "q4_0" for name in tensors}
    formats = {name: kind for name, kind in formats.items() if tensors[name].ndim > 1}
    write_model_gguf(tmp_path / "m.gguf", TINY, tensors, formats)
    with open_store(tmp_path / "m.gguf") as store:
        assert store.tensors["embed_tokens"].format == "q8_0"
        assert store.main_format == "q4_0"


@pytest.mark.parametrize("spec", ALL, ids=lambda spec: spec.name)
def test_every_tiny_model_survives_a_folder(tmp_path: Path, spec) -> None:
    tensors = random_tensors(spec)
    write_model_folder(tmp_path, spec, tensors, "f32")
    with open_store(tmp_path) as store:
        assert replace(store.spec, name=spec.name) == spec
        for name, tensor in store.tensors.items():
            np.testing.assert_array_equal(
                tensor.int64() if tensor.format == "i64" else tensor.float32(), tensors[name]
            )


def test_a_model_with_its_vocabulary_template_and_own_tokens(tmp_path: Path) -> None:
    spec = replace(TINY, tokens=TokenIds(bos=3, pad=4, eos=(1, 7, 9), suppressed=(11,)))
    vocabulary = numbered_vocabulary(spec.vocab_size)
    vocabulary = replace(vocabulary, special={"unknown": 5}, scores=[-float(i) for i in range(256)])
    write_model_gguf(
        tmp_path / "m.gguf",
        spec,
        random_tensors(spec),
        "q8_0",
        vocabulary=vocabulary,
        chat_template="{{ x }}",
        metadata={"general.license": "apache-2.0"},
    )
    with open_store(tmp_path / "m.gguf") as store:
        assert store.spec == spec
        assert store.chat_template == "{{ x }}"
        back = store.vocabulary()
        assert back is not None
        assert (back.tokens, back.types, back.merges) == (
            vocabulary.tokens,
            vocabulary.types,
            vocabulary.merges,
        )
        assert back.scores == vocabulary.scores
        assert back.special == {"bos": 3, "eos": 1, "padding": 4, "unknown": 5}
        assert store.source.metadata["general.license"] == "apache-2.0"


def test_formats_by_name(tmp_path: Path) -> None:
    write_model_gguf(tmp_path / "m.gguf", TINY, random_tensors(TINY), {"embed_tokens": "q8_0", "norm": "f16"})
    with open_store(tmp_path / "m.gguf") as store:
        assert store.tensors["embed_tokens"].format == "q8_0"
        assert store.tensors["norm"].format == "f16"
        assert store.tensors["layers.0.mlp.up_proj"].format == "f32"


def test_a_store_is_copied_or_converted(tmp_path: Path) -> None:
    """Tensors that keep their format are copied byte for byte; the others go through float32."""
    save_gguf(tmp_path / "a.gguf", TINY, "q8_0")
    with open_store(tmp_path / "a.gguf") as first:
        write_model_gguf(tmp_path / "b.gguf", TINY, first.tensors, "q8_0")
        write_model_gguf(tmp_path / "c.gguf", TINY, first.tensors, "bf16")
        write_model_folder(tmp_path, TINY, first.tensors, "f32")
        with open_store(tmp_path / "b.gguf") as same, open_store(tmp_path / "c.gguf") as other:
            for name, tensor in first.tensors.items():
                assert same.tensors[name].raw()[0].tobytes() == tensor.raw()[0].tobytes()
                np.testing.assert_allclose(other.tensors[name].float32(), tensor.float32(), rtol=2**-8)
    drafter = DRAFTERS["tiny-e2b"]
    save_gguf(tmp_path / "d.gguf", drafter)
    with open_store(tmp_path / "d.gguf") as store:
        (tmp_path / "d").mkdir()
        write_model_folder(tmp_path / "d", drafter, store.tensors, "bf16")
        with open_store(tmp_path / "d") as back:
            name = "masked_embedding.token_ordering"
            np.testing.assert_array_equal(back.tensors[name].int64(), store.tensors[name].int64())


def test_what_is_refused(tmp_path: Path) -> None:
    path, tensors = tmp_path / "m.gguf", random_tensors(TINY)
    wrong = {**tensors, "norm": np.zeros(3, np.float32), "surprise": np.zeros(3, np.float32)}
    del wrong["embed_tokens"]
    says = r"embed_tokens is missing, surprise is unknown, norm has the shape \[3\] instead of \[64\]"
    with pytest.raises(WeightsError, match=says):
        write_model_gguf(path, TINY, wrong)
    with pytest.raises(WeightsError, match="'q5_x'"):
        write_model_gguf(path, TINY, tensors, "q5_x")
    with pytest.raises(WeightsError, match="255 tokens, 255 types"):
        write_model_gguf(path, TINY, tensors, vocabulary=numbered_vocabulary(255))
    huge = {**tensors, "embed_tokens": np.full((256, 64), 1e9, np.float32)}
    with pytest.raises(WeightsError, match="magnitude 1e"):
        write_model_gguf(path, TINY, huge, "q4_0")
    assert list(tmp_path.iterdir()) == []


def test_a_spec_the_container_cannot_say(tmp_path: Path) -> None:
    tensors = random_tensors(TINY)
    strange = replace(TINY, size_class="large")
    with pytest.raises(WeightsError, match="GGUF cannot say its size_class"):
        write_model_gguf(tmp_path / "m.gguf", strange, tensors)
    with pytest.raises(WeightsError, match=r"config.json cannot say its size_class"):
        write_model_folder(tmp_path, strange, tensors)
    assert list(tmp_path.iterdir()) == []
