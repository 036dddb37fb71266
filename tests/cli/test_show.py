"""`gemstead show` on models written here."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest

from gemstead.backend.native.packing import repacking_error
from gemstead.cli.show import amount, kv_line, size
from gemstead.spec.model import ModelSpec
from gemstead.spec.tensors import drafter_tensors, text_tensors
from gemstead.spec.variants import DRAFTERS, VARIANTS
from gemstead.weights.model_file import write_model_folder, write_model_gguf
from support.vocab import REAL_VOCABULARY, gguf_metadata


def write(path, spec, formats="f32", **options):
    """A model of that spec with random weights."""
    rng = np.random.default_rng(0)
    rows = text_tensors(spec) if isinstance(spec, ModelSpec) else drafter_tensors(spec)
    arrays = {
        row.name: rng.permutation(row.shape[0]).astype(np.int32)
        if row.integer
        else rng.standard_normal(row.shape, dtype=np.float32)
        for row in rows
    }
    write_model_gguf(path, spec, arrays, formats, **options)
    return path


def test_a_small_model(gem, tmp_path):
    path = write(tmp_path / "m.gguf", VARIANTS["tiny-e2b"], "q8_0")
    ran = gem("show", str(path))
    spec = VARIANTS["tiny-e2b"]
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.startswith("tiny-e2b  (gguf, ")
    assert str(path) in ran.out
    for fact in (
        f"{spec.num_layers}: ",
        "share the K/V of other layers",
        f"{spec.vocab_size:,} tokens",
        "per-layer embedding",
        "none in the file; gemstead uses its own",
        "q8_0",
        "total",
    ):
        assert fact in ran.out


def test_experts_and_values_from_keys(gem, tmp_path):
    out = gem("show", str(write(tmp_path / "m.gguf", VARIANTS["tiny-26b"]))).out
    moe = VARIANTS["tiny-26b"].layers[0].moe
    assert moe is not None
    assert f"{moe.top_k_experts} of {moe.num_experts}, width {moe.intermediate_size}" in out
    assert "values taken from keys" in out


def test_what_a_context_takes():
    assert kv_line(VARIANTS["e2b"]) == (
        "f16: 6.1 kB a token, 6.3 MB for windows; q8_0: 3.3 kB a token, 3.3 MB for windows"
    )
    assert kv_line(VARIANTS["12b"]).startswith("f16: 8.2 kB a token")  # values alone: else 16.4
    assert "q8_0" not in kv_line(VARIANTS["tiny-e2b"])  # heads of 16: no whole block


def test_a_drafter(gem, tmp_path):
    out = gem("show", str(write(tmp_path / "d.gguf", DRAFTERS["tiny-12b"]))).out
    assert "drafter" in out


def test_the_template_is_named_and_an_unknown_one_is_a_warning(gem, tmp_path):
    path = write(tmp_path / "m.gguf", VARIANTS["tiny-e4b"], chat_template="{{ '<|turn>' }}")
    said = "warning: an unknown Gemma 4 template (sha256 "
    assert said in (out := gem("show", str(path)).out)
    assert "prompts follow Google's newest (generation v4)" in out
    if REAL_VOCABULARY.exists():
        template = gguf_metadata()["tokenizer.chat_template"]
        path = write(tmp_path / "n.gguf", VARIANTS["tiny-e4b"], chat_template=template)
        assert "Google's template of 2026-04-02 (generation v1)" in gem("show", str(path)).out


@pytest.mark.parametrize("where", ["chat_template.jinja", "tokenizer_config.json"])
def test_the_template_of_a_folder(gem, tmp_path, where):
    spec = VARIANTS["tiny-e2b"]
    arrays = {
        row.name: np.zeros(row.shape, np.int32 if row.integer else np.float32) for row in text_tensors(spec)
    }
    write_model_folder(tmp_path, spec, arrays)
    text = "{{ '<|turn>' }}"
    (tmp_path / where).write_text(text if where.endswith("jinja") else json.dumps({"chat_template": text}))
    assert "warning: an unknown Gemma 4 template" in gem("show", str(tmp_path)).out
    assert json.loads(gem("show", "--json", str(tmp_path)).out)["template"]["generation"] == "v4"


def test_json_adds_up(gem, tmp_path):
    path = write(tmp_path / "m.gguf", VARIANTS["tiny-e4b"], "q8_0", chat_template="{{ odd }}")
    data = json.loads(gem("show", "--json", str(path)).out)
    assert data["name"] == "tiny-e4b"
    assert data["kind"] == "gguf"
    assert data["spec"]["hidden_size"] == VARIANTS["tiny-e4b"].hidden_size
    assert data["template"]["known"] is False
    assert sum(group["bytes"] for group in data["groups"]) == data["total_bytes"]
    assert sum(tensor["bytes"] for tensor in data["tensors"]) == data["total_bytes"]
    assert {group["name"] for group in data["groups"]} == {
        "norms and scalars",
        "per-layer embeddings",
        "token embeddings",
        "attention",
        "mlp",
    }


def test_names_in_a_file_cannot_steer_the_terminal(gem, tmp_path):
    path = write(tmp_path / "m.gguf", VARIANTS["tiny-e2b"], metadata={"general.name": "a\x1b]0;x\x07b"})
    assert gem("show", str(path)).out.startswith("a]0;xb  (gguf")


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"", "model.gguf"), (b"GGUF", "model.gguf"), (b"hello" * 100, "model.gguf")],
)
def test_a_file_that_is_no_model(gem, tmp_path, content, said):
    path = tmp_path / "model.gguf"
    path.write_bytes(content)
    ran = gem("show", str(path))
    assert (ran.code, ran.out) == (1, "")
    assert ran.err.startswith("error: ")
    assert said in ran.err
    assert "Traceback" not in ran.err


def test_a_file_that_is_not_there(gem):
    ran = gem("show", "nothing.gguf")
    assert ran.code == 1
    assert "error: there is no model 'nothing.gguf'" in ran.err


def test_amounts():
    assert [size(n) for n in (0, 999, 7_900_000, 5e9, 5e13)] == [
        "0 bytes",
        "999 bytes",
        "7.9 MB",
        "5.0 GB",
        "50.0 TB",
    ]
    assert [amount(n) for n in (12, 12_300, 2_300_000, 26e9)] == ["12", "12.3 K", "2.3 M", "26.0 B"]


@pytest.mark.parametrize(
    ("kind", "least", "most"), [("q5_0", 0.0, 0.0), ("q5_1", 1e-3, 1e-2), ("q4_1", 1e-3, 1e-2)]
)
def test_formats_without_a_kernel_say_what_they_are_computed_as(gem, tmp_path, kind, least, most):
    path = str(write(tmp_path / "m.gguf", VARIANTS["tiny-e2b"], kind))
    (error,) = json.loads(gem("show", "--json", path).out)["repacked"].values()
    assert least <= error <= most
    assert f"computed as q8_0      {kind} ({100 * error:.2f}% off)" in gem("show", path).out


@pytest.mark.parametrize("kind", ["f32", "bf16", "q8_0", "q4_0"])
def test_formats_with_a_kernel_are_computed_as_they_are(gem, tmp_path, kind):
    path = str(write(tmp_path / "m.gguf", VARIANTS["tiny-e2b"], kind))
    assert json.loads(gem("show", "--json", path).out)["repacked"] == {}
    assert "computed as" not in gem("show", path).out


def test_values_that_are_no_numbers_do_not_stop_show(gem, tmp_path, monkeypatch):
    broken = SimpleNamespace(
        format="q4_1", shape=(64, 64), float32=lambda *_: np.full((64, 64), np.nan, "f4")
    )
    assert repacking_error(broken) is None
    path = str(write(tmp_path / "m.gguf", VARIANTS["tiny-e2b"], "q4_1"))
    monkeypatch.setattr("gemstead.cli.show.repacking_error", lambda _: None)
    assert list(json.loads(gem("show", "--json", path).out)["repacked"].values()) == [None]
    assert "q4_1 (unknown how far off)" in gem("show", path).out
