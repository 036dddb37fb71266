"""`gemstead serve`: opens a model and answers programs over HTTP until it is told to stop.

Notices and one line per request go to stderr; stdout stays empty but for a generated key. Keys come
from the environment or a file, because a command line is read by everybody on the machine.
"""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path
from typing import Any

import click

from gemstead.cli.names import DEFAULT_MODEL, check_model
from gemstead.cli.options import Options, absolute, opening_options, thinking_option
from gemstead.cli.screen import Screen
from gemstead.errors import ConfigError
from gemstead.server.auth import Access, is_loopback, new_key
from gemstead.server.served import Served
from gemstead.server.serving import GRACE_S, PORT, WAITING, Bound, Place, listen
from gemstead.server.serving import serve as serve_until_stopped

KEY_VARIABLE, ADMIN_VARIABLE = "GEMSTEAD_API_KEY", "GEMSTEAD_ADMIN_KEY"
EPILOG = (
    "On this machine alone (127.0.0.1) no key is needed. Anywhere else there must be one: "
    f"{KEY_VARIABLE} or --api-key-file; without, a new one is printed once. {ADMIN_VARIABLE} is the key "
    "that ps, stop and /metrics ask for where there are keys."
)


@click.command(epilog=EPILOG)
@click.argument("model", default=DEFAULT_MODEL)
@click.option("--host", default="127.0.0.1", show_default=True, metavar="ADDRESS", help="Where to listen.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=PORT,
    show_default=True,
    metavar="N",
    help="0: any free one.",
)
@click.option(
    "--alias", "aliases", multiple=True, metavar="NAME", help="Another name of the model; repeatable."
)
@click.option("--api-key-file", metavar="FILE", help="Keys of users, one a line.")
@click.option("--allow-host", "hosts", multiple=True, metavar="NAME", help="A name the server is called by.")
@click.option(
    "--allow-origin", "origins", multiple=True, metavar="ORIGIN", help="A web page's origin that may ask."
)
@click.option(
    "--max-queue",
    type=click.IntRange(min=0),
    default=WAITING,
    show_default=True,
    metavar="N",
    help="Answers that may wait for room; more are refused (429).",
)
@click.option(
    "--timeout", type=click.FloatRange(min=0.1), metavar="S", help="End any answer after S seconds."
)
@click.option(
    "--grace",
    type=click.FloatRange(min=0),
    default=GRACE_S,
    show_default=True,
    metavar="S",
    help="Time for answers under way when the server is stopped.",
)
@click.option(
    "--store",
    metavar="FILE",
    help="Keep the responses of /v1/responses here, over a restart; otherwise in memory.",
)
@thinking_option
@opening_options
def serve(model: str, **values: Any) -> None:
    """Answer programs over HTTP, as OpenAI, Anthropic and Ollama do.

    Without MODEL it serves pebble, the small model that comes with gemstead.
    """
    screen = Screen()
    own = (
        "host",
        "port",
        "aliases",
        "api_key_file",
        "hosts",
        "origins",
        "max_queue",
        "timeout",
        "grace",
        "store",
    )
    given = {name: values.pop(name) for name in own}
    options = Options(**values)
    path = check_model(model)
    store = None if given["store"] is None else absolute(given["store"])
    place = Place(given["host"], given["port"], given["max_queue"], given["timeout"], given["grace"], store)
    bound = listen(place.host, place.port)
    access = access_of(given, screen)
    with screen.waiting(f"opening {model}"):
        opened = options.open(path)
    with opened:
        served = Served(
            Path(path).stem if path != model or os.sep in path else model, opened, given["aliases"]
        )
        screen.say(opened.note)
        announce(screen, served, bound)
        serve_until_stopped(served, place, access, bound, log)
    screen.status("stopped")


def access_of(given: dict[str, Any], screen: Screen) -> Access:
    """Who may ask: the keys there are, or a new one where there must be one."""
    keys = words_of(os.environ.get(KEY_VARIABLE, ""))
    if given["api_key_file"] is not None:
        path = absolute(given["api_key_file"])
        keys += words_of(path.read_text(encoding="utf-8"))
        if not keys:
            raise ConfigError(f"{path} holds no key; write one a line")
    elif KEY_VARIABLE in os.environ and not keys:
        raise ConfigError(f"{KEY_VARIABLE} is empty; put a key into it, or unset it")
    admin = words_of(os.environ.get(ADMIN_VARIABLE, ""))
    if not keys and not is_loopback(given["host"]):
        keys = (new_key(),)
        screen.status(
            f"{given['host']} can be reached from elsewhere, so a key is needed. It is shown only now:"
        )
        click.echo(keys[0])
    access = Access(keys, admin, (*given["hosts"], platform.node().lower()), given["origins"])
    access.check_place(given["host"])
    return access


def words_of(text: str) -> tuple[str, ...]:
    """The lines of a text that say something."""
    return tuple(line.strip() for line in text.splitlines() if line.strip())


def announce(screen: Screen, served: Served, bound: Bound) -> None:
    """Where it listens, and what to do with that."""
    screen.status(f"{served.name} at {bound.url}, {served.context_tokens:,} tokens of context")
    screen.status(f"OPENAI_BASE_URL={bound.url}/v1  ANTHROPIC_BASE_URL={bound.url}  OLLAMA_HOST={bound.url}")
    screen.status("Ctrl-C stops it")


def log(line: str) -> None:
    """One line to stderr."""
    print(line, file=sys.stderr, flush=True)
