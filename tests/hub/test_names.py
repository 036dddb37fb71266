"""What a person types, and the model it means: forms, cases, ambiguity, slips of the finger."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemstead.errors import HubError
from gemstead.hub.catalogue import catalogue
from gemstead.hub.names import format_of, looks_like_name, parse

E2B = "google/gemma-4-E2B-it-qat-q4_0-gguf"
ROWS = catalogue().rows


@pytest.mark.parametrize(
    ("text", "repo", "tag"),
    [
        ("e2b", E2B, None),
        ("E2B", E2B, None),
        ("gemma4:e2b", E2B, None),
        ("gemma4-e2b", E2B, None),
        ("gemma-4-E2B-it", E2B, None),
        ("gemma4:e2b-it-qat", E2B, None),
        ("gemma4:e2b-instruct-q4-0", E2B, None),
        (" e2b ", E2B, None),
        ("26b", "google/gemma-4-26B-A4B-it-qat-q4_0-gguf", None),
        ("gemma-4-26b-a4b-it", "google/gemma-4-26B-A4B-it-qat-q4_0-gguf", None),
        ("google/gemma-4-E2B-it", "google/gemma-4-E2B-it", None),
        ("GOOGLE/Gemma-4-e2b-IT", "google/gemma-4-E2B-it", None),
        ("e2b-bf16", "google/gemma-4-E2B-it", None),
        ("e2b-base", "google/gemma-4-E2B", None),
        ("gemma4:e2b-pt", "google/gemma-4-E2B", None),
        ("e4b-q8_0", "ggml-org/gemma-4-E4B-it-GGUF", "Q8_0"),
        ("gemma4:31b:Q4_K_M", "ggml-org/gemma-4-31B-it-GGUF", "Q4_K_M"),
        ("e2b-drafter", "google/gemma-4-E2B-it-assistant", None),
        ("12b-qat-unquantized", "google/gemma-4-12B-it-qat-q4_0-unquantized", None),
        ("hf.co/owner/repo:Q4_K_M", "owner/repo", "Q4_K_M"),
        ("HF.co/owner/repo", "owner/repo", None),
        ("https://huggingface.co/owner/repo", "owner/repo", None),
        ("https://huggingface.co/owner/repo/blob/main/x/y-Q8_0.gguf", "owner/repo", "x/y-Q8_0.gguf"),
        ("huggingface.co/owner/repo/tree/main", "owner/repo", None),
        ("bartowski/google_gemma-4-E2B-it-GGUF:Q6_K", "bartowski/google_gemma-4-E2B-it-GGUF", "Q6_K"),
    ],
)
def test_forms(text, repo, tag):
    wanted = parse(text)
    assert (wanted.repo, wanted.tag) == (repo, tag)
    assert looks_like_name(text.strip()) or "gemma" not in text


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_every_row_is_meant_by_its_own_names(row):
    assert parse(row.name).row is row
    assert parse(row.repo).row is row


@given(st.sampled_from(ROWS), st.lists(st.booleans(), min_size=60, max_size=60), st.randoms())
def test_case_dashes_and_colons_do_not_matter(row, upper, rng):
    name = "".join(rng.choice("-:") if c in "-:" else c for c in row.name)
    name = "".join(c.upper() if up else c for c, up in zip(name, upper, strict=False))
    assert parse(name).row is row
    assert looks_like_name(name)


def said_of(text):
    """The repository that a text means, or what is said about it."""
    try:
        return parse(text).repo
    except HubError as error:
        return str(error)


@given(st.text(max_size=60))
def test_anything_at_all_is_a_model_or_a_plain_error(text):
    looks_like_name(text)
    said = said_of(text)
    assert "/" in said or "model" in said


@given(st.sampled_from(ROWS), st.integers(0, 40), st.sampled_from(string.ascii_lowercase))
def test_a_slip_is_answered_by_a_near_name(row, place, letter):
    name = row.name
    place %= len(name)
    slip = name[:place] + letter + name[place + 1 :]
    said = said_of(slip)  # some slips are other names
    assert any(
        words in said for words in ("google/", "unsloth/", "ggml-org/", "did you mean", "could be several")
    )


def test_the_nearest_comes_first():
    with pytest.raises(HubError, match=r"did you mean gemma4:e2b-it-qat or"):
        parse("gemma4:e2b-it-qta")
    with pytest.raises(HubError, match=r"there is no model 'e2bb'; did you mean e2b"):
        parse("e2bb")


@pytest.mark.parametrize("text", ["gemma4", "gemma-4-it", "gemma4:latest", "gemma4-qat"])
def test_several_models_are_listed(text):
    with pytest.raises(
        HubError, match=r"could be several models; say which: gemma4:e2b-it-qat, gemma4:e4b-it-qat"
    ):
        parse(text)


@pytest.mark.parametrize("text", ["a/b/c", "owner/", "/repo", "owner/re po", "hf.co/", "a/b:", "ü/b"])
def test_no_name_of_a_repository(text):
    with pytest.raises(HubError, match="is no name of a repository"):
        parse(text)


@pytest.mark.parametrize(
    "text",
    [
        "What",
        "either/or?",
        "it",
        "base",
        "",
        "4",
        "qat",
        "./e2b",
        "~/gemma4",
        "x.gguf",
        "gemma",
        "gemma-3-4b",
    ],
)
def test_a_word_of_a_sentence_is_no_name(text):
    assert not looks_like_name(text)


@pytest.mark.parametrize("text", ["a/b:x-Q8_0.gguf", "a/b:BF16/x.GGUF", "a/gemma-4-x:Q4_0", "hf.co/a/b.gguf"])
def test_a_repository_with_a_file_is_a_name_and_no_path(text):
    assert looks_like_name(text)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("gemma-4-E2B_q4_0-it.gguf", "Q4_0"),
        ("gemma-4-E4B-it-UD-Q4_K_XL.gguf", "Q4_K_XL"),
        ("x-IQ4_XS.gguf", "IQ4_XS"),
        ("x.BF16.gguf", "BF16"),
        ("gemma-4-E2B-it.gguf", None),
        ("q4.gguf", None),
    ],
)
def test_formats_in_names(name, expected):
    assert format_of(name) == expected
