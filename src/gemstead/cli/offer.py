"""Without a model named, a person at a terminal is offered the best Gemma 4 that suits this machine, once.

Not offline, not with a model here already, not after a No; its callers see to it that a person is there.
The rule is simple until `plan` replaces it: the weights, a quarter more for the conversation, a gigabyte;
and none of the dense ones, which are too slow to talk with on most processors.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import click

from gemstead.cli.names import Target
from gemstead.cli.pull import one
from gemstead.cli.screen import Screen
from gemstead.cli.show import size
from gemstead.errors import HubError
from gemstead.hub.catalogue import Row, catalogue
from gemstead.hub.folders import is_offline, model_folders
from gemstead.hub.local import scan
from gemstead.hub.names import Wanted
from gemstead.hub.pull import plan
from gemstead.hub.remote import Hub
from gemstead.machine.memory import available_bytes

_REST_BYTES = 1 << 30
_DENSE = ("12b", "31b")  # every token reads all of their weights


def recommend(free_bytes: int) -> Row | None:
    """The largest model that should fit into this much memory and answer at talking speed."""
    fitting = [
        row
        for row in catalogue().recommended()
        if row.variant not in _DENSE
        and row.weights_bytes is not None
        and row.weights_bytes * 5 // 4 + _REST_BYTES <= free_bytes
    ]
    return max(fitting, key=lambda row: row.weights_bytes or 0, default=None)


def offered(target: Target, screen: Screen) -> Target:
    """The target with a model that was fetched because the person said yes, else the target as it is."""
    if is_offline():
        return target
    here = [model for model in scan() if not model.facts.is_drafter and model.facts.fault is None]
    if here:
        screen.status(f"pebble answers; {here[0].name} is on this machine too: add -m {here[0].name}")
        return target
    row = recommend(available_bytes())
    if row is None or declined_path().exists():
        return target
    senses = f", and {size(row.mmproj_bytes)} for images and sound" if row.mmproj_bytes else ""
    question = (
        f"{row.name} fits this machine and knows far more than pebble: {size(row.weights_bytes or 0)} to "
        f"download{senses}. Download it now?"
    )
    if not click.confirm(question, default=True, err=True):
        remember_no()
        screen.status(f"pebble answers, and this is not asked again; later: gemstead pull {row.name}")
        return target
    try:
        hub = Hub()
        planned = plan(hub, Wanted(row.repo, None, row))
        path = one(hub, planned, screen)["path"]
    except HubError as error:
        screen.status(f"{error}\npebble answers instead")
        return target
    return Target(path, target.words)


def declined_path() -> Path:
    """The file whose being there means: do not ask again."""
    return model_folders()[0].parent / "offer-declined"


def remember_no() -> None:
    """Do not ask again; a disk that cannot be written only means that it will be asked again."""
    with suppress(OSError):
        declined_path().parent.mkdir(parents=True, exist_ok=True)
        declined_path().touch()
