"""gemstead launch: what an agent is told, by a program that writes it down and asks as its kind would."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from gemstead.cli.launch import AGENTS, NO_KEY, Target
from support.serving import KEY, end, start

# An agent that writes down what it was told, and asks as its kind of client would.
FAKE = """#!{python}
import json, os, pathlib, sys
told = {{name: value for name, value in os.environ.items()}}
pathlib.Path(os.environ["TOLD"]).write_text(json.dumps({{"argv": sys.argv[1:], "env": told}}))
if sys.argv[-1] == "anthropic":
    from anthropic import Anthropic
    answer = Anthropic().messages.create(
        model=os.environ["ANTHROPIC_MODEL"],
        max_tokens=40,
        messages=[{{"role": "user", "content": "Say hello"}}],
    )
    print(answer.content[0].text)
if sys.argv[-1] == "openai":
    from openai import OpenAI
    client = OpenAI(base_url=os.environ["OPENAI_API_BASE"])
    model = os.environ["AIDER_MODEL"].removeprefix("openai/")
    print(client.responses.create(model=model, input="Say hello").output_text)
"""


@pytest.fixture(scope="module")
def running():
    server = start("--alias", "other")
    yield server
    assert end(server) == 0


@pytest.fixture
def launch(running, tmp_path):
    """Run gemstead launch with only fake agents on PATH; what came of it and what the agent was told."""
    for agent in AGENTS.values():
        program = tmp_path / "bin" / agent.program
        program.parent.mkdir(exist_ok=True)
        program.write_text(FAKE.format(python=sys.executable))
        program.chmod(0o755)
    told = tmp_path / "told.json"

    def run(*args: str, port: int = running.port, key: str = KEY):
        env = {k: v for k, v in os.environ.items() if not k.startswith(("GEMSTEAD_", "ANTHROPIC", "OPENAI"))}
        env |= {
            "PATH": str(tmp_path / "bin"),
            "TOLD": str(told),
            "HOME": str(tmp_path),
            "GEMSTEAD_API_KEY": key,
        }
        command = [sys.executable, "-m", "gemstead", "launch", "--port", str(port), *args]
        ran = subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, text=True, timeout=120)
        return ran, json.loads(told.read_text()) if told.exists() else None

    run.folder = tmp_path
    return run


@pytest.mark.parametrize("name", AGENTS)
def test_the_environment_alone_says_it(launch, running, name):
    ran, told = launch(name, "--model", "other", "--", "-p", "--hello")
    assert ran.returncode == 0, ran.stderr
    target = Target(running.url, KEY, "other", 4096)
    assert told["argv"] == [*AGENTS[name].arguments(target), "-p", "--hello"]
    for variable, value in AGENTS[name].variables(target).items():
        assert told["env"][variable] == value
    said = " ".join([*told["argv"], *told["env"].values()])
    assert running.url in said
    assert "other" in said
    assert sorted(path.name for path in launch.folder.iterdir()) == [
        "bin",
        "told.json",
    ]  # no file of anybody's


@pytest.mark.parametrize(("name", "kind"), [("claude", "anthropic"), ("aider", "openai")])
def test_what_it_says_is_enough_to_ask(launch, name, kind):
    ran, _ = launch(name, kind)
    assert "pebble" in ran.stdout, ran.stderr


def test_mistakes_say_what_to_do(launch):
    ran, told = launch("clade")
    assert ran.returncode == 2
    assert "known are claude, codex, opencode, aider" in ran.stderr
    (launch.folder / "bin" / "codex").unlink()
    ran, told = launch("codex")
    assert ran.returncode == 1
    assert "npm install -g @openai/codex" in ran.stderr
    ran, told = launch("claude", port=9)
    assert ran.returncode == 1
    assert "gemstead serve" in ran.stderr
    ran, told = launch("claude", "--model", "gpt-5")
    assert ran.returncode == 1
    assert "it serves pebble, other" in ran.stderr
    ran, told = launch("claude", key="wrong-key-0123456789")
    assert ran.returncode == 1
    assert told is None


def test_settings_survive_strange_names():
    target = Target("http://127.0.0.1:1", NO_KEY, 'a "b" \\', 0)
    config = json.loads(AGENTS["opencode"].variables(target)["OPENCODE_CONFIG_CONTENT"])
    assert config["model"] == f"gemstead/{target.model}"
    assert config["provider"]["gemstead"]["models"] == {target.model: {"name": target.model}}
    words = AGENTS["codex"].arguments(target)
    assert f"model={json.dumps(target.model)}" in words
    assert not any("context_window" in word for word in words)
