"""`gemstead carry`: models to and from a USB stick, or to the machines of one room, without the internet.

Progress goes to stderr; the path of each model that arrived goes to stdout.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from gemstead.cli.progress import Meter
from gemstead.cli.screen import Screen
from gemstead.cli.show import size
from gemstead.errors import HubError
from gemstead.hub.carry import FolderSource, LocalSource, Package, Source, bring, chosen, package, size_of
from gemstead.hub.fetch import Progress
from gemstead.hub.folders import model_folders
from gemstead.hub.lan import PORT, LanSource, Sharing, new_code
from gemstead.hub.local import LocalModel, resolve, scan

EPILOG = (
    "A carried folder can also be used where it is: GEMSTEAD_MODELS=/media/stick gemstead list. With --serve "
    "the machine shows a code, without which nobody takes a model; only the address after --host is opened."
)


@click.command(epilog=EPILOG)
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--to", "target", type=click.Path(path_type=Path), metavar="FOLDER", help="Copy models there.")
@click.option("--from", "source", metavar="FOLDER|URL", help="Take models from there, all without NAME.")
@click.option("--code", metavar="CODE", help="The code that the sharing machine shows.")
@click.option("--serve", is_flag=True, help="Share models in this room until Ctrl-C.")
@click.option("--host", metavar="ADDRESS", help="With --serve: this machine's address in the room's network.")
@click.option("--port", type=click.IntRange(0, 65535), default=PORT, show_default=True, help="With --serve.")
def carry(
    names: tuple[str, ...],
    target: Path | None,
    source: str | None,
    code: str | None,
    serve: bool,
    host: str | None,
    port: int,
) -> None:
    """Carry models without the internet.

    To a stick and from it, or from one machine to all others of a classroom. Every file is checked by its
    hash when it arrives.
    """
    screen = Screen()
    if sum((target is not None, source is not None, serve)) != 1:
        raise wrong_usage("say one of --to FOLDER, --from FOLDER or URL, --serve")
    if source is not None:
        take(opened(source, code), names, screen)
        return
    if not names:
        raise wrong_usage("say which models, as in: gemstead carry --to FOLDER e2b")
    if serve and host is None:
        raise wrong_usage(
            "--serve needs --host ADDRESS, this machine's address in the room's network, such as "
            "192.168.1.20 (ip addr shows it)"
        )
    local = packed(names, screen)
    if target is not None:
        target.mkdir(parents=True, exist_ok=True)
        brought(local, [m.name for m in local.manifests()], target, screen)
    else:
        share(local, (str(host), port), screen)


def wrong_usage(message: str) -> click.UsageError:
    """The error for options that do not go together."""
    return click.UsageError(message, click.get_current_context())


def opened(source: str, code: str | None) -> Source:
    """The folder or the machine that models are taken from."""
    if "://" not in source:
        return FolderSource(Path(source).expanduser())
    if code is None and sys.stdin.isatty():
        code = click.prompt("code", err=True)
    if code is None:
        raise HubError("taking models from another machine needs --code, which that machine shows")
    return LanSource(source, code)


def take(source: Source, names: Sequence[str], screen: Screen) -> None:
    """Bring models into gemstead's own folder."""
    brought(source, names, model_folders()[0], screen)


def brought(source: Source, names: Sequence[str], parent: Path, screen: Screen) -> None:
    """Copy models from a source to a folder, checked, and say where they are."""
    for manifest in chosen(source.manifests(), names):
        screen.status(f"{manifest.name}: {size(manifest.total_bytes)} in {len(manifest.files)} files")
        progress = Progress(manifest.total_bytes)

        def work(manifest: Any = manifest, progress: Progress = progress) -> Path:
            return bring(source, manifest, parent, progress)

        home = watched(work, progress, screen)
        click.echo(home if manifest.opens == "." else home / manifest.opens)


def packed(names: Sequence[str], screen: Screen) -> LocalSource:
    """Models of this machine, hashed where their hashes are not known yet."""
    models = [named(name) for name in names]
    progress = Progress(sum(size_of(model) for model in models))
    screen.status("reading the models once, to know their hashes")
    found: list[Package] = watched(lambda: [package(model, progress) for model in models], progress, screen)
    return LocalSource(found)


def named(name: str) -> LocalModel:
    """A model of this machine by the name that gemstead list shows, or by any other of its names."""
    return next((model for model in scan() if model.name == name), None) or resolve(name)


def share(source: LocalSource, address: tuple[str, int], screen: Screen) -> None:
    """Serve until Ctrl-C."""
    code = new_code()
    sharing = Sharing(source, address, code, screen.status)
    host = f"[{address[0]}]" if ":" in address[0] else address[0]
    click.echo(f"gemstead carry --from http://{host}:{sharing.port} --code {code}")
    screen.status("type the line above on the other machines; Ctrl-C ends the sharing, and with it the code")
    try:
        sharing.run()
    finally:
        sharing.close()


def watched(work: Callable[[], Any], progress: Progress, screen: Screen) -> Any:
    """Do the work in a thread and show its progress; Ctrl-C stops it at its next piece."""
    meter, result, done = Meter(screen), [], threading.Event()
    failure: list[BaseException] = []

    def run() -> None:
        try:
            result.append(work())
        except BaseException as error:
            failure.append(error)
        finally:
            done.set()

    threading.Thread(target=run, daemon=True).start()
    try:
        while not done.wait(0.2):
            meter(progress)
    finally:
        progress.cancelled.set()
        screen.erase_live()
    if failure:
        raise failure[0]
    return result[0]
