"""A tool call while it is written: Gemma's call syntax to JSON text, as far as it is certain.

Reads only the strict syntax, which constrained decoding guarantees, and stops at anything else: the
forgiving reader is calls.py, which needs the whole call. parser.py owns one per open call.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from gemstead.text.calls import LITERALS, QUOTE_MARK, number
from gemstead.types import Json

_SPACE = " \t\r\n"
_CALL = re.compile(rf"call:([^\s{{(),{QUOTE_MARK}]+)\{{")
_PLAIN = re.compile(rf"[^{QUOTE_MARK}]*")
_BARE = re.compile(rf"[^,}}\]{{\[{QUOTE_MARK}]*")
_KEY = re.compile(rf"[^:,{{}}\[\]{QUOTE_MARK}]*")


def json_text(arguments: Mapping[str, Json]) -> str:
    """A call's arguments as the JSON text that its fragments add up to."""
    return json.dumps(dict(arguments), ensure_ascii=False)


class CallFragments:
    """Feed the text of one call, QUOTE_MARK for each delimiter token; `name` is None until it is known.

    Everything returned, joined, is json_text() of the arguments once the call is whole (a key that came
    twice stands twice in it). `is_whole`: its last brace was read.
    """

    def __init__(self) -> None:
        self.name: str | None = None
        self._sent: list[str] = []
        self.is_whole = False
        self._expected = "name"  # name, key, colon, value, bare, string, after, nothing
        self._word = ""  # what was read of the name, the key or the bare value so far
        self._is_key = False  # whether the open string is a key
        self._open: list[str] = []  # the brackets still to be closed
        self._is_first = True  # whether the innermost bracket holds nothing yet

    def feed(self, text: str) -> str:
        """The JSON text that these characters make certain."""
        out: list[str] = []
        at = 0
        while at < len(text) and self._expected != "nothing":
            at = getattr(self, f"_{self._expected}")(text, at, out)
        self._sent += out
        return "".join(out)

    @property
    def sent(self) -> str:
        """All that feed() has returned."""
        return "".join(self._sent)

    def _name(self, text: str, at: int, out: list[str]) -> int:
        end = text.find("{", at)
        self._word += text[at : end + 1 if end >= 0 else len(text)]
        if end < 0:
            return len(text)
        match = _CALL.fullmatch(self._word)
        if match is None or match[1].endswith(":"):
            self._expected = "nothing"
            return len(text)
        self.name = match[1]
        self._enter("}", out)
        return end + 1

    def _enter(self, closing: str, out: list[str]) -> None:
        out.append("{" if closing == "}" else "[")
        self._open.append(closing)
        self._is_first, self._word = True, ""
        self._expected = "key" if closing == "}" else "value"

    def _leave(self, out: list[str]) -> None:
        out.append(self._open.pop())
        self._is_first, self._expected = False, "after"
        if not self._open:
            self.is_whole, self._expected = True, "nothing"

    def _begin(self, out: list[str]) -> None:
        """A key or an element begins: what separates it from the one before."""
        out.append("" if self._is_first else ", ")
        self._is_first = False

    def _key(self, text: str, at: int, out: list[str]) -> int:
        match = _KEY.match(text, at)
        assert match is not None  # it may be empty
        self._word += match[0]
        end = match.end()
        if end == len(text):
            return end
        word, character = self._word.strip(_SPACE), text[end]
        if character == ":" and word:
            self._begin(out)
            out.append(json.dumps(word, ensure_ascii=False) + ": ")
            self._expected, self._word = "value", ""
        elif character == QUOTE_MARK and not word:
            self._begin(out)
            out.append('"')
            self._expected, self._is_key = "string", True
        elif character == "}" and not word and self._is_first:
            self._leave(out)
        else:
            self._expected = "nothing"
        return end + 1

    def _colon(self, text: str, at: int, out: list[str]) -> int:
        if text[at] == ":":
            out.append(": ")
            self._expected, self._word = "value", ""
        elif text[at] not in _SPACE:
            self._expected = "nothing"
        return at + 1

    def _value(self, text: str, at: int, out: list[str]) -> int:
        character, in_list = text[at], self._open[-1] == "]"
        if character in _SPACE:
            return at + 1
        if character == "]" and in_list and self._is_first:
            self._leave(out)
            return at + 1
        if in_list:
            self._begin(out)
        if character == QUOTE_MARK:
            out.append('"')
            self._expected, self._is_key = "string", False
        elif character in "{[":
            self._enter("}" if character == "{" else "]", out)
        else:
            self._expected, self._word = "bare", ""
            return at
        return at + 1

    def _string(self, text: str, at: int, out: list[str]) -> int:
        match = _PLAIN.match(text, at)
        assert match is not None  # it may be empty
        out.append(json.dumps(match[0], ensure_ascii=False)[1:-1])
        if match.end() == len(text):
            return match.end()
        out.append('"')
        self._expected = "colon" if self._is_key else "after"
        return match.end() + 1

    def _bare(self, text: str, at: int, out: list[str]) -> int:
        match = _BARE.match(text, at)
        assert match is not None  # it may be empty
        self._word += match[0]
        if match.end() < len(text):
            word = self._word.strip(_SPACE)
            value = LITERALS[word] if word in LITERALS else number(word)
            is_known = value is not None or word in LITERALS
            out.append(json.dumps(value) if is_known else "")
            self._expected = "after" if is_known else "nothing"
        return match.end()

    def _after(self, text: str, at: int, out: list[str]) -> int:
        character = text[at]
        if character == self._open[-1]:
            self._leave(out)
        elif character == ",":
            self._expected, self._word = ("key" if self._open[-1] == "}" else "value"), ""
        elif character not in _SPACE:
            self._expected = "nothing"
        return at + 1
