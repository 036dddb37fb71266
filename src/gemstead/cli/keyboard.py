"""Reads what a person types: one message at a time, with multi-line messages between triple quotes.

On a terminal prompt_toolkit edits the line and a paste arrives whole; from a pipe every line is a
message. Also catches Ctrl-C while an answer is written.
"""

from __future__ import annotations

import contextlib
import signal
import sys
import termios
import threading
from collections.abc import Callable, Iterator, Sequence
from types import FrameType

from gemstead.cli.screen import Screen

QUOTES = '"""'
ReadLine = Callable[[str], str]


def line_reader(words: Sequence[str]) -> ReadLine:
    """A function from a prompt to the next line; it raises EOFError at the end of the input.

    `words` complete with the tab key on a terminal.
    """
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        return _read_plain
    # imported late: it takes as long to import as everything else together, and only a terminal needs it
    from prompt_toolkit import PromptSession
    from prompt_toolkit.completion import WordCompleter

    completer = WordCompleter(list(words), sentence=True)
    session: PromptSession[str] = PromptSession(completer=completer, complete_while_typing=False)
    return session.prompt


def can_ask(screen: Screen) -> bool:
    """Whether somebody sees a question and can answer it."""
    return is_person() and screen.shows_text and screen.shows_status


def is_person() -> bool:
    """Whether somebody sits at the keyboard; from a pipe Ctrl-C ends the chat instead of an answer."""
    return sys.stdin.isatty()


def _read_plain(prompt: str) -> str:
    if is_person():  # typing, while the output goes elsewhere
        sys.stderr.write(prompt)
        sys.stderr.flush()
    line = sys.stdin.readline()
    if not line:
        raise EOFError
    return line.rstrip("\n")


def read_message(read: ReadLine) -> str:
    """The next message: a line, a pasted block, or everything between triple quotes."""
    text = read(">>> ")
    if not text.lstrip().startswith(QUOTES):
        return text.strip()
    text = text.lstrip()[len(QUOTES) :]
    while QUOTES not in text:
        try:
            text += "\n" + read("... ")
        except EOFError:
            break
    return text.partition(QUOTES)[0].strip("\n")


class Stop:
    """Whether Ctrl-C was pressed; calling it asks. `cancel` is what should happen then, at once."""

    def __init__(self) -> None:
        self.pressed = False
        self.cancel: Callable[[], None] = lambda: None

    def __call__(self) -> bool:
        return self.pressed


@contextlib.contextmanager
def ctrl_c_stops() -> Iterator[Stop]:
    """Within the block the first Ctrl-C sets the Stop; a second one raises KeyboardInterrupt.

    The answer is then left between two tokens, never in the middle of a computation. Keys pressed
    meanwhile are not shown; they are there when the next line is read.
    """
    stop = Stop()

    def on_signal(_signum: int, _frame: FrameType | None) -> None:
        if stop.pressed:
            raise KeyboardInterrupt
        stop.pressed = True
        # in a thread: the code that was interrupted may hold the locks that cancelling takes
        threading.Thread(target=stop.cancel, daemon=True).start()

    before = signal.signal(signal.SIGINT, on_signal)
    try:
        with _keys_unseen():
            yield stop
    finally:
        signal.signal(signal.SIGINT, before)


def forget_typed() -> None:
    """Drop what was typed before a question stood there: it cannot be meant as the answer."""
    if sys.stdin.isatty():
        termios.tcflush(sys.stdin.fileno(), termios.TCIFLUSH)


@contextlib.contextmanager
def _keys_unseen() -> Iterator[None]:
    """Switch the terminal's echo off, so that typing ahead does not land in the answer."""
    if not sys.stdin.isatty():
        yield
        return
    terminal = sys.stdin.fileno()
    before = termios.tcgetattr(terminal)
    quiet = termios.tcgetattr(terminal)
    quiet[3] &= ~termios.ECHO
    termios.tcsetattr(terminal, termios.TCSADRAIN, quiet)
    try:
        yield
    finally:
        termios.tcsetattr(terminal, termios.TCSADRAIN, before)
