"""From stored names to canonical ones: alternatives, joined parts, and the list of faults."""

from pathlib import Path

import numpy as np
import pytest

from gemstead.errors import WeightsError
from gemstead.spec.tensors import text_tensors
from gemstead.spec.variants import VARIANTS
from gemstead.weights import bind as bind_module
from gemstead.weights.bind import bind, in_gguf, in_safetensors
from gemstead.weights.gguf import read_gguf
from gemstead.weights.gguf_write import write_gguf
from gemstead.weights.safetensors import read_safetensors, write_safetensors
from gemstead.weights.writing import Entry, entry_from_array

SPEC = VARIANTS["tiny-26b"]
ROWS = text_tensors(SPEC)
EXPERTS = "layers.0.experts.gate_up_proj"


def zeros(name: str, *shape: int) -> Entry:
    return entry_from_array(name, np.zeros(shape, np.float32), "f32")


@pytest.mark.parametrize("prefix", ["model.language_model.", "model.", "language_model.model.", ""])
def test_every_prefix_of_safetensors(tmp_path: Path, prefix: str) -> None:
    entries = [zeros(prefix + row.hf[0], *row.shape) for row in ROWS]
    entries.append(zeros("model.vision_tower.anything", 3))
    entries.append(zeros("lm_head.weight", 3))
    write_safetensors(tmp_path / "m.safetensors", entries)
    file = read_safetensors(tmp_path / "m.safetensors")
    tensors = bind(SPEC, file.tensors, in_safetensors, tmp_path)
    assert list(tensors) == [row.name for row in ROWS]
    file.close()


def gguf_entries() -> dict[str, Entry]:
    """All tensors of SPEC under the first of their GGUF names."""
    return {row.gguf[0][0]: zeros(row.gguf[0][0], *row.shape) for row in ROWS}


def bound(path: Path, entries: dict[str, Entry]) -> str:
    """The message of the WeightsError that binding these entries ends in; "" when it succeeds."""
    write_gguf(path, {}, list(entries.values()))
    file = read_gguf(path)
    try:
        bind(SPEC, file.tensors, in_gguf, path)
    except WeightsError as error:
        return str(error)
    finally:
        file.close()
    return ""


def test_split_experts(tmp_path: Path) -> None:
    (row,) = (row for row in ROWS if row.name == EXPERTS)
    (fused,), (gate, up) = row.gguf
    experts, both, width = row.shape
    entries = gguf_entries()
    assert bound(tmp_path / "m", entries) == ""
    entries[gate] = zeros(gate, experts, both // 2, width)
    entries[up] = zeros(up, experts, both // 2, width)
    assert f"{EXPERTS} is there twice: {fused} and {gate}+{up}" in bound(tmp_path / "m", entries)
    del entries[fused]
    assert bound(tmp_path / "m", entries) == ""
    entries[up] = zeros(up, experts, both // 2, width + 1)
    assert f"{EXPERTS} has the shape [8, 32, 64] + [8, 32, 65]" in bound(tmp_path / "m", entries)
    entries[up] = zeros(up, experts * both // 2, width)
    assert f"{EXPERTS} has the shape [8, 32, 64] + [256, 64]" in bound(tmp_path / "m", entries)
    del entries[up]
    message = bound(tmp_path / "m", entries)
    assert f"missing: {EXPERTS}" in message
    assert f"unknown: {gate}" in message


def test_long_lists_are_cut_and_counted(tmp_path: Path) -> None:
    message = bound(tmp_path / "m", {f"x{i}": zeros(f"x{i}", 1) for i in range(30)})
    assert f"{len(ROWS) + 30} faults" in message
    assert f"missing: ... {len(ROWS)} in all" in message
    assert "unknown: ... 30 in all" in message
    assert len(message.splitlines()) == 1 + 21 + 21


def test_matrices_are_not_weights_of_integers(tmp_path: Path) -> None:
    entries = gguf_entries()
    entries["output_norm.weight"] = entry_from_array("output_norm.weight", np.zeros(64, np.int64), "i64")
    assert "norm is i64; weights are needed" in bound(tmp_path / "m", entries)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_no_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: float) -> None:
    """A NaN scale of a block or in a norm; of a model that is not small only its vectors are read."""
    entries = gguf_entries()
    q8 = np.zeros((SPEC.vocab_size, 64), np.float32)
    table = entry_from_array("token_embd.weight", q8, "q8_0")
    entries["token_embd.weight"] = table
    assert bound(tmp_path / "m", entries) == ""
    raw = np.concatenate([x.reshape(-1) for x in table.chunks()])
    raw[-34:-32] = np.frombuffer(np.float16(value).tobytes(), np.uint8)
    raw[-1] = 1
    entries["token_embd.weight"] = Entry(table.name, table.shape, table.format, lambda: [raw])
    entries["output_norm.weight"] = entry_from_array("output_norm.weight", np.full(64, value), "bf16")
    message = bound(tmp_path / "m", entries)
    assert "wrong: embed_tokens holds NaN or infinity" in message
    assert "wrong: norm holds NaN or infinity" in message
    monkeypatch.setattr(bind_module, "_READ_BYTES", 100_000)
    message = bound(tmp_path / "m", entries)
    assert "1 fault" in message
    assert "norm holds NaN" in message
