"""Embeddings through the official SDKs against a real server, and beside the library's own."""

from __future__ import annotations

import base64

import numpy as np
import ollama
import openai
import pytest
from openai.types import embedding_create_params

import gemstead
from gemstead.server.embeddings import EMBED, EMBEDDINGS, inputs_of
from gemstead.server.refusals import Refusal

TEXTS = ["What is 17% of 2400?", "What is 18% of 2400?", "A calendar for next year, please"]


@pytest.fixture(scope="module")
def mine():
    with gemstead.open() as model:
        yield model.embed(TEXTS)


def test_every_field_of_the_package_is_in_the_table():
    assert set(embedding_create_params.EmbeddingCreateParams.__annotations__) == set(EMBEDDINGS)


def test_the_log_calls_it_an_ordinary_end(server):
    before = len(server.lines)
    assert server.post("/v1/embeddings", {"model": "pebble", "input": "Hello"})[0] == 200
    assert "outcome=stop" in server.wait_line("path=/v1/embeddings", before)


@pytest.mark.parametrize("shape", ["float", "base64"])
def test_openai(server, mine, shape):
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key=server.key, max_retries=0) as client:
        got = client.embeddings.create(model="gpt-4o", input=TEXTS, encoding_format=shape)
    vectors = [one.embedding for one in got.data]
    if shape == "base64":
        vectors = [np.frombuffer(base64.b64decode(one), "<f4") for one in vectors]
    np.testing.assert_allclose(np.array(vectors), mine, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(mine, axis=1), 1, atol=1e-6)
    assert [one.index for one in got.data] == [0, 1, 2]
    assert got.usage.prompt_tokens == got.usage.total_tokens > 20
    assert mine[0] @ mine[1] > mine[0] @ mine[2]


def test_token_ids_are_the_text(server, mine):
    ids = [server.post("/tokenize", {"text": text})[1]["tokens"] for text in TEXTS]
    many = server.post("/v1/embeddings", {"model": "pebble", "input": ids})[1]["data"]
    np.testing.assert_allclose(np.array([one["embedding"] for one in many]), mine, atol=1e-6)
    one = server.post("/v1/embeddings", {"model": "pebble", "input": ids[1]})[1]["data"]
    assert one == [{**many[1], "index": 0}]


def test_a_long_list_keeps_its_order(server, mine):
    got = server.post("/v1/embeddings", {"model": "pebble", "input": TEXTS * 7})[1]
    vectors = np.array([one["embedding"] for one in got["data"]])
    np.testing.assert_allclose(vectors, np.concatenate([mine] * 7), atol=1e-5)
    assert server.wait_idle()["live_sequences"] == 0


def test_ollama(server, mine):
    client = ollama.Client(server.url, headers={"Authorization": f"Bearer {server.key}"})
    got = client.embed("pebble", TEXTS)
    np.testing.assert_allclose(np.array(got.embeddings), mine, atol=1e-6)
    old = client.embeddings("pebble", TEXTS[1])
    np.testing.assert_allclose(np.array(old.embedding), mine[1], atol=1e-6)
    assert {"model", "input", "truncate", "options", "keep_alive", "dimensions"} == set(EMBED)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"dimensions": 7}, "leave it out"),
        ({"input": ""}, "empty"),
        ({"input": []}, "0 entries"),
        ({"input": [1.5]}, "input must be"),
        ({"input": [10**7]}, "not in the vocabulary"),
        ({"input": "word " * 5000}, "context"),
        ({"encoding_format": "hex"}, "float, base64"),
        ({"speed": 1}, "unknown field speed"),
    ],
)
def test_mistakes(server, more, said):
    status, value = server.post("/v1/embeddings", {"model": "pebble", "input": "a", **more})
    assert status == 400
    assert said in value["error"]["message"]


def test_inputs():
    assert inputs_of("a") == ["a"]
    assert inputs_of([1, 2]) == [[1, 2]]
    assert inputs_of(["a", [1]]) == ["a", [1]]
    for bad in (1, None, {}, [[]], [True], ["a"] * 2049):
        with pytest.raises(Refusal):
            inputs_of(bad)
