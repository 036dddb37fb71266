"""The official openai package for Node: openai_node.mjs, against a real server."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

PACKAGE = "openai@6.49.0"
SCRIPT = Path(__file__).with_name("openai_node.mjs")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder in which Node finds the package."""
    missing = [name for name in ("node", "npm") if shutil.which(name) is None]
    if missing:
        pytest.skip(f"there is no {' and no '.join(missing)} here")
    folder = tmp_path_factory.mktemp("node")
    shutil.copy(SCRIPT, folder)
    (folder / "package.json").write_text("{}")
    ran = subprocess.run(
        ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", PACKAGE],
        cwd=folder, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    if ran.returncode:
        pytest.skip(f"npm cannot fetch {PACKAGE}: {ran.stderr[-300:]}")
    return folder


def test_the_package_for_node(server, folder, calculator, eager, schema):
    env = {
        **os.environ,
        "GEMSTEAD_URL": f"{server.url}/v1",
        "GEMSTEAD_KEY": server.key,
        "GEMSTEAD_TOOL": json.dumps(calculator),
        "GEMSTEAD_EAGER": json.dumps(eager),
        "GEMSTEAD_SCHEMA": json.dumps(schema),
    }
    ran = subprocess.run(
        ["node", "--test", "--test-reporter", "tap", SCRIPT.name],
        cwd=folder, env=env, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "# fail 0" in ran.stdout
    assert server.wait_idle()["answers"] == 0
