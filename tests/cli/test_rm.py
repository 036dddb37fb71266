"""gemstead rm: asks, obeys, and touches nothing of others."""

from __future__ import annotations

import pytest

from support.repositories import E2B, WEIGHTS, repositories


@pytest.mark.usefixtures("hub")
def test_yes(gem):
    gem("pull", "e2b")
    ran = gem("rm", "gemma4:e2b", "--yes")
    assert (ran.code, ran.out) == (0, "removed gemma4:e2b-it-qat: 540.4 kB free again\n")
    assert WEIGHTS in ran.err
    assert gem("list").out == ""


@pytest.mark.usefixtures("hub")
def test_without_a_person_and_without_yes_nothing_goes(gem):
    gem("pull", "e2b")
    assert "nobody is here to be asked; add --yes" in gem("rm", "e2b").err
    assert gem("list").out


@pytest.mark.usefixtures("hub")
def test_a_no_keeps_it(gem, monkeypatch):
    gem("pull", "e2b")
    monkeypatch.setattr("gemstead.cli.rm.agreed", lambda _: False)
    assert "gemma4:e2b-it-qat stays" in gem("rm", "e2b").err
    assert gem("list").out


def test_what_is_not_there(gem):
    assert "the model 'e2b' is not on this machine" in gem("rm", "e2b", "--yes").err


def test_models_of_others(gem, home):
    path = home / ".lmstudio/models/a/gemma-4-E2B-it-GGUF/x-Q8_0.gguf"
    path.parent.mkdir(parents=True)
    path.write_bytes(repositories()[E2B][WEIGHTS])
    ran = gem("rm", "a/gemma-4-E2B-it-GGUF", "--yes")
    assert ran.code == 1
    assert "put there by LM Studio" in ran.err
    assert path.exists()
