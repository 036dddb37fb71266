"""`gemstead rm`: remove models that gemstead fetched or imported, and what unfinished pulls left.

Asks before anything goes, unless --yes. Models of other programs are left alone.
"""

from __future__ import annotations

import sys

import click

from gemstead.cli.screen import Screen
from gemstead.cli.show import size
from gemstead.errors import HubError
from gemstead.hub.local import LocalModel, find, scan
from gemstead.hub.names import parse
from gemstead.hub.remove import Unfinished, forget, removable, remove, unfinished


@click.command()
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
def rm(names: tuple[str, ...], yes: bool) -> None:
    """Remove models that gemstead put on this disk.

    NAME is a name that gemstead list shows, or a short name such as e2b.
    """
    screen = Screen()
    for name in names:
        model, pulls = named(name)
        files = [] if model is None else removable(model)
        parts = [part for pull in pulls for part in pull.parts]
        title = model.name if model is not None else pulls[0].name
        for file in (*files, *parts):
            screen.status(f"  {file}")
        count = len(files) + len(parts)
        if not yes and not agreed(f"remove {title}, {count} file{'s' * (count != 1)}?"):
            screen.status(f"{title} stays")
            continue
        freed = sum(pull.bytes for pull in pulls)
        for pull in pulls:
            forget(pull)
        freed += remove(model) if model is not None else 0
        click.echo(f"removed {title}: {size(freed)} free again")


def named(name: str) -> tuple[LocalModel | None, list[Unfinished]]:
    """The model of that name and the unfinished pulls of it; HubError when there is neither."""
    models = scan()
    exact = [model for model in models if model.name == name]
    pulls = [pull for pull in unfinished() if pull.name == name]
    if not exact and not pulls:
        wanted = parse(name)
        found = find(wanted, models)
        exact = [found] if found else []
        titles = {wanted.title, wanted.row.name if wanted.row else wanted.title}
        pulls = [p for p in unfinished() if p.name in titles or p.name.startswith(f"{wanted.repo}:")]
    if not exact and not pulls:
        raise HubError(f"the model {name!r} is not on this machine; gemstead list shows what is here")
    return (exact[0] if exact else None), pulls


def agreed(question: str) -> bool:
    """Ask; without a person to answer, HubError."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise HubError("nobody is here to be asked; add --yes to remove without asking")
    return click.confirm(question, default=False, err=True)
