"""The offer of a model that fits: to a person, once, never in a pipe, never offline."""

from __future__ import annotations

import pytest

from gemstead.cli import offer as module
from gemstead.cli.names import DEFAULT_MODEL, Target
from gemstead.cli.offer import offered, recommend
from gemstead.cli.screen import Screen
from gemstead.errors import BackendError
from gemstead.machine.plan import plan

TARGET = Target(DEFAULT_MODEL, ("hi",), is_default=True)


@pytest.fixture(autouse=True)
def machine(monkeypatch):
    """Be another machine than this one; at first a small laptop."""

    def be(figures):
        monkeypatch.setattr(module.machine_plan, "plan", lambda: plan(machine=figures))

    be("4GB, 2 cores, 20GB/s, 200GOP/s")
    return be


@pytest.fixture
def answer(monkeypatch):
    """Answer the question, or fail when one is asked that should not be."""
    asked = []

    def set_to(value):
        monkeypatch.setattr(module.click, "confirm", lambda text, **_: (asked.append(text), value)[1])
        return asked

    return set_to


@pytest.mark.parametrize(
    ("figures", "name"),
    [
        ("2GB, 4 cores, 40GB/s, 600GOP/s", None),
        ("4GB, 4 cores, 40GB/s, 600GOP/s", "e2b"),
        ("8GB, 4 cores, 40GB/s, 600GOP/s", "e4b"),
        ("32GB, 4 cores, 40GB/s, 600GOP/s", "26b-a4b"),
        ("32GB, 4 cores, 4GB/s, 20GOP/s", None),
        ("64GB, 64 cores, 300GB/s, 9000GOP/s", "31b"),
    ],
)
def test_the_largest_that_is_comfortable(machine, figures, name):
    machine(figures)
    best = recommend()
    assert (best and best.variant) == name


def test_without_the_fast_engine_nothing_is_offered(monkeypatch):
    def unbuilt():
        raise BackendError("not built")

    monkeypatch.setattr(module.machine_plan, "plan", unbuilt)
    assert recommend() is None


@pytest.mark.usefixtures("hub")
def test_a_yes_fetches_it(answer, capsys):
    (question,) = [answer(True)]
    target = offered(TARGET, Screen())
    assert target.model.endswith("gemma-4-E2B_q4_0-it.gguf")
    assert (target.words, target.is_default) == (("hi",), False)
    assert question[0].startswith(
        "gemma-4-e2b q4_0 fits this machine and knows far more than pebble: 3.3 GB (and 990.0 MB for images"
    )
    assert question[0].endswith("tokens a second here: download?")
    assert offered(TARGET, Screen()) is TARGET  # it is here now: no question, a line
    assert len(question) == 1
    assert "add -m gemma4:e2b-it-qat" in capsys.readouterr().err


def test_a_no_is_remembered(hub, answer, capsys):
    asked = answer(False)
    assert offered(TARGET, Screen()) is TARGET
    assert offered(TARGET, Screen()) is TARGET
    assert len(asked) == 1
    assert hub.requests == []
    assert "this is not asked again; later: gemstead pull e2b" in capsys.readouterr().err


def test_a_failure_leaves_pebble(hub, answer, capsys):
    answer(True)
    hub.gated = True
    assert offered(TARGET, Screen()) is TARGET
    assert "pebble answers instead" in capsys.readouterr().err


def test_offline_asks_nothing(answer):
    assert answer(True) == []
    assert offered(TARGET, Screen()) is TARGET


@pytest.mark.usefixtures("hub")
def test_a_small_machine_is_not_asked(answer, machine):
    machine("1GB, 1 core, 4GB/s")
    assert offered(TARGET, Screen()) is TARGET
    assert answer(True) == []


def test_a_pipe_is_never_asked(hub, gem, fake, script):
    fake(script.says("hello"))
    assert gem("run", "hi").out == "hello\n"
    assert hub.requests == []
