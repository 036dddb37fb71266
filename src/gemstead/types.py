"""The frozen values everyone shares: messages, tools, sampling, requests and events.

They carry no behaviour beyond checking themselves: rendering is text/template.py, running is
session.py. Nothing here imports anything of gemstead but the error tree.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from gemstead.errors import InputError

Json: TypeAlias = bool | int | float | str | list["Json"] | dict[str, "Json"] | None
Role: TypeAlias = Literal["system", "developer", "user", "assistant", "tool"]
FinishReason: TypeAlias = Literal["stop", "length", "tool_calls", "cancelled", "error"]
Effort: TypeAlias = Literal["none", "minimal", "low", "medium", "high"]
CauseCode: TypeAlias = Literal[
    "spent_thinking",
    "spent_without_text",
    "no_tokens_allowed",
    "ended_at_once",
    "ended_after_thinking",
    "stop_string",
    "tool_calls",
    "cancelled",
    "token_loop",
    "repeated_call",
    "too_many_rounds",
]
ROLES: tuple[str, ...] = ("system", "developer", "user", "assistant", "tool")
MOST_THREADS = 256  # of one model: more than a machine's memory feeds, and thousands would stall it
KV_FORMATS = ("f16", "q8_0")  # how keys and values can be kept


@dataclass(frozen=True, slots=True)
class TextPart:
    """A run of text inside a message."""

    text: str


@dataclass(frozen=True, slots=True)
class MediaPart:
    """An image, a sound or a video inside a message; `data` holds the encoded file's bytes."""

    kind: Literal["image", "audio", "video"]
    data: bytes = b""


Part: TypeAlias = TextPart | MediaPart


@dataclass(frozen=True, slots=True)
class ToolCall:
    """One call the model made: a declared tool's name and its arguments as parsed values."""

    name: str
    arguments: Mapping[str, Json]
    id: str = ""


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a conversation.

    `content` is text or a tuple of parts; a tool message may also carry any JSON value as its
    result. `reasoning` is the thought that came before the content of an assistant message.
    """

    role: Role
    content: str | tuple[Part, ...] | Json = ""
    reasoning: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None
    name: str | None = None

    def __post_init__(self) -> None:
        if self.role not in ROLES:
            raise InputError(f"message role {self.role!r} is unknown; use one of {', '.join(ROLES)}")
        if self.tool_calls and self.role != "assistant":
            raise InputError(f"a {self.role} message cannot carry tool calls; only an assistant's can")

    @classmethod
    def system(cls, content: str) -> Message:
        """Instructions that come before the conversation."""
        return cls("system", content)

    @classmethod
    def user(cls, content: str | tuple[Part, ...]) -> Message:
        """What the person said."""
        return cls("user", content)

    @classmethod
    def assistant(
        cls, content: str = "", *, reasoning: str | None = None, tool_calls: tuple[ToolCall, ...] = ()
    ) -> Message:
        """What the model said, thought and called."""
        return cls("assistant", content, reasoning=reasoning, tool_calls=tool_calls)

    @classmethod
    def tool(cls, content: Json, *, call: ToolCall | None = None, name: str | None = None) -> Message:
        """The result of a tool call; `call` links it to the call it answers."""
        call_id = call.id if call is not None else None
        return cls("tool", content, tool_call_id=call_id, name=call.name if call is not None else name)


@dataclass(frozen=True, slots=True)
class Tool:
    """A function the model may call: `parameters` is a JSON Schema of type object.

    `function`, where given, runs the call in this process with the arguments as keywords. A keyword of the
    schema that cannot be guaranteed is an error where the tool is `strict`; otherwise calls may break it.
    """

    name: str
    description: str = ""
    parameters: Mapping[str, Any] = field(default_factory=lambda: {"type": "object", "properties": {}})
    response: Mapping[str, Any] | None = None
    function: Callable[..., Json] | None = field(default=None, compare=False)
    strict: bool = True


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How the next token is chosen. The defaults are the model card's (1.0 / 64 / 0.95).

    temperature 0 is greedy. top_k 0 and top_p 1.0 switch those filters off. `logprobs` = n returns
    the n most likely tokens beside each chosen one (0: only the chosen one's; None: nothing).
    `max_tokens` None means: until the context is full. Penalties of 1.0 / 0.0 / 0.0 are off.
    `logit_bias` adds to the scores of token ids, pairs of id and number, before anything is forbidden.
    `loop_guard` ends an answer in which the same few tokens have come again and again for that many
    tokens; 0: never. The default lets an array of a thousand equal numbers pass.
    """

    temperature: float = 1.0
    top_k: int = 64
    top_p: float = 0.95
    min_p: float = 0.0
    seed: int | None = None
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    logprobs: int | None = None
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    loop_guard: int = 3072
    logit_bias: tuple[tuple[int, float], ...] = ()

    def __post_init__(self) -> None:
        for name, low, high in _SAMPLING_RANGES:
            value = getattr(self, name)
            if value is None:
                continue
            wanted = int if isinstance(low, int) else (int, float)
            ok = isinstance(value, wanted) and not isinstance(value, bool) and math.isfinite(value)
            if not ok or not low <= value <= high:
                raise InputError(f"{name} = {value!r} is out of range; allowed is {low} to {high}")
        if isinstance(self.stop, str) or not all(isinstance(s, str) and s for s in self.stop):
            raise InputError(f"stop = {self.stop!r} must be a tuple of non-empty strings")
        for token_id, bias in self.logit_bias:
            if not 0 <= token_id < 2**31 or not abs(bias) <= 100:
                raise InputError(f"logit_bias = {token_id}: {bias} is impossible; a bias is from -100 to 100")


_SAMPLING_RANGES: tuple[tuple[str, int | float, int | float], ...] = (
    ("temperature", 0.0, 100.0),
    ("top_k", 0, 2**31 - 1),
    ("top_p", 0.0, 1.0),
    ("min_p", 0.0, 1.0),
    ("seed", 0, 2**64 - 1),
    ("max_tokens", 0, 2**31 - 1),
    ("logprobs", 0, 64),
    ("repetition_penalty", 0.01, 10.0),
    ("presence_penalty", -2.0, 2.0),
    ("frequency_penalty", -2.0, 2.0),
    ("loop_guard", 0, 2**31 - 1),
)


@dataclass(frozen=True, slots=True)
class OutputFormat:
    """What the visible answer must be: a JSON Schema (a mapping), a regex, Lark text, or a list of texts."""

    kind: Literal["json_schema", "regex", "lark", "choice"]
    value: Any

    def __post_init__(self) -> None:
        wanted: Any = {"json_schema": (Mapping, bool), "regex": str, "lark": str, "choice": (list, tuple)}
        if self.kind not in wanted:
            raise InputError(f"output format {self.kind!r} is unknown; allowed are {', '.join(wanted)}")
        value = self.value
        texts = self.kind != "choice" or (value and all(isinstance(x, str) and x for x in value))
        if not isinstance(value, wanted[self.kind]) or not texts:
            raise InputError(f"an output format {self.kind} cannot be {value!r:.80}")


# Tokens of thought for each word: each four times the one before, so that a CPU thinks for seconds at
# "minimal" and for minutes at "medium".
EFFORTS: Mapping[str, int | None] = {"none": 0, "minimal": 128, "low": 512, "medium": 2048, "high": None}


# Fewer hold no sentence, and a model cut off after a word takes its answer for the rest of the thought.
LEAST_THOUGHT = 12


@dataclass(frozen=True, slots=True)
class Thinking:
    """How long a model may think before it answers, in tokens.

    budget counts everything inside thoughts, the closing included; None: as long as there is room, 0: not
    at all. `reserve` tokens of max_tokens and of the context are kept for the answer in any case; None:
    half of what there is room for, 1,024 at most.
    """

    budget: int | None = None
    reserve: int | None = None

    def __post_init__(self) -> None:
        for name in ("budget", "reserve"):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 0):
                raise InputError(f"{name} = {value!r} is not a number of tokens; give 0 or more, or None")

    @classmethod
    def of(cls, asked: ThinkingChoice) -> Thinking:
        """What True, False, a budget in tokens or an effort in words ask for; under 12 tokens, no thought."""
        if isinstance(asked, Thinking):
            return asked
        if isinstance(asked, bool):
            return cls() if asked else cls(budget=0)
        if isinstance(asked, int) and asked >= 0:
            return cls(budget=asked if asked >= LEAST_THOUGHT else 0)
        if isinstance(asked, str) and asked in EFFORTS:
            return cls(budget=EFFORTS[asked])
        raise InputError(
            f"thinking = {asked!r} is not possible; allowed are True, False, a number of tokens from 0, "
            f"{', '.join(EFFORTS)}, or a Thinking"
        )

    @property
    def is_on(self) -> bool:
        """Whether the model is asked to think at all."""
        return self.budget != 0

    def kept(self, room: int) -> int:
        """The answer's reserve where `room` tokens are left for thought and answer."""
        return min((room + 1) // 2, 1024) if self.reserve is None else self.reserve


ThinkingChoice: TypeAlias = Thinking | bool | int | Effort


@dataclass(frozen=True, slots=True)
class Request:
    """One turn to generate: the conversation so far, the tools on offer, how to sample.

    thinking is what Thinking.of takes: True, False, a budget in tokens, an effort, a Thinking. tool_choice
    is "auto", "none", "required" or the name of the one tool to call. With `constrain` no call can be
    sampled that its tool's schema does not allow. `adapter` names one of those the model was opened with;
    None is the model as it is.
    """

    messages: tuple[Message, ...]
    tools: tuple[Tool, ...] = ()
    sampling: SamplingParams = SamplingParams()
    thinking: ThinkingChoice = False
    tool_choice: str = "auto"
    parallel_tool_calls: bool = True
    constrain: bool = True
    output: OutputFormat | None = None
    adapter: str | None = None

    def __post_init__(self) -> None:
        Thinking.of(self.thinking)


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """The natural-log probability of one chosen token and of its best alternatives."""

    token_id: int
    logprob: float
    top: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens counted and time spent by one request."""

    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    reasoning_tokens: int = 0
    drafted_tokens: int = 0
    accepted_tokens: int = 0
    prefill_s: float = 0.0
    decode_s: float = 0.0


@dataclass(frozen=True, slots=True)
class TextDelta:
    """More visible text."""

    text: str
    logprobs: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True, slots=True)
class ThoughtDelta:
    """More of the model's thought."""

    text: str


@dataclass(frozen=True, slots=True)
class ToolCallDelta:
    """More of a tool call: `arguments_text` is the next piece of its arguments as JSON text.

    The pieces of one id, joined, are the JSON of the arguments in the ToolCallEvent of that id, which
    follows. Where none follows, the output ended before the call did.
    """

    index: int
    id: str
    name: str
    arguments_text: str = ""


@dataclass(frozen=True, slots=True)
class ToolCallEvent:
    """A whole tool call; its ToolCallDeltas came before."""

    call: ToolCall


@dataclass(frozen=True, slots=True)
class ParseNote:
    """The model wrote something that is not its own format; `text` is what was kept as text."""

    message: str
    text: str = ""


@dataclass(frozen=True, slots=True)
class Cause:
    """Why an answer is empty or was ended early: a code for programs, a message for people."""

    code: CauseCode
    message: str


@dataclass(frozen=True, slots=True)
class Done:
    """The end of a request that ran.

    `reason` says how it ended, `stop_string` which of yours ended it. `cause` is there when no visible
    text came (blanks are none), and when something of ours ended the answer: a loop of tokens or of calls.
    """

    reason: FinishReason
    usage: Usage = Usage()
    cause: Cause | None = None
    stop_string: str | None = None


@dataclass(frozen=True, slots=True)
class Failed:
    """The end of a request that broke; its `error` is the cause."""

    error: Exception
    usage: Usage = Usage()
    reason: FinishReason = field(default="error", init=False)


Event: TypeAlias = TextDelta | ThoughtDelta | ToolCallDelta | ToolCallEvent | ParseNote | Done | Failed
