"""Streams, colours and the spinner, with streams that claim to be terminals."""

from __future__ import annotations

import io
import sys
import time

import pytest

from gemstead.cli.screen import Screen, complain, plain


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def terminal(monkeypatch):
    """One screen for both streams, as on a real terminal; no NO_COLOR from outside."""
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    return Terminal()


def test_a_terminal_gets_dim_status_lines(terminal):
    screen = Screen(terminal, terminal)
    screen.status("busy")
    assert terminal.getvalue() == "\x1b[2mbusy\x1b[22m\n"


@pytest.mark.parametrize(("name", "value"), [("NO_COLOR", "1"), ("TERM", "dumb")])
def test_no_colour_where_none_is_wanted(terminal, monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    Screen(terminal, terminal).status("busy")
    assert terminal.getvalue() == "busy\n"


def test_an_empty_no_color_means_colour(terminal, monkeypatch):
    monkeypatch.setenv("NO_COLOR", "")
    assert Screen(terminal, terminal).has_colour


def test_a_status_line_never_lands_in_the_answer(terminal):
    screen = Screen(terminal, terminal)
    screen.text("half an ans")
    screen.status("busy")
    screen.text("wer")
    screen.end_text()
    screen.end_text()
    assert terminal.getvalue() == "half an ans\n\x1b[2mbusy\x1b[22m\nwer\n"


def test_a_terminal_gets_no_control_characters(terminal):
    Screen(terminal, terminal).text("a\x1b]0;title\x07\x9b2Jb\tc\n\r\x08d")
    assert terminal.getvalue() == "a]0;title2Jb\tc\nd"


def test_plain_keeps_text_of_all_languages():
    text = "Ärger, 你好, 👩‍👩‍👧, עברית\n\tü"
    assert plain(text) == text


def test_a_pipe_gets_no_escape(capsys, monkeypatch):
    monkeypatch.delenv("NO_COLOR", raising=False)
    screen = Screen()
    with screen.waiting("opening"):
        screen.live("thinking")
        screen.erase_live()
    screen.aside("thought\n")
    screen.status("busy")
    assert capsys.readouterr().err == "thought\nbusy\n"


def test_the_spinner_waits_a_second_and_cleans_up(terminal):
    screen = Screen(terminal, terminal)
    with screen.waiting("opening the model"):
        pass
    assert terminal.getvalue() == ""
    with screen.waiting("opening the model"):
        time.sleep(1.25)
    assert "opening the model" in terminal.getvalue()
    assert terminal.getvalue().endswith("\r\x1b[2K")


def test_the_live_line_shows_the_end_of_the_text(terminal, monkeypatch):
    monkeypatch.setenv("COLUMNS", "20")
    Screen(terminal, terminal).live("a long\nthought about something")
    assert terminal.getvalue() == "\r\x1b[2K\x1b[2mht about something\x1b[22m"


def test_an_odd_locale_does_not_end_the_answer():
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    Screen(stream).text("grün")
    assert raw.getvalue() == b"gr?n"


def test_complain_survives_a_closed_stderr(monkeypatch):
    stream = io.StringIO()
    stream.close()
    monkeypatch.setattr(sys, "stderr", stream)
    complain("gone", "too")
