"""Typing: messages over several lines, and a real pseudo-terminal with Ctrl-C and Ctrl-D."""

from __future__ import annotations

import fcntl
import io
import os
import pty
import re
import select
import subprocess
import sys
import termios
import time

import pytest

from gemstead.cli.keyboard import ctrl_c_stops, line_reader, read_message

# A chat whose model answers with what it was asked; "slow" makes it count until it is stopped.
PROGRAM = """
import sys, time, gemstead
from gemstead.cli.main import main
from gemstead.spec.variants import VARIANTS
from gemstead.types import Done, TextDelta
class Model:
    note = None

    spec = VARIANTS["tiny-e2b"]
    def chat(self, messages, tools=(), **_):
        asked = messages[-1].content
        if asked == "slow":
            for number in range(1000):
                yield TextDelta(f"{number} ")
                time.sleep(0.02)
        yield TextDelta(f"you said <{asked}> after {len(messages) - 1}")
        yield Done("stop")
    def __enter__(self): return self
    def __exit__(self, *_): pass
gemstead.open = lambda *a, **k: Model()
sys.exit(main(["chat"]))
"""


def scripted(*lines):
    """A reader that returns these lines."""
    rest = list(lines)

    def read(_):
        if not rest:
            raise EOFError
        return rest.pop(0)

    return read


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["  hello  "], "hello"),
        (['"""one', "two", 'three"""', "later"], "one\ntwo\nthree"),
        (['"""', "one", "", "two", '"""'], "one\n\ntwo"),
        (['"""one line"""'], "one line"),
        (['"""never closed', "two"], "never closed\ntwo"),
        (["pasted\nblock"], "pasted\nblock"),
        (['say """ now'], 'say """ now'),
    ],
)
def test_messages(lines, message):
    assert read_message(scripted(*lines)) == message


def test_the_end_of_a_pipe(monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO("one\n"))
    read = line_reader([])
    assert read("") == "one"
    with pytest.raises(EOFError):
        read("")


def test_the_second_ctrl_c_is_not_swallowed():
    with ctrl_c_stops() as stop:
        assert not stop()
        os.kill(os.getpid(), 2)
        assert stop()
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), 2)
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), 2)


class Terminal:
    """A chat on a pseudo-terminal: type() and wait for what it shows."""

    def __init__(self) -> None:
        self.fd, other = pty.openpty()
        environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100", "LINES": "30"}
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM],
            stdin=other,
            stdout=other,
            stderr=other,
            env=environment,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # so that Ctrl-C is a signal
        )
        os.close(other)
        self.seen = self.before = ""

    def type(self, text: str) -> None:
        os.write(self.fd, text.encode())

    def wait_for(self, text: str, seconds: float = 15) -> None:
        """Until the screen shows this text, after what was waited for before."""
        end = time.monotonic() + seconds
        while text not in self.seen:
            left = end - time.monotonic()
            assert left > 0, f"{text!r} never came; seen: {self.seen!r}"
            if select.select([self.fd], [], [], left)[0]:
                self.seen += os.read(self.fd, 4096).decode(errors="replace")
                if "\x1b[6n" in self.seen:  # prompt_toolkit asks where the cursor is
                    os.write(self.fd, b"\x1b[1;1R")
                self.seen = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self.seen)
        self.before, _, self.seen = self.seen.partition(text)

    def close(self) -> int:
        try:
            return self.process.wait(15)
        finally:
            self.process.kill()
            os.close(self.fd)


def test_a_chat_on_a_terminal():
    terminal = Terminal()
    terminal.wait_for(">>>")
    terminal.type("hello\r")
    terminal.wait_for("you said <hello> after 0")
    terminal.wait_for(">>>")

    terminal.type("slow\r")
    terminal.wait_for("3 4 ")
    terminal.type("typed ahead")  # is not shown in the answer
    terminal.type("\x03")  # Ctrl-C stops the answer
    terminal.wait_for("stopped")
    assert "typed" not in terminal.before
    terminal.wait_for(">>>")

    terminal.type("half a line\x03")  # and drops a line that is being typed
    terminal.wait_for("Ctrl-D or /bye leaves")
    terminal.wait_for(">>>")

    terminal.type("\x1b[200~pasted\ntext\x1b[201~\r")  # a paste is one message
    terminal.wait_for("you said <pasted")
    terminal.wait_for("after 4")
    terminal.wait_for(">>>")

    terminal.type("\x04")  # Ctrl-D leaves
    assert terminal.close() == 0
