"""gemstead carry on the command line: a stick, a room, and what does not go together."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from support.repositories import WEIGHTS


@pytest.mark.usefixtures("hub")
def test_stick(gem, home, monkeypatch, tmp_path):
    gem("pull", "e2b")
    out = gem("carry", "--to", str(tmp_path / "stick"), "e2b").out.strip()
    assert out == str(tmp_path / "stick/gemma4-e2b-it-qat" / WEIGHTS)
    monkeypatch.setenv("HF_HOME", str(home / "empty"))
    ran = gem("carry", "--offline", "--from", str(tmp_path / "stick"))
    assert ran.code == 0, ran.err
    assert "gemma4:e2b-it-qat" in gem("list").out
    assert gem("rm", "e2b", "--yes").code == 0


@pytest.mark.usefixtures("hub")
def test_room(gem, home, monkeypatch):
    gem("pull", "e2b")
    command = [
        sys.executable,
        "-m",
        "gemstead",
        "carry",
        "--serve",
        "--host",
        "127.0.0.1",
        "--port",
        "0",
        "e2b",
    ]
    with subprocess.Popen(command, env=dict(os.environ), stdout=subprocess.PIPE, text=True) as server:
        words = server.stdout.readline().split()
        assert words[:3] == ["gemstead", "carry", "--from"]
        monkeypatch.setenv("HF_HOME", str(home / "empty"))
        ran = gem(*words[1:])
        assert ran.code == 0, ran.err
        assert "does not accept this code" in gem(*words[1:4], "--code", "AAAAA-AAAAA").err
        server.send_signal(signal.SIGINT)
        assert server.wait(10) == 130
    assert "gemma4:e2b-it-qat" in gem("list").out


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["e2b"], "say one of --to FOLDER, --from FOLDER or URL, --serve"),
        (["--to", "a", "--serve", "e2b"], "say one of"),
        (["--to", "a"], "say which models"),
        (["--serve", "e2b"], "--serve needs --host ADDRESS"),
    ],
)
def test_wrong_usage(gem, args, message):
    ran = gem("carry", *args)
    assert ran.code == 2
    assert message in ran.err


def test_a_code_is_needed(gem):
    assert "needs --code, which that machine shows" in gem("carry", "--from", "http://127.0.0.1:9").err
