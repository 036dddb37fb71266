"""gemstead pull, list and the rest of the way: what a person sees of a download."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import gemstead
from gemstead import pebble
from support.repositories import E2B, MMPROJ, WEIGHTS


@pytest.mark.usefixtures("hub")
def test_pull_then_list_then_show_then_run(gem):
    ran = gem("pull", "E2B")
    assert ran.code == 0
    path = Path(ran.out.strip())
    assert path.name == WEIGHTS
    lines = ran.err.splitlines()
    assert lines[0] == f"gemma4:e2b-it-qat: Q4_0 from {E2B} at 0123456"
    assert lines[1].split()[0] == "weights"
    assert MMPROJ in ran.err
    assert lines[-1] == 'gemma4:e2b-it-qat is ready: gemstead run gemma4:e2b-it-qat "Hello"'
    assert "gemma4:e2b-it-qat" in gem("list").out
    assert gem("show", "gemma4:e2b").out.splitlines()[1] == str(path)
    assert gem("--offline", "show", "gemma-4-E2B-it").code == 0


def test_a_pulled_model_answers_by_its_short_name(hub, gem):
    hub.repos[E2B][WEIGHTS] = pebble.path().read_bytes()
    assert gem("pull", "e2b").code == 0
    assert "408" in gem("run", "e2b", "What is 17% of 2400?").out
    with gemstead.open("gemma4:e2b") as model:
        assert model.spec.name == "pebble"


def test_the_name_that_pull_prints_works(hub, gem):
    part = "BF16/x-BF16-00001-of-00001.gguf"
    raw = hub.repos[E2B][WEIGHTS]
    hub.repos["someone/odd-GGUF"] = {part: raw, "x-Q8_0.gguf": raw + b"x"}
    ran = gem("pull", "hf.co/someone/odd-GGUF:bf16")
    name = f"someone/odd-GGUF:{part}"
    assert f"{name} is ready: gemstead run {name}" in ran.err
    assert gem("show", name).out.splitlines()[1] == ran.out.strip()
    assert gem("rm", name, "--yes").code == 0


@pytest.mark.usefixtures("hub")
def test_a_second_pull_says_so(gem):
    gem("pull", "e2b")
    assert "is here already, checked when it came" in gem("pull", "e2b").err


def test_dry_run_fetches_nothing(hub, gem):
    ran = gem("pull", "e2b", "--dry-run", "--json")
    entry = json.loads(ran.out)
    assert entry["missing_bytes"] == entry["total_bytes"] == sum(file["bytes"] for file in entry["files"])
    assert hub.sent_bytes == 0
    assert gem("list").out == ""


def test_json_holds_the_hashes(hub, gem):
    entry = json.loads(gem("pull", "e2b", "--json").out)
    assert {file["path"]: len(file["sha256"]) for file in entry["files"]} == {WEIGHTS: 64, MMPROJ: 64}
    assert entry["revision"] == hub.commit


@pytest.mark.usefixtures("hub")
def test_the_drafter_of_a_model(gem):
    ran = gem("pull", "e2b-bf16", "--drafter")
    assert ran.code == 0, ran.err
    assert len(ran.out.splitlines()) == 2
    assert (
        gem("run", "-m", "e2b-bf16", "--drafter", "e2b-assistant", "hi").err.count("is missing") == 1
    )  # tokenizer
    assert gem("pull", "someone/several-GGUF:Q8_0", "--drafter").err.startswith(
        "error: gemstead knows no drafter"
    )


def test_offline_is_refused_before_anything(hub, gem):
    assert "gemstead pull needs the network" in gem("pull", "--offline", "e2b").err
    assert hub.requests == []


def test_a_failure_is_one_line(hub, gem):
    hub.gated = True
    ran = gem("pull", "e2b")
    assert (ran.code, ran.out) == (1, "")
    assert ran.err.startswith(f"error: {E2B} is gated")
