"""open_store on whole models of every kind: spec, tensors, what stands beside them, and what it refuses."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import gguf
import numpy as np
import pytest
from gguf import GGMLQuantizationType, GGUFWriter

from gemstead.errors import WeightsError
from gemstead.spec.describe import metadata_of, rope_freqs_of
from gemstead.spec.model import ModelSpec
from gemstead.spec.tensors import TensorSpec, text_tensors
from gemstead.spec.variants import DRAFTERS, VARIANTS
from gemstead.weights import bind as bind_module
from gemstead.weights.formats import TABLE
from gemstead.weights.gguf import read_gguf
from gemstead.weights.gguf_write import write_gguf
from gemstead.weights.model_file import write_model_gguf
from gemstead.weights.store import Store, open_store
from gemstead.weights.tensor import Tensor
from gemstead.weights.writing import entry_from_array
from support.blocks import random_blocks
from support.weight_files import numbered_vocabulary, random_tensors, save_folder, save_gguf, split_folder

TINY = VARIANTS["tiny-e2b"]


def assert_holds(store: Store, want: dict[str, np.ndarray]) -> None:
    """The store has exactly these tensors, with these values."""
    assert set(store.tensors) == set(want)
    for name, tensor in store.tensors.items():
        got = tensor.int64() if want[name].dtype == np.int64 else tensor.float32()
        np.testing.assert_array_equal(got, want[name])


def test_a_gguf(tmp_path: Path) -> None:
    want = save_gguf(tmp_path / "m.gguf", TINY)
    with open_store(tmp_path / "m.gguf") as store:
        assert (store.kind, store.spec, store.path) == ("gguf", TINY, tmp_path / "m.gguf")
        assert_holds(store, want)
        assert store.total_bytes == sum(value.nbytes for value in want.values())
        assert store.vocabulary() == numbered_vocabulary(TINY.vocab_size)
        assert (store.chat_template, store.tokenizer_json) == (None, None)
    with pytest.raises(WeightsError, match="has been closed"):
        store.tensors["norm"].float32()


def test_a_folder_of_safetensors(tmp_path: Path) -> None:
    want = save_folder(tmp_path / "tiny-e2b", TINY)
    (tmp_path / "tiny-e2b" / "tokenizer.json").write_text("{}")
    (tmp_path / "tiny-e2b" / "chat_template.jinja").write_text("{{ 1 }}")
    for path in ("", "config.json", "model.safetensors"):
        with open_store(tmp_path / "tiny-e2b" / path) as store:
            assert (store.kind, store.spec) == ("safetensors", TINY)
            assert_holds(store, want)
            assert store.tokenizer_json == tmp_path / "tiny-e2b" / "tokenizer.json"
            assert (store.chat_template, store.vocabulary()) == ("{{ 1 }}", None)


def test_shards_by_folder_index_or_any_one_of_them(tmp_path: Path) -> None:
    folder = tmp_path / "m"
    want = save_folder(folder, TINY)
    shards = split_folder(folder, 3)
    for path in (folder, folder / "model.safetensors.index.json", *shards):
        with open_store(path) as store:
            assert_holds(store, want)


@pytest.mark.parametrize("name", ["tiny-e2b", "tiny-12b"])
def test_drafters(tmp_path: Path, name: str) -> None:
    spec = DRAFTERS[name]
    want = save_gguf(tmp_path / "d.gguf", spec)
    with open_store(tmp_path / "d.gguf") as store:
        assert store.spec == spec
        assert_holds(store, want)
    want = save_folder(tmp_path / spec.name, spec)
    with open_store(tmp_path / spec.name) as store:
        assert store.spec == spec
        assert_holds(store, want)


def widened(spec: ModelSpec) -> ModelSpec:
    """The same model with every matrix row a multiple of 256 values, as K formats need."""
    layers = []
    for layer in spec.layers:
        a = layer.attention
        head_dim = 64 if a.kind == "sliding" else 128
        pairs = head_dim // (2 if a.kind == "sliding" else 8)
        attention = replace(a, head_dim=head_dim, rope_pairs=pairs)
        moe = layer.moe and replace(layer.moe, intermediate_size=256)
        layers.append(replace(layer, attention=attention, intermediate_size=256, moe=moe))
    return replace(spec, hidden_size=256, layers=tuple(layers))


@pytest.mark.parametrize("name", ["q4_0", "q8_0", "q5_1", "q4_k", "q6_k", "q2_k", "q3_k", "iq4_nl", "iq4_xs"])
@pytest.mark.parametrize("variant", ["tiny-e4b", "tiny-26b"])
def test_a_gguf_of_the_gguf_package(tmp_path: Path, variant: str, name: str) -> None:
    """Random blocks; split experts, unused K/V of shared layers and a tied head, as converters leave them."""
    spec = VARIANTS[variant]
    if TABLE[name].block == 256:
        spec = widened(VARIANTS["tiny-26b"])
    writer = GGUFWriter(tmp_path / "m.gguf", "gemma4")
    for key, value in metadata_of(spec).items():
        if key != "general.architecture":
            add(writer, key, value)
    writer.add_tensor("rope_freqs.weight", np.array(rope_freqs_of(spec), np.float32))
    want = {row.name: add_random(writer, row, name) for row in text_tensors(spec)}
    for layer in (layer for layer in spec.layers if not layer.owns_kv):
        writer.add_tensor(f"blk.{layer.index}.attn_k.weight", np.zeros((4, 64), np.float32))
    writer.add_tensor("output.weight", np.zeros((4, 64), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with open_store(tmp_path / "m.gguf") as store:
        assert store.spec.layers == spec.layers
        assert_holds(store, want)


def add_random(writer: GGUFWriter, row: TensorSpec, name: str) -> np.ndarray:
    """Write one tensor (in the last of its alternative spellings); its values, as the package reads them."""
    names = row.gguf[-1]
    shape = (*row.shape[:-2], row.shape[-2] // len(names), row.shape[-1]) if len(names) > 1 else row.shape
    fmt = TABLE[name if row.may_quantize else "f32"]
    read = []
    for number, part in enumerate(names):
        if fmt.name == "f32":
            raw = np.random.default_rng(0).normal(size=shape).astype(np.float32).view(np.uint8)
        else:
            count = int(np.prod(shape)) // fmt.block
            raw = random_blocks(fmt.name, count, seed=number).reshape(*shape[:-1], fmt.row_bytes(shape[-1]))
        qtype = GGMLQuantizationType(fmt.ggml_type)
        writer.add_tensor(part, raw, raw_dtype=qtype)
        read.append(gguf.quants.dequantize(raw, qtype).reshape(shape))
    return np.concatenate(read, axis=-2) if len(read) > 1 else read[0]


def add(writer: GGUFWriter, key: str, value: object) -> None:
    """One metadata value with the type a converter gives it."""
    if isinstance(value, bool):
        writer.add_bool(key, value)
    elif isinstance(value, int):
        writer.add_uint32(key, value)
    elif isinstance(value, float):
        writer.add_float32(key, value)
    else:
        writer.add_array(key, value)


def test_every_fault_is_listed_at_once(tmp_path: Path) -> None:
    tensors = random_tensors(TINY)
    entries = []
    for row in text_tensors(TINY):
        if row.name == "layers.0.mlp.up_proj" or row.name == "norm":
            continue
        values = tensors[row.name]
        if row.name == "layers.1.mlp.up_proj":
            values = values[:-1]
        name = "i32" if row.name == "layers.2.layer_scalar" else "f32"
        entries.append(entry_from_array(row.gguf[0][0], values, name))
    entries.append(entry_from_array("blk.0.attn_qkv.weight", np.zeros((2, 2)), "f32"))
    entries.append(entry_from_array("blk.0.mystery.weight", np.zeros((2, 2)), "f32"))
    entries.append(entry_from_array("rope_freqs.weight", np.array(rope_freqs_of(TINY)), "f32"))
    write_gguf(tmp_path / "m.gguf", metadata_of(TINY), entries)
    with pytest.raises(WeightsError) as caught:
        open_store(tmp_path / "m.gguf")
    message = str(caught.value)
    for part in (
        "6 faults",
        "missing: norm",
        "missing: layers.0.mlp.up_proj",
        "layers.1.mlp.up_proj has the shape [95, 64], the model needs [96, 64]",
        "layers.2.layer_scalar is i32; weights are needed",
        "unknown: blk.0.attn_qkv.weight is a fused query/key/value matrix",
        "unknown: blk.0.mystery.weight",
    ):
        assert part in message


def test_an_ordering_that_leaves_the_vocabulary(tmp_path: Path) -> None:
    spec = DRAFTERS["tiny-e2b"]
    tensors = random_tensors(spec)
    tensors["masked_embedding.token_ordering"][3] = spec.vocab_size
    write_model_gguf(tmp_path / "d.gguf", spec, tensors)
    with pytest.raises(WeightsError, match="ids from 0 to 256 for a vocabulary of 256"):
        open_store(tmp_path / "d.gguf")


def test_an_ordering_too_long_to_be_real(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bind_module, "_READ_BYTES", 1000)
    write_model_gguf(tmp_path / "d.gguf", DRAFTERS["tiny-e2b"], random_tensors(DRAFTERS["tiny-e2b"]))
    with pytest.raises(WeightsError, match="token_ordering takes 1024 bytes; at most 1000"):
        open_store(tmp_path / "d.gguf")


def config_with(folder: Path, **changes: object) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changes))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"model_type": "gemma3_text"}, "'gemma3_text'; gemstead runs Gemma 4 only"),
        ({"model_type": None}, "no model type"),
        (
            {"quantization_config": {"quant_method": "compressed-tensors"}},
            "by 'compressed-tensors'",
        ),
        ({"quantization_config": {"quant_method": "bitsandbytes"}}, "quantized by 'bitsandbytes'"),
        ({"hidden_size": 66}, "shape"),
        ({"surprise": 1}, "surprise"),
        (
            {"enable_moe_block": True, "expert_intermediate_size": [], "moe_intermediate_size": 3},
            "same width",
        ),
    ],
)
def test_configs_of_other_models(tmp_path: Path, changes: dict[str, object], says: str) -> None:
    folder = tmp_path / "m"
    save_folder(folder, TINY)
    config_with(folder, **changes)
    with pytest.raises(WeightsError, match=says):
        open_store(folder)


def test_templates_inside_tokenizer_config(tmp_path: Path) -> None:
    folder = tmp_path / "m"
    save_folder(folder, TINY)
    named = [{"name": "tools", "template": "B"}, {"name": "default", "template": "A"}]
    for template, want in (("A", "A"), (named, "A"), (3, None), (named[:1], None)):
        (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": template}))
        with open_store(folder) as store:
            assert store.chat_template == want
    (folder / "chat_template.jinja").write_bytes(b"x" * (1 << 20) + b"y")
    with pytest.raises(WeightsError, match="1048577 bytes; at most 1048576 are believable"):
        open_store(folder)
    (folder / "chat_template.jinja").write_bytes(b"\xff")
    with pytest.raises(WeightsError, match="cannot read"):
        open_store(folder)


def test_generation_config_counts(tmp_path: Path) -> None:
    folder = tmp_path / "m"
    save_folder(folder, TINY)
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [1, 5]}))
    with open_store(folder) as store:
        assert store.spec.tokens.eos == (1, 5)
    (folder / "generation_config.json").write_text("[]")
    with pytest.raises(WeightsError, match="not an object"):
        open_store(folder)


@pytest.mark.parametrize(
    ("metadata", "says"),
    [
        ({"general.architecture": "clip"}, "image and sound side"),
        ({"general.architecture": "gemma3"}, "'gemma3'; gemstead runs Gemma 4 only"),
        ({"general.architecture": 4}, "architecture 4;"),
        ({}, "architecture None;"),
        ({"general.architecture": "gemma4", "general.type": "adapter"}, "LoRA adapter"),
        ({"general.architecture": "gemma4"}, "only a vocabulary"),
    ],
)
def test_ggufs_of_other_kinds(tmp_path: Path, metadata: dict[str, str], says: str) -> None:
    write_gguf(tmp_path / "m.gguf", metadata, [])
    with pytest.raises(WeightsError, match=says):
        open_store(tmp_path / "m.gguf")


def test_ggufs_whose_few_tensors_are_wrong(tmp_path: Path) -> None:
    keys = {**metadata_of(TINY)}
    odd = entry_from_array("token_embd.weight", np.zeros(4), "f32")
    write_gguf(tmp_path / "m.gguf", keys, [odd])
    with pytest.raises(WeightsError, match=r"token_embd.weight must have two axes"):
        open_store(tmp_path / "m.gguf")
    embedding = entry_from_array("token_embd.weight", np.zeros((256, 64)), "f32")
    freqs = entry_from_array("rope_freqs.weight", np.zeros((2, 16)), "f32")
    write_gguf(tmp_path / "m.gguf", keys, [embedding, freqs])
    with pytest.raises(WeightsError, match=r"rope_freqs.weight has the shape"):
        open_store(tmp_path / "m.gguf")


def test_a_gguf_beside_an_encoder_file(tmp_path: Path) -> None:
    save_gguf(tmp_path / "m.gguf", TINY)
    shutil.copy(tmp_path / "m.gguf", tmp_path / "mmproj-m.gguf")
    with open_store(tmp_path) as store:
        assert store.spec == TINY


def test_slices_of_a_large_table_cost_only_themselves(tmp_path: Path, rss_mb: Callable[[], float]) -> None:
    """Rows of the true per-layer table (262,144 x 8,960 in q4_0 is 1.3 GB) without reading the rest."""
    blocks, rows = 8960 // 32, 262_144
    write_gguf(tmp_path / "m.gguf", {}, [entry_from_array("t", np.zeros((1, 8960)), "q4_0")])
    raw = (tmp_path / "m.gguf").read_bytes()
    at = raw.index(b"t" + (2).to_bytes(4, "little")) + 1 + 4 + 8
    with (tmp_path / "m.gguf").open("r+b") as file:
        file.seek(at)
        file.write(rows.to_bytes(8, "little"))
        file.truncate(len(raw) + blocks * 18 * rows)  # a hole: takes no space on disk
    source = read_gguf(tmp_path / "m.gguf")
    tensor = Tensor("t", source.tensors["t"].shape, [source.tensors["t"]])
    assert tensor.shape == (rows, 8960)
    before = rss_mb()
    assert tensor.float32(200_000, 200_100).shape == (100, 8960)
    assert tensor.rows([5, 262_143]).shape == (2, 8960)
    assert rss_mb() - before < 50
    source.close()


def test_a_vocabulary_that_contradicts_itself(tmp_path: Path) -> None:
    tensors, vocabulary = random_tensors(TINY), numbered_vocabulary(TINY.vocab_size)
    wrong = {"tokenizer.ggml.token_type": [1, 1]}
    write_model_gguf(tmp_path / "m.gguf", TINY, tensors, vocabulary=vocabulary, metadata=wrong)
    with pytest.raises(WeightsError, match="token_type has 2 entries for 256 tokens"):
        open_store(tmp_path / "m.gguf")
