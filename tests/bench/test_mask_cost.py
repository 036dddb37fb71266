"""The bench of mask costs on a small vocabulary."""

from __future__ import annotations

import pytest
from mask_cost import main

from gemstead import pebble


def test_a_line_for_every_subject(capsys: pytest.CaptureFixture[str]) -> None:
    main([str(pebble.path()), "--tokens", "12"])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 + 2 + 5 + 2 + 5 + 1 + 4
    assert lines[0].startswith("tables of 4,")
    for line in lines[2:]:
        mean, median, late, longest = map(float, line[28:].split()[:4])
        assert 0 < mean <= longest
        assert 0 < median <= late <= longest
