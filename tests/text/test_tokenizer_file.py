"""A vocabulary written as Hugging Face's files: ours and their tokenizers read the same out of it."""

import json

import pytest

from gemstead.text.tokenizer import Tokenizer
from gemstead.text.tokenizer_file import tokenizer_files
from support.vocab import real_vocabulary, small_vocabulary

TEXTS = ["the user in the model", "é😀 \n\n  x", "<turn|> <|turn>user\n", "call  the\ttool", "日本"]


def write(folder, vocabulary) -> None:
    tokens, types, merges = vocabulary
    for name, content in tokenizer_files(tokens, types, merges, {"bos": 2, "eos": 1}).items():
        (folder / name).write_bytes(content)


@pytest.mark.parametrize("vocabulary", [small_vocabulary, real_vocabulary])
def test_we_read_back_what_we_wrote(tmp_path, vocabulary) -> None:
    arrays = vocabulary()
    write(tmp_path, arrays)
    before, after = Tokenizer.from_vocabulary(*arrays), Tokenizer.from_json(tmp_path / "tokenizer.json")
    assert after.vocab_size == before.vocab_size
    for text in TEXTS:
        assert after.encode(text) == before.encode(text)
        assert after.encode(text, specials=True) == before.encode(text, specials=True)
    assert all(after.is_special(i) == before.is_special(i) for i in range(before.vocab_size))


def test_transformers_reads_the_same(tmp_path) -> None:
    transformers = pytest.importorskip("transformers")
    write(tmp_path, small_vocabulary())
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    ours = Tokenizer.from_vocabulary(*small_vocabulary())
    for text in TEXTS:
        ids = theirs.encode(text, add_special_tokens=False)
        assert ids == ours.encode(text, specials=True)
        assert theirs.decode(ids) == ours.decode(ids)
    assert (theirs.bos_token, theirs.eos_token) == ("<bos>", "<eos>")
    assert json.loads((tmp_path / "tokenizer_config.json").read_text())["bos_token"] == "<bos>"
