"""Mutated weight files through open_store and every tensor: a WeightsError or a good model, nothing else.

Deterministic: each case is a seed. Mutations aim at headers (counts, lengths, offsets, names, JSON) and
at the rest; time and memory of every case are bounded.
"""

from __future__ import annotations

import json
import math
import resource
import shutil
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gemstead.errors import WeightsError
from gemstead.spec.describe import metadata_of
from gemstead.spec.variants import DRAFTERS, VARIANTS
from gemstead.weights.adapter import open_adapter
from gemstead.weights.gguf_write import write_gguf
from gemstead.weights.model_file import vocabulary_metadata
from gemstead.weights.store import open_store
from gemstead.weights.writing import Entry
from support.adapters import save_adapter
from support.weight_files import numbered_vocabulary, save_folder, save_gguf, split_folder

EXTREME = [0, 1, 2, 31, 255, 2**15, 2**16, 2**31 - 1, 2**31, 2**32 - 1, 2**62, 2**63 - 1, 2**63, 2**64 - 1]
# What a JSON header's numbers and strings are replaced with.
JSON_VALUES = [
    "0",
    "-1",
    "1e400",
    "9223372036854775808",
    "true",
    "null",
    '""',
    '"F16"',
    "[]",
    "{}",
    "[[1]]",
    "1.5",
    "9" * 5000,
]
JSON_FILES = (
    "config.json",
    "model.safetensors.index.json",
    "generation_config.json",
    "tokenizer_config.json",
)
ROUNDS = 25
CASES = 12  # mutations per round


def extreme_number(raw: bytearray, rng: np.random.Generator, head: int) -> None:
    """Overwrite four or eight bytes of the head with a number at some type's edge."""
    at = int(rng.integers(0, head))
    width = int(rng.choice([4, 8]))
    raw[at : at + width] = (EXTREME[rng.integers(len(EXTREME))] % 2 ** (8 * width)).to_bytes(width, "little")


def flipped_bits(raw: bytearray, rng: np.random.Generator, head: int) -> None:
    """Flip up to four bits of the head."""
    for at in rng.integers(0, head, rng.integers(1, 5)):
        raw[at] ^= 1 << int(rng.integers(8))


def random_bytes(raw: bytearray, rng: np.random.Generator, head: int) -> None:
    """Overwrite a run of the head, or just after it, with random bytes."""
    at, size = int(rng.integers(0, min(head + 40, len(raw)))), int(rng.integers(1, 40))
    raw[at : at + size] = rng.bytes(min(size, len(raw) - at))


def cut(raw: bytearray, rng: np.random.Generator, head: int) -> None:
    """Cut the file short, in the head or anywhere."""
    del raw[int(rng.integers(0, head if rng.random() < 0.5 else len(raw))) :]


def removed(raw: bytearray, rng: np.random.Generator, head: int) -> None:
    """Take a few bytes out of the head: everything after moves."""
    at = int(rng.integers(0, head))
    del raw[at : at + int(rng.integers(1, 20))]


def doubled(raw: bytearray, rng: np.random.Generator, head: int) -> None:
    """Repeat a run of the head in place."""
    at, size = int(rng.integers(0, head)), int(rng.integers(1, 200))
    raw[at:at] = raw[at : at + size]


def swapped(raw: bytearray, rng: np.random.Generator, head: int) -> None:
    """Copy a run of the head over another: names, types and offsets change places."""
    source, target = (int(rng.integers(0, max(1, head - 64))) for _ in range(2))
    size = int(rng.integers(4, 64))
    raw[target : target + size] = raw[source : source + size]


MUTATIONS: list[Callable[[bytearray, np.random.Generator, int], None]] = [
    extreme_number,
    extreme_number,
    flipped_bits,
    random_bytes,
    cut,
    removed,
    doubled,
    swapped,
]


def mutated_json(text: bytes, rng: np.random.Generator) -> bytes:
    """One JSON token replaced by another value, or a piece of the text doubled."""
    places = [i for i, c in enumerate(text) if chr(c) in '0123456789"tfn' and chr(text[i - 1]) in ":,[ "]
    if not places or rng.random() < 0.2:
        at, size = int(rng.integers(0, len(text))), int(rng.integers(1, 300))
        return text[:at] + text[at : at + size] + text[at:]
    at = places[rng.integers(len(places))]
    end = at + 1
    while end < len(text) and chr(text[end]) not in ",]}":
        end += 1
    return text[:at] + JSON_VALUES[rng.integers(len(JSON_VALUES))].encode() + text[end:]


def peak_mb() -> float:
    """The most memory this process ever held, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def assert_answered(path: Path) -> bool:
    """Opening and reading everything ends well or in a WeightsError with words; whether it ended well."""
    before, started = peak_mb(), time.perf_counter()
    message = None
    try:
        with open_store(path) as store:
            for tensor in store.tensors.values():
                tensor.raw()
                tensor.float32()
            store.vocabulary()
    except WeightsError as error:
        message = str(error)
    assert message is None or 0 < len(message) < 20_000
    assert time.perf_counter() - started < 2
    assert peak_mb() - before < 200
    return message is None


def gguf_head(raw: bytes) -> int:
    """Where the tensor data of a small GGUF begins, roughly: after the last tensor's name."""
    return raw.rindex(b"rope_freqs.weight") + 60


@pytest.mark.parametrize("seed", range(ROUNDS))
def test_mutated_ggufs(tmp_path: Path, seed: int) -> None:
    spec = [VARIANTS["tiny-e2b"], VARIANTS["tiny-26b"], DRAFTERS["tiny-e2b"]][seed % 3]
    path = tmp_path / "m.gguf"
    save_gguf(path, spec, ["q8_0", "q4_0"][seed % 2])
    good = path.read_bytes()
    head = gguf_head(good)
    for case in range(CASES):
        rng = np.random.default_rng([seed, case])
        raw = bytearray(good)
        for _ in range(int(rng.integers(1, 3))):
            MUTATIONS[rng.integers(len(MUTATIONS))](raw, rng, min(head, len(raw) - 1) or 1)
            if len(raw) < 100:
                break
        path.write_bytes(raw)
        assert_answered(path)


@pytest.mark.parametrize("seed", range(ROUNDS))
def test_mutated_safetensors(tmp_path: Path, seed: int) -> None:
    spec = [VARIANTS["tiny-e4b"], VARIANTS["tiny-12b"], DRAFTERS["tiny-e2b"]][seed % 3]
    folder = tmp_path / "m"
    save_folder(folder, spec, "bf16")
    path = folder / "model.safetensors"
    good = path.read_bytes()
    head = 8 + struct.unpack("<Q", good[:8])[0]
    for case in range(CASES):
        rng = np.random.default_rng([seed, case, 1])
        raw = bytearray(good)
        if case % 2:
            header = mutated_json(good[8:head], rng)
            raw = bytearray(struct.pack("<Q", len(header)) + header + good[head:])
        else:
            MUTATIONS[rng.integers(len(MUTATIONS))](raw, rng, head)
        path.write_bytes(raw)
        assert_answered(folder)


@pytest.mark.parametrize("seed", range(ROUNDS))
def test_mutated_json_beside_safetensors(tmp_path: Path, seed: int) -> None:
    folder = tmp_path / "m"
    save_folder(folder, [VARIANTS["tiny-e2b"], VARIANTS["tiny-26b"], DRAFTERS["tiny-e2b"]][seed % 3], "f16")
    split_folder(folder, 2)
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [1, 106], "temperature": 1.0}))
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": "x"}))
    for case in range(CASES):
        rng = np.random.default_rng([seed, case, 2])
        names = (
            "config.json",
            "model.safetensors.index.json",
            "generation_config.json",
            "tokenizer_config.json",
        )
        path = folder / names[rng.choice(4, p=[0.6, 0.2, 0.1, 0.1])]
        good = path.read_bytes()
        if rng.random() < 0.75:
            path.write_bytes(mutated_json(good, rng))
        else:
            raw = bytearray(good)
            MUTATIONS[rng.integers(len(MUTATIONS) - 1)](raw, rng, len(raw))
            path.write_bytes(raw)
        assert_answered(folder)
        path.write_bytes(good)
    assert assert_answered(folder)


WRONG_VALUES: tuple[Any, ...] = (
    "text",
    "",
    True,
    0,
    -1,
    2**63 - 1,
    2**64 - 1,
    0.5,
    math.nan,
    math.inf,
    [],
    [True],
    [-1, 2**40],
    [0.5, math.nan],
    ["a", "b"],
    [1] * 70_000,
    [2] * 300_000,
)


@pytest.mark.parametrize("spec", [VARIANTS["tiny-26b"], DRAFTERS["tiny-e2b"]], ids=lambda spec: spec.name)
def test_every_gguf_key_with_wrong_values(tmp_path: Path, spec) -> None:
    path = tmp_path / "m.gguf"
    save_gguf(path, spec, "q4_0")
    with open_store(path) as store:
        entries = [
            Entry(t.name, t.shape, t.format, lambda t=t: [t.raw()]) for t in store.source.tensors.values()
        ]
        keys = vocabulary_metadata(numbered_vocabulary(spec.vocab_size), spec.vocab_size) | metadata_of(spec)
        others = ("general.name", "tokenizer.chat_template", "split.count", "split.no")
        for index, key in enumerate((*keys, *others)):
            for value in WRONG_VALUES[index % 4 :: 4]:
                write_gguf(tmp_path / "wrong.gguf", {**keys, key: value}, entries)
                assert_answered(tmp_path / "wrong.gguf")


@pytest.mark.parametrize("spec", [VARIANTS["tiny-26b"], DRAFTERS["tiny-e2b"]], ids=lambda spec: spec.name)
def test_every_config_field_with_wrong_values(tmp_path: Path, spec) -> None:
    folder = tmp_path / "m"
    save_folder(folder, spec, "bf16")
    config = json.loads((folder / "config.json").read_text())
    moe = {"expert_intermediate_size": config.get("moe_intermediate_size")}
    values = (*WRONG_VALUES[:-2], {}, {"a": []}, [[1]], None, [1] * 5000)
    for index, key in enumerate((*config, *moe, "quantization_config")):
        for value in values[index % 3 :: 3]:
            (folder / "config.json").write_text(json.dumps(config | moe | {key: value}))
            assert_answered(folder)


def test_every_truncation_of_a_gguf_head(tmp_path: Path) -> None:
    """Every length the head can be cut to is refused."""
    path = tmp_path / "m.gguf"
    save_gguf(path, DRAFTERS["tiny-12b"], "q4_0")
    good = path.read_bytes()
    for length in range(0, gguf_head(good), 19):
        path.write_bytes(good[:length])
        with pytest.raises(WeightsError):
            open_store(path)


def test_every_number_of_a_gguf_head_at_its_edges(tmp_path: Path) -> None:
    """Each fifth position of the tensor list holding 0, 2^63 and 2^64-1 in turn."""
    path = tmp_path / "m.gguf"
    save_gguf(path, DRAFTERS["tiny-12b"], "q4_0")
    good = path.read_bytes()
    for at in range(4, gguf_head(good), 61):
        for value in (0, 2**63, 2**64 - 1):
            path.write_bytes(good[:at] + value.to_bytes(8, "little") + good[at + 8 :])
            assert_answered(path)


def test_parts_in_disorder(tmp_path: Path) -> None:
    """Parts that are copies of one another, of themselves, or of another model."""
    save_gguf(tmp_path / "m.gguf", VARIANTS["tiny-e2b"])
    names = [tmp_path / f"m-{k:05d}-of-00002.gguf" for k in (1, 2)]
    for name in names:
        shutil.copy(tmp_path / "m.gguf", name)
    assert not assert_answered(names[0])
    names[1].unlink()
    names[1].symlink_to(names[1].name)
    assert not assert_answered(names[0])
    names[1].unlink()
    names[1].mkdir()
    assert not assert_answered(names[1])
    assert not assert_answered(names[0])


def adapter_answered(folder: Path, spec) -> bool:
    """As assert_answered, for an adapter: opened and read, or a WeightsError with words."""
    before, started, message = peak_mb(), time.perf_counter(), None
    try:
        with open_adapter(folder, spec) as adapter:
            for term in adapter.terms.values():
                assert np.isfinite(term.a.float32()).all()
                assert np.isfinite(term.b.float32()).all()
                assert math.isfinite(term.scale)
    except WeightsError as error:
        message = str(error)
    assert message is None or 0 < len(message) < 20_000
    assert time.perf_counter() - started < 2
    assert peak_mb() - before < 200
    return message is None


@pytest.mark.parametrize("seed", range(10))
def test_mutated_adapters(tmp_path: Path, seed: int) -> None:
    spec = VARIANTS["tiny-26b"]
    folder = save_adapter(tmp_path / "a", spec, kind=["f32", "bf16"][seed % 2], rank_pattern={"q_proj": 4})
    good = {
        name: (folder / name).read_bytes() for name in ("adapter_model.safetensors", "adapter_config.json")
    }
    head = int.from_bytes(good["adapter_model.safetensors"][:8], "little") + 8
    opened = 0
    for case in range(CASES):
        rng = np.random.default_rng([seed, case, 7])
        weights, config = bytearray(good["adapter_model.safetensors"]), good["adapter_config.json"]
        if case % 3 == 0:
            config = mutated_json(config, rng)
        elif case % 3 == 1:
            weights[8:head] = mutated_json(bytes(weights[8:head]), rng)
            weights[:8] = (len(weights) - len(good["adapter_model.safetensors"]) + head - 8).to_bytes(
                8, "little"
            )
        else:
            MUTATIONS[rng.integers(len(MUTATIONS))](weights, rng, head)
        (folder / "adapter_model.safetensors").write_bytes(weights)
        (folder / "adapter_config.json").write_bytes(config)
        opened += adapter_answered(folder, spec)
    assert opened < CASES


def test_every_adapter_setting_with_wrong_values(tmp_path: Path) -> None:
    spec = VARIANTS["tiny-e2b"]
    folder = save_adapter(tmp_path / "a", spec)
    fields = json.loads((folder / "adapter_config.json").read_text())
    for key in (*fields, "rank_pattern", "alpha_pattern", "use_rslora", "init_lora_weights", "use_dora"):
        for value in (*WRONG_VALUES[:-2], {}, {"a": []}, {"q_proj": 2**70}, [[1]], None, 10**400):
            try:
                text = json.dumps(fields | {key: value})
            except (TypeError, ValueError):
                continue
            (folder / "adapter_config.json").write_text(text)
            adapter_answered(folder, spec)
