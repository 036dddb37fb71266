"""What the system refuses, in words."""

from __future__ import annotations

from pathlib import Path

import pytest

from gemstead.errors import os_sentence


def test_the_system_s_number_is_left_out():
    with pytest.raises(FileNotFoundError) as caught:
        Path("/nonexistent/notes.json").read_text()
    assert os_sentence(caught.value) == "/nonexistent/notes.json: no such file or directory"
    assert os_sentence(OSError(28, "No space left on device")) == "no space left on device"
    assert os_sentence(OSError("timed out")) == "timed out"
