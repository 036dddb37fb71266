"""The sampling and thinking fields that the APIs share, as SamplingParams and a ThinkingChoice.

Each API has its own names for the same few things; this is where they meet. Neighbours: types.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from gemstead.server.fields import Field, anything, flag, inner, number, one_of, read, record, texts, whole
from gemstead.server.refusals import wrong
from gemstead.server.served import Served
from gemstead.types import EFFORTS, SamplingParams, ThinkingChoice

MAX_STOPS = 16
EFFORT_WORDS = (*EFFORTS, "xhigh", "max")  # the last two say "as long as it takes", as high does here

SAMPLING = {
    "temperature": Field(number(0, 100), "0 always takes the likeliest token"),
    "top_p": Field(number(0, 1), "choose among the tokens that hold this much of the probability"),
    "top_k": Field(whole(0, 2**31 - 1), "choose among this many of the likeliest tokens; 0: all"),
    "min_p": Field(number(0, 1), "leave out tokens under this share of the likeliest one's probability"),
    "repetition_penalty": Field(number(0.01, 10), "divides the scores of tokens seen before"),
    "presence_penalty": Field(number(-2, 2), "taken once from the score of each token of the output so far"),
    "frequency_penalty": Field(number(-2, 2), "the same, once per occurrence"),
    "seed": Field(whole(-(2**63), 2**64 - 1), "the same seed gives the same answer; answer i of n adds i"),
    "stop": Field(texts(MAX_STOPS), f"up to {MAX_STOPS} strings that end the answer"),
    "logit_bias": Field(record, "token id to a number from -100 to 100, added to its score"),
}
_TEMPLATE = {
    "enable_thinking": Field(flag, ""),
    "thinking_budget": Field(whole(0, 2**31 - 1), ""),
}
THINKING = {
    "reasoning_effort": Field(
        one_of(*EFFORT_WORDS), "none, minimal, low, medium or high thinking; xhigh and max are high"
    ),
    "think": Field(anything, "thinking: true, false, a number of tokens, or an effort"),
    "chat_template_kwargs": Field(inner(_TEMPLATE), "enable_thinking and thinking_budget"),
}
OPTIONS = {"num_ctx": Field(whole(1, 2**31 - 1), "")}
_PLAIN = (
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "repetition_penalty",
    "presence_penalty",
    "frequency_penalty",
)


def sampling_of(given: Mapping[str, Any], served: Served) -> SamplingParams:
    """Sampling from the checked fields, over the model's own defaults."""
    chosen: dict[str, Any] = {name: given[name] for name in _PLAIN if name in given}
    if "seed" in given:
        chosen["seed"] = given["seed"] % 2**64
    if "stop" in given:
        chosen["stop"] = given["stop"]
    if "logit_bias" in given:
        chosen["logit_bias"] = _biases(given["logit_bias"])
    limits = {given[name] for name in ("max_tokens", "max_completion_tokens") if name in given}
    if len(limits) > 1:
        raise wrong("max_tokens", "max_tokens and max_completion_tokens differ; give one of them")
    if limits:
        chosen["max_tokens"] = limits.pop()
    return replace(served.model.sampling, **chosen)


def with_logprobs(given: Mapping[str, Any], sampling: SamplingParams) -> SamplingParams:
    """With the log-probabilities that `logprobs` and `top_logprobs` ask for."""
    if given.get("logprobs"):
        return replace(sampling, logprobs=given.get("top_logprobs", 0))
    if given.get("top_logprobs"):
        raise wrong("top_logprobs", "top_logprobs needs logprobs: true")
    return sampling


def seeded(sampling: SamplingParams, index: int) -> SamplingParams:
    """The sampling of the answer of that index out of n."""
    return sampling if sampling.seed is None else replace(sampling, seed=(sampling.seed + index) % 2**64)


def thinking_of(given: Mapping[str, Any], default: ThinkingChoice) -> ThinkingChoice:
    """What the thinking fields ask for; a Refusal where two of them disagree."""
    asked: list[ThinkingChoice] = []
    if "think" in given:
        asked.append(think(given["think"], "think"))
    if "reasoning_effort" in given:
        asked.append(effort(given["reasoning_effort"]))
    if "chat_template_kwargs" in given:
        inner = read(given["chat_template_kwargs"], _TEMPLATE, "chat_template_kwargs.")
        if "enable_thinking" in inner or "thinking_budget" in inner:
            on = inner.get("enable_thinking", True)
            asked.append(inner.get("thinking_budget", True) if on else False)
    if any(choice != asked[0] or type(choice) is not type(asked[0]) for choice in asked):
        raise wrong("think", "think, reasoning_effort and chat_template_kwargs disagree; give one of them")
    return asked[0] if asked else default


def think(value: Any, where: str) -> ThinkingChoice:
    """A think field: a boolean, a number of tokens or an effort."""
    if isinstance(value, str):
        return effort(one_of(*EFFORT_WORDS)(value, where))
    return value if isinstance(value, bool) else whole(0, 2**31 - 1)(value, where)


def effort(word: str) -> ThinkingChoice:
    """An effort of the APIs as one of ours."""
    return "high" if word in ("xhigh", "max") else word  # type: ignore[return-value]


def check_context(given: Mapping[str, Any], served: Served) -> None:
    """options.num_ctx may ask for as much as there is: the context is fixed when the server starts."""
    check_num_ctx(read(given.get("options", {}), OPTIONS, "options."), served)


def check_num_ctx(options: Mapping[str, Any], served: Served) -> None:
    """The same of options that were read already."""
    asked = options.get("num_ctx", 1)
    if asked > served.context_tokens:
        raise wrong(
            "options.num_ctx",
            f"options.num_ctx is {asked:,}, but the server was started with {served.context_tokens:,} tokens "
            "of context; restart it with more --context or --memory, or ask for less",
        )


def _biases(value: dict[str, Any]) -> tuple[tuple[int, float], ...]:
    pairs = []
    for name, bias in value.items():
        if not (name.isascii() and name.isdecimal() and len(name) < 10):
            raise wrong("logit_bias", f"logit_bias has the key {name[:40]!r}, which is not a token id")
        pairs.append((int(name), number(-100, 100)(bias, f"logit_bias.{name}")))
    return tuple(pairs)
