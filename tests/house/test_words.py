"""The ten words of the justfile, and one test command for people and for CI."""

from __future__ import annotations

import re
import tomllib

WORDS = ["setup", "check", "test", "kernels", "parity", "bench", "docs", "gen", "golden", "fix"]


def recipes(text: str) -> list[str]:
    """The public recipes of a justfile in order."""
    found, private = [], False
    for line in text.splitlines():
        if match := re.match(r"([a-z][a-z_-]*)[^:=]*:(?!=)", line):
            if not private:
                found.append(match[1])
            private = False
        elif line.strip() == "[private]":
            private = True
    return found


def test_ten_words(root):
    assert recipes((root / "justfile").read_text(encoding="utf-8")) == WORDS


def test_recipes_are_read_right():
    text = "x := 'a'\nexport Y := '1'\n# about\nsetup:\n    a: b\n[private]\nvenv:\ntest: venv\n"
    assert recipes(text) == ["setup", "test"]


def test_ci_runs_the_readme_test_command(root):
    ci = (root / ".ci/run").read_text(encoding="utf-8").splitlines()
    command = ci[-1]
    assert command.endswith(".venv/bin/just check test")
    assert command in (root / "README.md").read_text(encoding="utf-8")


def test_base_install_has_no_torch(root):
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    base = {re.split(r"[<>=!~\[ ]", name)[0] for name in project["dependencies"]}
    server = {"starlette", "uvicorn", "prometheus-client"}
    known = {"numpy", "tokenizers", "click", "prompt_toolkit", "llguidance", "huggingface_hub", *server}
    assert base == known, "a new one needs an ADR"


def test_every_adr_has_number_title_and_date(root):
    for adr in sorted((root / "docs/adr").glob("*.md")):
        text = adr.read_text(encoding="utf-8")
        assert re.match(r"\d{4}-[a-z0-9-]+\.md$", adr.name), adr.name
        assert text.startswith(f"# {adr.name[:4]}: "), f"{adr.name} must begin with '# {adr.name[:4]}: title'"
        for heading in ("## Decision", "## Why", "## Cost"):
            assert heading in text, f"{adr.name} lacks {heading}"
