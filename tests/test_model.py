"""The public face: opening, logits, ids, chat, and what is said when something is wrong."""

from __future__ import annotations

import re
import sys
import threading
from dataclasses import replace

import numpy as np
import pytest

import gemstead
from gemstead import model as model_module
from gemstead.backend.native import is_built
from gemstead.errors import CapacityError, ConfigError, InputError, WeightsError
from gemstead.spec.variants import DRAFTERS, VARIANTS
from gemstead.types import Done, Message, OutputFormat, SamplingParams, TextDelta, Tool, ToolCallEvent
from gemstead.weights.model_file import write_model_folder, write_model_gguf
from gemstead.weights.vocabulary import Vocabulary
from support.memory_store import MemoryStore
from support.vocab import small_vocabulary

VOCAB = 640  # the small vocabulary, filled up to what the drafter's clusters divide
IDS = [2, 105, 7, 300, 301, 5]


def resized(spec):
    more = {"vocab_size_per_layer_input": VOCAB} if getattr(spec, "vocab_size_per_layer_input", 0) else {}
    return replace(spec, vocab_size=VOCAB, **more)


def arrays(spec, seed=0):
    found = {name: t.values for name, t in MemoryStore(spec, seed=seed, scale=0.3).tensors.items()}
    found["embed_tokens"] *= 0.2  # tied: else a token mostly follows itself
    return found


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A GGUF with a vocabulary, a folder without one, and a drafter; all of the same tiny model."""
    home = tmp_path_factory.mktemp("models")
    spec = resized(VARIANTS["tiny-e2b"])
    spec = replace(spec, tokens=replace(spec.tokens, eos=(1, 106, 50)))
    tokens, types, merges = small_vocabulary()
    fill = VOCAB - len(tokens)
    vocabulary = Vocabulary(tokens + [f"<fill{i}>" for i in range(fill)], types + [5] * fill, merges)
    write_model_gguf(home / "tiny.gguf", spec, arrays(spec), vocabulary=vocabulary)
    (home / "folder").mkdir()
    write_model_folder(home / "folder", spec, arrays(spec), "f32")
    drafter = resized(DRAFTERS["tiny-e2b"])
    (home / "drafter").mkdir()
    write_model_folder(home / "drafter", drafter, arrays(drafter, 1), "f32")
    return home


@pytest.fixture(scope="module", params=["reference", "native"])
def backend(request):
    if request.param == "native" and not is_built():
        pytest.skip("the native engine is not built: python native/build.py library")
    return request.param


@pytest.fixture(scope="module")
def model(files, backend):
    with gemstead.open(files / "tiny.gguf", memory="20MB", backend=backend) as opened:
        yield opened


def test_logits_of_any_length(model):
    ids = np.random.default_rng(0).integers(0, VOCAB, 400)
    logits = model.logits(ids)
    assert logits.shape == (400, VOCAB)
    assert logits.dtype == np.float32
    assert np.isfinite(logits).all()
    assert np.array_equal(model.logits(list(ids[:70])), logits[:70])
    assert np.array_equal(model.logits(ids[:1]), logits[:1])


def test_generate_is_the_argmax_of_logits(model):
    greedy = SamplingParams(temperature=0, max_tokens=8)
    ids = list(IDS)
    for _ in range(8):
        ids.append(int(model.logits(ids)[-1].argmax()))
    assert model.generate(IDS, greedy) == ids[len(IDS) :]
    seeded = SamplingParams(seed=3, max_tokens=8)
    assert model.generate(IDS, seeded) == model.generate(IDS, seeded)
    assert model.generate(IDS, SamplingParams(max_tokens=0)) == []


@pytest.mark.parametrize("drafter", ["none", "ngram", "mtp"])
@pytest.mark.parametrize("file", ["tiny.gguf", "folder"])
def test_drafters_and_containers_agree(model, files, drafter, file, backend):
    path = files / "drafter" if drafter == "mtp" else drafter
    for params in (SamplingParams(temperature=0, max_tokens=20), SamplingParams(seed=1, max_tokens=20)):
        with gemstead.open(files / file, drafter=path, memory="20MB", backend=backend) as other:
            assert other.generate(IDS, params) == model.generate(IDS, params)
            assert (other.stats().drafted_tokens > 0) >= (drafter == "mtp")


@pytest.mark.parametrize("bad", [[], [-1], [VOCAB], [1.5], "text", None, [[1]], [True]])
def test_bad_ids(model, bad):
    for call in (model.logits, model.generate):
        with pytest.raises(InputError, match="whole numbers from 0 to"):
            call(bad)


def test_too_many_ids(model):
    with pytest.raises(CapacityError, match=r"513 tokens > 512 maximum"):
        model.logits([1] * 513)
    assert model.logits([1] * 512).shape[0] == 512
    with pytest.raises(CapacityError):
        model.generate([1] * 512)


def test_chat_yields_events(model):
    events = list(model.chat([Message.user("the user")], seed=1, max_tokens=12))
    assert isinstance(events[-1], Done)
    assert events[-1].usage.completion_tokens <= 12
    assert isinstance(model.ask("the user", tools=(), seed=1, max_tokens=5), str)


def test_chat_takes_every_sampling_field_and_no_other(model):
    everything = {"temperature": 0.5, "top_k": 5, "top_p": 0.9, "min_p": 0.1, "seed": 1, "max_tokens": 2}
    everything |= {"stop": "the", "logprobs": 1, "repetition_penalty": 1.1}
    everything |= {"presence_penalty": 0.1, "frequency_penalty": 0.1}
    events = list(model.chat([Message.user("hi")], **everything))
    assert isinstance(events[-1], Done)
    assert all(e.logprobs for e in events if isinstance(e, TextDelta))
    with pytest.raises(InputError, match=r"temprature, topk; allowed are temperature, top_k"):
        model.chat([Message.user("hi")], temprature=1, topk=3)
    with pytest.raises(InputError, match="top_p = 7"):
        model.chat([Message.user("hi")], top_p=7)


@pytest.mark.parametrize(
    ("messages", "tools", "says"),
    [
        ([], (), "messages is empty"),
        ("hi", (), "messages is of type str"),
        (["hi"], (), r"messages\[0\] is of type str"),
        ([{"role": "user"}], (), r"messages\[0\] is of type dict"),
        ([Message.user("hi")], [print], r"tools\[0\] is of type"),
    ],
)
def test_chat_refuses_what_is_not_a_conversation(model, messages, tools, says):
    with pytest.raises(InputError, match=says):
        model.chat(messages, tools)


def test_ask_raises_what_failed(model, monkeypatch):
    def broken(_):
        raise RuntimeError("the sky fell")

    monkeypatch.setattr(model._backend, "forward", broken)
    with pytest.raises(gemstead.GemsteadError, match="the sky fell"):
        model.ask("hi", tools=[Tool("look")])


def test_generate_has_no_stop_strings(model):
    with pytest.raises(InputError, match="stop strings"):
        model.generate(IDS, SamplingParams(stop=("x",)))


def test_a_model_without_tokenizer(files):
    with gemstead.open(files / "folder", memory="20MB") as opened:
        assert opened.logits(IDS).shape == (6, VOCAB)
        for attempt in (lambda: opened.tokenizer, lambda: opened.chat([Message.user("hi")])):
            with pytest.raises(ConfigError, match=r"folder/tokenizer\.json is missing"):
                attempt()


def test_threads_share_a_model(model):
    results = {}

    def work(i):
        results[i] = model.generate([2, i], SamplingParams(seed=i, max_tokens=10))

    threads = [threading.Thread(target=work, args=(i,)) for i in range(6)]
    for t in threads:
        t.start()
    for t in threads:
        t.join(60)
    assert results == {i: model.generate([2, i], SamplingParams(seed=i, max_tokens=10)) for i in range(6)}


def test_closed_is_closed(files):
    opened = gemstead.open(files / "tiny.gguf", memory="20MB")
    stream = opened.chat([Message.user("hi")], seed=1)
    next(stream)
    opened.close()
    opened.close()
    assert isinstance(list(stream)[-1], Done)
    for call in (lambda: opened.logits(IDS), lambda: opened.generate(IDS), lambda: opened.ask("hi")):
        with pytest.raises(ConfigError, match="closed"):
            call()


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"memory": "lots"}, ConfigError, "memory = 'lots'"),
        ({"memory": 0}, ConfigError, "memory = 0"),
        ({"memory": True}, ConfigError, "memory = True"),
        ({"memory": 100}, ConfigError, "holds no page"),
        ({"context": 0}, ConfigError, "context = 0"),
        ({"context": "4k"}, ConfigError, "context = '4k'"),
        ({"backend": "abacus"}, ConfigError, "abacus"),
        ({"drafter": "nowhere"}, WeightsError, "nowhere"),
    ],
)
def test_bad_options_are_refused(files, options, error, says):
    with pytest.raises(error, match=says):
        gemstead.open(files / "folder", **options)


def test_models_and_drafters_are_told_apart(files):
    with pytest.raises(ConfigError, match="is a drafter"):
        gemstead.open(files / "drafter")
    with pytest.raises(ConfigError, match="is a model, not a drafter"):
        gemstead.open(files / "folder", drafter=files / "folder")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2GB", 2e9),
        ("1.5 GiB", 1.5 * 2**30),
        ("512mb", 512e6),
        ("64KiB", 65536),
        ("1000", 1000),
        (7, 7),
        (".5G", 5e8),
    ],
)
def test_amounts_of_memory(text, value):
    assert model_module._bytes(text) == value


def test_the_ceiling_is_kept_and_reported(files):
    with gemstead.open(files / "tiny.gguf", memory=300_000, backend="reference") as opened:
        opened.generate(IDS, SamplingParams(max_tokens=30, seed=0))
        stats = opened.stats()
        assert stats.memory_bytes == 300_000
        assert stats.cache_bytes <= 300_000
        with pytest.raises(CapacityError, match="300,000"):
            opened.generate([1] * 500)


@pytest.mark.parametrize("name", ["reference", "native", "torch"])
def test_a_prompt_is_not_read_again_after_a_restart(files, tmp_path, name):
    if name == "native" and not is_built():
        pytest.skip("the native engine is not built: python native/build.py library")
    ids, params = [2, *range(100, 400)], SamplingParams(temperature=0, max_tokens=8)
    outputs, cached = [], []
    for folder in (None, tmp_path, tmp_path):
        with gemstead.open(
            files / "tiny.gguf", backend=name, memory="20MB", prefix_cache_dir=folder
        ) as opened:
            outputs.append(opened.generate(ids, params))
            cached.append(opened.stats().cached_tokens)
    assert cached == [0, 0, 288]
    assert outputs[0] == outputs[1] == outputs[2]


@pytest.fixture(scope="module")
def pebble():
    with gemstead.open("pebble") as opened:
        yield opened


ADD = Tool(
    "add",
    "Adds",
    {
        "type": "object",
        "properties": {"a": {"type": "integer"}, "b": {"enum": [1, 2]}},
        "required": ["a", "b"],
    },
)
STRANGE = Tool("t", "", {"type": "object", "properties": {"x": {"not": {}}}})


@pytest.mark.parametrize("thinking", [False, True])
@pytest.mark.parametrize("choice", ["required", "add"])
def test_a_call_can_be_asked_for(pebble, choice, thinking):
    options = {"tool_choice": choice, "thinking": thinking, "temperature": 2.0, "max_tokens": 200}
    for seed in range(3):
        events = list(pebble.chat([Message.user("hello")], [ADD], seed=seed, **options))
        calls = [e.call for e in events if isinstance(e, ToolCallEvent)]
        if events[-1].reason == "length":  # wild thoughts may fill all of it
            continue
        assert calls
        for call in calls:
            assert call.name == "add"
            assert isinstance(call.arguments["a"], int)
            assert call.arguments["b"] in (1, 2)


def test_calls_can_be_forbidden(pebble):
    events = list(pebble.chat([Message.user("What is 2 + 2?")], [ADD], tool_choice="none", max_tokens=60))
    assert not any(isinstance(e, ToolCallEvent) for e in events)


@pytest.mark.parametrize("thinking", [False, True])
@pytest.mark.parametrize(
    ("output", "wanted"),
    [
        (OutputFormat("choice", ["yes", "no"]), "yes|no"),
        (OutputFormat("regex", "[ab]{3}"), "[ab]{3}"),
        (OutputFormat("json_schema", {"type": "array", "items": {"type": "null"}, "maxItems": 2}), r"\[.*\]"),
    ],
)
def test_an_answer_can_be_held_to_a_format(pebble, output, wanted, thinking):
    events = list(pebble.chat([Message.user("hello")], output=output, thinking=thinking, max_tokens=120))
    text = "".join(e.text for e in events if isinstance(e, TextDelta))
    assert re.fullmatch(wanted, text, re.DOTALL)
    assert events[-1].reason == "stop"


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"tool_choice": "subtract"}, "subtract"),
        ({"tools": [], "tool_choice": "required"}, "no tool is on offer"),
        ({"tools": [STRANGE]}, "'not'"),
        ({"output": OutputFormat("regex", "(")}, "output format"),
    ],
)
def test_what_cannot_be_held_to_is_refused_at_once(pebble, options, word):
    with pytest.raises(InputError) as error:
        pebble.chat([Message.user("hi")], **{"tools": [ADD], **options})
    assert word in str(error.value)


def test_without_the_constraint_any_schema_will_do(pebble):
    events = list(pebble.chat([Message.user("hi")], [STRANGE], constrain=False, max_tokens=5))
    assert isinstance(events[-1], Done)


def test_the_public_names_load_lazily():
    assert "gemstead.model" in sys.modules
    assert gemstead.open is model_module.open
    assert gemstead.Model is model_module.Model


@pytest.mark.parametrize("eager", [0, VOCAB])
def test_a_damaged_vocabulary_is_a_weights_error(tmp_path, monkeypatch, eager):
    """Told while opening where the vocabulary is small, else when text is first needed."""
    monkeypatch.setattr(model_module, "_EAGER_TOKENS", eager)
    spec = resized(VARIANTS["tiny-e2b"])
    spec = replace(spec, tokens=replace(spec.tokens, eos=(1, 106, 50)))
    tokens, types, merges = small_vocabulary()
    tokens, types = tokens + ["<fill>"] * (VOCAB - len(tokens)), types + [5] * (VOCAB - len(tokens))
    write_model_gguf(
        tmp_path / "m.gguf", spec, arrays(spec), vocabulary=Vocabulary(tokens, types, ["a", *merges])
    )
    says = r"m\.gguf: cannot build a tokenizer .* merge 0 is not two pieces"
    if eager:
        with pytest.raises(WeightsError, match=says):
            gemstead.open(tmp_path / "m.gguf", memory="20MB")
        return
    with gemstead.open(tmp_path / "m.gguf", memory="20MB") as opened:
        assert opened.generate(IDS, SamplingParams(max_tokens=1))
        for attempt in (lambda: opened.tokenizer, lambda: opened.chat([Message.user("hi")])):
            with pytest.raises(WeightsError, match=says):
                attempt()
    with pytest.raises(ConfigError, match="closed"):
        _ = opened.tokenizer


def test_a_damaged_tokenizer_json_is_a_weights_error(tmp_path):
    spec = resized(VARIANTS["tiny-e2b"])
    write_model_folder(tmp_path, spec, arrays(spec), "f32")
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(WeightsError, match="not JSON"):
        gemstead.open(tmp_path, memory="20MB")


def test_a_model_says_how_it_is_sampled(tmp_path):
    """The file's own wishes are the defaults; what the caller gives wins; an impossible wish is refused."""
    spec = resized(VARIANTS["tiny-e2b"])
    asks = {"general.sampling.temp": 0.0, "general.sampling.top_k": 7}
    write_model_gguf(tmp_path / "m.gguf", spec, arrays(spec), metadata=asks)
    with gemstead.open(tmp_path / "m.gguf", memory="20MB") as opened:
        assert (opened.sampling.temperature, opened.sampling.top_k, opened.sampling.top_p) == (0.0, 7, 0.95)
        given = model_module.sampling_params({"temperature": 0.5}, opened.sampling)
        assert (given.temperature, given.top_k) == (0.5, 7)
        assert opened.generate(IDS, replace(opened.sampling, max_tokens=4)) == opened.generate(
            IDS, SamplingParams(temperature=0.0, max_tokens=4)
        )
    write_model_gguf(tmp_path / "m.gguf", spec, arrays(spec), metadata={"general.sampling.temp": -1.0})
    with pytest.raises(WeightsError, match=r"m\.gguf asks to be sampled .* temperature = -1\.0"):
        gemstead.open(tmp_path / "m.gguf", memory="20MB")
    (tmp_path / "folder").mkdir()
    write_model_folder(tmp_path / "folder", spec, arrays(spec), "f32")
    (tmp_path / "folder" / "generation_config.json").write_text('{"do_sample": false, "top_k": 3}')
    with gemstead.open(tmp_path / "folder", memory="20MB") as opened:
        assert (opened.sampling.temperature, opened.sampling.top_k) == (0.0, 3)


def test_a_template_of_a_stranger_is_a_note(tmp_path):
    spec = VARIANTS["tiny-e2b"]
    for template, said in (
        (None, None),
        ("{{ '<|turn>' }}", "an unknown Gemma 4 template"),
        ("{{ x }}", "not a Gemma 4"),
    ):
        path = tmp_path / "m.gguf"
        write_model_gguf(path, spec, arrays(spec), chat_template=template)
        with gemstead.open(path, backend="reference", memory="20MB") as model:
            assert (
                (model.note is None) if said is None else (said in model.note and "newest, v4" in model.note)
            )


def test_weights_that_do_not_stay_in_memory_are_a_note(monkeypatch):
    with gemstead.open("pebble", memory="20MB") as model:
        assert model.note is None
        held = model.stats().weights_bytes
    monkeypatch.setattr("gemstead.machine.memory.available_bytes", lambda: 0)
    monkeypatch.setattr("gemstead.machine.memory.anonymous_bytes", lambda: held - 2_000_000)
    with gemstead.open("pebble", memory="20MB") as model:
        assert "0.0 GB more than is free: they are read from the disk again" in model.note


@pytest.mark.parametrize("path", ["", " ", None, 3])
def test_what_names_no_model(path):
    with pytest.raises(ConfigError, match="names no model"):
        gemstead.open(path)


def test_thousands_of_threads_are_refused():
    with pytest.raises(ConfigError, match="threads=10000 is more than 256"):
        gemstead.open(threads=10_000)


def test_a_longer_context_than_the_model_holds_is_told():
    with gemstead.open("pebble", context=10**9) as model:
        most = model.spec.max_position_embeddings
        assert model.note == f"a context of 1,000,000,000 tokens was asked for; this model holds {most:,}"
    with gemstead.open("pebble", context=most) as model:
        assert model.note is None
