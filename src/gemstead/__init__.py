"""Gemma 4 on the machine you already have: these are the public names.

`open`, `Model` and `plan` are loaded when they are first used, so that `import gemstead` and
`gemstead --help` cost no numpy. Everything not named here may change without notice.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from gemstead.errors import GemsteadError
from gemstead.types import (
    Cause,
    Done,
    Event,
    Failed,
    Message,
    OutputFormat,
    Request,
    SamplingParams,
    TextDelta,
    Thinking,
    ThoughtDelta,
    Tool,
    ToolCall,
    ToolCallDelta,
    ToolCallEvent,
)

if TYPE_CHECKING:
    from gemstead.machine.plan import plan
    from gemstead.model import Model, open  # noqa: A004

__all__ = [
    "Cause",
    "Done",
    "Event",
    "Failed",
    "GemsteadError",
    "Message",
    "Model",
    "OutputFormat",
    "Request",
    "SamplingParams",
    "TextDelta",
    "Thinking",
    "ThoughtDelta",
    "Tool",
    "ToolCall",
    "ToolCallDelta",
    "ToolCallEvent",
    "open",
    "plan",
]

_LATE = {"Model": "gemstead.model", "open": "gemstead.model", "plan": "gemstead.machine.plan"}


def __getattr__(name: str) -> Any:
    if name in _LATE:
        return getattr(importlib.import_module(_LATE[name]), name)
    raise AttributeError(f"module 'gemstead' has no attribute {name!r}")
