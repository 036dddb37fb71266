"""`gemstead pull`: fetch a model by name, checked byte for byte, and say what was fetched.

The path of each model goes to stdout once it is whole; everything else goes to stderr.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import click

from gemstead.cli.progress import Meter
from gemstead.cli.screen import Screen
from gemstead.cli.show import size
from gemstead.errors import HubError
from gemstead.hub.folders import require_network
from gemstead.hub.names import Wanted, parse
from gemstead.hub.pull import Plan, plan, present
from gemstead.hub.pull import pull as carry_out
from gemstead.hub.remote import Hub

EPILOG = (
    "Names: e2b, gemma4:e2b, gemma-4-E2B-it, gemma4:e2b-it-qat, google/gemma-4-E2B-it, "
    "hf.co/owner/repo:Q4_K_M. What was interrupted goes on where it stopped. HF_TOKEN, HF_HOME, HF_ENDPOINT "
    "and HTTPS_PROXY are honoured."
)


@click.command(epilog=EPILOG)
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@click.option("--text-only", is_flag=True, help="Leave out the files for images and sound.")
@click.option("--drafter", is_flag=True, help="Fetch the drafter too: a small model that guesses ahead.")
@click.option("--dry-run", is_flag=True, help="Say what would be fetched, and fetch nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object for each model.")
def pull(names: tuple[str, ...], text_only: bool, drafter: bool, dry_run: bool, as_json: bool) -> None:
    """Fetch models from a Hugging Face hub.

    Every file is checked against the hub's hash before the model can be opened. Models are kept in the
    Hugging Face cache, where other programs find them too.
    """
    screen = Screen()
    wanted = [parse(name) for name in names]
    wanted += [drafter_of(model) for model in wanted if drafter]
    require_network("gemstead pull")
    hub = Hub()
    for model in wanted:
        with screen.waiting(f"asking {hub.endpoint}"):
            planned = plan(hub, model, text_only=text_only)
        result = one(hub, planned, screen, dry_run=dry_run)
        click.echo(json.dumps(result, ensure_ascii=False) if as_json else result["path"])


def one(hub: Hub, planned: Plan, screen: Screen, *, dry_run: bool = False) -> dict[str, Any]:
    """Fetch one model and say so; what --json prints of it."""
    manifest = present(planned)
    for line in described(planned):
        screen.status(line)
    if manifest is not None:
        screen.status(f"{planned.name} is here already, checked when it came")
    elif not dry_run:
        manifest = carry_out(hub, planned, Meter(screen))
        screen.erase_live()
        screen.status(f'{planned.name} is ready: gemstead run {planned.name} "Hello"')
    chosen = [{"path": file.path, "bytes": file.bytes, "role": role} for file, role in planned.choice.files]
    files = [asdict(file) for file in manifest.files] if manifest is not None else chosen
    return {
        "name": planned.name,
        "repo": planned.listing.repo,
        "revision": planned.listing.commit,
        "path": str(planned.opens),
        "total_bytes": planned.choice.total_bytes,
        "missing_bytes": 0 if manifest is not None else planned.missing_bytes,
        "files": files,
    }


def described(planned: Plan) -> list[str]:
    """Which files were picked, in lines."""
    head = (
        f"{planned.name}: {planned.choice.format} from {planned.listing.repo} at {planned.listing.commit[:7]}"
    )
    files = [f"  {role:8} {size(file.bytes):>9}  {file.path}" for file, role in planned.choice.files]
    here = planned.choice.total_bytes - planned.missing_bytes
    note = f", {size(here)} of it here already" if here and planned.missing_bytes else ""
    return [head, *files, f"  {'total':8} {size(planned.choice.total_bytes):>9}{note}"]


def drafter_of(model: Wanted) -> Wanted:
    """The drafter that belongs to a model of the catalogue."""
    if model.row is None or model.row.drafter is None:
        raise HubError(f"gemstead knows no drafter for {model.title}; pull one by its own name")
    return parse(model.row.drafter)
