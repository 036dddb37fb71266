"""The OpenAPI document as written down: what changes for clients is seen in its diff."""

from __future__ import annotations

import json
import os
from pathlib import Path

from gemstead.server.openapi import document

GOLDEN = Path(__file__).with_name("openapi.json")


def test_it_is_as_written_down():
    made = document()
    made["info"]["version"] = "0"
    text = json.dumps(made, indent=1, ensure_ascii=False) + "\n"
    if os.environ.get("GEMSTEAD_GOLDEN") == "write":
        GOLDEN.write_text(text, encoding="utf-8")
    assert text == GOLDEN.read_text(encoding="utf-8"), "read the change, then: just golden"
