"""What the pages show is executed: Python blocks, `gemstead` lines, examples."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

import gemstead
from support.adapters import save_adapter
from support.serving import end, start

# Packages that only the extra "clients" brings.
STRANGERS = ("langchain_openai", "litellm", "pydantic_ai")

# Where the pages say that a server listens.
SERVED = "127.0.0.1:4114"

# The two commands of the README that install: CI itself is the second one.
INSTALLS = "python3 -m venv "


def environment(cwd: Path, **more: str) -> dict[str, str]:
    """This process's environment with the installed `gemstead` first on PATH, and every model below `cwd`."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {
        **os.environ,
        "PATH": path,
        "HF_HOME": str(cwd / "hf"),
        "XDG_DATA_HOME": str(cwd / "data"),
        **more,
    }


def run(command: list[str], cwd: Path, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        cwd=cwd,
        env=environment(cwd, **more),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.fixture(scope="session")
def address(tmp_path_factory):
    """Where a server listens that stands in for the one the guide starts, with the guide's adapter."""
    with gemstead.open("pebble") as model:
        folder = save_adapter(tmp_path_factory.mktemp("adapters") / "legal", model.spec, lora_alpha=80)
    running = start("--adapter", f"legal={folder}", keys=False)
    yield f"127.0.0.1:{running.port}"
    assert end(running) == 0


def test_python_block(python_block, tmp_path, request):
    text = python_block.text
    missing = [name for name in STRANGERS if name in text and find_spec(name) is None]
    if missing:
        pytest.skip(f"{', '.join(missing)}: the extra 'clients'")
    if SERVED in text:
        text = text.replace(SERVED, request.getfixturevalue("address"))
    ran = run([sys.executable, "-c", text], tmp_path)
    assert ran.returncode == 0, f"{python_block}\n{ran.stderr}"
    assert ran.stdout.strip(), f"{python_block} prints nothing"


def test_shell_block(shell_block, tmp_path, hub, request):
    for line in shell_block.text.splitlines():
        if line.strip() and not line.startswith(("#", INSTALLS)):
            if SERVED in line:
                line = line.replace(SERVED, request.getfixturevalue("address"))
            else:
                assert "gemstead" in line, f"{shell_block}: only gemstead is executed; mark others as text"
            ran = run(["bash", "-euo", "pipefail", "-c", line], tmp_path, HF_ENDPOINT=hub.url)
            assert ran.returncode == 0, f"{shell_block}: {line}\n{ran.stderr}"
            assert ran.stdout.strip(), f"{shell_block}: {line} prints nothing"


def test_example(example, root, tmp_path):
    ran = run([sys.executable, str(root / "examples" / example)], tmp_path)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.strip()


def test_the_first_command_answers_through_a_tool(tmp_path):
    ran = run([sys.executable, "-m", "gemstead", "run", "What is 17% of 2400?"], tmp_path)
    assert ran.returncode == 0, ran.stderr
    assert "408" in ran.stdout
    assert "→ calculator(" in ran.stderr


def test_blocks_are_found(split_blocks):
    text = "a\n```python\nx = 1\n```\nb\n```sh\ngemstead\n```\n```\nplain\n```\n"
    assert [(b.line, b.language, b.text) for b in split_blocks("p", text)] == [
        (3, "python", "x = 1\n"),
        (7, "sh", "gemstead\n"),
        (10, "", "plain\n"),
    ]
