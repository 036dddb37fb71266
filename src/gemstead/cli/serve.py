"""`gemstead serve`: offers models and answers programs over HTTP until it is told to stop.

Notices and one line per request go to stderr; stdout stays empty but for a generated key. Keys come
from the environment or a file, because a command line is read by everybody on the machine.
"""

from __future__ import annotations

import math
import os
import platform
import sys
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gemstead.backend.native.backend import unsuited
from gemstead.backend.native.cores import usable_cores
from gemstead.backend.native.footprint import Work, held_weights, work_bytes
from gemstead.cli.names import DEFAULT_MODEL, check_model, path_of
from gemstead.cli.options import Memory, Options, absolute, serving_options, thinking_option, wrong_usage
from gemstead.cli.screen import Screen
from gemstead.engine.options import EngineOptions
from gemstead.errors import ConfigError
from gemstead.machine.memory import useful_memory
from gemstead.model import Model
from gemstead.server.auth import Access, is_loopback, new_key
from gemstead.server.budget import Budget
from gemstead.server.fields import seconds
from gemstead.server.refusals import Refusal
from gemstead.server.responses_store import ResponseStore
from gemstead.server.served import AdapterOffer, Offer
from gemstead.server.serving import GRACE_S, PORT, Bound, Ending, listen
from gemstead.server.serving import serve as serve_until_stopped
from gemstead.server.shelf import WAITING, Shelf, Terms
from gemstead.spec.model import ModelSpec
from gemstead.weights.adapter import open_adapter
from gemstead.weights.fingerprint import fingerprint
from gemstead.weights.store import Store, open_store

if TYPE_CHECKING:
    from gemstead.backend.base import Capabilities

OLLAMA_PORT = 11434
KEEP_ALIVE_S = 300.0  # of several models: Ollama's default
KEY_VARIABLE, ADMIN_VARIABLE = "GEMSTEAD_API_KEY", "GEMSTEAD_ADMIN_KEY"
EPILOG = (
    "On this machine alone (127.0.0.1) no key is needed. Anywhere else there must be one: "
    f"{KEY_VARIABLE} or --api-key-file; without, a new one is printed once. {ADMIN_VARIABLE} is the key "
    "that ps, stop and /metrics ask for where there are keys."
)


@click.command(epilog=EPILOG)
@click.argument("models", nargs=-1, metavar="[MODEL]...")
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
    "--ollama-port",
    type=click.IntRange(0, 65535),
    is_flag=False,
    flag_value=OLLAMA_PORT,
    metavar="N",
    help=f"Listen on a second port too; without N on Ollama's own, {OLLAMA_PORT}.",
)
@click.option(
    "--alias",
    "aliases",
    multiple=True,
    metavar="NAME[=MODEL]",
    help="Another name of the model; repeatable. MODEL says which of several, adapters among them.",
)
@click.option(
    "--adapter",
    "adapters",
    multiple=True,
    metavar="NAME=[MODEL:]FOLDER",
    help="Answer to NAME with the model and this LoRA adapter; repeatable. MODEL says which of several.",
)
@click.option(
    "--keep-alive",
    metavar="TIME",
    help="Close a model after so long without requests, such as 5m, 0 or -1 (never). "
    "Default: never for one model, 5m for each of several.",
)
@click.option(
    "--memory",
    "ceiling",
    type=Memory(),
    metavar="SIZE",
    help="The most memory for everything: weights, contexts, what is kept. Default: by what is free.",
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
    help="Answers of one client that may wait for room; more are refused (429).",
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
@serving_options
def serve(models: tuple[str, ...], **values: Any) -> None:
    """Answer programs over HTTP, as OpenAI, Anthropic and Ollama do.

    One MODEL is opened at once and stays open; each of several is opened when it is first asked for.
    Without any it serves pebble, the small model that comes with gemstead.
    """
    screen = Screen()
    given = {name: values.pop(name) for name in _OWN}
    options = Options(**values)
    offers = offers_of(models or (DEFAULT_MODEL,), given["aliases"], given["adapters"], options, screen)
    with wrong_usage():
        keep_alive_s = keep_alive_of(given["keep_alive"], len(offers))
    terms = Terms(keep_alive_s, given["max_queue"], given["timeout"], options.thinking)
    shelf = Shelf(Budget.of(offers, given["ceiling"]), terms)
    kept_at = None if given["store"] is None else absolute(given["store"])
    store = ResponseStore(kept_at, shelf.budget.responses_bytes)
    bound = [listen(given["host"], given["port"])]
    if given["ollama_port"] is not None:
        bound.append(listen(given["host"], given["ollama_port"], "--ollama-port"))
    access = access_of(given, screen)
    if len(offers) == 1 and math.isinf(keep_alive_s):
        with screen.waiting(f"opening {offers[0].name}"):
            shelf.open_now()
    announce(screen, shelf, bound)
    serve_until_stopped(shelf, Ending(store, given["grace"]), access, bound, log)
    screen.status("stopped")


_OWN = (
    *("host", "port", "ollama_port", "aliases", "adapters", "keep_alive", "ceiling", "api_key_file"),
    *("hosts", "origins", "max_queue", "timeout", "grace", "store"),
)


def offers_of(
    models: Sequence[str], aliases: Sequence[str], adapters: Sequence[str], options: Options, screen: Screen
) -> tuple[Offer, ...]:
    """The models by name, each looked at but not opened; ConfigError where two have one name."""
    if len(models) > 1 and options.drafter not in (None, "none", "ngram"):
        raise ConfigError(
            f"the drafter {options.drafter} belongs to one model; serve that alone, or use ngram"
        )
    paths = {}
    for model in models:
        path = check_model(model)
        name = Path(path).stem if path != model or os.sep in path else model
        if name in paths:
            raise ConfigError(f"two models are called {name}; give each once, in files of different names")
        paths[name] = path
    names = {**{name: name for name in paths}, **dict(zip(models, paths, strict=True))}
    with wrong_usage():
        tuned = tuned_by(adapters, names, paths)
        tunes = {short: short for folders in tuned.values() for short in folders}
        named = named_by(aliases, {**names, **tunes}, tuple(paths))
    return tuple(
        _offer(name, path, tuned[name], options, screen).called(named) for name, path in paths.items()
    )


def named_by(aliases: Sequence[str], names: Mapping[str, str], models: Sequence[str]) -> dict[str, list[str]]:
    """The aliases of each model and adapter; `names` gives its name by whatever it may be called here."""
    found: dict[str, list[str]] = {name: [] for name in names.values()}
    taken = set(found)
    for alias in aliases:
        short, _, model = alias.partition("=")
        if not model and len(models) == 1:
            model = models[0]
        if model not in names or not short:
            raise ConfigError(
                f"--alias {alias} names none of the models; write NAME=MODEL with one of {', '.join(found)}"
            )
        if short in taken:
            raise ConfigError(f"--alias {alias}: {short} is taken already; every name must mean one model")
        taken.add(short)
        found[names[model]].append(short)
    return found


def tuned_by(
    adapters: Sequence[str], names: Mapping[str, str], taken: Collection[str]
) -> dict[str, dict[str, Path]]:
    """The adapters of each model, folders by name; `names` as in named_by, `taken` may not be names here."""
    found: dict[str, dict[str, Path]] = {name: {} for name in names.values()}
    taken = set(taken)
    for adapter in adapters:
        short, _, folder = adapter.partition("=")
        model = max((name for name in names if folder.startswith(f"{name}:")), key=len, default="")
        if model:
            folder = folder.removeprefix(f"{model}:")
        elif len(found) == 1:
            model = next(iter(found))
        if not short.strip() or not short.isprintable() or not folder:
            raise ConfigError(f"--adapter {adapter!r} is not NAME=FOLDER, such as mine=./my-adapter")
        if not model:
            raise ConfigError(
                f"--adapter {adapter} does not say which model it tunes; write {short}=MODEL:{folder} "
                f"with one of {', '.join(found)}"
            )
        if short in taken:
            raise ConfigError(f"--adapter {adapter}: {short} is taken already; choose another name")
        taken.add(short)
        found[names[model]][short] = absolute(folder)
    return found


def _offer(name: str, path: str, folders: Mapping[str, Path], options: Options, screen: Screen) -> Offer:
    """A model and its adapters as their files describe them; opening it is for later."""
    with open_store(path_of(path)) as store:
        spec = store.spec
        about: dict[str, Any] = {
            "file_bytes": store.total_bytes,
            "container": store.kind,
            "format": store.main_format,
            "digest": fingerprint(store),
            "parameters": sum(math.prod(tensor.shape) for tensor in store.tensors.values()),
        }
        if not isinstance(spec, ModelSpec):
            raise ConfigError(f"{path} is a drafter, not a model; serve its model and give it as --drafter")
        adapters = tuple(_adapter(short, folder, spec, store) for short, folder in folders.items())
        working = _forward_bytes(spec, store, options) + _drafter_bytes(options)
        weights_bytes = _weights_bytes(spec, store, options)

    def opened(kv_bytes: int) -> Model:
        def memory(can: Capabilities) -> int:
            return min(kv_bytes, useful_memory(can, options.context))

        model = options.open(path, memory, folders)
        screen.say(model.note)
        return model

    return Offer(name, opened, spec, weights_bytes, adapters=adapters, work_bytes=working, **about)


def _weights_bytes(spec: ModelSpec, store: Store, options: Options) -> int:
    """What the weights take in memory: the native engine leaves tables of which it reads rows in the file."""
    if options.backend in ("auto", "native") and unsuited(spec, options.kv) is None:
        return held_weights(spec, store.formats).resident
    return store.total_bytes


def _forward_bytes(spec: ModelSpec, store: Store, options: Options) -> int:
    """What the largest forwards of a server hold between layers: all rows of a chunk, all sequences."""
    engine = EngineOptions(context_tokens=options.context)
    work = Work(
        rows=engine.max_rows,
        logit_rows=engine.max_rows,  # embeddings want every row to the end
        sequences=engine.max_sequences,
        context_tokens=engine.budget(spec.max_position_embeddings).context_tokens,
        threads=options.threads or usable_cores(),
    )
    return work_bytes(spec, store.formats, work)


def _drafter_bytes(options: Options) -> int:
    """The weights of a drafter that has a file of its own."""
    if options.drafter in (None, "none", "ngram"):
        return 0
    with open_store(path_of(check_model(options.drafter))) as store:
        return store.total_bytes


def _adapter(name: str, folder: Path, spec: ModelSpec, store: Store) -> AdapterOffer:
    """An adapter as its files describe it; WeightsError where it is none, or none of this model."""
    with open_adapter(folder, spec) as adapter:
        count = sum(math.prod(part.shape) for term in adapter.terms.values() for part in (term.a, term.b))
        return AdapterOffer(name, adapter.nbytes, count, fingerprint(store, adapter.digest.hex()))


def keep_alive_of(given: str | None, num_models: int) -> float:
    """Seconds without requests after which a model is closed; infinity is never."""
    if given is None:
        return math.inf if num_models == 1 else KEEP_ALIVE_S
    try:
        return seconds(given, "--keep-alive")
    except Refusal as error:
        raise ConfigError(str(error)) from None


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


def announce(screen: Screen, shelf: Shelf, bound: Sequence[Bound]) -> None:
    """Where it listens, and what to do with that."""
    first = bound[0].url
    for place in shelf.places:
        context = f", {place.context_tokens:,} tokens of context" if place.context_tokens else ""
        screen.status(f"{place.offer.name} at {first}{context}")
        for adapter in place.offer.adapters:
            screen.status(f"{adapter.name} at {first}, an adapter of {place.offer.name}")
    first, last = reached(first), reached(bound[-1].url)
    screen.status(f"OPENAI_BASE_URL={first}/v1  ANTHROPIC_BASE_URL={first}  OLLAMA_HOST={last}")
    screen.status("Ctrl-C stops it")


def reached(url: str) -> str:
    """The address by which others reach it: where it listens everywhere, this machine's name."""
    name = platform.node().lower()
    return url.replace("//0.0.0.0:", f"//{name}:").replace("//[::]:", f"//{name}:")


def log(line: str) -> None:
    """One line to stderr."""
    print(line, file=sys.stderr, flush=True)
