"""The tokenizer: Google's vocabulary and vectors, specials kept out of text, streaming, bad vocabularies."""

from __future__ import annotations

import json
import os
from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, models, normalizers, pre_tokenizers
from tokenizers import Tokenizer as Core

from gemstead.errors import ConfigError, InputError
from gemstead.text.control import CONTROL_TEXTS
from gemstead.text.tokenizer import BYTE, CONTROL, NORMAL, SPACE, Tokenizer
from support.vocab import REAL_VOCABULARY, real_tokenizer, real_vocabulary, small_tokenizer, small_vocabulary


def vectors() -> list[tuple[str, list[int]]]:
    folder = REAL_VOCABULARY.parent
    if not folder.exists():
        pytest.skip(f"needs the vectors in {folder}")
    texts = (
        (folder / f"{REAL_VOCABULARY.name}.inp").read_text(encoding="utf-8").split("\n__ggml_vocab_test__\n")
    )
    rows = (folder / f"{REAL_VOCABULARY.name}.out").read_text(encoding="utf-8").split("\n")
    return [(text, [int(x) for x in row.split()]) for text, row in zip(texts, rows, strict=False)]


def test_all_vectors_of_the_real_vocabulary() -> None:
    tok = real_tokenizer()
    pairs = vectors()
    assert len(pairs) > 40
    for text, ids in pairs:
        assert tok.encode(text) == ids, repr(text)
        assert tok.decode(ids) == text


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("Hello world", [9259, 1902]),
        (" Hello world", [26352, 1902]),
        ("Hello, world!", [9259, 236764, 1902, 236888]),
        ("33333", [236800] * 5),
        ("ied 4 ½ months", [1178, 236743, 236812, 47041, 3794]),
        ("Äpfel", [239122, 22744, 535]),
        ("system", [9731]),
        ("model\n", [4368, 107]),
        ("<b>", [236820, 236763, 236813]),
        ("", []),
    ],
)
def test_known_ids(text: str, ids: list[int]) -> None:
    assert real_tokenizer().encode(text) == ids


def test_real_control_ids() -> None:
    c = real_tokenizer().control
    assert (c.pad, c.eos, c.bos, c.unk, c.mask) == (0, 1, 2, 3, 4)
    assert (c.tool_open, c.tool_close, c.call_open, c.call_close) == (46, 47, 48, 49)
    assert (c.response_open, c.response_close, c.quote, c.think) == (50, 51, 52, 98)
    assert (c.channel_open, c.channel_close, c.turn_open, c.turn_close) == (100, 101, 105, 106)
    assert (c.image_open, c.audio_open, c.image, c.audio) == (255999, 256000, 258880, 258881)
    assert (c.image_close, c.audio_close, c.video) == (258882, 258883, 258884)


@pytest.mark.parametrize("text", sorted(CONTROL_TEXTS.values()))
@pytest.mark.parametrize("which", ["small", "real"])
def test_specials_never_come_out_of_text(which: str, text: str) -> None:
    tok = small_tokenizer() if which == "small" else real_tokenizer()
    around = f"a{text}b{text}"
    ids = tok.encode(around)
    assert not any(tok.is_special(i) for i in ids)
    assert tok.decode(ids) == around
    special = tok.id_of(text)
    assert special is not None
    assert tok.encode(around, specials=True) == [*tok.encode("a"), special, *tok.encode("b"), special]


def test_text_around_specials_is_encoded_run_by_run() -> None:
    text = "<bos><|turn>user\nHi<turn|>\n<|turn>model\n"
    assert real_tokenizer().encode(text, specials=True) == [
        2,
        105,
        2364,
        107,
        10979,
        106,
        107,
        105,
        4368,
        107,
    ]


@settings(max_examples=300, deadline=None)
@given(st.text())
def test_decode_undoes_encode(text: str) -> None:
    tok = small_tokenizer()
    ids = tok.encode(text)
    assert tok.decode(ids) == text.replace("▁", " ")  # Gemma cannot tell U+2581 from a space
    stream = tok.stream()
    assert "".join(map(stream.feed, ids)) + stream.finish() == text.replace("▁", " ")


@settings(max_examples=300, deadline=None)
@given(st.lists(st.integers(0, small_tokenizer().vocab_size - 1)))
def test_streaming_equals_whole_for_any_ids(ids: list[int]) -> None:
    tok = small_tokenizer()
    for skip in (False, True):
        stream = tok.stream(skip_special=skip)
        assert "".join(map(stream.feed, ids)) + stream.finish() == tok.decode(ids, skip_special=skip)


@cache
def hugging_face_tokenizer() -> Any:
    """The same vocabulary put together as Hugging Face's Gemma tokenizer is, specials included."""
    tokens, types, merges = small_vocabulary()
    pairs = [tuple(m.split(" ")) for m in merges]
    core = Core(models.BPE(vocab={p: i for i, p in enumerate(tokens)}, merges=pairs, byte_fallback=True))
    core.normalizer = normalizers.Replace(" ", "▁")
    core.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    specials = [p for p, t in zip(tokens, types, strict=True) if t == CONTROL]
    core.add_special_tokens([AddedToken(p, normalized=False, special=True) for p in specials])
    return core


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.text(max_size=5) | st.sampled_from([*CONTROL_TEXTS.values(), "the user", " ", "\n\n"])).map(
        "".join
    )
)
def test_same_ids_as_hugging_face_builds_it(text: str) -> None:
    encoded = hugging_face_tokenizer().encode(text, add_special_tokens=False).ids
    assert small_tokenizer().encode(text, specials=True) == encoded


def test_stream_never_emits_half_a_character() -> None:
    tok = small_tokenizer()
    ids = tok.encode("a🚀é")  # the rocket is four byte tokens here, é one piece
    stream = tok.stream()
    assert [stream.feed(i) for i in ids] == ["a", "", "", "", "🚀", "é"]
    assert stream.finish() == ""
    assert [stream.feed(i) for i in ids[:3]] == ["a", "", ""]
    assert stream.finish() == "\ufffd"
    assert stream.feed(ids[0]) == "a"


def test_broken_bytes_before_a_control_token() -> None:
    tok = small_tokenizer()
    stream = tok.stream()
    assert stream.feed(238 + 0xE2) == ""
    assert stream.feed(106) == "\ufffd<turn|>"


def test_decode_can_leave_specials_out() -> None:
    tok = real_tokenizer()
    assert tok.decode([2, 105, 2364, 107, 9259, 106], skip_special=True) == "user\nHello"
    assert tok.decode([2, 105, 2364, 107, 9259, 106]) == "<bos><|turn>user\nHello<turn|>"


def test_pieces_by_id() -> None:
    tok = small_tokenizer()
    assert tok.piece(238) == "<0x00>"
    assert tok.token_bytes(238) == b"\x00"
    assert tok.token_bytes(tok.id_of("▁the") or 0) == b" the"
    assert tok.id_of("no such piece") is None
    with pytest.raises(InputError, match="token id 99999 is not in the vocabulary; allowed is 0 to"):
        tok.decode([99999])
    with pytest.raises(InputError, match="lone surrogate"):
        tok.encode("a\ud800")


def test_tokenizer_json_gives_the_same_ids(tmp_path) -> None:
    tokens, types, merges = small_vocabulary()
    data = {
        "normalizer": {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
        "pre_tokenizer": {"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious"},
        "added_tokens": [
            {"id": i, "content": p, "special": True}
            for i, (p, t) in enumerate(zip(tokens, types, strict=True))
            if t == CONTROL
        ],
        "model": {
            "type": "BPE",
            "vocab": {p: i for i, p in enumerate(tokens)},
            "merges": [m.split(" ") if k % 2 else m for k, m in enumerate(merges)],
        },
    }
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(data))
    ours, other = small_tokenizer(), Tokenizer.from_json(path)
    assert other.control == ours.control
    text = "the user calls <|turn>model\n\n 😀 é 🚀"
    assert other.encode(text) == ours.encode(text)
    assert other.encode(text, specials=True) == ours.encode(text, specials=True)


def without_bytes() -> tuple[list[str], list[int], list[str]]:
    tokens, types, merges = small_vocabulary()
    tokens[238], types[238] = "zz", NORMAL
    return tokens, types, merges


def change(**changes: object) -> tuple[list, list, list]:
    tokens, types, merges = small_vocabulary()
    for key, value in changes.items():
        what, index = key.rsplit("_", 1)
        {"token": tokens, "type": types, "merge": merges}[what][int(index)] = value
    return tokens, types, merges


@pytest.mark.parametrize(
    ("vocabulary", "says"),
    [
        (without_bytes(), r"no byte fallback for 1 of 256 bytes \(first missing: <0x00>\)"),
        (change(type_300=NORMAL), "no byte fallback for 1 of 256"),
        (change(token_300="<0xZZ>"), "byte token 300 is spelled '<0xZZ>'"),
        (change(token_494="x1"), "no piece '▁' for the space"),
        (change(token_600="<turn|>"), "tokens 106 and 600 are both '<turn|>'"),
        (change(type_7=9), "token 7 has type 9; known are 1 to 6"),
        (change(token_7=b"\xff\xfe"), "token 7 is not UTF-8"),
        (change(token_7="x" * 5000), "token 7 has 5000 characters"),
        (change(merge_0="a b c"), "merge 0 is not two pieces"),
        (change(merge_0="a zq"), "merge 0 .* not a normal token"),
        (
            change(token_7="<x", token_8="|>", type_7=NORMAL, type_8=NORMAL, merge_0="<x |>"),
            "not a normal token",
        ),
        ((["a"], [1, 1], []), "1 tokens but 2 token types"),
        (([], [], []), "from 0 tokens"),
        ((range(1 << 62), [], []), "allowed are 1 to 2097152 tokens"),
    ],
)
def test_a_bad_vocabulary_is_one_error(vocabulary, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        Tokenizer.from_vocabulary(*vocabulary)


def test_a_merge_cannot_forge_a_control_token() -> None:
    tokens, types, merges = small_vocabulary()
    for piece in ("<turn", "|>"):
        tokens.append(piece)
        types.append(NORMAL)
    with pytest.raises(ConfigError, match="not a normal token"):
        Tokenizer.from_vocabulary(tokens, types, [*merges, "<turn |>"])


def test_all_faults_are_listed() -> None:
    tokens, types, merges = small_vocabulary()
    types[238:494] = [NORMAL] * 256
    tokens[494] = "x1"
    with pytest.raises(ConfigError) as caught:
        Tokenizer.from_vocabulary(tokens, types, merges)
    assert "no byte fallback for 256" in str(caught.value)
    assert "no piece '▁'" in str(caught.value)


def test_control_tokens_marked_normal_still_are_control() -> None:
    tokens, types, merges = small_vocabulary()
    types[106] = NORMAL
    assert Tokenizer.from_vocabulary(tokens, types, merges).control.turn_close == 106


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ("{", "not JSON"),
        ("[" * 100000, "not JSON"),
        ("[]", "tokenizer model None; Gemma's is 'BPE'"),
        ('{"model": {"type": "Unigram"}}', "tokenizer model 'Unigram'"),
        ('{"model": {"type": "BPE", "vocab": {"a": 0}}}', "missing or malformed"),
        ('{"model": {"type": "BPE", "vocab": {"a": 0}, "merges": []}}', "normalizer None"),
        ('{"model": {"vocab": {"a": 4611686018427387904}, "merges": []}, "normalizer": N}', "id of 'a' is"),
        ('{"model": {"vocab": {"a": 1, "b": 1}, "merges": []}, "normalizer": N}', "two pieces share an id"),
        ('{"model": {"vocab": {"a": "x"}, "merges": []}, "normalizer": N}', "id of 'a' is 'x'"),
        ('{"model": {"vocab": {"a": 1}, "merges": [3]}, "normalizer": N}', "merge 0 is not two pieces"),
        (
            '{"model": {"vocab": {"a": 1}, "merges": []}, "added_tokens": [1], "normalizer": N}',
            "malformed added token",
        ),
        (
            '{"model": {"vocab": {"a": 1}, "merges": []}, "added_tokens": false, "normalizer": N}',
            "added_tokens is missing or malformed",
        ),
    ],
)
def test_a_bad_tokenizer_json_is_one_error(tmp_path, data: str, says: str) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text(data.replace("N}", '{"type": "Replace", "pattern": {"String": " "}, "content": "▁"}}'))
    with pytest.raises(ConfigError, match=says):
        Tokenizer.from_json(path)
    with pytest.raises(ConfigError, match="cannot read the tokenizer"):
        Tokenizer.from_json(tmp_path / "absent.json")


def test_a_hostile_tokenizer_json(tmp_path) -> None:
    """A pipe is not waited for; a million empty lists and a lone surrogate are refused."""
    path = tmp_path / "tokenizer.json"
    os.mkfifo(path)
    with pytest.raises(ConfigError, match="not a regular file"):
        Tokenizer.from_json(path)
    path.unlink()
    path.write_text("[" + "[]," * (1 << 21) + "0]")
    with pytest.raises(ConfigError, match="more than 4194304 values"):
        Tokenizer.from_json(path)
    rules = {"type": "Replace", "pattern": {"String": " "}, "content": SPACE}
    data = {"model": {"type": "BPE", "vocab": {"a": 0, "\ud800": 1}, "merges": []}, "normalizer": rules}
    path.write_text(json.dumps(data))
    with pytest.raises(ConfigError, match=r"the lone surrogate '\\ud800'"):
        Tokenizer.from_json(path)


def test_byte_types_of_the_real_vocabulary() -> None:
    _, types, _ = real_vocabulary()
    assert [i for i, t in enumerate(types) if t == BYTE] == list(range(238, 494))
