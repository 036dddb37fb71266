"""A chat's memory: what was said, the settings, and a file form of both.

Knows no screen and no model. A setting that the library would refuse is refused here, when it is set.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gemstead.agent.loop import MAX_SAME_CALLS
from gemstead.agent.tools import BUILT_IN
from gemstead.cli.options import THINKING, read_thinking
from gemstead.errors import InputError
from gemstead.types import Message, SamplingParams, ThinkingChoice, Tool, ToolCall

FORMAT = "gemstead-chat"
VERSION = 1


def _switch(text: str) -> bool:
    if text.lower() not in ("on", "off"):
        raise ValueError
    return text.lower() == "on"


def _count(text: str) -> int:
    if int(text) < 0:
        raise ValueError
    return int(text)


@dataclass(frozen=True)
class Setting:
    """One name that /set knows: how its text becomes a value, and what it does."""

    parse: Callable[[str], Any]
    allowed: str
    about: str
    samples: bool = False


SETTINGS: dict[str, Setting] = {
    "temperature": Setting(float, "a number from 0", "0 always takes the likeliest token", samples=True),
    "top_k": Setting(int, "a whole number", "choose among that many tokens; 0: all", samples=True),
    "top_p": Setting(float, "a number from 0 to 1", "choose among the likeliest tokens", samples=True),
    "min_p": Setting(float, "a number from 0 to 1", "leave out unlikely tokens", samples=True),
    "max_tokens": Setting(int, "a whole number", "the longest answer", samples=True),
    "seed": Setting(int, "a whole number", "the same seed gives the same answer", samples=True),
    "loop_guard": Setting(int, "a whole number", "end an answer that repeats itself so long; 0: never", True),
    "thinking": Setting(read_thinking, THINKING, "think before answering, for that many tokens at most"),
    "max_same_calls": Setting(_count, "a whole number", "end the turn at so many equal tool calls; 0: never"),
    "tools": Setting(_switch, "on or off", "let the model use the built-in tools"),
    "fold": Setting(_switch, "on or off", "show thoughts as one line"),
    "stats": Setting(_switch, "on or off", "show the speed after each answer"),
    "system": Setting(str, "any text", "instructions that come before the conversation"),
}


@dataclass
class Conversation:
    """What a chat consists of; `messages` does not hold the system message."""

    messages: list[Message] = field(default_factory=list)
    sampling: dict[str, Any] = field(default_factory=dict)
    system: str | None = None
    thinking: ThinkingChoice = False
    max_same_calls: int = MAX_SAME_CALLS
    tools: bool = True
    fold: bool = False
    stats: bool = True

    @property
    def offered_tools(self) -> tuple[Tool, ...]:
        """The tools the model may call now."""
        return BUILT_IN if self.tools else ()

    def to_ask(self, text: str) -> list[Message]:
        """The whole conversation with one more user message, as a request wants it."""
        first = [Message.system(self.system)] if self.system else []
        return [*first, *self.messages, Message.user(text)]

    def keep(self, said: list[Message]) -> None:
        """Remember a conversation as to_ask() laid it out and a turn has extended it."""
        self.messages = [message for message in said if message.role != "system"]

    def set(self, name: str, text: str) -> None:
        """Change a setting; InputError names what is allowed. 'default' takes a value back."""
        setting = SETTINGS.get(name)
        if setting is None:
            raise InputError(f"there is no setting {name!r}; allowed are {', '.join(SETTINGS)}")
        try:
            value = None if text == "default" else setting.parse(text)
        except ValueError:
            raise InputError(f"{name} = {text!r} is not possible; allowed is {setting.allowed}") from None
        if setting.samples:
            changed = {k: v for k, v in (self.sampling | {name: value}).items() if v is not None}
            SamplingParams(**changed)
            self.sampling = changed
        else:
            setattr(self, name, getattr(Conversation, name, None) if text == "default" else value)

    def value(self, name: str) -> Any:
        """The value of a setting; None: the model's default."""
        return self.sampling.get(name) if SETTINGS[name].samples else getattr(self, name)

    def save(self, path: Path, model: str) -> None:
        """Write the conversation and its settings as JSON, whole or not at all."""
        data = {
            "format": FORMAT,
            "version": VERSION,
            "model": model,
            "settings": {name: self.value(name) for name in SETTINGS if self.value(name) is not None},
            "messages": [_to_json(message) for message in self.messages],
        }
        partial = path.with_name(path.name + ".tmp")
        try:
            partial.write_text(json.dumps(data, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
            partial.replace(path)
        except OSError as error:
            error.filename = path  # the name that was asked for, not the one it has meanwhile
            raise

    @classmethod
    def load(cls, path: Path) -> Conversation:
        """Read what save() wrote; InputError says what is wrong with any other file."""
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
        except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
            raise InputError(f"{path} is not a saved chat: {error}") from None
        if not isinstance(data, dict) or data.get("format") != FORMAT:
            raise InputError(f'{path} is not a saved chat: it lacks "format": "{FORMAT}"')
        if data.get("version") != VERSION:
            raise InputError(f"{path} has version {data.get('version')!r}; this gemstead reads {VERSION}")
        try:
            loaded = cls(messages=[_from_json(entry) for entry in data["messages"]])
            for name, value in data["settings"].items():
                loaded.set(name, {True: "on", False: "off"}[value] if isinstance(value, bool) else str(value))
        except (KeyError, TypeError, AttributeError, InputError) as error:
            raise InputError(f"{path} is a damaged chat: {type(error).__name__}: {error}") from None
        return loaded


def _to_json(message: Message) -> dict[str, Any]:
    entry: dict[str, Any] = {"role": message.role, "content": message.content}
    optional = {
        "reasoning": message.reasoning,
        "tool_calls": [
            {"id": call.id, "name": call.name, "arguments": dict(call.arguments)}
            for call in message.tool_calls
        ],
        "tool_call_id": message.tool_call_id,
        "name": message.name,
    }
    return entry | {name: value for name, value in optional.items() if value}


def _from_json(entry: dict[str, Any]) -> Message:
    calls = tuple(
        ToolCall(str(call["name"]), dict(call["arguments"]), str(call["id"]))
        for call in entry.get("tool_calls", ())
    )
    if entry["role"] in ("user", "system", "developer") and not isinstance(entry["content"], str):
        raise InputError(f"the content of a {entry['role']} message must be text")
    return Message(
        entry["role"],
        entry["content"],
        reasoning=entry.get("reasoning"),
        tool_calls=calls,
        tool_call_id=entry.get("tool_call_id"),
        name=entry.get("name"),
    )
