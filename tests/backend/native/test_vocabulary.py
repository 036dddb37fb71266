"""The core's way of cutting text: the same ids as the package `tokenizers`, and no way to break it."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.vocab import real_vocabulary, small_vocabulary

from gemstead import pebble
from gemstead.backend.native import vocabulary as native
from gemstead.backend.native.vocabulary import native_cutter
from gemstead.errors import ConfigError
from gemstead.model import tokenizer_of
from gemstead.text.control import CONTROL_TEXTS
from gemstead.text.tokenizer import Tokenizer
from gemstead.weights.store import open_store

CONTROLS = frozenset(CONTROL_TEXTS.values())


def both(vocabulary):
    """The package's tokenizer and the core's."""
    fast = Tokenizer.from_vocabulary(*vocabulary, native_cutter)
    assert isinstance(fast._cutter, native.NativeCutter)
    return Tokenizer.from_vocabulary(*vocabulary), fast


@pytest.fixture(scope="module")
def small():
    return both(small_vocabulary())


@pytest.fixture(scope="module")
def real():
    return both(real_vocabulary())


def same(slow, fast, text):
    ids = fast.encode(text)
    assert ids == slow.encode(text)
    assert fast.decode(ids) == slow.decode(ids)


@given(st.text(st.sampled_from("usermodelca \n<>0x▁é😀\u0301\U0010ffff") | st.characters(codec="utf-8")))
def test_any_text_in_a_small_vocabulary(small, text):
    same(*small, text)


def test_everything_else_of_a_small_vocabulary(small):
    slow, fast = small
    assert list(fast._pieces) == list(slow._pieces)
    assert [fast.piece(i) for i in range(fast.vocab_size)] == list(slow._pieces)
    assert fast._pieces[2:4] == slow._pieces[2:4]
    assert (fast._types, fast.control) == (slow._types, slow.control)
    for piece in (*slow._pieces, "nothing", "", "\ud800"):
        assert fast.id_of(piece) == slow.id_of(piece)
    with pytest.raises(IndexError):
        fast._pieces[fast.vocab_size]


def texts(pieces):
    """Gemma's own pieces in a row, other scripts, parts of characters' neighbourhoods, long runs."""
    rng = random.Random(7)
    for _ in range(300):
        some = rng.choices(pieces, k=rng.randrange(40))
        yield rng.choice(("", " ")).join(some)
        yield "".join(
            chr(rng.choice((rng.randrange(32, 127), rng.randrange(0x4E00, 0x9FFF)))) for _ in range(50)
        )
        yield rng.choice("ab \n\t▁") * rng.randrange(300)
    yield ("The quick brown fox jumps over the lazy dog. " * 2000)[:-1]


def test_gemmas_vocabulary(real):
    slow, fast = real
    assert fast._types == slow._types
    pieces = list(slow._pieces)
    assert list(fast._pieces) == pieces
    for text in texts(pieces):
        same(slow, fast, text)


def test_it_outlives_the_file_it_came_from():
    with open_store(pebble.path()) as store:
        fast = tokenizer_of(store, store.spec)
        vocabulary = store.vocabulary()
    assert isinstance(fast._cutter, native.NativeCutter)
    same(
        Tokenizer.from_vocabulary(vocabulary.tokens, vocabulary.types, vocabulary.merges),
        fast,
        "What is 17% of 2400?",
    )


def faulty():
    """Vocabularies with one fault each."""
    tokens, types, merges = small_vocabulary()
    yield tokens[:-1], types, merges
    yield tokens, [9, *types[1:]], merges
    yield [*tokens, tokens[-1]], [*types, types[-1]], merges
    yield tokens, types, [*merges, "u s e"]
    yield tokens, types, [*merges, "use"]
    yield tokens, types, [*merges, "zz top"]
    yield tokens, types, [*merges, " use"]
    yield [t.replace("<0x0A>", "<0x0a>") for t in tokens], types, merges
    yield [t.replace("▁", "_") if t == "▁" else t for t in tokens], types, merges
    yield [*tokens, "x" * 5000], [*types, 1], merges
    yield tokens, types, [*merges, "<turn| >"]  # makes a control token


@pytest.mark.parametrize("number", range(11))
def test_a_fault_is_left_to_who_can_name_it(number):
    vocabulary = list(faulty())[number]
    assert native_cutter(*vocabulary, CONTROLS) is None
    with pytest.raises(ConfigError):
        Tokenizer.from_vocabulary(*vocabulary, native_cutter)


def test_what_is_no_text_and_no_core(monkeypatch):
    tokens, types, merges = small_vocabulary()
    assert native_cutter([*tokens[:-1], "\ud800"], types, merges, CONTROLS) is None
    assert native_cutter([*tokens[:-1], None], types, merges, CONTROLS) is None
    monkeypatch.setattr(native, "is_built", lambda: False)
    assert native_cutter(tokens, types, merges, CONTROLS) is None


def test_merges_as_pairs_and_a_pair_twice():
    tokens, types, merges = small_vocabulary()
    twice = [*merges, merges[1]]  # the later rank counts
    for lines in (merges, twice):
        slow, fast = both((tokens, types, [tuple(line.split(" ")) for line in lines]))
        for text in ("user model call", "modelmodel use", "\n\n\n"):
            same(slow, fast, text)


def test_from_several_threads(real):
    slow, fast = real
    wanted = [(text, slow.encode(text)) for text in list(texts(slow._pieces))[:200]]
    with ThreadPoolExecutor(4) as pool:
        for (_, ids), found in zip(
            wanted * 3, pool.map(fast.encode, [t for t, _ in wanted] * 3), strict=True
        ):
            assert found == ids
