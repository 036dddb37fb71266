"""Options that contradict themselves are refused."""

from __future__ import annotations

import pytest

from gemstead.engine.options import EngineOptions
from gemstead.errors import ConfigError


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"page_tokens": 0}, "page_tokens = 0"),
        ({"max_sequences": 0}, "max_sequences = 0"),
        ({"draft_tokens": -1}, "draft_tokens = -1"),
        ({"max_rows": 8, "max_sequences": 9}, "needs a row per step"),
        ({"context_tokens": 0}, "context = 0"),
    ],
)
def test_refused(options, says):
    with pytest.raises(ConfigError, match=says):
        EngineOptions(**options)
