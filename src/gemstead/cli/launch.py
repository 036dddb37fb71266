"""`gemstead launch NAME`: starts a coding agent that is installed here, pointed at the running server.

Says it to the agent in its environment, and on its command line where it reads no variable for it; writes
no file of anybody's. AGENTS holds all that is known of each; a new one is a row.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import click

from gemstead.cli.ps import place_options
from gemstead.cli.serve import KEY_VARIABLE
from gemstead.errors import ConfigError
from gemstead.server.client import ask

NO_KEY = "gemstead"  # agents want some key, also where the server asks for none


@dataclass(frozen=True)
class Target:
    """What an agent is pointed at."""

    url: str
    key: str
    model: str
    context_tokens: int


@dataclass(frozen=True)
class Agent:
    """An agent's program, where it comes from, and what it reads."""

    program: str
    source: str
    variables: Callable[[Target], Mapping[str, str]]
    arguments: Callable[[Target], tuple[str, ...]] = lambda _: ()


def _claude(to: Target) -> Mapping[str, str]:
    sizes = [f"ANTHROPIC_DEFAULT_{size}_MODEL" for size in ("OPUS", "SONNET", "HAIKU")]
    models = ("ANTHROPIC_MODEL", "CLAUDE_CODE_SUBAGENT_MODEL", *sizes)
    return {
        "ANTHROPIC_BASE_URL": to.url,
        "ANTHROPIC_AUTH_TOKEN": to.key,
        "ANTHROPIC_API_KEY": "",  # it would come before the token
        **dict.fromkeys(models, to.model),
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
    }


def _codex(to: Target) -> tuple[str, ...]:
    provider = {
        "name": "gemstead",
        "base_url": f"{to.url}/v1",
        "env_key": "OPENAI_API_KEY",
        "wire_api": "responses",
    }
    settings: dict[str, str | int | bool] = {
        "model": to.model,
        "model_provider": "gemstead",
        **{f"model_providers.gemstead.{name}": value for name, value in provider.items()},
        "web_search": "disabled",  # OpenAI's servers run it, not the agent
        "features.multi_agent": False,  # its tools are of a kind that only OpenAI's API has
    }
    if to.context_tokens:
        settings["model_context_window"] = to.context_tokens
    return tuple(word for name, value in settings.items() for word in ("-c", f"{name}={json.dumps(value)}"))


def _opencode(to: Target) -> Mapping[str, str]:
    model: dict[str, object] = {"name": to.model}
    if to.context_tokens:
        model["limit"] = {"context": to.context_tokens, "output": to.context_tokens // 4}
    provider = {
        "npm": "@ai-sdk/openai-compatible",
        "name": "gemstead",
        "options": {"baseURL": f"{to.url}/v1", "apiKey": to.key},
        "models": {to.model: model},
    }
    named = f"gemstead/{to.model}"
    config = {"provider": {"gemstead": provider}, "model": named, "small_model": named}
    return {"OPENCODE_CONFIG_CONTENT": json.dumps(config)}


def _aider(to: Target) -> Mapping[str, str]:
    return {
        "OPENAI_API_BASE": f"{to.url}/v1",
        "OPENAI_API_KEY": to.key,
        "AIDER_MODEL": f"openai/{to.model}",
        "AIDER_SHOW_MODEL_WARNINGS": "false",  # it asks about models that it has no prices of
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # prices again: without a network it waits a minute for them
    }


AGENTS = {
    "claude": Agent("claude", "npm install -g @anthropic-ai/claude-code", _claude),
    "codex": Agent("codex", "npm install -g @openai/codex", lambda to: {"OPENAI_API_KEY": to.key}, _codex),
    "opencode": Agent("opencode", "npm install -g opencode-ai", _opencode),
    "aider": Agent("aider", "python -m pip install aider-install && aider-install", _aider),
}


@click.command(epilog=f"Known are {', '.join(AGENTS)}. What comes after -- goes to the agent.")
@click.argument("name")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@click.option("-m", "--model", metavar="NAME", help="Which of the server's models; otherwise its first.")
@place_options
def launch(name: str, arguments: tuple[str, ...], model: str | None, host: str, port: int) -> None:
    """Start a coding agent that asks the running server: gemstead launch claude.

    It gets the address, a key and the model in its environment. None of its files is written.
    """
    if name not in AGENTS:
        raise click.UsageError(f"{name!r} is no agent known here; known are {', '.join(AGENTS)}")
    agent = AGENTS[name]
    path = shutil.which(agent.program)
    if path is None:
        raise ConfigError(f"{agent.program} is not installed here; get it with: {agent.source}")
    target = target_of(host, port, model)
    command = [path, *agent.arguments(target), *arguments]
    sys.stdout.flush()
    os.execve(path, command, {**os.environ, **agent.variables(target)})


def target_of(host: str, port: int, wanted: str | None) -> Target:
    """The running server and one of its models; ConfigError where there is no server or no such model."""
    words = os.environ.get(KEY_VARIABLE, "").split()  # a user's: an agent manages no models
    key = words[0] if words else None
    models = {
        entry["id"]: entry.get("context_length")
        for entry in ask("GET", "/v1/models", host, port, key)["data"]
    }
    model = next(iter(models)) if wanted is None else wanted
    if model not in models:
        raise ConfigError(f"the server does not serve {model!r}; it serves {', '.join(models)}")
    address = f"[{host}]" if ":" in host else host
    return Target(f"http://{address}:{port}", key or NO_KEY, model, models[model] or 0)
