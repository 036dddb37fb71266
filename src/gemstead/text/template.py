"""Gemma 4's chat template in plain Python: a conversation in, a Prompt out.

Follows Google's templates of generations v1 (launch), v2 and v4 (2026-07-09) to the byte, or, with
corrected=True, mends what they get wrong. Runs no Jinja: a template in a model file is a stranger's
code, so it is only recognised, by hash. Refuses conversations that would lose a message.
Neighbours: prompt.py holds the result, declare.py writes values and declarations, session.py calls.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from gemstead.errors import InputError
from gemstead.text.control import (
    BOS,
    CALL_CLOSE,
    CALL_OPEN,
    CHANNEL_CLOSE,
    CHANNEL_OPEN,
    RESPONSE_CLOSE,
    RESPONSE_OPEN,
    THINK,
    TOOL_CLOSE,
    TOOL_OPEN,
    TURN_CLOSE,
    TURN_OPEN,
)
from gemstead.text.declare import write_arguments, write_corrected_declaration, write_declaration, write_value
from gemstead.text.prompt import Prompt, PromptWriter
from gemstead.text.schema import normalise
from gemstead.types import MediaPart, Message, TextPart, Tool, ToolCall

SizeClass = Literal["small", "large"]
SYSTEM_ROLES = ("system", "developer")


@dataclass(frozen=True, slots=True)
class Generation:
    """What distinguishes one generation of Google's template from the next."""

    name: str
    after_think: str  # v1 wrote <|think|> without a newline
    null: str  # v1 and v2 let Python print None
    wraps_visuals: bool  # v1 put blank lines around images and videos
    reads_tool_role: bool  # v1 knew results only as a field of the assistant's message
    reasoning: Literal["never", "with calls", "always"]  # after the last user message
    joins_turns: Literal["no", "header", "yes"]  # consecutive assistant messages; v2 joined only the header
    media_in_results: bool
    opens_thought: bool  # with thinking on, after a tool result


GENERATIONS: Mapping[str, Generation] = {
    "v1": Generation("v1", "", "None", True, False, "never", "no", False, False),
    "v2": Generation("v2", "\n", "None", False, True, "with calls", "header", False, False),
    "v4": Generation("v4", "\n", "null", False, True, "always", "yes", True, True),
}
NEWEST = "v4"


def render(
    messages: Sequence[Message],
    tools: Sequence[Tool] = (),
    *,
    thinking: bool = False,
    generation: str = NEWEST,
    size_class: SizeClass = "small",
    add_generation_prompt: bool = True,
    preserve_thinking: bool = False,
    corrected: bool = False,
) -> Prompt:
    """The prompt of a conversation, BOS included.

    size_class "large" (12B, 26B, 31B) primes the answer with an empty thought when thinking is off.
    preserve_thinking keeps the reasoning of older tool loops. corrected=False is Google's template
    of that generation to the byte; corrected=True keeps an assistant's text before its calls, finds
    names of results without ids, and declares unions, references and lists of types properly.
    Raises InputError for an unknown generation or size class, a tool result that answers no call,
    and values that are not JSON.
    """
    if generation not in GENERATIONS:
        raise InputError(f"template generation {generation!r} is unknown; known are {', '.join(GENERATIONS)}")
    if size_class not in ("small", "large"):
        raise InputError(f"size class {size_class!r} is unknown; known are small, large")
    rules = GENERATIONS[generation]
    if corrected:
        rules = replace(rules, null="null", reads_tool_role=True, joins_turns="yes", media_in_results=True)
    renderer = _Renderer(rules, thinking, preserve_thinking, corrected)
    try:
        return renderer.render(list(messages), tools, size_class, add_generation_prompt)
    except RecursionError:
        raise InputError(
            "cannot render the conversation: a tool schema, call or result is nested too deeply"
        ) from None


class _Renderer:
    """One rendering in progress; `_last` is what the latest message ended with."""

    def __init__(self, rules: Generation, thinking: bool, preserve_thinking: bool, corrected: bool) -> None:
        self.rules, self.thinking, self.corrected = rules, thinking, corrected
        self.preserve_thinking = preserve_thinking
        self.out = PromptWriter()
        self.messages: list[Message] = []
        self.last_user = -1
        self._last: Literal["call", "response", "other"] = "other"

    def render(
        self,
        messages: list[Message],
        tools: Sequence[Tool],
        size_class: SizeClass,
        add_generation_prompt: bool,
    ) -> Prompt:
        self.out.control(BOS)
        system = messages[0] if messages and messages[0].role in SYSTEM_ROLES else None
        if self.thinking or tools or system is not None:
            self._system_turn(system, tools)
        self.messages = messages[1:] if system is not None else messages
        if self.rules.reads_tool_role:
            _check_results(self.messages)
        self.last_user = max((i for i, m in enumerate(self.messages) if m.role == "user"), default=-1)
        previous: str | None = None
        for index, message in enumerate(self.messages):
            if message.role == "tool" and self.rules.reads_tool_role:
                continue
            self._message(index, message, previous)
            previous = message.role
        if add_generation_prompt:
            self._generation_prompt(size_class)
        return self.out.finish()

    def _system_turn(self, system: Message | None, tools: Sequence[Tool]) -> None:
        self._open_turn("system")
        if self.thinking:
            self.out.control(THINK)
            self.out.text(self.rules.after_think)
        if system is not None and isinstance(system.content, tuple):
            for part in system.content:
                if not isinstance(part, TextPart):
                    raise InputError(f"a system message can hold only text, not a part of kind {part.kind!r}")
                self.out.text(part.text.strip() + " ")
        elif system is not None:
            self.out.text(_text_of(system).strip())
        for tool in tools:
            self.out.control(TOOL_OPEN)
            if self.corrected:
                normal = replace(tool, parameters=normalise(tool.parameters))
                write_corrected_declaration(self.out, normal, self.rules.null)
            else:
                write_declaration(self.out, tool, self.rules.name, self.rules.null)
            self.out.control(TOOL_CLOSE)
        self._close_turn(learned=False)

    def _open_turn(self, role: str) -> None:
        self.out.control(TURN_OPEN)
        self.out.text(f"{role}\n")

    def _close_turn(self, *, learned: bool) -> None:
        self.out.control(TURN_CLOSE, learned=learned)
        self.out.text("\n")

    def _message(self, index: int, message: Message, previous: str | None) -> None:
        is_model = message.role == "assistant"
        after_result = self._last == "response"
        continues = is_model and previous == "assistant" and self.rules.joins_turns != "no"
        if not continues:
            self._open_turn("model" if is_model else self._role(message))
        self._last = "other"
        if is_model:
            self._reasoning(index, message, given=continues and after_result)
        content_first = self.corrected and bool(message.tool_calls)
        wrote = self._content(message) if content_first else False
        self._calls(message)
        results = self._results(index, message)
        if not content_first:
            wrote = self._content(message)
        self._end_message(index, message, bool(results), wrote and not content_first)

    def _role(self, message: Message) -> str:
        return "system" if self.corrected and message.role in SYSTEM_ROLES else message.role

    def _reasoning(self, index: int, message: Message, *, given: bool) -> None:
        """The thought, where the rules keep it; `given`: the template itself had opened it."""
        if not message.reasoning or self.rules.reasoning == "never":
            return
        running = index > self.last_user
        if self.rules.reasoning == "with calls":
            running = running and bool(message.tool_calls)
        else:
            running = running or (self.preserve_thinking and bool(message.tool_calls))
        if running:
            given = given and self.thinking and self.rules.opens_thought
            self.out.control(CHANNEL_OPEN, learned=not given)
            self.out.text("thought\n", learned=not given)
            self.out.text(message.reasoning + "\n", learned=True)
            self.out.control(CHANNEL_CLOSE, learned=True)

    def _calls(self, message: Message) -> None:
        for call in message.tool_calls:
            self.out.control(CALL_OPEN, learned=True)
            self.out.text(f"call:{call.name}", learned=True)
            write_arguments(self.out, call.arguments, self.rules.null, learned=True)
            self.out.control(CALL_CLOSE, learned=True)
            self._last = "call"

    def _results(self, index: int, message: Message) -> list[Message]:
        """Write the tool messages that follow a message with calls, in their order."""
        results: list[Message] = []
        if not message.tool_calls or not self.rules.reads_tool_role:
            return results
        for follower in self.messages[index + 1 :]:
            if follower.role != "tool":
                break
            self.out.control(RESPONSE_OPEN, learned=not results)  # the model asks for results once
            self.out.text(f"response:{self._name_of(follower, len(results), message.tool_calls)}")
            media = self._result_value(follower)
            self.out.control(RESPONSE_CLOSE)
            for part in media if self.rules.media_in_results else ():
                self.out.media(part)
            results.append(follower)
            self._last = "response"
        return results

    def _name_of(self, result: Message, position: int, calls: Sequence[ToolCall]) -> str:
        name = result.name or "unknown"
        if self.corrected and not result.tool_call_id:
            return result.name or (calls[position].name if position < len(calls) else name)
        for call in calls:  # Google takes a missing id for the id of every call without one
            if (call.id or None) == (result.tool_call_id or None):
                name = call.name
        return name

    def _result_value(self, result: Message) -> list[MediaPart]:
        """`{...}` of a result; returns the media parts that follow its block."""
        value = result.content
        if isinstance(value, Mapping):
            write_arguments(self.out, value, self.rules.null)
            return []
        self.out.text("{value:")
        media: list[MediaPart] = []
        if isinstance(value, tuple):
            media = [part for part in value if isinstance(part, MediaPart)]
            self.out.quoted("".join(part.text for part in value if isinstance(part, TextPart)))
        else:
            write_value(self.out, value, self.rules.null)
        self.out.text("}")
        return media

    def _content(self, message: Message) -> bool:
        """Write text and media placeholders; whether anything was written."""
        is_model = message.role == "assistant"
        parts = message.content if isinstance(message.content, tuple) else (TextPart(_text_of(message)),)
        wrote = False
        for part in parts:
            if isinstance(part, TextPart):
                text = _without_thoughts(part.text) if is_model else part.text.strip()
                self.out.text(text, learned=is_model)
                wrote = wrote or bool(text)
                continue
            wraps = self.rules.wraps_visuals and part.kind != "audio"
            self.out.text("\n\n" if wraps else "")
            self.out.media(part)
            self.out.text("\n\n" if wraps else "")
            wrote = True
            if self.rules.name == "v2":
                self._last = "other"
        return wrote

    def _end_message(self, index: int, message: Message, has_results: bool, wrote: bool) -> None:
        is_model = message.role == "assistant"
        following = next((m.role for m in self.messages[index + 1 :] if m.role != "tool"), None)
        unanswered = bool(message.tool_calls) and not has_results
        if self._last == "call" and not has_results and self.rules.reads_tool_role:
            self.out.control(RESPONSE_OPEN, learned=True)
            return
        joins = self.rules.joins_turns == "yes"
        if joins and is_model and following == "assistant" and not unanswered:
            return
        if joins:
            stays_open = has_results and not wrote and following is None
        else:
            stays_open = has_results and not message.content
        if not stays_open:
            self._close_turn(learned=is_model and (wrote or not has_results))

    def _generation_prompt(self, size_class: SizeClass) -> None:
        is_v1 = self.rules.name == "v1"
        if self._last == "other" or (is_v1 and self._last == "call" and not self.corrected):
            self._open_turn("model")
        elif self._last == "call":
            return  # the prompt ends by asking for the call's result
        elif self.thinking and self.rules.opens_thought:
            self.out.control(CHANNEL_OPEN)
            self.out.text("thought\n")
            return
        elif not is_v1:
            return
        if size_class == "large" and not self.thinking:
            self.out.control(CHANNEL_OPEN)
            self.out.text("thought\n")
            self.out.control(CHANNEL_CLOSE)


def _text_of(message: Message) -> str:
    if isinstance(message.content, str):
        return message.content
    if message.content is None or message.role == "tool":  # v1, uncorrected, shows only text of results
        return ""
    raise InputError(
        f"a {message.role} message has content of type {type(message.content).__name__}; "
        "allowed are text and a tuple of parts (any JSON value only in a tool message)"
    )


def _without_thoughts(text: str) -> str:
    """What remains of a stored answer when its thought spans are cut out, as the templates cut them."""
    return "".join(part.split(CHANNEL_OPEN)[0] for part in text.split(CHANNEL_CLOSE)).strip()


def _check_results(messages: Sequence[Message]) -> None:
    """Google's templates drop a result that follows no call; here that is an error."""
    open_calls = False
    for index, message in enumerate(messages):
        if message.role == "tool" and not open_calls:
            name = message.name or message.tool_call_id or "unnamed"
            raise InputError(
                f"tool message {index} ({name}) answers no call; "
                "put it directly after the assistant message that carries the call"
            )
        if message.role != "tool":
            open_calls = bool(message.tool_calls)


@dataclass(frozen=True, slots=True)
class TemplateInfo:
    """What is known of a model file's own chat template. `generation` is the one gemstead renders.

    `size_class` is None where the template does not tell. `known` is False for a template that is
    not one of Google's, which is answered with the newest generation: warn then. `sha256` is of the
    template as given.
    """

    generation: str
    size_class: SizeClass | None
    known: bool
    name: str
    sha256: str


# By sha256, of the stripped text where the text was at hand, else of the published file. The two
# revisions between v2 and v4 differ from v2 in details of results given in parts and of schemas.
_GOOGLES: tuple[tuple[str, str, SizeClass, str], ...] = (
    ("58c66fdee4afa29786fa0925a4c3659c8ebc28a2db93da6ae479d7d5886ce48f", "v1", "large", "2026-04-02"),
    ("55572b8d3c8342044e25874c73fe5234b661fa0a57a57f6ef75b58e03d7d959a", "v1", "small", "2026-04-02"),
    ("1d35a24a2a63cc600c0cab43628a6df4cd3318e959b03307cf5f9f7e29ecf783", "v2", "large", "2026-04-10"),
    ("781d10940fbc44be40064b5d43a056fc486c84ceaa55538226368b57314132bf", "v2", "small", "2026-04-10"),
    ("94899c0f917d93f6fe81c95744d1e8ddab2d21d39228d2e4aec1fb2a25bff413", "v2", "large", "2026-04-28"),
    ("33204f1acb5bd0002713e16a593847f24ceeafe711ed88bda2a352dc996a3373", "v2", "small", "2026-04-28"),
    ("36e3a42e5cf14cd0020e72d92e1fdd9970f59b82170e421f0cbe1bb42bead3f0", "v2", "large", "2026-05-18"),
    ("6a1015c47ccfcfa67c3b772385bccee357a4d37c3cda37bd202e9047f391ab82", "v4", "large", "2026-07-09"),
    ("603a42db292c25278e9b23d94c7abbe77453f13e26a053c43c5c2f900b4136f7", "v4", "small", "2026-07-09"),
)
KNOWN_TEMPLATES: Mapping[str, tuple[str, SizeClass, str]] = {
    digest: (generation, size_class, f"Google's template of {dated}")
    for digest, generation, size_class, dated in _GOOGLES
}


def recognise(template_source: str) -> TemplateInfo:
    """Which of Google's templates a model file carries, by the hash of its text. Never runs it."""
    text = template_source.replace("\r\n", "\n")
    given = _sha256(text)
    for digest in (given, _sha256(text.strip())):
        if digest in KNOWN_TEMPLATES:
            generation, size_class, name = KNOWN_TEMPLATES[digest]
            return TemplateInfo(generation, size_class, True, name, given)
    if TURN_OPEN not in text:
        return TemplateInfo(NEWEST, None, False, f"not a Gemma 4 template (sha256 {given[:12]})", given)
    primes = f"{CHANNEL_OPEN}thought\\n{CHANNEL_CLOSE}" in text
    name = f"an unknown Gemma 4 template (sha256 {given[:12]})"
    return TemplateInfo(NEWEST, "large" if primes else "small", False, name, given)


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", errors="replace")).hexdigest()
