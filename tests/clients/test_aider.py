"""aider, started by `gemstead launch aider`, where it is on PATH (it wants an environment of its own)."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest
from tests.clients.conftest import TOO_LONG

QUIET = (
    "--yes-always",
    "--no-check-update",
    "--no-analytics",
    "--no-show-release-notes",
    "--map-tokens",
    "0",
)


@pytest.fixture
def aider(server, tmp_path):
    """Ask aider once, in a folder of its own and without any network but loopback; what it printed."""
    if shutil.which("aider") is None:
        pytest.skip("there is no aider here")
    (tmp_path / "sum.py").write_text("def add(a, b):\n    return a - b\n")
    nowhere = "http://127.0.0.1:9"
    env = {k: v for k, v in os.environ.items() if not k.startswith(("GEMSTEAD_", "OPENAI", "AIDER"))}
    env |= {"HOME": str(tmp_path), "TERM": "dumb", "GEMSTEAD_API_KEY": server.key}
    env |= {"http_proxy": nowhere, "https_proxy": nowhere, "no_proxy": "127.0.0.1"}

    def run(*args: str) -> str:
        command = [sys.executable, "-m", "gemstead", "launch", "--port", str(server.port), "aider", "--"]
        ran = subprocess.run(
            [*command, *QUIET, *args],
            env=env, cwd=tmp_path, capture_output=True, text=True, timeout=300,
        )  # fmt: skip
        assert ran.returncode == 0, ran.stdout + ran.stderr
        return ran.stdout

    return run


@pytest.mark.parametrize("more", [(), ("--no-stream",)], ids=["stream", "whole"])
@pytest.mark.parametrize("git", [("--no-git",), ("--git", "--no-gitignore")], ids=["plain", "git"])
def test_it_asks_and_prints_the_answer(aider, server, git, more):
    before = len(server.lines)
    said = aider("--message", "What is 2 + 2?", *git, *more, "sum.py")
    assert "Model: openai/pebble" in said
    assert "received." in said  # it counts an answer
    assert "APIError" not in said
    assert "BadRequest" not in said
    line = server.wait_line("path=/v1/chat/completions", before)
    assert f"status=200 outcome=stop model=pebble stream={str(not more).lower()}" in line


def test_it_understands_what_is_too_long(aider):
    assert "hit a token limit" in aider("--message", TOO_LONG, "--no-git")
