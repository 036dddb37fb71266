"""`gemstead list`: every Gemma 4 on this machine, whoever put it there.

Reads the heads of files only. With --json stdout is one list, paths included.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from typing import Any

import click

from gemstead.cli.screen import Screen, plain
from gemstead.cli.show import size
from gemstead.hub.folders import hf_cache, model_folders
from gemstead.hub.local import LocalModel, scan
from gemstead.hub.remove import unfinished

_DAY_S = 86_400


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON list.")
def list(as_json: bool) -> None:  # noqa: A001 (the command's name)
    """List the models on this machine.

    What gemstead fetched, GEMSTEAD_MODELS, the Hugging Face cache, LM Studio and Ollama: models of other
    programs are used where they are, and never changed.
    """
    models, pulls = scan(), unfinished()
    if as_json:
        entries = [entry(model) for model in models]
        entries += [{"name": p.name, "origin": "unfinished", "bytes": p.bytes} for p in pulls]
        click.echo(json.dumps(entries, ensure_ascii=False))
        return
    screen = Screen()
    if models:
        click.echo("\n".join(plain(line) for line in table(models, time.time())))
    for pull in pulls:
        screen.status(f"begun: {pull.name}, {size(pull.bytes)} so far; gemstead pull {pull.name} goes on")
    if not models:
        screen.status(
            f"no Gemma 4 here, in {hf_cache()} or {model_folders()[0]} or with LM Studio or Ollama; "
            "gemstead pull e2b fetches one, and pebble comes with gemstead"
        )


def table(models: Sequence[LocalModel], now: float) -> Sequence[str]:
    """The models as aligned lines."""
    rows = [("name", "format", "size", "from", "last used")]
    for model in models:
        fault = "  (cannot be opened: parts are missing)" if model.facts.fault else ""
        used = ago(now - model.facts.used) + fault
        rows.append((model.name, model.facts.format, size(model.facts.bytes), model.origin, used))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    return [
        f"{name:{widths[0]}}  {fmt:{widths[1]}}  {amount:>{widths[2]}}  {origin:{widths[3]}}  {used}"
        for name, fmt, amount, origin, used in rows
    ]


def ago(seconds: float) -> str:
    """'today', 'yesterday', '12 days ago'."""
    days = int(seconds // _DAY_S)
    return "today" if days < 1 else "yesterday" if days == 1 else f"{days} days ago"


def entry(model: LocalModel) -> dict[str, Any]:
    """One model as --json prints it."""
    facts = model.facts
    return {
        "name": model.name,
        "origin": model.origin,
        "path": str(facts.path),
        "bytes": facts.bytes,
        "format": facts.format,
        "variant": facts.variant,
        "drafter": facts.is_drafter,
        "repo": model.repo,
        "mmproj": None if model.mmproj is None else str(model.mmproj),
        "last_used": round(facts.used),
        "removable": model.manifest is not None,
        "fault": facts.fault,
    }
