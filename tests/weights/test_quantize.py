"""Models written again in other formats: what survives, what is reported, what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from gemstead import pebble
from gemstead.errors import WeightsError
from gemstead.spec.variants import DRAFTERS, VARIANTS
from gemstead.weights import quantize as module
from gemstead.weights.gguf import raw_metadata
from gemstead.weights.gguf_write import Number, Raw, write_gguf
from gemstead.weights.mixture import MIXTURES
from gemstead.weights.quantize import Conversion, Texts
from gemstead.weights.store import open_store
from gemstead.weights.writing import Entry, entry_from_array
from support.weight_files import numbered_vocabulary, save_folder, save_gguf

TINY = VARIANTS["tiny-e2b"]


def convert(source: Path, target: Path, mixture: str, *overrides, **more):
    with open_store(source) as store:
        return Conversion(store, target, mixture, overrides).run(**more)


@pytest.mark.parametrize("variant", ["tiny-e2b", "tiny-26b"])
@pytest.mark.parametrize("name", MIXTURES)
def test_every_format_of_every_kind(tmp_path: Path, variant: str, name: str) -> None:
    tensors = save_gguf(tmp_path / "a.gguf", VARIANTS[variant])
    reports = {r.name: r for r in convert(tmp_path / "a.gguf", tmp_path / "b.gguf", name, threads=2)}
    with open_store(tmp_path / "b.gguf") as store:
        assert store.spec == VARIANTS[variant]
        assert store.source.metadata["general.file_type"] == MIXTURES[name].file_type
        for key, tensor in store.tensors.items():
            report, want = reports[key], tensors[key]
            error = tensor.float32() - want
            assert report.after == tensor.format
            assert report.after_bytes == tensor.nbytes
            assert report.largest_error == pytest.approx(np.abs(error).max(), rel=1e-5)
            relative = np.sqrt((error**2).mean() / (want**2).mean())
            assert report.relative_rmse == pytest.approx(relative, rel=1e-4)
            assert relative < 0.12
    assert list(tmp_path.glob(".*")) == []


def test_every_key_of_a_gguf_survives_byte_for_byte(tmp_path: Path) -> None:
    save_gguf(tmp_path / "a.gguf", TINY)
    odd = {"x.u64": Number("Q", 7), "x.f64": Number("d", 0.1), "x.i8": Number("b", -3), "x.text": "é"}
    with open_store(tmp_path / "a.gguf") as store:
        keys = {key: Raw(data) for key, data in raw_metadata(store.source).items()}
        stored = store.source.tensors.values()
        entries = [Entry(t.name, t.shape, t.format, lambda t=t: [t.raw()]) for t in stored]
        entries.append(entry_from_array("v.patch_embd.weight", np.arange(8.0).reshape(2, 4), "f32"))
        write_gguf(tmp_path / "b.gguf", {**keys, **odd, "split.count": 1}, entries)
    convert(tmp_path / "b.gguf", tmp_path / "c.gguf", "q8_0")
    with open_store(tmp_path / "b.gguf") as before, open_store(tmp_path / "c.gguf") as after:
        ours = {"general.file_type", "general.quantization_version", "general.alignment", "split.count"}
        kept = {key: data for key, data in raw_metadata(before.source).items() if key not in ours}
        assert {k: d for k, d in raw_metadata(after.source).items() if k not in ours} == kept
        assert set(odd) <= set(kept)
        assert after.vocabulary() == before.vocabulary()
        # The tensors that the text forward does not read are there too, as they were.
        other = after.source.tensors["v.patch_embd.weight"].raw()
        np.testing.assert_array_equal(other.view("<f4"), np.arange(8.0).reshape(2, 4))


def test_what_keeps_its_format_is_copied(tmp_path: Path) -> None:
    reports = convert(pebble.path(), tmp_path / "b.gguf", "q8_0", ("*per_layer_model_projection", "q8_0"))
    assert {r.relative_rmse for r in reports} == {0.0}
    with open_store(pebble.path()) as before, open_store(tmp_path / "b.gguf") as after:
        for name, tensor in before.tensors.items():
            np.testing.assert_array_equal(after.tensors[name].raw()[0], tensor.raw()[0])


def test_a_folder_becomes_a_gguf_with_its_texts(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    save_folder(folder, TINY, "bf16")
    (folder / "chat_template.jinja").write_text("{{ x }}")
    (folder / "generation_config.json").write_text('{"temperature": 0.7, "top_k": 40}')
    vocabulary = numbered_vocabulary(TINY.vocab_size)
    convert(folder, tmp_path / "m.gguf", "q4_0", texts=Texts(vocabulary))
    with open_store(tmp_path / "m.gguf") as store:
        assert store.spec.layers == TINY.layers
        assert store.chat_template == "{{ x }}"
        assert store.sampling == {"temperature": 0.7, "top_k": 40}
        assert store.vocabulary().tokens == vocabulary.tokens
        assert store.tensors["norm"].format == "f32"


def test_a_gguf_becomes_a_folder(tmp_path: Path) -> None:
    tensors = save_gguf(tmp_path / "a.gguf", TINY)
    convert(tmp_path / "a.gguf", tmp_path / "out", "bf16", texts=Texts(files={"tokenizer.json": b"{}"}))
    with open_store(tmp_path / "out") as store:
        assert store.spec.layers == TINY.layers
        assert {t.format for t in store.tensors.values()} == {"bf16"}
        got = store.tensors["embed_tokens"].float32()
        np.testing.assert_allclose(got, tensors["embed_tokens"], rtol=2**-8)
    assert (tmp_path / "out/tokenizer.json").read_bytes() == b"{}"
    assert json.loads((tmp_path / "out/config.json").read_text())["dtype"] == "bfloat16"


def test_a_folder_becomes_a_folder_with_all_its_files(tmp_path: Path) -> None:
    save_folder(tmp_path / "a", TINY, "f32")
    (tmp_path / "a/tokenizer.json").write_text("{}")
    (tmp_path / "a/notes.bin").write_text("x")
    config = json.loads((tmp_path / "a/config.json").read_text())
    (tmp_path / "a/config.json").write_text(json.dumps({**config, "torch_dtype": "float32"}))
    convert(tmp_path / "a", tmp_path / "b", "f16")
    names = {path.name for path in (tmp_path / "b").iterdir()}
    assert names == {"config.json", "model.safetensors", "tokenizer.json"}
    assert json.loads((tmp_path / "b/config.json").read_text()) == {**config, "torch_dtype": "float16"}


def test_a_drafter_keeps_its_order_of_tokens(tmp_path: Path) -> None:
    tensors = save_gguf(tmp_path / "a.gguf", DRAFTERS["tiny-e2b"])
    convert(tmp_path / "a.gguf", tmp_path / "b.gguf", "q8_0")
    convert(tmp_path / "a.gguf", tmp_path / "c", "f16")
    for made in ("b.gguf", "c"):
        with open_store(tmp_path / made) as store:
            name = "masked_embedding.token_ordering"
            np.testing.assert_array_equal(store.tensors[name].int64(), tensors[name])


def test_importance_is_used(tmp_path: Path) -> None:
    tensors = save_gguf(tmp_path / "a.gguf", VARIANTS["tiny-26b"])
    importance = {}
    for name in ("layers.0.mlp.up_proj", "layers.0.experts.gate_up_proj"):
        shape = tensors[name].shape
        importance[name] = np.ones((*shape[:-2], shape[-1]), np.float32)
        importance[name][..., :8] = 1000
    convert(tmp_path / "a.gguf", tmp_path / "b.gguf", "q4_0")
    convert(tmp_path / "a.gguf", tmp_path / "c.gguf", "q4_0", importance=importance)
    with open_store(tmp_path / "b.gguf") as plain, open_store(tmp_path / "c.gguf") as weighed:
        for name in importance:
            before, after = (
                np.square(store.tensors[name].float32() - tensors[name])[..., :8].mean()
                for store in (plain, weighed)
            )
            assert after < 0.8 * before


def test_no_more_than_a_few_pieces_are_ahead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tensor is taken in piece by piece, and each piece is heard of."""
    save_gguf(tmp_path / "a.gguf", TINY)
    monkeypatch.setattr("gemstead.weights.tensor._CHUNK_VALUES", 1024)
    monkeypatch.setattr(module, "_COPIED_BYTES", 1024)
    heard: list[int] = []
    with open_store(tmp_path / "a.gguf") as store:
        conversion = Conversion(store, tmp_path / "b.gguf", "q4_0")
        conversion.run(threads=2, seen=heard.append)
        assert sum(heard) == conversion.before_bytes
    assert max(heard) <= 4 * 1024
    convert(tmp_path / "a.gguf", tmp_path / "c.gguf", "q4_0")
    assert (tmp_path / "b.gguf").read_bytes() == (tmp_path / "c.gguf").read_bytes()


@pytest.mark.parametrize("target", ["b.gguf", "b"])
def test_an_interruption_leaves_nothing(tmp_path: Path, target: str) -> None:
    save_gguf(tmp_path / "a.gguf", TINY)
    heard = []

    def stop(count: int) -> None:
        heard.append(count)
        if len(heard) == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert(tmp_path / "a.gguf", tmp_path / target, "bf16", seen=stop)
    assert [p.name for p in tmp_path.iterdir()] == ["a.gguf"]


def test_what_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "a.gguf"
    save_gguf(source, TINY)
    (tmp_path / "link.gguf").symlink_to(source)
    for target, name, message in (
        (source, "q4_0", "is the source itself"),
        (tmp_path / "link.gguf", "q4_0", "is the source itself"),
        (tmp_path, "f16", "is there already"),
        (tmp_path / "b", "q4_0", r"holds f32, f16, bf16, and q4_0 .*b\.gguf"),
        (tmp_path / "b.safetensors", "f16", "name a folder, such as .*/b"),
        (tmp_path / "no/b.gguf", "q4_0", "there is no folder .*no; make it first"),
        (tmp_path / "b.gguf", "q4", "no format 'q4'.*q4_k_m"),
    ):
        with pytest.raises(WeightsError, match=message):
            convert(source, target, name)
    with pytest.raises(WeightsError, match="and q8_0 is none of them"):
        convert(source, tmp_path / "b", "f16", ("embed_tokens", "q8_0"))

    class Usage:
        free = 1000

    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: Usage)
    with pytest.raises(WeightsError, match="there is no room for"):
        convert(source, tmp_path / "b.gguf", "q4_0")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.gguf", "link.gguf"]


def test_a_value_that_no_format_holds_is_named(tmp_path: Path) -> None:
    save_gguf(tmp_path / "a.gguf", VARIANTS["tiny-31b"])
    raw = bytearray((tmp_path / "a.gguf").read_bytes())
    with open_store(tmp_path / "a.gguf") as store:
        at = store.tensors["layers.0.mlp.up_proj"].parts[0].start
        assert store.total_bytes < len(raw)
    raw[at : at + 4] = np.float32(1e30).tobytes()
    (tmp_path / "a.gguf").write_bytes(raw)
    with pytest.raises(WeightsError, match=r"blk.0.ffn_up.weight: cannot write a value of magnitude 1e\+30"):
        convert(tmp_path / "a.gguf", tmp_path / "b.gguf", "q4_0")
