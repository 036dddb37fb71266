"""What a terminal shows: answers on stdout, everything else on stderr, colour only where it is wanted.

A pipe gets plain text, byte for byte what the model wrote; a terminal gets no control characters
from a model or a file. Knows nothing of models; used by every command.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import sys
import threading
from collections.abc import Iterator
from typing import TextIO

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_FRAMES = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
_ERASE_LINE = "\r\x1b[2K"


def is_terminal(stream: TextIO) -> bool:
    """Whether a person is looking at this stream."""
    try:
        return stream.isatty() and os.environ.get("TERM") != "dumb"
    except ValueError:  # closed
        return False


def plain(text: str) -> str:
    """The text without the control characters that could move a terminal's cursor or title."""
    return _CONTROL.sub("", text)


def complain(message: str | None = None, hint: str | None = None) -> None:
    """Write `error: message` and `hint: ...` to stderr; without a message just end the line."""
    lines = [f"error: {plain(message)}"] if message else [""]
    lines += [f"hint: {hint}"] if hint else []
    with contextlib.suppress(OSError, ValueError):
        print("\n".join(lines), file=sys.stderr)


def quiet_stdout() -> None:
    """After a broken pipe: keep the interpreter from complaining once more when it flushes."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class Screen:
    """The two streams of one command; keeps a status line from landing in the middle of an answer."""

    def __init__(self, out: TextIO | None = None, err: TextIO | None = None) -> None:
        self.out, self.err = out or sys.stdout, err or sys.stderr
        self.shows_text = is_terminal(self.out)
        self.shows_status = is_terminal(self.err)
        self.has_colour = self.shows_status and not os.environ.get("NO_COLOR")
        for stream in (self.out, self.err):
            if hasattr(stream, "reconfigure"):  # an odd locale must not end an answer
                stream.reconfigure(errors="replace")
        self._mid_line = False
        self._spinner: _Spinner | None = None

    def text(self, text: str) -> None:
        """A piece of the answer, to stdout, at once."""
        self.rest()
        self.out.write(plain(text) if self.shows_text else text)
        self.out.flush()
        if text:
            self._mid_line = not text.endswith("\n")

    def end_text(self) -> None:
        """End the answer's last line if it is open."""
        self.rest()
        if self._mid_line:
            self.text("\n")

    def status(self, line: str) -> None:
        """One dim line on stderr."""
        self.aside(line + "\n")

    def say(self, text: str | None) -> None:
        """The command's own words on stderr, not dim; None says nothing."""
        if text is not None:
            self.end_text()
            self.err.write((plain(text) if self.shows_status else text) + "\n")
            self.err.flush()

    def aside(self, text: str) -> None:
        """A dim piece of something that is not the answer (a thought, a tool call), to stderr."""
        self.rest()
        if self._mid_line and self.shows_text and self.shows_status:
            self.out.write("\n")
            self.out.flush()
            self._mid_line = False
        self.err.write(self.dim(plain(text) if self.shows_status else text))
        self.err.flush()

    def live(self, text: str) -> None:
        """Replace the current status line by the end of `text`; on no terminal: nothing."""
        self.rest()
        if self.shows_status:
            width = max(8, shutil.get_terminal_size().columns - 2)
            tail = plain(text.replace("\n", " "))[-width:]
            self.err.write(_ERASE_LINE + self.dim(tail))
            self.err.flush()

    def erase_live(self) -> None:
        """Remove what live() wrote."""
        if self.shows_status:
            self.err.write(_ERASE_LINE)
            self.err.flush()

    def dim(self, text: str) -> str:
        """The text in a quiet colour where colours are wanted; line ends stay outside the colour."""
        if not self.has_colour or not text.strip():
            return text
        return "\n".join(f"\x1b[2m{line}\x1b[22m" if line else "" for line in text.split("\n"))

    def wait(self, what: str) -> None:
        """Say after one second that `what` is going on, until anything else is written."""
        self.rest()
        if self.shows_status:
            self._spinner = _Spinner(what, self.err)

    def rest(self) -> None:
        """End wait()."""
        if self._spinner is not None:
            self._spinner.stop()
            self._spinner = None

    @contextlib.contextmanager
    def waiting(self, what: str) -> Iterator[None]:
        """wait() around a block."""
        self.wait(what)
        try:
            yield
        finally:
            self.rest()


class _Spinner:
    """A turning mark on stderr from one second after its start until stop()."""

    def __init__(self, what: str, stream: TextIO) -> None:
        self._what, self._stream = what, stream
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._turn, daemon=True)
        self._thread.start()

    def _turn(self) -> None:
        if self._done.wait(1.0):
            return
        frame = 0
        while True:
            self._stream.write(f"{_ERASE_LINE}{_FRAMES[frame % len(_FRAMES)]} {plain(self._what)}")
            self._stream.flush()
            frame += 1
            if self._done.wait(0.1):
                break
        self._stream.write(_ERASE_LINE)
        self._stream.flush()

    def stop(self) -> None:
        """End the line; returns once nothing more will be written."""
        self._done.set()
        self._thread.join()
