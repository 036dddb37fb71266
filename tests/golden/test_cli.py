"""What the command line prints for help and for mistakes, word for word.

`just golden` writes the files again; the diff is the review.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gemstead.cli.main import COMMANDS, main
from gemstead.spec.variants import VARIANTS
from support.adapters import adapter_arrays, write_adapter

FOLDER = Path(__file__).parent / "cli"

HELP = {"gemstead": ["--help"]} | {f"gemstead-{name}": [name, "--help"] for name in COMMANDS}

MISTAKES = [
    [],
    ["rnu", "hello"],
    ["run", "--tempreature", "1", "hello"],
    ["run", "--temperature", "hot", "hello"],
    ["run", "--temperature", "-1", "hello"],
    ["run", "--top-k", "1.5", "hello"],
    ["run", "--backend", "cuda", "hello"],
    ["run", "--thinking", "hello"],
    ["run", "--thinking", "-5", "hello"],
    ["run", "--loop-guard", "-1", "hello"],
    ["run", "--max-same-calls", "-1", "hello"],
    ["run", "--schema", "nothing.json", "hello"],
    ["run", "--schema", "{", "hello"],
    ["run", "--regex", "a+", "--choice", "a", "hello"],
    ["run", "--choice", "", "hello"],
    ["run", "--memory", "lots", "hello"],
    ["run", "--threads", "0", "hello"],
    ["run", "-5 + 3?"],
    ["run", "--seed"],
    ["run", "e2b", "hello"],
    ["run", "google/gemma-4-E4B-it", "hello"],
    ["run", "./nothing.gguf", "hello"],
    ["run", "-m", "nothing", "hello"],
    ["chat", "nothing"],
    ["show", "nothing"],
    ["show", "pebble", "more"],
    ["serve", "nothing"],
    ["serve", "--port", "70000"],
    ["serve", "--timeout", "0"],
    ["serve", "--thinking", "much"],
    ["serve", "--adapter", "mine"],
    ["serve", "--adapter", "mine=./nothing"],
    ["serve", "--adapter", "mine=."],
    ["serve", "--adapter", "mine=other"],
    ["serve", "--adapter", "pebble=other"],
    ["serve", "--alias", "mine", "--adapter", "mine=other"],
    ["ps", "--port", "0"],
    ["quantize", "pebble", "x.gguf", "--format", "int4"],
    ["quantize", "pebble", "x", "--format", "q4_0"],
    ["quantize", "pebble", "x.gguf", "--format", "q4_0", "--experts", "q8_0"],
    ["quantize", "pebble", "x.gguf", "--format", "q4_0", "--tensor", "norm"],
    ["quantize", "pebble", "nowhere/x.gguf", "--format", "q4_0"],
    ["verify", "nothing"],
    ["compare", "pebble", "pebble"],
    ["compare", "pebble", "pebble", "--text", "nothing.txt"],
    ["compare", "pebble", "nothing", "--text", "nothing.txt"],
    ["launch"],
    ["launch", "clade"],
    ["plan", "--for", "pi6"],
    ["plan", "--task", "dance"],
    ["plan", "--context", "100"],
    ["bench", "nothing"],
    ["bench", "--repeat", "0"],
]


def check(path: Path, text: str) -> None:
    """Compare with the golden file, or write it where GEMSTEAD_GOLDEN=write asks for that."""
    if os.environ.get("GEMSTEAD_GOLDEN") == "write":
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    expected = path.read_text(encoding="utf-8") if path.exists() else ""
    assert text == expected, f"{path.name} differs; if the new text is better, run: just golden"


@pytest.fixture
def printed(monkeypatch, capsys):
    """What a command prints on both streams, 80 columns wide, and its exit code."""
    for name in ("HOME", "HF_HOME", "GEMSTEAD_MODELS", "OLLAMA_MODELS"):  # no model of this machine is seen
        monkeypatch.setenv(name, "/nonexistent")
    monkeypatch.setenv("GEMSTEAD_OFFLINE", "1")
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERMINAL_WIDTH", "80")

    def run(args: list[str]) -> tuple[str, int]:
        code = main(args)
        captured = capsys.readouterr()
        return captured.out + captured.err, code

    return run


@pytest.mark.parametrize("name", HELP)
def test_help(printed, name):
    text, code = printed(HELP[name])
    assert code == 0
    assert all(len(line) <= 80 for line in text.splitlines())
    check(FOLDER / f"{name}.txt", text)


def test_mistakes(printed, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arrays = adapter_arrays(VARIANTS["tiny-e2b"], wanted=lambda name: name == "layers.0.mlp.up_proj")
    write_adapter(tmp_path / "other", arrays)  # an adapter, but none of pebble
    lines = []
    for args in MISTAKES:
        text, code = printed(args)
        assert code in (1, 2)
        assert "Traceback" not in text
        shown = " ".join(f'"{arg}"' if " " in arg else arg for arg in ["gemstead", *args])
        lines.append(f"$ {shown}\n{text}(exit {code})\n")
    check(FOLDER / "mistakes.txt", "\n".join(lines))
