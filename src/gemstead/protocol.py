"""Gemma 4's protocol as a library of its own: render a prompt, read what a model wrote, guard its calls.

Only names are gathered here, of what gemstead itself runs on. Nothing of an engine is imported, neither
numpy nor torch (a test says so), so that another engine's host can use it alone: docs/guides/protocol.md.
"""

from __future__ import annotations

from gemstead.errors import GemsteadError, InputError
from gemstead.text.answers import answer_grammar
from gemstead.text.control import ControlIds
from gemstead.text.grammar import call_grammar
from gemstead.text.parser import Parser, joined, parse, parse_ids
from gemstead.text.prompt import MediaSlot, Piece, Prompt
from gemstead.text.template import NEWEST, TemplateInfo, recognise, render
from gemstead.text.tokenizer import Tokenizer
from gemstead.types import (
    Event,
    MediaPart,
    Message,
    ParseNote,
    TextDelta,
    TextPart,
    ThoughtDelta,
    Tool,
    ToolCall,
    ToolCallDelta,
    ToolCallEvent,
)

__all__ = [
    "NEWEST",
    "ControlIds",
    "Event",
    "GemsteadError",
    "InputError",
    "MediaPart",
    "MediaSlot",
    "Message",
    "ParseNote",
    "Parser",
    "Piece",
    "Prompt",
    "TemplateInfo",
    "TextDelta",
    "TextPart",
    "ThoughtDelta",
    "Tokenizer",
    "Tool",
    "ToolCall",
    "ToolCallDelta",
    "ToolCallEvent",
    "answer_grammar",
    "call_grammar",
    "joined",
    "parse",
    "parse_ids",
    "recognise",
    "render",
]
