"""The `llm` command line, which knows a server by a file of its own folder."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import pytest
from tests.clients.conftest import TOO_LARGE, TOO_LONG

pytest.importorskip("llm", reason="llm: the extra 'clients'")

MODELS = """
- {{model_id: pebble, model_name: pebble, api_base: "{url}/v1", api_key_name: gemstead,
   supports_tools: true, supports_schema: true}}
- {{model_id: raw, model_name: pebble, api_base: "{url}/v1", completion: true, api_key_name: gemstead}}
- {{model_id: nobody, model_name: gpt-5, api_base: "{url}/v1", api_key_name: gemstead}}
"""
TOOL = '''
def calculator(expression: str) -> str:
    """Evaluate an arithmetic expression"""
    return "408" if expression else ""
'''
COLD = ("-o", "temperature", "0")


@pytest.fixture(scope="module")
def llm(server, tmp_path_factory):
    folder = tmp_path_factory.mktemp("llm")
    (folder / "extra-openai-models.yaml").write_text(MODELS.format(url=server.url))
    (folder / "tools.py").write_text(TOOL)

    def run(*args: str, key: str = server.key, code: int = 0, said: str | None = None) -> str:
        env = {**os.environ, "LLM_USER_PATH": str(folder)}
        command = [sys.executable, "-m", "llm", *args, "--key", key]
        ran = subprocess.run(
            command,
            env=env,
            cwd=folder,
            input=said or "",
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert ran.returncode == code, ran.stderr
        return (ran.stdout if code == 0 else ran.stderr).strip()

    run.folder = folder
    return run


def test_chat_streams_and_goes_on(llm):
    whole = llm("-m", "pebble", "Say hello", "--no-stream", *COLD)
    assert llm("-m", "pebble", "Say hello", "-o", "seed", "5", *COLD) == whole != ""
    assert llm("-c", "And again", *COLD)
    assert (
        llm("-m", "pebble", "Say hello", "-o", "stop", "pebble", *COLD)
        == whole[: whole.index("pebble")].strip()
    )
    assert llm("-m", "raw", "Hello", "-o", "max_tokens", "5", *COLD)


@pytest.mark.parametrize("more", [(), ("--no-stream",)], ids=["stream", "whole"])
def test_tools(llm, more):
    assert "408" in llm("-m", "pebble", "What is 17% of 2400?", "--functions", "tools.py", *COLD, *more)


def test_schema(llm, schema):
    assert set(json.loads(llm("-m", "pebble", "Say hello", "--schema", json.dumps(schema), *COLD))) == {"ok"}


def test_errors(llm):
    assert "not served" in llm("-m", "nobody", "Hi", code=1)
    assert "key is not known" in llm("-m", "pebble", "Hi", key="wrong-key-0123456789", code=1)


def test_what_is_too_much(llm):
    assert "larger than" in llm("-m", "pebble", code=1, said=TOO_LARGE)
    assert "prompt is too long" in llm("-m", "pebble", code=1, said=TOO_LONG)


def test_a_full_queue(llm, full):
    assert "ask again later" in llm("-m", "pebble", "Say hello", code=1)
    full()
    assert llm("-m", "pebble", "Say hello", *COLD)


def test_leaving_a_stream(llm, server, left, endless):
    command = [sys.executable, "-m", "llm", "-m", "pebble", "Say hello", "--schema", json.dumps(endless)]
    with left():
        running = subprocess.Popen(
            [*command, "--key", server.key, "-o", "max_tokens", "3000"],
            env={**os.environ, "LLM_USER_PATH": str(llm.folder)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        assert running.stdout is not None
        assert running.stdout.read(1)
        running.send_signal(signal.SIGINT)
        assert running.wait(30) != 0
        running.stdout.close()
