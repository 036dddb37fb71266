"""`gemstead chat`: a conversation on the terminal, or one message a line from a pipe.

Ctrl-C stops an answer and never the program; Ctrl-D leaves. Whatever goes wrong in one turn is said
and the conversation stays as it was before it.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, Any

import click

from gemstead.agent.loop import run_turns
from gemstead.cli.answer import Answer, Viewer, ending, speed
from gemstead.cli.conversation import SETTINGS, Conversation
from gemstead.cli.keyboard import can_ask, ctrl_c_stops, is_person, line_reader, read_message
from gemstead.cli.names import Target, split_words
from gemstead.cli.options import Options, absolute, check_text, model_options
from gemstead.cli.screen import Screen, complain
from gemstead.errors import CapacityError, GemsteadError, InputError, os_sentence
from gemstead.types import Done, Event, Failed, Message

if TYPE_CHECKING:
    from gemstead.model import Model

HELP = {
    "/help": "this list",
    "/clear": "forget the conversation; settings stay",
    "/save FILE": "write the conversation to a file",
    "/load FILE": "go on with a saved conversation",
    "/set NAME VALUE": "change a setting; /set alone lists them",
    "/show": "the model, the settings and the length of the conversation",
    "/thought": "the last thought in full",
    "/bye": "leave, as Ctrl-D does",
    '"""': "begin and end a message of several lines",
    "Ctrl-C": "stop the answer",
}
_COMMAND = re.compile(r"/([a-z]+|\?)(?:\s+(.*))?", re.DOTALL)


@click.command()
@click.argument("words", nargs=-1, metavar="[MODEL]")
@model_options
def chat(words: tuple[str, ...], **values: Any) -> None:
    """Talk with a model; /help in the chat lists what it understands.

    Without MODEL it is the small model that comes with gemstead: pebble.
    """
    options = Options.of(values)
    target = split_words(words, options.model)
    if target.words:
        raise click.UsageError(
            f"chat takes a model and no prompt; {target.words[0]!r} is not a model here",
            click.get_current_context(),
        )
    screen = Screen()
    if target.is_default and can_ask(screen):
        from gemstead.cli.offer import offered  # slow to import

        target = offered(target, screen)
    with screen.waiting(f"opening {target.model}"):
        model = options.open(target.model)
    with model:
        screen.say(model.note)
        conversation = Conversation(
            sampling=dict(options.sampling),
            system=check_text(options.system, "--system") if options.system else None,
            thinking=options.thinking,
            max_same_calls=options.max_same_calls,
            tools=options.tools,
            stats=screen.shows_status,
        )
        Chat(model, target, conversation, screen, options.adapter).loop()


class Chat:
    """The read-answer loop: one model with one adapter or none, one conversation, one screen."""

    def __init__(
        self,
        model: Model,
        target: Target,
        conversation: Conversation,
        screen: Screen,
        adapter: str | None = None,
    ) -> None:
        self.model, self.target, self.conversation, self.screen = model, target, conversation, screen
        self.adapter = adapter
        self.last_thought = ""

    def loop(self) -> None:
        """Until Ctrl-D or /bye."""
        which = (
            "pebble, the small model that comes with gemstead"
            if self.target.is_default
            else self.target.model
        )
        self.screen.status(f"{which}; /help lists the commands, Ctrl-D leaves")
        read = line_reader([word.split()[0] for word in HELP if word.startswith("/")])
        while True:
            try:
                text = read_message(read)
                if text and not self.handle(text):
                    return
            except EOFError:
                self.screen.say("" if self.screen.shows_text else None)
                return
            except KeyboardInterrupt:
                if not is_person():
                    raise
                self.screen.end_text()
                self.screen.status("Ctrl-D or /bye leaves")
            except (GemsteadError, OSError) as error:
                self.screen.end_text()
                complain(
                    os_sentence(error) if isinstance(error, OSError) else str(error),
                    "/clear forgets the conversation" if isinstance(error, CapacityError) else None,
                )

    def handle(self, text: str) -> bool:
        """Obey a command or answer a message; False ends the chat."""
        command = _COMMAND.fullmatch(text)
        if command is None:
            self.answer(check_text(text, "the message"))
            return True
        name, rest = command[1], (command[2] or "").strip()
        if name in ("bye", "exit", "quit"):
            return False
        action = {
            "help": self.show_help,
            "?": self.show_help,
            "clear": self.clear,
            "save": self.save,
            "load": self.load,
            "set": self.set,
            "show": self.show,
            "thought": self.show_thought,
        }.get(name)
        if action is None:
            raise InputError(f"there is no command /{name}; /help lists them")
        action(rest)
        return True

    def answer(self, text: str) -> None:
        """One turn. What was said is kept, also where it was stopped; a failed turn leaves no trace."""
        talk = self.conversation
        messages, tools = talk.to_ask(text), talk.offered_tools
        asked = list(messages)
        with ctrl_c_stops() as stop:

            def ask(said: list[Message]) -> Iterator[Event]:
                events = self.model.chat(
                    said, tools, thinking=talk.thinking, adapter=self.adapter, **talk.sampling
                )
                stop.cancel = getattr(events, "cancel", stop.cancel)
                return events

            events = run_turns(ask, messages, tools, max_same_calls=talk.max_same_calls)
            answer = Viewer(self.screen, fold=talk.fold).play(events, stop)
            if isinstance(events, Generator):
                events.close()  # frees what the turn held
        self.last_thought = answer.reasoning or self.last_thought
        if isinstance(answer.end, Failed):
            raise answer.end.error
        if stop.pressed:
            self.screen.status("stopped")
            if not is_person():
                raise KeyboardInterrupt
            messages = [*asked, Message.assistant(answer.text)]
            if not answer.text:
                return
        talk.keep(messages)
        self.after(answer)

    def after(self, answer: Answer) -> None:
        """What is said under an answer."""
        said = ending(answer, "max_tokens")
        if said is not None:
            self.screen.status(said)
        if self.conversation.stats and isinstance(answer.end, Done) and answer.usage.completion_tokens:
            self.screen.status(f"[{speed(answer.usage)}]")

    def show_help(self, _: str) -> None:
        """/help"""
        width = max(map(len, HELP))
        self.screen.say("\n".join(f"  {name:{width}}  {about}" for name, about in HELP.items()))

    def clear(self, _: str) -> None:
        """/clear"""
        self.conversation.messages = []
        self.screen.say("the conversation is forgotten")

    def save(self, file: str) -> None:
        """/save FILE"""
        path = absolute(self.needed(file, "/save FILE"))
        self.conversation.save(path, self.target.model)
        self.screen.say(f"saved {self.length()} to {path}")

    def load(self, file: str) -> None:
        """/load FILE"""
        path = absolute(self.needed(file, "/load FILE"))
        self.conversation = Conversation.load(path)
        self.screen.say(f"loaded {self.length()} from {path}")

    def set(self, rest: str) -> None:
        """/set NAME VALUE"""
        name, _, value = rest.partition(" ")
        if not name:
            width = max(map(len, SETTINGS))
            self.screen.say(
                "\n".join(f"  {name:{width}}  {s.allowed}: {s.about}" for name, s in SETTINGS.items())
            )
            return
        self.conversation.set(name, self.needed(value.strip(), f"/set {name} VALUE"))
        self.screen.say(self.setting(name))

    def show(self, _: str) -> None:
        """/show"""
        spec = self.model.spec
        context = f"{spec.max_position_embeddings:,} tokens"
        lines = [
            f"  model  {spec.name}: {spec.num_layers} layers, context {context}",
            *([] if self.adapter is None else [f"  with   {self.adapter}"]),
            f"  chat   {self.length()}",
            *(f"  {self.setting(name)}" for name in SETTINGS),
        ]
        self.screen.say("\n".join(lines))

    def show_thought(self, _: str) -> None:
        """/thought"""
        self.screen.say(
            self.last_thought.strip() or "there was no thought yet; /set thinking on makes the model think"
        )

    def setting(self, name: str) -> str:
        """A setting and its value in words."""
        value = self.conversation.value(name)
        if isinstance(value, bool):
            value = "on" if value else "off"
        return f"{name} = {'default' if value is None else value}"

    def length(self) -> str:
        """How long the conversation is, in words."""
        count = len(self.conversation.messages)
        return f"{count} message{'' if count == 1 else 's'}"

    def needed(self, text: str, usage: str) -> str:
        """The text, or an error that shows how the command is written."""
        if not text:
            raise InputError(f"something is missing; write {usage}")
        return text
