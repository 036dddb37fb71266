"""bench/history.csv only grows, and its columns stay."""

from __future__ import annotations

import csv

import history
import pytest

LINE = history.Line("m", "q8_0", 2, "decode @0 x1", "tok/s", 1234.56789, 0.0312, "native")


def test_lines_are_appended_below_one_header(tmp_path):
    file = tmp_path / "history.csv"
    assert history.append([LINE], file) == 1
    before = file.read_bytes()
    assert history.append([LINE, LINE], file) == 2
    assert file.read_bytes().startswith(before)
    rows = list(csv.DictReader(file.open(encoding="utf-8")))
    assert len(rows) == 3
    assert tuple(rows[0]) == history.COLUMNS
    assert (rows[0]["ours"], rows[0]["spread"], rows[0]["peer"]) == ("1235", "0.0312", "")
    assert rows[0]["machine"].endswith("GiB")
    assert rows[0]["date"].endswith("Z")


def test_the_file_in_the_tree_has_these_columns():
    header = history.FILE.read_text(encoding="utf-8").splitlines()[0]
    assert header == ",".join(history.COLUMNS)


def test_neighbours_are_compared():
    found = history.ratios([2.0, 9.0, 4.0], [1.0, 3.0, 1.0])
    assert (found.median, found.least, found.greatest) == (3.0, 2.0, 4.0)


def test_other_columns_are_not_known():
    with pytest.raises(TypeError):
        history.Line(colour="blue")  # type: ignore[call-arg]
