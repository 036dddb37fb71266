"""What is on a disk already, whoever put it there: found, named, used in place, never changed."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import replace

import pytest

from gemstead.errors import HubError
from gemstead.hub.examine import variant_of
from gemstead.hub.local import find, resolve, scan
from gemstead.hub.names import parse
from gemstead.spec.variants import DRAFTERS, VARIANTS
from support.weight_files import save_gguf

NAME = "gemma-4-E2B-it-Q8_0.gguf"


@pytest.fixture
def ollama(home):
    """Ollama's store with one model and its projector."""

    def put(tag, content, projector=b"GGUF projector"):
        store = home / ".ollama/models"
        (store / "blobs").mkdir(parents=True, exist_ok=True)
        layers = []
        for kind, raw in (("model", content), ("projector", projector), ("license", b"Apache")):
            digest = hashlib.sha256(raw).hexdigest()
            (store / "blobs" / f"sha256-{digest}").write_bytes(raw)
            media = f"application/vnd.ollama.image.{kind}"
            layers.append({"mediaType": media, "digest": f"sha256:{digest}", "size": len(raw)})
        file = store / "manifests/registry.ollama.ai/library/gemma4" / tag
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps({"schemaVersion": 2, "layers": layers}))
        return store

    return put


@pytest.fixture
def gguf(contents):
    return contents["google/gemma-4-E2B-it-qat-q4_0-gguf"]["gemma-4-E2B_q4_0-it.gguf"]


def put(path, raw):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(raw)
    return path


def test_an_empty_machine():
    assert scan() == []
    with pytest.raises(
        HubError, match="the model 'e2b' is not on this machine; gemstead pull e2b fetches it"
    ):
        resolve("e2b")


def test_all_origins(home, gguf, ollama):
    put(home / ".local/share/gemstead/models/mine.gguf", gguf)
    put(home / ".lmstudio/models/lmstudio-community/gemma-4-E2B-it-GGUF" / NAME, gguf)
    put(home / ".lmstudio/models/lmstudio-community/gemma-4-E2B-it-GGUF/mmproj-model-f16.gguf", gguf[:99])
    put(home / "hf/hub/models--a--gemma-4-E2B-it-GGUF/snapshots/abc" / NAME, gguf)
    ollama("e2b", gguf)
    found = {model.origin: model for model in scan()}
    assert {origin: model.name for origin, model in found.items()} == {
        "folder": "mine",
        "Hugging Face": f"a/gemma-4-E2B-it-GGUF:{NAME}",
        "LM Studio": f"lmstudio-community/gemma-4-E2B-it-GGUF/{NAME}",
        "Ollama": "gemma4:e2b",
    }
    assert found["LM Studio"].mmproj is not None
    assert found["Ollama"].mmproj is not None
    assert all(model.manifest is None and model.facts.variant == "tiny-e2b" for model in found.values())
    assert resolve("lmstudio-community/gemma-4-E2B-it-GGUF:Q8_0").origin == "LM Studio"
    assert resolve("a/gemma-4-E2B-it-GGUF").origin == "Hugging Face"


def test_nothing_is_changed(gguf, ollama):
    store = ollama("e2b", gguf)
    before = {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in store.rglob("*")}
    scan()
    assert {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in store.rglob("*")} == before


def test_ollama_by_content(home, gguf, ollama, monkeypatch):
    ollama("custom-tag", gguf)
    ollama("latest", b"GGUF but not really")
    store = ollama("other", b"GGUF no", b"p")
    (store / "manifests/registry.ollama.ai/library/gemma4/broken").write_text("{")
    (store / "manifests/registry.ollama.ai/library/gemma4/odd").write_text('{"layers": [{"mediaType": 1}]}')
    outside = {"mediaType": "application/vnd.ollama.image.model", "digest": "sha256:../../../etc/passwd"}
    (store / "manifests/registry.ollama.ai/library/gemma4/evil").write_text(json.dumps({"layers": [outside]}))
    assert [model.name for model in scan()] == ["gemma4:custom-tag"]
    monkeypatch.setenv("OLLAMA_MODELS", str(home / "nowhere"))
    assert scan() == []


@pytest.mark.parametrize(
    ("name", "asked", "fits"),
    [
        ("anything-Q8_0", "e4b", True),
        ("anything-Q8_0", "e4b-q8_0", True),
        ("anything-Q8_0", "e4b-q4_0", False),
        ("anything-qat-Q4_0", "gemma4:e4b-it-qat", True),
        ("anything-Q4_0", "gemma4:e4b-it-qat", False),
        ("anything-base-Q8_0", "e4b", False),
        ("anything-base-Q8_0", "e4b-base", True),
        ("anything-Q8_0", "e2b", False),
        ("anything-Q8_0", "e4b-assistant", False),
    ],
)
def test_short_names_go_by_what_a_file_holds(home, gguf, name, asked, fits):
    """A file of any name is an E4B when it has its layers and width."""
    put(home / f".local/share/gemstead/models/{name}.gguf", gguf)
    (model,) = scan()
    model = replace(model, facts=replace(model.facts, variant="e4b"))  # a real one would be gigabytes
    assert (find(parse(asked), [model]) is not None) is fits


def test_the_shape_tells_the_variant():
    for name in ("e2b", "e4b", "12b", "26b-a4b", "31b", "tiny-e2b"):
        spec = VARIANTS[name]
        assert variant_of(spec.num_layers, spec.hidden_size) == name
    assert variant_of(3, 4) is variant_of("x", None) is None


def test_several_equal_models_are_listed(home, gguf):
    for name in ("one", "two"):
        put(home / f"hf/hub/models--a--gemma-4-E2B-it-GGUF/snapshots/{name}/{NAME}", gguf)
    with pytest.raises(
        HubError, match=r"could be several models here; give one of the paths:\n.*one.*\n.*two"
    ):
        resolve("a/gemma-4-E2B-it-GGUF")


def test_a_name_as_listed_means_that_model(home, gguf, ollama):
    put(home / ".local/share/gemstead/models/class/7b.gguf", gguf)
    ollama("mine", gguf + b" ")
    for model in scan():
        assert resolve(model.name).facts.path == model.facts.path
    assert {model.name for model in scan()} == {"class/7b", "gemma4:mine"}


def test_one_file_under_two_names_is_one_model(home, gguf):
    real = put(home / "hf/hub/models--a--b/blobs/abc", gguf)
    for folder in ("one", "two"):
        link = home / f"hf/hub/models--a--b/snapshots/{folder}/{NAME}"
        link.parent.mkdir(parents=True)
        link.symlink_to(real)
    assert len(scan()) == 1


def test_a_drafter_and_other_models(home, gguf):
    models = home / ".local/share/gemstead/models"
    save_gguf(put(models / "drafter.gguf", b""), DRAFTERS["tiny-e2b"], "q8_0")
    put(models / "llama.gguf", gguf.replace(b"gemma4", b"llama3"))
    put(models / "mmproj.gguf", gguf)
    put(models / "text.gguf", b"hello")
    put(models / "empty.gguf", b"")
    (model,) = scan()
    assert model.facts.is_drafter
    assert "assistant" in model.words


def test_what_is_not_whole_is_said(home, contents, gguf):
    models = home / ".local/share/gemstead/models"
    put(models / "x-00001-of-00002.gguf", gguf)
    folder = models / "folder"
    for name, raw in contents["google/gemma-4-E2B-it"].items():
        put(folder / name, raw)
    (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
    shards = {f"tensor{k}": f"model-0000{k}-of-00002.safetensors" for k in (1, 2)}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": shards}))
    faults = {model.name: model.facts.fault for model in scan()}
    assert "x-00002-of-00002.gguf" in faults["x-00001-of-00002"]
    assert "model-00002-of-00002.safetensors" in faults["folder"]


def test_a_model_that_is_not_whole_is_not_opened(home, gguf):
    put(home / "hf/hub/models--a--gemma-4/snapshots/abc/x-00001-of-00002.gguf", gguf)
    with pytest.raises(HubError, match=r"is not whole: .*x-00002-of-00002.gguf"):
        resolve("a/gemma-4")


def test_unreadable_folders_are_passed_by(home, gguf):
    models = home / ".local/share/gemstead/models"
    put(models / "a.gguf", gguf)
    (models / "loop").symlink_to(models)
    locked = models / "locked"
    locked.mkdir(mode=0o000)
    try:
        assert [model.name for model in scan()][:1] == ["a"]
    finally:
        locked.chmod(0o700)


def test_last_use(home, gguf):
    path = put(home / ".local/share/gemstead/models/a.gguf", gguf)
    os.utime(path, (2_000_000_000, 1_000_000_000))
    assert scan()[0].facts.used == 2_000_000_000
