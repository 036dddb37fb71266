"""gemstead quantize: what a person sees, and what is left on the disk."""

from __future__ import annotations

import json

import numpy as np
import pytest

import gemstead
from gemstead import pebble
from gemstead.spec.variants import VARIANTS
from gemstead.weights import quantize as writing
from gemstead.weights.store import open_store
from support.weight_files import save_gguf


def test_a_smaller_pebble_still_counts(gem, tmp_path):
    target = tmp_path / "q4.gguf"
    ran = gem("quantize", "pebble", str(target), "--format", "Q4_0", "--embeddings", "q8_0", "--ple", "q5_0")
    assert ran.code == 0, ran.err
    first, *rest = ran.out.splitlines()
    assert first.startswith(f"{target}: 6.5 MB became ")
    assert any(line.split()[:1] == ["mlp"] and "q4_0" in line and "most in layers." in line for line in rest)
    assert "warning: the source holds q8_0 already" in ran.err
    with open_store(target) as store:
        assert store.tensors["embed_tokens"].format == "q8_0"
        assert store.tensors["embed_tokens_per_layer"].format == "q5_0"
    assert "408" in gem("run", str(target), "What is 17% of 2400?").out


def test_there_and_back_keeps_the_text_side(gem, tmp_path):
    folder, back = str(tmp_path / "folder"), str(tmp_path / "back.gguf")
    assert gem("quantize", "pebble", folder, "--format", "f32").code == 0
    assert gem("quantize", folder, back, "--format", "f32").code == 0
    text = "What is 17% of 2400? é 日本\n\n"
    with gemstead.open(backend="reference") as before:
        ids = before.tokenizer.encode(text)
        want = before.logits([2, *ids[:12]])
    for path in (folder, back):
        with gemstead.open(path, backend="reference") as model:
            assert model.tokenizer.encode(text) == ids
            assert model.tokenizer.control == before.tokenizer.control
            assert model.sampling == before.sampling
            assert np.abs(model.logits([2, *ids[:12]]) - want).max() < 1e-3


def test_json_with_calibration(gem, tmp_path):
    text = tmp_path / "text.txt"
    text.write_text("The weather in Paris. " * 40)
    ran = gem("quantize", "pebble", str(tmp_path / "m.gguf"), "--format", "q4_k_m", "--json",
              "--calibration", str(text), "--calibration-tokens", "100")  # fmt: skip
    found = json.loads(ran.out)
    assert found["calibrated"] is True
    assert found["after_bytes"] < found["before_bytes"]
    worst = max(found["tensors"], key=lambda tensor: tensor["relative_rmse"])
    assert 0.01 < worst["relative_rmse"] < 0.2
    assert "reading " in ran.err


def test_an_empty_calibration_text(gem, tmp_path):
    (tmp_path / "text.txt").write_text("")
    ran = gem("quantize", "pebble", str(tmp_path / "m.gguf"), "--format", "q4_0",
              "--calibration", str(tmp_path / "text.txt"))  # fmt: skip
    assert (ran.code, "holds no text" in ran.err) == (1, True)


def test_ctrl_c_leaves_nothing(gem, tmp_path, monkeypatch):
    save_gguf(tmp_path / "a.gguf", VARIANTS["tiny-e2b"])

    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("gemstead.cli.progress.Meter.__call__", stop)
    ran = gem("quantize", str(tmp_path / "a.gguf"), str(tmp_path / "b.gguf"), "--format", "q4_0")
    assert ran.code == 130
    assert [path.name for path in tmp_path.iterdir()] == ["a.gguf"]


def test_no_room(gem, tmp_path, monkeypatch):
    class Usage:
        free = 1000

    monkeypatch.setattr(writing.shutil, "disk_usage", lambda _: Usage)
    ran = gem("quantize", "pebble", str(tmp_path / "b.gguf"), "--format", "q4_0")
    assert ran.code == 1
    assert "there is no room for" in ran.err


@pytest.mark.parametrize("override", ["q8_0", "=q8_0", "norm="])
def test_an_override_without_a_pattern(gem, tmp_path, override):
    ran = gem("quantize", "pebble", str(tmp_path / "b.gguf"), "--format", "q4_0", "--tensor", override)
    assert ran.code == 2
    assert "has no PATTERN=FORMAT" in ran.err


def test_the_source_itself(gem, tmp_path):
    path = tmp_path / "p.gguf"
    path.write_bytes(pebble.path().read_bytes())
    ran = gem("quantize", str(path), str(path), "--format", "q4_0")
    assert "is the source itself" in ran.err
    assert path.read_bytes() == pebble.path().read_bytes()
