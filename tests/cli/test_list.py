"""gemstead list: the table, --json, and what it says when there is nothing."""

from __future__ import annotations

import json
import re

import pytest

from gemstead.cli.list import ago
from support.repositories import E2B, WEIGHTS, repositories


def test_nothing_here(gem):
    ran = gem("list")
    assert (ran.code, ran.out) == (0, "")
    assert "gemstead pull e2b fetches one" in ran.err
    assert json.loads(gem("list", "--json").out) == []


@pytest.mark.usefixtures("hub")
def test_the_table(gem, home):
    gem("pull", "e2b")
    path = home / ".lmstudio/models/a/gemma-4-E4B-it-GGUF/x-Q8_0-00001-of-00002.gguf"
    path.parent.mkdir(parents=True)
    path.write_bytes(repositories()[E2B][WEIGHTS])
    head, first, second = gem("list").out.splitlines()
    assert head.split() == ["name", "format", "size", "from", "last", "used"]
    assert re.fullmatch(r"gemma4:e2b-it-qat +Q4_0 +539\.4 kB +gemstead +today", first)
    assert second.endswith("today  (cannot be opened: parts are missing)")
    entries = json.loads(gem("list", "--json").out)
    assert [(e["origin"], e["removable"], e["fault"] is None) for e in entries] == [
        ("gemstead", True, True),
        ("LM Studio", False, False),
    ]
    assert entries[0]["mmproj"].endswith("mmproj.gguf")


def test_a_begun_download_is_told(hub, gem):
    hub.statuses = [(404, {"X-Error-Code": "EntryNotFound"})]
    assert gem("pull", "e2b", "--text-only").code == 1
    assert "begun: gemma4:e2b-it-qat, 0 bytes so far" in gem("list").err
    assert json.loads(gem("list", "--json").out)[0]["origin"] == "unfinished"
    assert gem("rm", "e2b", "--yes").code == 0
    assert "begun: " not in gem("list").err


def test_ago():
    assert [ago(days * 86_400) for days in (-1, 0.5, 1, 1.9, 2, 400)] == [
        *("today", "today", "yesterday", "yesterday", "2 days ago", "400 days ago")
    ]
