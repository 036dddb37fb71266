"""Without a model named, a person at a terminal is offered the best Gemma 4 that suits this machine, once.

Not offline, not with a model here already, not after a No; its callers see to it that a person is there.
What suits is machine/plan.py's to say: nothing is offered where nothing is comfortable.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import click

from gemstead.cli.keyboard import forget_typed
from gemstead.cli.names import Target
from gemstead.cli.pull import one
from gemstead.cli.screen import Screen
from gemstead.cli.show import size
from gemstead.errors import BackendError, HubError
from gemstead.hub import names
from gemstead.hub.folders import is_offline, model_folders
from gemstead.hub.local import scan
from gemstead.hub.pull import plan as plan_pull
from gemstead.hub.remote import Hub
from gemstead.machine import plan as machine_plan
from gemstead.machine.plan import Choice


def recommend() -> Choice | None:
    """What is comfortable here, measured now; None: nothing, or there is no fast engine to run it."""
    try:
        best = machine_plan.plan().best
    except BackendError:
        return None
    return best if best is not None and best.verdict == "comfortable" else None


def offered(target: Target, screen: Screen) -> Target:
    """The target with a model that was fetched because the person said yes, else the target as it is."""
    if is_offline():
        return target
    here = [model for model in scan() if not model.facts.is_drafter and model.facts.fault is None]
    if here:
        screen.status(f"pebble answers; {here[0].name} is on this machine too: add -m {here[0].name}")
        return target
    if declined_path().exists():
        return target
    with screen.waiting("looking what fits this machine"):
        best = recommend()
    if best is None or best.name is None:
        return target
    wanted = names.parse(best.name)
    row = wanted.row
    senses = f" (and {size(row.mmproj_bytes)} for images and sound)" if row and row.mmproj_bytes else ""
    question = (
        f"{best.title} fits this machine and knows far more than pebble: {size(best.download_bytes)}{senses}"
        f", about {best.decode_tok_s:.0f} tokens a second here: download?"
    )
    forget_typed()
    if not click.confirm(question, default=True, err=True):
        remember_no()
        screen.status(f"pebble answers, and this is not asked again; later: gemstead pull {best.name}")
        return target
    try:
        hub = Hub()
        with screen.waiting(f"asking for {best.name}"):
            planned = plan_pull(hub, wanted)
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
