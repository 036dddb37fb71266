"""The options of `run` that say what the answer must look like: --schema, --regex, --choice.

Reads them; whether a schema or an expression can be kept is the engine's to say.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from gemstead.cli.options import Command, with_options
from gemstead.types import OutputFormat


class Schema(click.ParamType[dict[str, Any]]):
    """A JSON Schema: the JSON itself, which begins with a brace, or a file that holds it."""

    name = "schema"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> dict[str, Any]:
        """The schema as a mapping."""
        text, where = str(value), "the schema"
        if not text.lstrip().startswith("{"):
            where = f"the file {value}"
            try:
                text = Path(text).expanduser().read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError) as error:
                reason = getattr(error, "strerror", None) or "it is no UTF-8 text"
                self.fail(
                    f"{value!r} cannot be read as a file ({reason}); give a file that holds a JSON Schema, "
                    'or the schema itself, such as {"type": "object"}',
                    param,
                    ctx,
                )
        try:
            schema = json.loads(text)
        except (json.JSONDecodeError, RecursionError) as error:
            self.fail(f"{where} is not JSON: {error}", param, ctx)
        if not isinstance(schema, dict):
            self.fail(f"{where} holds no JSON object; a schema is one", param, ctx)
        return schema


def format_options(command: Command) -> Command:
    """Add the options to a click command; its function hands their values to output_format."""
    options = (
        click.option(
            "--schema",
            type=Schema(),
            metavar="JSON|FILE",
            help="The answer is JSON that is valid under this JSON Schema.",
        ),
        click.option("--regex", metavar="TEXT", help="The answer matches this regular expression, whole."),
        click.option(
            "--choice", multiple=True, metavar="TEXT", help="The answer is one of these; once for each."
        ),
    )
    return with_options(command, options)


def output_format(
    schema: dict[str, Any] | None, regex: str | None, choices: tuple[str, ...]
) -> OutputFormat | None:
    """What was asked for; two formats at once are wrong usage."""
    given = {"json_schema": schema, "regex": regex, "choice": choices or None}
    asked = [(kind, value) for kind, value in given.items() if value is not None]
    if len(asked) > 1:
        raise click.UsageError(
            "an answer has one format; give --schema, --regex or --choice, not several of them",
            click.get_current_context(),
        )
    if "" in choices:
        raise click.UsageError("a --choice cannot be empty", click.get_current_context())
    return OutputFormat(*asked[0]) if asked else None  # type: ignore[arg-type]
