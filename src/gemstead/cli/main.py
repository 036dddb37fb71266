"""The `gemstead` command: finds the subcommand, turns every outcome into an exit code and one line.

Knows the commands by name only and loads the one that was asked for: `gemstead --help` imports no
numpy. Exit codes: 0 done, 1 the model or the run failed, 2 wrong usage, 130 stopped with Ctrl-C, 141
the reader of the output went away.
"""

from __future__ import annotations

import difflib
import importlib
import os
import resource
import sys
import traceback
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from gemstead.cli.screen import complain, quiet_stdout
from gemstead.errors import CapacityError, GemsteadError, os_sentence

OK, FAILED, USAGE, INTERRUPTED, PIPE_CLOSED = 0, 1, 2, 130, 141

# name: what the list of commands says. Each is the function of its name in cli/<name>.py.
COMMANDS = {
    "run": "Ask once and print the answer.",
    "chat": "Talk with a model.",
    "plan": "Say what of Gemma 4 fits this machine, how fast, and why.",
    "pull": "Fetch a model by name.",
    "list": "List the models on this machine.",
    "rm": "Remove a model that gemstead fetched.",
    "carry": "Carry models on a stick, or share them in a room.",
    "serve": "Answer programs over HTTP, as OpenAI, Anthropic and Ollama do.",
    "ps": "Show the running server, its load and its memory.",
    "stop": "Stop the running server.",
    "launch": "Start a coding agent that asks the running server.",
    "show": "Describe a model file: shape, formats, sizes, chat template.",
    "quantize": "Write a model in another number format.",
    "verify": "Check that a model is whole and sound.",
    "compare": "Compare two models over your own text.",
    "bench": "Measure how fast a model is on this machine.",
}

# What other programs call them.
_ALSO = {"ls": "list", "remove": "rm", "delete": "rm", "start": "serve", "ask": "run", "info": "show"}

EPILOG = (
    "Exit codes: 0 done; 1 the model or the run failed; 2 wrong usage; 130 stopped with Ctrl-C. "
    "NO_COLOR=1 switches colours off. GEMSTEAD_DEBUG=1 shows tracebacks."
)


class _Commands(click.Group):
    """The group of COMMANDS; a command's module is imported when it is used, not when it is listed."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """The names in the order of COMMANDS."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """The command of that name, imported now."""
        if cmd_name not in COMMANDS:
            return None
        command = getattr(importlib.import_module(f"gemstead.cli.{cmd_name}"), cmd_name)
        assert isinstance(command, click.Command)
        if not any(param.name == "offline" for param in command.params):
            command.params.append(offline_option())
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that is asked for; for a slip of the finger the error names the nearest."""
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            near = _ALSO.get(args[0]) or "".join(difflib.get_close_matches(args[0], COMMANDS, 1))
            hint = f" Did you mean {near!r}?" if near else f" There are {', '.join(COMMANDS)}."
            raise click.UsageError(f"No such command {args[0]!r}.{hint}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """List the commands without importing one."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; click itself would turn a closed pipe into exit code 1."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            ctx.exit(PIPE_CLOSED)


def offline_option() -> click.Option:
    """--offline, which the group and every command have: the same as GEMSTEAD_OFFLINE=1."""

    def switch(context: click.Context, _option: click.Parameter, value: bool) -> None:
        if value:
            before = os.environ.get("GEMSTEAD_OFFLINE", "")
            os.environ["GEMSTEAD_OFFLINE"] = "1"  # programs that a command starts inherit it
            context.call_on_close(lambda: os.environ.update(GEMSTEAD_OFFLINE=before))

    text = "Never ask a network; GEMSTEAD_OFFLINE=1 does the same."
    return click.Option(["--offline"], is_flag=True, expose_value=False, callback=switch, help=text)


@click.group(cls=_Commands, epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="gemstead", message="gemstead %(version)s")
def cli() -> None:
    """Gemma 4 on the machine you already have.

    gemstead run "What is 17% of 2400?" asks the small model that comes with gemstead; gemstead pull e2b
    fetches a larger one, and the path of a GGUF file or of a Hugging Face folder works too.
    """


cli.params.append(offline_option())


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code; nothing but a Python bug escapes it."""
    if not debugging():
        warnings.simplefilter("ignore")
    try:
        code = cli.main(args=argv, prog_name="gemstead", standalone_mode=False)
        if code == PIPE_CLOSED:
            quiet_stdout()
        sys.stdout.flush()
        return code if isinstance(code, int) else OK
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        return USAGE
    except click.UsageError as error:
        complain(error.format_message(), usage_hint(error))
        return USAGE
    except BrokenPipeError:
        quiet_stdout()
        return PIPE_CLOSED
    except (KeyboardInterrupt, click.Abort):
        complain()
        return INTERRUPTED
    except Exception as error:
        if debugging():
            traceback.print_exc()
        complain(*explain(error))
        return FAILED


def explain(error: Exception) -> tuple[str, str | None]:
    """The message and, where there is more to say, the hint for an error that ended a command."""
    if isinstance(error, CapacityError):
        return str(error), "the options are --memory SIZE, --context N and --max-tokens N"
    if isinstance(error, GemsteadError):
        return str(error) or type(error).__name__, None
    if isinstance(error, click.ClickException):
        return error.format_message(), None
    if isinstance(error, MemoryError):
        limit = resource.getrlimit(resource.RLIMIT_AS)[0]
        is_limited = limit != resource.RLIM_INFINITY
        raised = f"raise ulimit -v ({limit:,} bytes, files counted), or " if is_limited else ""
        return "out of memory", f"{raised}use a smaller model or a smaller --context, or close other programs"
    if isinstance(error, OSError):
        return os_sentence(error), None
    return (
        f"this is a bug in gemstead: {type(error).__name__}: {error}",
        "run it again with GEMSTEAD_DEBUG=1 and report what it prints",
    )


def usage_hint(error: click.UsageError) -> str:
    """Where to read more; a dash in front of a prompt is the commonest mistake."""
    path = error.ctx.command_path if error.ctx is not None else "gemstead"
    hint = f"see {path} --help"
    if isinstance(error, click.NoSuchOption) and not error.option_name.startswith("--"):
        hint += "; a prompt that begins with a dash comes after --"
    return hint


def debugging() -> bool:
    """Whether GEMSTEAD_DEBUG asks for tracebacks."""
    return os.environ.get("GEMSTEAD_DEBUG", "") not in ("", "0")


def entry() -> None:
    """The installed `gemstead` script. A stream that the caller closed (`<&-`) is an empty one."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            empty = Path(os.devnull).open(mode, encoding="utf-8")  # noqa: SIM115 (as long as we run)
            setattr(sys, name, empty)
    sys.exit(main())
