"""`gemstead run`: one question, one answer.

The answer goes to stdout as it is written; the model's thoughts, its tool calls and everything else
go to stderr. With --json stdout is one object.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from functools import partial
from typing import Any

import click

from gemstead.agent.loop import run_turns
from gemstead.agent.tools import BUILT_IN
from gemstead.cli.answer import Answer, Viewer, ending
from gemstead.cli.formats import format_options, output_format
from gemstead.cli.keyboard import can_ask
from gemstead.cli.names import DEFAULT_MODEL, Target, seems_a_model, split_words
from gemstead.cli.options import Options, check_text, model_options, read_stdin, wrong_usage
from gemstead.cli.screen import Screen
from gemstead.errors import GemsteadError, InputError, WeightsError
from gemstead.types import Done, Event, Failed, Message, OutputFormat, Tool

_FORM_LOOP_GUARD = 512  # tokens

EPILOG = (
    "The first word is the model if it is pebble, an existing path, or a model's name such as e2b; all other "
    "words are the prompt. Without a prompt, or for the word -, the prompt is read from standard input."
)


@click.command(epilog=EPILOG)
@click.argument("words", nargs=-1, metavar="[MODEL] [PROMPT]...")
@model_options
@format_options
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of text.")
def run(words: tuple[str, ...], as_json: bool, **values: Any) -> None:
    """Ask once and print the answer.

    Without MODEL the small model that comes with gemstead answers: pebble. At a terminal you are asked once
    whether to fetch a larger one.
    """
    output = output_format(values.pop("schema"), values.pop("regex"), values.pop("choice"))
    options = Options.of(values)
    target = split_words(words, options.model)
    prompt = read_prompt(target)
    screen = Screen()
    if target.is_default and not as_json and can_ask(screen):
        from gemstead.cli.offer import offered  # slow to import

        target = offered(target, screen)
    if target.is_default and seems_a_model(words):
        screen.status(f"{words[0]!r} was taken for the first word of the prompt; -m {words[0]} names a model")
    if target.is_default:
        screen.status("using pebble, the small model that comes with gemstead; name another with -m MODEL")
    # Whether a schema or an expression can be kept is known once the model is open.
    with wrong_usage(InputError) if output is not None else nullcontext():
        answer = ask(target, prompt, options, output, Viewer(screen, silent=as_json))
        if isinstance(answer.end, Failed):
            raise answer.end.error
    if as_json:
        print(json.dumps(answer.as_json(target.model), ensure_ascii=False))
    elif (said := ending(answer, "--max-tokens")) is not None:
        screen.status(said)
    if output is not None and not is_whole(answer):
        raise GemsteadError(unformed(answer))


def unformed(answer: Answer) -> str:
    """Why an answer has not the form that was asked for, and what to do."""
    cause = answer.end.cause if isinstance(answer.end, Done) else None
    if cause is not None and cause.code == "token_loop":
        why = "the model went round in circles"
        advice = "ask for a narrower form, such as [0-9]{1,6} or maxLength, or ask another model"
    else:
        why, advice = "it ended too early", "allow more --max-tokens, or ask for a shorter form"
    return f"the answer does not have the form that was asked for, because {why}; {advice}"


def is_whole(answer: Answer) -> bool:
    """Whether the model ended its answer itself, as a form lets it do only where the form is complete."""
    return isinstance(answer.end, Done) and answer.end.reason == "stop"


def read_prompt(target: Target) -> str:
    """The words as one text; standard input where there are none, and in place of a lone dash."""
    words = list(target.words)
    if not words and sys.stdin.isatty():
        raise click.UsageError(
            'there is no prompt; write one after the command, as in gemstead run "What is 17% of 2400?", '
            "or use gemstead chat",
            click.get_current_context(),
        )
    if not words:
        words = ["-"]
    if "-" in words:
        place = words.index("-")
        words[place] = ("\n" if place else "") + read_stdin(sys.stdin)
    prompt = check_text(" ".join(words), "the prompt").strip()
    if not prompt:
        raise click.UsageError("the prompt is empty", click.get_current_context())
    return prompt


def ask(target: Target, prompt: str, options: Options, output: OutputFormat | None, viewer: Viewer) -> Answer:
    """Open the model and play one turn."""
    given = {"adapter": options.adapter, "output": output, **options.sampling}
    asked: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    if output is not None:  # a form may let a model go on for ever, with blanks, digits or words in a string
        asked.setdefault("loop_guard", _FORM_LOOP_GUARD)
    messages = [Message.user(prompt)]
    if options.system:
        messages.insert(0, Message.system(check_text(options.system, "--system")))
    tools = BUILT_IN if options.tools else ()
    with viewer.screen.waiting(f"opening {target.model}"):
        model = open_target(target, options)
    with model:
        viewer.screen.say(model.note)

        def chat(said: list[Message], offered: tuple[Tool, ...] = tools) -> Iterator[Event]:
            stream: Iterator[Event] = model.chat(said, offered, thinking=options.thinking, **asked)
            return stream

        # A form is kept also where the model would only call: without tools it must answer.
        closing = None if output is None else partial(chat, offered=())
        events = run_turns(chat, messages, tools, max_same_calls=options.max_same_calls, closing=closing)
        return viewer.play(events)


def open_target(target: Target, options: Options) -> Any:
    """Open the model; where a word of the prompt was taken for it, say so."""
    try:
        return options.open(target.model)
    except WeightsError as error:
        if options.model is not None or target.model == DEFAULT_MODEL:
            raise
        raise WeightsError(
            f"{error}\n({target.model!r} was taken as the model because a file or folder has that name; "
            f"if it belongs to the prompt, add -m {DEFAULT_MODEL})"
        ) from error
