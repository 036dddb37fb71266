"""The public face with adapters: opened by name, asked for by each request."""

from __future__ import annotations

import numpy as np
import pytest
from tests.test_model import IDS, files, resized

import gemstead
from gemstead.errors import ConfigError, InputError
from gemstead.spec.variants import VARIANTS
from gemstead.types import Done, Message, SamplingParams, TextDelta
from support.adapters import adapter_arrays, save_adapter, write_adapter

__all__ = ["files"]  # the fixture


@pytest.fixture(scope="module")
def adapters(tmp_path_factory):
    """Two adapters of that model."""
    home, spec = tmp_path_factory.mktemp("adapters"), resized(VARIANTS["tiny-e2b"])
    return {name: save_adapter(home / name, spec, seed, lora_alpha=30) for seed, name in enumerate("ab")}


def test_each_request_names_its_adapter(files, adapters):
    greedy, messages = {"temperature": 0, "max_tokens": 8}, [Message.user("hi")]
    with (
        gemstead.open(files / "tiny.gguf", adapters=adapters) as model,
        gemstead.open(files / "tiny.gguf") as bare,
    ):
        assert (model.adapters, bare.adapters, model.note) == (("a", "b"), (), None)
        rows = [model.logits(IDS, adapter=name) for name in (None, "a", "b")]
        assert np.array_equal(rows[0], bare.logits(IDS))
        assert not np.allclose(rows[0], rows[1])
        assert not np.allclose(rows[1], rows[2])
        for name, row in zip((None, "a", "b"), rows, strict=True):
            first = model.generate(IDS, SamplingParams(temperature=0, max_tokens=1), adapter=name)
            assert first == [int(row[-1].argmax())]
        streams = [model.chat(messages, adapter=name, **greedy) for name in (None, "a", "b", None)]
        said = [[e for e in events if not isinstance(e, Done)] for events in map(list, streams)]
        assert said[0] == said[3] == [e for e in bare.chat(messages, **greedy) if not isinstance(e, Done)]
        assert said[1] != said[0] != said[2]
        text = "".join(e.text for e in said[1] if isinstance(e, TextDelta))
        assert model.ask("hi", adapter="a", tools=(), **greedy) == text
        with pytest.raises(InputError, match="no adapter 'c' here; open are a, b"):
            model.chat(messages, adapter="c")
        with pytest.raises(InputError, match="no adapter"):
            model.chat(messages, adapter=["a"])
        with pytest.raises(InputError, match="open are none: give adapters= when opening"):
            bare.logits(IDS, adapter="a")


@pytest.mark.parametrize("given", [["a"], {"": "a"}, {3: "a"}, {"a\n": "a"}])
def test_adapters_are_folders_by_name(files, given):
    with pytest.raises(ConfigError, match="give a mapping from names to folders"):
        gemstead.open(files / "tiny.gguf", adapters=given)


def test_what_an_adapter_changes_of_encoders_is_said(files, tmp_path):
    spec = resized(VARIANTS["tiny-e2b"])
    arrays = adapter_arrays(spec)
    arrays |= {
        f"base_model.model.model.vision_tower.x.lora_{side}.weight": np.ones((4, 4), "f") for side in "AB"
    }
    with gemstead.open(files / "tiny.gguf", adapters={"a": write_adapter(tmp_path / "a", arrays)}) as model:
        assert "what a changes of the encoders for images and sound is left out" in model.note


def test_adapters_may_be_replaced_on_disk_while_open(files, tmp_path):
    spec = resized(VARIANTS["tiny-e2b"])
    folder = save_adapter(tmp_path / "a", spec, 0, lora_alpha=30)
    for backend in ("reference", "auto"):
        with gemstead.open(files / "tiny.gguf", adapters={"a": folder}, backend=backend) as model:
            before = model.logits(IDS, adapter="a")
            (folder / "adapter_model.safetensors").write_bytes(b"gone")
            assert np.array_equal(model.logits(IDS, adapter="a"), before)
        save_adapter(folder, spec, 0, lora_alpha=30)


def test_embed():
    with gemstead.open() as model:
        vectors = model.embed(["one", "two", "one"])
        assert vectors.shape == (3, model.spec.hidden_size)
        assert (vectors[0] == vectors[2]).all()
        assert (model.embed("two") == vectors[1:2]).all()
        assert model.embed([]).shape == (0, model.spec.hidden_size)
        for bad, said in (([1], "of type int"), ([""], "nothing to embed")):
            with pytest.raises(InputError, match=said):
                model.embed(bad)
