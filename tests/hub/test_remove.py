"""Removing: what gemstead fetched goes, what others need or brought stays."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from gemstead.errors import HubError
from gemstead.hub.local import resolve, scan
from gemstead.hub.remove import forget, remove, unfinished

E2B = "google/gemma-4-E2B-it-qat-q4_0-gguf"
WEIGHTS = "gemma-4-E2B_q4_0-it.gguf"


def left(home):
    return sorted(p.name for p in home.rglob("*") if p.is_file() and ".locks" not in p.parts)


def test_nothing_is_left(hub, home, fetch):
    fetch("e2b")
    size = sum(len(hub.repos[E2B][f.path]) for f in fetch("e2b").manifest.files)
    assert remove(resolve("e2b")) == size
    assert left(home) == []
    assert scan() == []


def test_what_another_format_needs_stays(home, fetch):
    fetch("someone/several-GGUF:Q8_0")
    fetch("someone/several-GGUF:F32")
    remove(resolve("someone/several-GGUF:Q8_0"))
    model = resolve("someone/several-GGUF:F32")
    assert model.mmproj is not None
    assert model.mmproj.exists()
    remove(model)
    assert left(home) == []


def test_what_was_there_before_stays(fetch):
    code = f"from huggingface_hub import hf_hub_download\nhf_hub_download({E2B!r}, {WEIGHTS!r})"
    subprocess.run([sys.executable, "-c", code], env=dict(os.environ), capture_output=True, check=True)
    fetch("e2b")
    remove(resolve("e2b"))
    assert [model.origin for model in scan()] == ["Hugging Face"]


def test_models_of_others_are_refused(home, contents):
    path = home / ".lmstudio/models/a/gemma-4-E2B-it-GGUF/gemma-4-E2B-it-Q8_0.gguf"
    path.parent.mkdir(parents=True)
    path.write_bytes(contents[E2B][WEIGHTS])
    with pytest.raises(
        HubError, match=r"was put there by LM Studio, not by gemstead: .* remove it with LM Studio"
    ):
        remove(resolve("a/gemma-4-E2B-it-GGUF"))
    own = home / ".local/share/gemstead/models/mine.gguf"
    own.parent.mkdir(parents=True)
    path.rename(own)
    with pytest.raises(HubError, match=r"was put there by you, .* remove it yourself"):
        remove(scan()[0])
    assert own.exists()


def test_an_unfinished_pull(hub, home, fetch):
    hub.cuts = [1000, *([0] * 20)]
    with pytest.raises(HubError):
        fetch("e2b", text_only=True)
    (begun,) = unfinished()
    assert (begun.name, begun.bytes) == ("gemma4:e2b-it-qat", 1000)
    forget(begun)
    assert left(home) == []
    assert unfinished() == []


def test_a_finished_pull_leaves_no_note(fetch):
    fetch("e2b")
    assert unfinished() == []
