"""Pages hold together: links lead somewhere, the first screen is the two commands."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys

import pytest

LINK = re.compile(r"(?<!!)\[[^\]]+\]\(([^)#\s]+)(?:#[^)]*)?\)")


def test_links_lead_somewhere(page, root):
    text = re.sub(
        r"^```.*?^```$", "", (root / page).read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE
    )
    folder = (root / page).parent
    links = [link for link in LINK.findall(text) if "://" not in link]
    assert [link for link in links if not (folder / link).exists()] == []


def test_the_first_screen_is_two_commands(root, split_blocks):
    text = (root / "README.md").read_text(encoding="utf-8")
    first, second = split_blocks("README.md", text)[:2]
    assert second.line < 20
    assert first.text.count("\n") == second.text.count("\n") == 1
    assert first.text.endswith('gemstead run "What is 17% of 2400?"\n')
    assert second.text.endswith(".venv/bin/just check test\n")


def test_the_table_of_corrections_is_that_of_the_tests(root):
    page = (root / "docs/guides/protocol.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| .* \| `(test_\w+)` \|$", page, re.MULTILINE)
    tests = (root / "tests/golden/test_corrections.py").read_text(encoding="utf-8")
    assert rows
    assert sorted(rows) == sorted(re.findall(r"^def (test_\w+)", tests, re.MULTILINE))


def test_the_package_ships_its_licence(root):
    text = (root / "LICENSE").read_text(encoding="utf-8")
    assert "Apache License" in text
    assert "Version 2.0, January 2004" in text


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd-analyze here")
def test_systemd_takes_the_unit(root, split_blocks, tmp_path):
    page = "docs/guides/serve.md"
    blocks = split_blocks(page, (root / page).read_text(encoding="utf-8"))
    (unit,) = [block.text for block in blocks if block.text.startswith("[Unit]")]
    program = "/opt/gemstead/bin/gemstead"
    assert f"ExecStart={program} serve " in unit
    path = tmp_path / "gemstead.service"
    for text, complaint in (
        (unit, ""),
        (unit.replace("Restart=on-failure", "Restart=sometimes"), "Failed to parse service restart"),
    ):
        path.write_text(text.replace(program, sys.executable), encoding="utf-8")
        ran = subprocess.run(
            ["systemd-analyze", "verify", str(path)], capture_output=True, text=True, timeout=60
        )
        said = "".join(line for line in ran.stderr.splitlines() if "gemstead.service" in line)
        assert complaint in said
        assert bool(said) == bool(complaint), said
