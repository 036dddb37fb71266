"""The offer of a model that fits: to a person, once, never in a pipe, never offline."""

from __future__ import annotations

import pytest

from gemstead.cli import offer as module
from gemstead.cli.names import DEFAULT_MODEL, Target
from gemstead.cli.offer import offered, recommend
from gemstead.cli.screen import Screen

TARGET = Target(DEFAULT_MODEL, ("hi",), is_default=True)


@pytest.fixture
def answer(monkeypatch):
    """Answer the question, or fail when one is asked that should not be."""
    asked = []

    def set_to(value):
        monkeypatch.setattr(module.click, "confirm", lambda text, **_: (asked.append(text), value)[1])
        return asked

    monkeypatch.setattr(module, "available_bytes", lambda: 6 << 30)
    return set_to


@pytest.mark.parametrize(
    ("free_gib", "name"),
    [(2, None), (4, None), (6, "e2b"), (8, "e4b"), (12, "e4b"), (20, "26b-a4b"), (64, "26b-a4b")],
)
def test_the_largest_that_fits_and_is_not_dense(free_gib, name):
    row = recommend(free_gib << 30)
    assert (row and row.variant) == name


@pytest.mark.usefixtures("hub")
def test_a_yes_fetches_it(answer, capsys):
    (question,) = [answer(True)]
    target = offered(TARGET, Screen())
    assert target.model.endswith("gemma-4-E2B_q4_0-it.gguf")
    assert (target.words, target.is_default) == (("hi",), False)
    assert question[0].startswith(
        "gemma4:e2b-it-qat fits this machine and knows far more than pebble: 3.3 GB"
    )
    assert offered(TARGET, Screen()) is TARGET  # it is here now: no question, a line
    assert len(question) == 1
    assert "add -m gemma4:e2b-it-qat" in capsys.readouterr().err


def test_a_no_is_remembered(hub, answer, capsys):
    asked = answer(False)
    assert offered(TARGET, Screen()) is TARGET
    assert offered(TARGET, Screen()) is TARGET
    assert len(asked) == 1
    assert hub.requests == []
    assert "this is not asked again; later: gemstead pull gemma4:e2b-it-qat" in capsys.readouterr().err


def test_a_failure_leaves_pebble(hub, answer, capsys):
    answer(True)
    hub.gated = True
    assert offered(TARGET, Screen()) is TARGET
    assert "pebble answers instead" in capsys.readouterr().err


def test_offline_asks_nothing(answer):
    assert answer(True) == []
    assert offered(TARGET, Screen()) is TARGET


@pytest.mark.usefixtures("hub")
def test_a_small_machine_is_not_asked(answer, monkeypatch):
    monkeypatch.setattr(module, "available_bytes", lambda: 1 << 30)
    assert offered(TARGET, Screen()) is TARGET
    assert answer(True) == []


def test_a_pipe_is_never_asked(hub, gem, fake, script):
    fake(script.says("hello"))
    assert gem("run", "hi").out == "hello\n"
    assert hub.requests == []
