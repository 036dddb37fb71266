"""What of Gemma 4 fits a machine, how fast it will be and why: every variant in every usual format.

Adds up what others know: fit.py the memory, speed.py the time, host.py the machine, the catalogue what there
is to download. Decides only the verdicts, by the few limits below. Used by cli/plan.py, cli/offer.py and as
gemstead.plan.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from types import MappingProxyType
from typing import Any, Literal

from gemstead.backend.native import NativeBackend
from gemstead.backend.native.backend import kv_bytes_per_token
from gemstead.errors import ConfigError
from gemstead.hub.catalogue import Row, catalogue
from gemstead.hub.folders import hf_cache
from gemstead.machine.fit import Footprint, Load, addresses, file_bytes, footprint, packed_file_bytes
from gemstead.machine.host import Host, host_of, this_host
from gemstead.machine.memory import LEAST_KV_BYTES, MOST_CONTEXTS, kv_share
from gemstead.machine.on_gpu import OnGpu, on_gpu
from gemstead.machine.speed import Speed
from gemstead.spec.model import ModelSpec
from gemstead.spec.tensors import text_tensors
from gemstead.spec.variants import DRAFTERS, VARIANTS
from gemstead.types import KV_FORMATS
from gemstead.weights.mixture import mix_formats

Verdict = Literal["comfortable", "tight", "no"]

FORMATS = ("q4_0", "q4_k_m", "q8_0", "bf16")
PROMPT_TOKENS, ANSWER_TOKENS = 1000, 200
_VOCABULARY_BYTES = 16_000_000  # of a GGUF beside its tensors: the tokenizer, measured on the released one
# More than this share of the free memory, and little is left for anything else.
_ROOMY_SHARE = 0.85
# What is told of memory may be this much off (docs/guides/plan.md): a "no" needs more than that.
_OFF_SHARE = 0.05
# People read about 238 words a minute (Brysbaert 2019), four words being about five tokens.
_READING_TOK_S = 5.0
_PATIENCE_S = 30.0  # our choice: longer than this before the first word, and people give up
_LEAST_CONTEXT = PROMPT_TOKENS + ANSWER_TOKENS


@dataclass(frozen=True, slots=True)
class Task:
    """What a person wants to do: the context it usually takes, and what the engine must be able to do."""

    about: str
    context_tokens: int
    needs: str | None = None


TASKS: Mapping[str, Task] = MappingProxyType(
    {
        "chat": Task("talk", 8192),
        "agent": Task("let it work with tools", 32_768),
        "code": Task("write and read programs", 16_384),
        "ocr": Task("read text in images", 4096, "image"),
        "transcribe": Task("write down speech", 4096, "audio"),
        "tune": Task("train it on examples", 2048, "training"),
    }
)
_CANNOT = {
    "image": "gemstead sees no images yet",
    "audio": "gemstead hears no sound yet",
    "training": "gemstead cannot train yet",
}


@dataclass(frozen=True, slots=True)
class Choice:
    """One variant in one format: what it takes, how fast it should be, whether that fits, and why.

    `reason` is one word or two ("" if comfortable), `why` a few more. `name` is what `gemstead pull` takes;
    None: no repository that gemstead knows has it. Speeds are those of one user of all.
    """

    variant: str
    format: str
    name: str | None
    download_bytes: int
    disk_bytes: int
    memory: Footprint
    prefill_tok_s: float
    decode_tok_s: float
    prompt_s: float
    answer_s: float
    verdict: Verdict
    reason: str
    why: str
    memory_option: int | None = None

    @property
    def title(self) -> str:
        """What it is called in a sentence."""
        return f"gemma-4-{self.variant} {self.format}"

    def as_json(self) -> dict[str, Any]:
        """All of it, and the sum of the memory."""
        return asdict(self) | {"memory_bytes": self.memory.total}


@dataclass(frozen=True)
class Plan:
    """What was asked, the machine, every choice, and the one to take (None: nothing fits); `on_gpu`: every
    variant on the GPU, where there is one."""

    host: Host
    task: str
    context_tokens: int
    users: int
    choices: tuple[Choice, ...]
    best: Choice | None
    on_gpu: tuple[OnGpu, ...] = ()

    @property
    def fits(self) -> bool:
        """Whether anything does."""
        return self.best is not None

    def commands(self) -> tuple[str, ...]:
        """What to type for the best choice."""
        if self.best is None or self.best.name is None:
            return ()
        verb = "chat" if self.users == 1 else "serve"
        options = f" --context {self.context_tokens}"
        if self.best.memory_option is not None and verb == "chat":  # a server shares out all that is free
            options += f" --memory {-(-self.best.memory_option // 1_000_000)}MB"
        return (f"gemstead pull {self.best.name}", f"gemstead {verb} {self.best.name}{options}")

    def as_json(self) -> dict[str, Any]:
        """Everything as JSON values."""
        host = {name: value for name, value in asdict(self.host).items() if name != "rates"}
        rates = {"bytes_s": self.host.rates.bytes_s, "int8_operations_s": self.host.rates.int8_s}
        return {
            "machine": host | rates,
            "task": self.task,
            "context_tokens": self.context_tokens,
            "users": self.users,
            "choices": [choice.as_json() for choice in self.choices],
            "on_gpu": [asdict(one) for one in self.on_gpu],
            "best": None if self.best is None else self.best.as_json(),
            "commands": list(self.commands()),
        }


def plan(
    context: int | None = None,
    users: int = 1,
    task: str = "chat",
    machine: str | Host | None = None,
    kv: str = "f16",
    drafter: bool = False,
) -> Plan:
    """Every Gemma 4 in every usual format on this machine, or on `machine` ("pi5", "8GB, 4 cores, 20GB/s").

    `context`: tokens of each user's conversation (None: what the task usually takes); `users`: at once. With
    `drafter` its memory is counted too. ConfigError for what cannot be; BackendError where the native engine
    is not built.
    """
    if task not in TASKS:
        raise ConfigError(f"there is no task {task!r}; choose one of {', '.join(TASKS)}")
    if kv not in KV_FORMATS:
        raise ConfigError(f"kv={kv!r} is no way to keep K/V; choose one of {', '.join(KV_FORMATS)}")
    wanted = TASKS[task].context_tokens if context is None else context
    for name, value, least in (("context", wanted, _LEAST_CONTEXT), ("users", users, 1)):
        if value < least:
            raise ConfigError(f"{name} = {value} is too small to plan for; the least is {least:,}")
    host = machine if isinstance(machine, Host) else host_of(machine) if machine else this_host(hf_cache())
    load = Load(wanted, users, host.cores, kv)
    variants = [row.variant for row in catalogue().recommended()]
    choices = tuple(
        _choice(variant, name, host, load, TASKS[task], drafter) for variant in variants for name in FORMATS
    )
    depth = PROMPT_TOKENS + ANSWER_TOKENS // 2
    found = tuple(one for variant in variants for one in on_gpu(variant, host.gpus, load, depth))
    return Plan(host, task, wanted, users, choices, _best(choices), found)


def _best(choices: tuple[Choice, ...]) -> Choice | None:
    """The largest variant that is comfortable, in the format its catalogue prefers; else what fits best."""
    to_have = [choice for choice in choices if choice.name is not None]
    comfortable = [choice for choice in to_have if choice.verdict == "comfortable"]
    if comfortable:
        largest = comfortable[-1].variant
        return next(choice for choice in comfortable if choice.variant == largest)
    tight = [choice for choice in to_have if choice.verdict == "tight"]
    return min(tight, key=lambda choice: (choice.memory.total, choice.answer_s), default=None)


def _choice(variant: str, name: str, host: Host, load: Load, task: Task, drafter: bool) -> Choice:
    spec = VARIANTS[variant]
    formats = mix_formats(text_tensors(spec), name)
    row, short = _offered(variant, name)
    media = (row.mmproj_bytes or 0) if row and task.needs in ("image", "audio") else 0
    held = footprint(spec, formats, load, media, DRAFTERS[variant] if drafter else None)
    in_file = file_bytes(spec, formats)
    download = (row.weights_bytes if row and row.weights_bytes else in_file + _VOCABULARY_BYTES) + media
    speed = Speed(spec, formats, kv_bytes_per_token(spec, load.kv), host.rates)
    prompt_s = speed.prompt_s(PROMPT_TOKENS, load.users)
    decode = speed.decode_tok_s(PROMPT_TOKENS + ANSWER_TOKENS // 2, load.users)
    made = Choice(
        variant=variant,
        format=name,
        name=short,
        download_bytes=download,
        disk_bytes=download + packed_file_bytes(spec, formats),
        memory=held,
        prefill_tok_s=PROMPT_TOKENS / prompt_s,
        decode_tok_s=decode,
        prompt_s=prompt_s,
        answer_s=ANSWER_TOKENS / decode,
        verdict="comfortable",
        reason="",
        why="",
        memory_option=_memory_option(spec, held, load, host.free_bytes - held.weights),
    )
    mapped = addresses(spec, formats, held, host.cores)
    problem = next(_problems(made, spec, host, load, task, mapped), None)
    if problem is None:
        return replace(made, why=f"{_gb(host.free_bytes - held.total)} of memory stay free")
    return replace(made, verdict=problem[0], reason=problem[1], why=problem[2])


def _offered(variant: str, name: str) -> tuple[Row | None, str | None]:
    """The catalogue's row for a variant in a format, and the name by which `gemstead pull` finds it."""
    rows = [row for row in catalogue().rows if row.variant == variant and row.is_default]
    row = next((row for row in rows if name in (known.lower() for known in row.formats)), None)
    if row is None:
        return None, None
    return row, variant if row is rows[0] else f"{variant}-{name}"


def _memory_option(spec: ModelSpec, held: Footprint, load: Load, free_bytes: int) -> int | None:
    """What to give as --memory where the engine, left alone, would set aside too little for K/V."""
    context = min(load.context_tokens, spec.max_position_embeddings)
    useful = max(LEAST_KV_BYTES, MOST_CONTEXTS * sum(kv_bytes_per_token(spec, load.kv)) * context)
    return None if kv_share(free_bytes, useful) >= held.kv else held.kv


def _problems(
    choice: Choice, spec: ModelSpec, host: Host, load: Load, task: Task, mapped: tuple[int, int]
) -> Iterator[tuple[Verdict, str, str]]:
    """What speaks against a choice, the worst first; `mapped`: the least and the most it may map."""
    if task.needs == "audio" and spec.audio is None:
        yield "no", "cannot hear", "knows text and images, no sound"
    if task.needs is not None and task.needs not in NativeBackend.media:
        yield "no", "not yet", _CANNOT[task.needs]
    if load.context_tokens > spec.max_position_embeddings:
        yield "no", "context", f"holds {spec.max_position_embeddings:,} tokens at most"
    held, free = choice.memory, host.free_bytes
    if held.total > (1 + _OFF_SHARE) * free:
        yield "no", "memory", f"needs {_gb(held.total)} of memory, {_gb(free)} free"
    if host.disk_bytes is not None and choice.download_bytes > host.disk_bytes:
        yield "no", "disk", f"needs {_gb(choice.download_bytes)} of disk, {_gb(host.disk_bytes)} free"
    least, most = mapped
    if host.address_bytes is not None and least > host.address_bytes:
        yield "no", "ulimit", f"maps {_gb(least)}, ulimit -v allows {_gb(host.address_bytes)}"
    if host.address_bytes is not None and most > host.address_bytes:
        yield "tight", "ulimit", f"may map {_gb(most)} of {_gb(host.address_bytes)} (ulimit)"
    if held.total > _ROOMY_SHARE * free:
        yield "tight", "memory", f"leaves only {_gb(max(0, free - held.total))} of memory"
    if choice.decode_tok_s < _READING_TOK_S:
        yield "tight", "slow", "writes slower than people read"
    if choice.prompt_s > _PATIENCE_S:
        yield "tight", "long wait", f"needs {choice.prompt_s:.0f} s to read a page or two"


def _gb(count: int) -> str:
    """Gigabytes (10^9 bytes) with a digit that matters."""
    return f"{count / 1e9:.1f} GB" if count < 99.95e9 else f"{count / 1e9:.0f} GB"
