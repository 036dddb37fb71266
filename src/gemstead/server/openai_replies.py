"""OpenAI's replies: chunks of a stream and whole objects, from the same events.

`reasoning` and `reasoning_content` are both there, because half of the clients read either. The first
delta of a call alone has its id and name; every one has its integer index. Above: openai.py.
"""

from __future__ import annotations

import secrets
import time
from itertools import accumulate
from typing import Any

from gemstead.server.answers import Answer, sse, together
from gemstead.server.refusals import Refusal, body_of
from gemstead.text.tokenizer import Tokenizer
from gemstead.types import Cause, Done, Event, TextDelta, ThoughtDelta, TokenLogprob, ToolCallDelta, Usage


class ChatEncoder:
    """The chunks of a streamed chat completion.

    `tokens` is set once the model is open, where log-probabilities were asked for.
    """

    media_type = "text/event-stream"

    def __init__(self, model: str, n: int, wants_usage: bool) -> None:
        self._base = head("chatcmpl-", "chat.completion.chunk", model)
        self._n, self._wants_usage = n, wants_usage
        self.tokens: Tokenizer | None = None
        self._begun: set[tuple[int, int]] = set()  # (answer, call) whose id and name went out

    def opening(self, prompt_tokens: int) -> bytes:  # noqa: ARG002
        """The role, of every answer, before any work."""
        return b"".join(self._chunk(i, {"role": "assistant", "content": ""}) for i in range(self._n))

    def encode(self, index: int, events: list[Event]) -> bytes:
        """A chunk per event."""
        return b"".join(self._event(index, event) for event in events)

    def ping(self) -> bytes:
        """A comment, which clients skip."""
        return b": ping\n\n"

    def failure(self, refusal: Refusal) -> bytes:
        """The error as an event; nothing follows."""
        return sse(body_of(refusal, "openai"))

    def closing(self, usage: Usage) -> bytes:
        """The usage, if asked for, and the end."""
        last = sse({**self._base, "choices": [], "usage": usage_of(usage)}) if self._wants_usage else b""
        return last + b"data: [DONE]\n\n"

    def _event(self, index: int, event: Event) -> bytes:
        if isinstance(event, TextDelta):
            logprobs = None if self.tokens is None else chat_logprobs(list(event.logprobs), self.tokens)
            return self._chunk(index, {"content": event.text}, logprobs=logprobs)
        if isinstance(event, ThoughtDelta):
            return self._chunk(index, {"reasoning": event.text, "reasoning_content": event.text})
        if isinstance(event, ToolCallDelta):
            call: dict[str, Any] = {"index": event.index}
            function: dict[str, Any] = {}
            if (index, event.index) not in self._begun:
                self._begun.add((index, event.index))
                call |= {"id": event.id, "type": "function"}
                function["name"] = event.name
            call["function"] = {**function, "arguments": event.arguments_text}
            return self._chunk(index, {"tool_calls": [call]})
        if isinstance(event, Done):
            return self._chunk(index, {}, finish=event.reason, cause=event.cause)
        return b""

    def _chunk(
        self,
        index: int,
        delta: dict[str, Any],
        *,
        logprobs: Any = None,
        finish: str | None = None,
        cause: Cause | None = None,
    ) -> bytes:
        choice = {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish}
        return self._sent(choice | because(cause))

    def _sent(self, choice: dict[str, Any]) -> bytes:
        usage = {"usage": None} if self._wants_usage else {}
        return sse({**self._base, "choices": [choice], **usage})


class TextEncoder(ChatEncoder):
    """The chunks of a streamed completion."""

    def __init__(self, model: str, n: int, wants_usage: bool) -> None:
        super().__init__(model, n, wants_usage)
        self._base = head("cmpl-", "text_completion", model)
        self.echo = ""
        self._written = [0] * n

    def repeat(self, prompt: str) -> None:
        """Put the prompt before every answer."""
        self.echo = prompt
        self._written = [len(prompt)] * self._n

    def opening(self, prompt_tokens: int) -> bytes:  # noqa: ARG002
        """The prompt where it is wanted back; a comment otherwise, so that bytes come at once."""
        if not self.echo:
            return b": ready\n\n"
        return b"".join(self._text(i, self.echo) for i in range(self._n))

    def _event(self, index: int, event: Event) -> bytes:
        if isinstance(event, TextDelta):
            logprobs = None
            if self.tokens is not None:
                logprobs = text_logprobs(list(event.logprobs), self.tokens, self._written[index])
            self._written[index] += len(event.text)
            return self._text(index, event.text, logprobs=logprobs)
        if isinstance(event, Done):
            return self._text(index, "", finish=event.reason, cause=event.cause)
        return b""

    def _text(
        self,
        index: int,
        text: str,
        *,
        logprobs: Any = None,
        finish: str | None = None,
        cause: Cause | None = None,
    ) -> bytes:
        choice = {"index": index, "text": text, "logprobs": logprobs, "finish_reason": plain(finish)}
        return self._sent(choice | because(cause))


def chat_reply(model: str, answers: list[Answer], tokens: Tokenizer | None) -> dict[str, Any]:
    """A whole chat completion."""
    choices = []
    for index, answer in enumerate(answers):
        message: dict[str, Any] = {"role": "assistant", "content": answer.text or None, "refusal": None}
        if not answer.calls:
            message["content"] = answer.text
        else:
            message["tool_calls"] = [
                {"id": c.id, "type": "function", "function": {"name": c.name, "arguments": c.arguments}}
                for c in answer.calls
            ]
        if answer.thought:
            message |= {"reasoning": answer.thought, "reasoning_content": answer.thought}
        logprobs = None if tokens is None else chat_logprobs(answer.logprobs, tokens)
        choice = {"index": index, "message": message, "logprobs": logprobs, "finish_reason": _reason(answer)}
        choices.append(choice | because(_cause(answer)))
    usage = usage_of(together([answer.usage for answer in answers]))
    return {**head("chatcmpl-", "chat.completion", model), "choices": choices, "usage": usage}


def text_reply(model: str, answers: list[Answer], tokens: Tokenizer | None, echo: str) -> dict[str, Any]:
    """A whole completion."""
    choices = []
    for index, answer in enumerate(answers):
        logprobs = None if tokens is None else text_logprobs(answer.logprobs, tokens, len(echo))
        choice = {
            "index": index,
            "text": echo + answer.text,
            "logprobs": logprobs,
            "finish_reason": plain(_reason(answer)),
        }
        choices.append(choice | because(_cause(answer)))
    usage = usage_of(together([answer.usage for answer in answers]))
    return {**head("cmpl-", "text_completion", model), "choices": choices, "usage": usage}


def head(prefix: str, kind: str, model: str) -> dict[str, Any]:
    """What every object begins with."""
    return {
        "id": prefix + secrets.token_hex(12),
        "object": kind,
        "created": int(time.time()),
        "model": model,
        "system_fingerprint": None,
    }


def usage_of(usage: Usage) -> dict[str, Any]:
    """Usage in OpenAI's words."""
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
    }


def chat_logprobs(values: list[TokenLogprob], tokens: Tokenizer) -> dict[str, Any]:
    """Log-probabilities as chat completions have them."""
    content = [
        {
            **_token(value.token_id, value.logprob, tokens),
            "top_logprobs": [_token(token_id, logprob, tokens) for token_id, logprob in value.top],
        }
        for value in values
    ]
    return {"content": content, "refusal": None}


def text_logprobs(values: list[TokenLogprob], tokens: Tokenizer, offset: int) -> dict[str, Any]:
    """Log-probabilities as completions have them; `offset` is where the text of the first token begins."""
    shown = [_spelled(value.token_id, tokens) for value in values]
    offsets = list(accumulate(map(len, shown), initial=offset))[:-1]
    return {
        "tokens": shown,
        "token_logprobs": [value.logprob for value in values],
        "top_logprobs": [{_spelled(i, tokens): logprob for i, logprob in value.top} for value in values],
        "text_offset": offsets,
    }


def because(cause: Cause | None) -> dict[str, Any]:
    """Why an answer is empty or was ended: one key more than OpenAI has, only where there is a cause."""
    return {} if cause is None else {"cause": {"code": cause.code, "message": cause.message}}


def plain(reason: str | None) -> str | None:
    """A reason to finish as completions know them: without calls."""
    return "stop" if reason == "tool_calls" else reason


def _token(token_id: int, logprob: float, tokens: Tokenizer) -> dict[str, Any]:
    return {
        "token": _spelled(token_id, tokens),
        "logprob": logprob,
        "bytes": list(tokens.token_bytes(token_id)),
    }


def _spelled(token_id: int, tokens: Tokenizer) -> str:
    return tokens.token_bytes(token_id).decode("utf-8", errors="replace")


def _reason(answer: Answer) -> str | None:
    return answer.end.reason if answer.end is not None else None


def _cause(answer: Answer) -> Cause | None:
    return answer.end.cause if isinstance(answer.end, Done) else None
