"""The vocabulary inside a GGUF."""

from pathlib import Path
from typing import Any

import pytest

from gemstead.errors import WeightsError
from gemstead.weights import gguf_values
from gemstead.weights.gguf import read_gguf
from gemstead.weights.gguf_write import write_gguf
from gemstead.weights.vocabulary import check_vocabulary, read_vocabulary

SHARED = Path(__file__).resolve().parents[3] / "shared"
REAL_VOCABULARY = SHARED / "gemma4" / "tokenizer" / "ggml-vocab-gemma-4.gguf"
GOOD: dict[str, Any] = {
    "tokenizer.ggml.model": "gemma4",
    "tokenizer.ggml.tokens": ["<pad>", "<eos>", "a", "b", "ab"],
    "tokenizer.ggml.token_type": [3, 3, 1, 1, 1],
    "tokenizer.ggml.merges": ["a b"],
    "tokenizer.ggml.eos_token_id": 1,
    "tokenizer.ggml.padding_token_id": 0,
}


def test_a_file_without_tensors_still_has_its_vocabulary(tmp_path: Path) -> None:
    write_gguf(tmp_path / "v.gguf", GOOD, [])
    vocabulary = read_vocabulary(tmp_path / "v.gguf")
    assert vocabulary.tokens == GOOD["tokenizer.ggml.tokens"]
    assert vocabulary.types == [3, 3, 1, 1, 1]
    assert vocabulary.merges == ["a b"]
    assert vocabulary.scores == []
    assert vocabulary.special == {"eos": 1, "padding": 0}


def test_types_default_to_normal(tmp_path: Path) -> None:
    write_gguf(tmp_path / "v.gguf", {"tokenizer.ggml.tokens": ["a", "b"]}, [])
    vocabulary = read_vocabulary(tmp_path / "v.gguf")
    assert (vocabulary.types, vocabulary.merges) == ([1, 1], [])


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("token_type", [1, 1], "token_type has 2 entries for 5 tokens"),
        ("scores", [0.5], "scores has 1 entries for 5 tokens"),
        ("tokens", [1, 2], "tokens must be an array of str"),
        ("tokens", "ab", "tokens must be an array of str"),
        ("merges", [1], "merges must be an array of str"),
        ("token_type", [0.5] * 5, "token_type must be an array of int"),
        ("eos_token_id", 5, "eos_token_id = 5 is no id of a vocabulary of 5"),
        ("bos_token_id", -1, "bos_token_id = -1"),
        ("bos_token_id", "2", "bos_token_id = '2'"),
    ],
)
def test_contradictions_are_named(tmp_path: Path, key: str, value: Any, says: str) -> None:
    write_gguf(tmp_path / "v.gguf", {**GOOD, f"tokenizer.ggml.{key}": value}, [])
    with pytest.raises(WeightsError, match=says):
        read_vocabulary(tmp_path / "v.gguf")
    file = read_gguf(tmp_path / "v.gguf")
    with pytest.raises(WeightsError, match=says):
        check_vocabulary(file)
    file.close()


def test_arrays_that_stay_in_the_file_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gguf_values, "_EAGER_VALUES", 0)
    for wrong in ([0.5] * 5, [True] * 5, ["1"] * 5):
        write_gguf(tmp_path / "v.gguf", {**GOOD, "tokenizer.ggml.token_type": wrong}, [])
        with pytest.raises(WeightsError, match="token_type must be an array of int"):
            read_vocabulary(tmp_path / "v.gguf")
    write_gguf(tmp_path / "v.gguf", {**GOOD, "tokenizer.ggml.scores": [0.5] * 5}, [])
    assert read_vocabulary(tmp_path / "v.gguf").scores == [0.5] * 5


def test_no_vocabulary(tmp_path: Path) -> None:
    write_gguf(tmp_path / "v.gguf", {}, [])
    with pytest.raises(WeightsError, match="holds no vocabulary"):
        read_vocabulary(tmp_path / "v.gguf")


@pytest.mark.skipif(not REAL_VOCABULARY.exists(), reason=f"needs {REAL_VOCABULARY}")
def test_the_real_vocabulary() -> None:
    vocabulary = read_vocabulary(REAL_VOCABULARY)
    assert len(vocabulary.tokens) == len(vocabulary.types) == len(vocabulary.scores) == 262_144
    assert len(vocabulary.merges) == 514_906
    assert vocabulary.tokens[105] == "<|turn>"
    assert vocabulary.special["bos"] == 2
