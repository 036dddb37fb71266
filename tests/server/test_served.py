"""Adapters under model names of their own, over one open model: a real server, every API."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

import anthropic
import numpy as np
import ollama
import openai
import pytest

import gemstead
from gemstead.types import Message, TextDelta
from support.adapters import save_adapter
from support.serving import Running, end, start

ASKED = "What can you do?"
TALK = [{"role": "user", "content": ASKED}]
NAMES = ("pebble", "warm", "cold")
MOST = 24


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Two random adapters of pebble."""
    home = tmp_path_factory.mktemp("adapters")
    with gemstead.open("pebble") as model:
        spec = model.spec
    return {name: save_adapter(home / name, spec, seed, lora_alpha=80) for seed, name in enumerate(NAMES[1:])}


@pytest.fixture(scope="module")
def expected(folders):
    """What gemstead.open says under each name, and its vector of the question."""
    with gemstead.open("pebble", adapters=folders) as model:
        said, vectors = {}, {}
        for name in NAMES:
            adapter = None if name == "pebble" else name
            events = model.chat([Message.user(ASKED)], adapter=adapter, temperature=0, max_tokens=MOST)
            said[name] = "".join(event.text for event in events if isinstance(event, TextDelta))
            vectors[name] = model.embed(ASKED, adapter=adapter)[0]
    assert len(set(said.values())) == 3
    return said, vectors


@pytest.fixture(scope="module")
def tuned(folders):
    """A server of pebble with both."""
    given = [word for name, folder in folders.items() for word in ("--adapter", f"{name}={folder}")]
    running = start(*given, "--alias", "hot=warm")
    yield running
    assert end(running) == 0


def by_openai(running: Running, name: str) -> str:
    client = openai.OpenAI(base_url=f"{running.url}/v1", api_key=running.key)
    chunks = client.chat.completions.create(
        model=name, messages=TALK, temperature=0, max_tokens=MOST, stream=True
    )
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks)


def by_responses(running: Running, name: str) -> str:
    client = openai.OpenAI(base_url=f"{running.url}/v1", api_key=running.key)
    asked = {"model": name, "input": ASKED, "temperature": 0, "max_output_tokens": MOST}
    return client.responses.create(**asked).output_text


def by_anthropic(running: Running, name: str) -> str:
    client = anthropic.Anthropic(base_url=running.url, api_key=running.key)
    answer = client.messages.create(model=name, messages=TALK, max_tokens=MOST, extra_body={"temperature": 0})
    assert answer.model == name
    return "".join(block.text for block in answer.content)


def by_ollama(running: Running, name: str) -> str:
    client = ollama.Client(running.url, headers={"Authorization": f"Bearer {running.key}"})
    answer = client.chat(f"{name}:latest", TALK, options={"temperature": 0, "num_predict": MOST})
    return answer.message.content


@pytest.mark.parametrize("ask", [by_openai, by_responses, by_anthropic, by_ollama])
def test_the_name_of_an_adapter_answers_with_it(tuned, expected, ask):
    assert {name: ask(tuned, name) for name in NAMES} == expected[0]
    assert ask(tuned, "hot") == expected[0]["warm"]


def test_all_in_one_batch_say_what_each_says_alone(tuned, expected):
    with ThreadPoolExecutor(12) as pool:
        names = NAMES * 4
        said = list(pool.map(lambda name: by_openai(tuned, name), names))
    assert said == [expected[0][name] for name in names]


def test_continuations_and_embeddings(tuned, folders, expected):
    with gemstead.open("pebble", adapters=folders) as model:
        ids = [model.spec.tokens.bos, *model.tokenizer.encode("Once upon a")]
        greedy = gemstead.SamplingParams(temperature=0, max_tokens=8)
        outputs = {n: model.generate(ids, greedy, adapter=n) for n in folders} | {
            "pebble": model.generate(ids, greedy)
        }
        plain = model.tokenizer.decode
        for name in NAMES:
            body = {"model": name, "prompt": ids, "max_tokens": 8, "temperature": 0}
            text = tuned.post("/v1/completions", body)[1]["choices"][0]["text"]
            assert text == plain([i for i in outputs[name] if i not in model.spec.tokens.eos])
            raw = {"prompt": "Once upon a", "raw": True, "stream": False}
            options = {"num_predict": 8, "temperature": 0}
            value = tuned.post("/api/generate", {"model": name, **raw, "options": options})[1]
            assert value["response"] == text
    for name, vector in expected[1].items():
        value = tuned.post("/v1/embeddings", {"model": name, "input": ASKED})[1]
        np.testing.assert_allclose(np.array(value["data"][0]["embedding"]), vector, atol=1e-6)
        value = tuned.post("/api/embed", {"model": name, "input": ASKED})[1]
        np.testing.assert_allclose(np.array(value["embeddings"][0]), vector, atol=1e-6)
    assert not np.allclose(expected[1]["pebble"], expected[1]["warm"], atol=1e-3)


def test_what_was_read_under_one_is_never_used_under_another(tuned):
    talk = [{"role": "user", "content": "Tell me of the sea and the hills. " * 8}]

    def cached(name: str) -> int:
        body = {"model": name, "messages": talk, "max_tokens": 1}
        usage = tuned.post("/v1/chat/completions", body)[1]["usage"]
        return usage["prompt_tokens_details"]["cached_tokens"]

    assert [cached(name) for name in ("warm", "pebble", "cold")] == [0, 0, 0]
    assert all(cached(name) > 0 for name in NAMES)


def test_they_are_listed_with_their_model(tuned):
    listed = {entry["id"]: entry for entry in tuned.get("/v1/models")[1]["data"]}
    assert {name: entry["parent"] for name, entry in listed.items()} == {
        "pebble": None, "warm": "pebble", "hot": "pebble", "cold": "pebble",
    }  # fmt: skip
    assert tuned.get("/v1/models/warm")[1] == listed["warm"]
    tags = {entry["name"]: entry for entry in tuned.get("/api/tags")[1]["models"]}
    assert [tags[name]["details"]["parent_model"] for name in NAMES] == ["", "pebble", "pebble"]
    assert len({entry["digest"] for entry in tags.values()}) == 3
    assert tags["warm"]["size"] > tags["pebble"]["size"]
    assert tuned.post("/api/show", {"model": "cold"})[1]["details"]["parent_model"] == "pebble"
    status = tuned.status()["models"]
    assert [(model["name"], model["adapters"]) for model in status] == [("pebble", ["warm", "cold"])]
    assert "an adapter of pebble" in tuned.wait_line("warm at ")


def test_the_log_names_the_adapter_and_no_folder(tuned, folders):
    before = len(tuned.lines)
    by_openai(tuned, "warm")
    assert "model=warm" in tuned.wait_line("path=/v1/chat", before)
    shown = json.dumps([tuned.get(path)[1] for path in ("/v1/models", "/api/tags")])
    assert str(folders["warm"].parent) not in shown
    status, value = tuned.post("/v1/chat/completions", {"model": "mild", "messages": TALK})
    assert (status, value["error"]["code"]) == (404, "model_not_found")
    assert "pebble, warm, hot, cold" in value["error"]["message"]
