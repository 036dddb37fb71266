"""Generated parts of the documentation are what the code would generate now."""

from __future__ import annotations

import runpy

import pytest


@pytest.fixture(scope="module")
def generate(root):
    """The names of docs/generate.py."""
    return runpy.run_path(str(root / "docs/generate.py"), run_name="generate")


def test_nothing_is_stale(generate):
    assert generate["stale"]() == [], "run: just gen"


def test_an_old_part_is_found(generate):
    text = "before\n<!-- generated: x -->\nold\n<!-- end -->\nafter\n"
    new = generate["filled"](text, {"x": lambda: "new \\1"})
    assert new == "before\n<!-- generated: x -->\nnew \\1\n<!-- end -->\nafter\n"
    assert generate["filled"](new, {"x": lambda: "new \\1"}) == new


def test_a_missing_part_is_an_error(generate):
    with pytest.raises(SystemExit, match="there is no part"):
        generate["filled"]("text", {"x": lambda: "new"})
