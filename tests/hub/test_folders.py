"""Where models are looked for: the environment variables of each program."""

from __future__ import annotations

from pathlib import Path

import pytest

from gemstead.errors import HubError
from gemstead.hub.folders import hf_cache, is_offline, lm_studio, model_folders, ollama, require_network


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, "HOME/.cache/huggingface/hub"),
        ({"XDG_CACHE_HOME": "/x"}, "/x/huggingface/hub"),
        ({"HF_HOME": "/h", "XDG_CACHE_HOME": "/x"}, "/h/hub"),
        ({"HF_HOME": "~/h"}, "HOME/h/hub"),
        ({"HUGGINGFACE_HUB_CACHE": "/old", "HF_HOME": "/h"}, "/old"),
        ({"HF_HUB_CACHE": "/c", "HUGGINGFACE_HUB_CACHE": "/old"}, "/c"),
    ],
)
def test_the_hugging_face_cache(home, monkeypatch, settings, expected):
    monkeypatch.delenv("HF_HOME")
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    assert hf_cache() == Path(expected.replace("HOME", str(home)))


def test_own_folders(home, monkeypatch):
    assert model_folders() == (home / ".local/share/gemstead/models",)
    monkeypatch.setenv("GEMSTEAD_MODELS", "/a:~/b:")
    assert model_folders() == (Path("/a"), home / "b")


def test_other_programs(home, monkeypatch):
    assert lm_studio()[0] == home / ".lmstudio/models"
    assert ollama()[0] == home / ".ollama/models"
    monkeypatch.setenv("OLLAMA_MODELS", "/o")
    assert ollama() == (Path("/o"),)


@pytest.mark.parametrize("name", ["GEMSTEAD_OFFLINE", "HF_HUB_OFFLINE"])
@pytest.mark.parametrize(
    ("value", "offline"), [("1", True), ("true", True), ("ON", True), ("0", False), ("", False)]
)
def test_offline(monkeypatch, name, value, offline):
    monkeypatch.setenv(name, value)
    assert is_offline() is offline
    if offline:
        with pytest.raises(HubError, match="x needs the network, and --offline"):
            require_network("x")
