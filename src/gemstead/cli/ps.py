"""`gemstead ps`: what the running server serves, how busy it is, the memory it holds against its ceiling.

Asks over HTTP with the admin key of the environment, where there is one.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from typing import Any, TypeVar

import click

from gemstead.cli.serve import ADMIN_VARIABLE, KEY_VARIABLE
from gemstead.server.client import ask
from gemstead.server.serving import PORT

Command = TypeVar("Command", bound=Callable[..., Any])


def place_options(command: Command) -> Command:
    """Which server is meant."""
    port = click.option(
        "--port",
        type=click.IntRange(1, 65535),
        default=PORT,
        show_default=True,
        metavar="N",
        help="Its port.",
    )
    host = click.option(
        "--host", default="127.0.0.1", show_default=True, metavar="ADDRESS", help="Its address."
    )
    return host(port(command))


def key() -> str | None:
    """The key to show: the admin's, or the first of the users'."""
    words = os.environ.get(ADMIN_VARIABLE, "").split() or os.environ.get(KEY_VARIABLE, "").split()
    return words[0] if words else None


@click.command()
@place_options
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of text.")
def ps(host: str, port: int, as_json: bool) -> None:
    """Show the running server, its load and its memory."""
    status = ask("GET", "/gemstead/status", host, port, key())
    if as_json:
        print(json.dumps(status))
        return
    for name, value in rows(status, time.time()):
        print(f"{name:9}{value}")


def rows(status: dict[str, Any], now: float) -> list[tuple[str, str]]:
    """What is worth a line, in words."""
    minutes = int(now - status["since"]) // 60
    memory = {name: f"{size / 1e6:,.0f} MB" for name, size in status["memory"].items()}
    return [
        *(("model", _model(model, now)) for model in status["models"]),
        ("process", f"{status['pid']}, up {minutes // 60} h {minutes % 60:02} min"),
        (
            "answers",
            f"{status['answers']} of {status['most_answers']} "
            f"({status['live_sequences']} computing, {status['waiting_sequences']} waiting)",
        ),
        ("memory", f"{memory['ceiling']} at most, {memory['resident']} in use"),
        (
            "",
            f"{memory['weights']} weights, {memory['kv']} keys and values ({memory['prefix']} of them kept), "
            f"{memory['responses']} responses, {memory['working']} set aside to work",
        ),
        ("output", f"{status['generated_tokens']:,} tokens so far"),
    ]


def _model(model: dict[str, Any], now: float) -> str:
    """A model's names, and how it stands."""
    names = _names(model)
    if model["state"] != "open":
        return f"{names}: {model['state']}"
    left = f", closes in {max(0, model['expires_s'] - now):,.0f} s" if model["expires_s"] is not None else ""
    return f"{names}: open, {model['context_tokens']:,} tokens of context{left}"


def _names(model: dict[str, Any]) -> str:
    """A model's names, and those of its adapters."""
    names = ", ".join([model["name"], *model["aliases"]])
    return f"{names} (adapters: {', '.join(model['adapters'])})" if model["adapters"] else names
