"""The inside of a tool call, from text to values: strict where the model was, forgiving where not.

Works on the call's text with QUOTE_MARK standing for each delimiter token, so what is quoted was
decided by token ids before it came here. Guesses only what cannot mean two things, notes every
guess, and refuses the rest; parser.py then shows the call as text.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass, field

from gemstead.types import Json

QUOTE_MARK = "\ud800"  # a lone surrogate: no decoded text can contain it
MAX_DEPTH = 200
_LONGEST_NUMBER = 1000  # characters; longer ones are text
_SPACE = " \t\r\n"
_NAME = re.compile(rf"\s*([^\s{{(),{QUOTE_MARK}]+?):?\s*(?=[{{(]|$)")
_NAMELESS = re.compile(r"[A-Za-z_][\w.:-]*\{")
_NUMBER = re.compile(r"[+-]?(?:(?:0|[1-9]\d*)(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?")
LITERALS: dict[str, Json] = {
    "true": True,
    "false": False,
    "null": None,
    "True": True,
    "False": False,
    "None": None,
}
_NEXT_KEY = re.compile(
    rf"\s*(?:{QUOTE_MARK}[^{QUOTE_MARK}]*{QUOTE_MARK}|\"[^\"{QUOTE_MARK}]*\"|'[^'{QUOTE_MARK}]*'|[A-Za-z_][\w.$-]*)\s*[:=]"
)
_ENDS_STRING = rf"(?=\s*(?:[,}}\]):={QUOTE_MARK}]|$))"
_OPENING = {"}": "{", "]": "[", ")": "("}
_STOPS = re.compile(rf"[,{{}}\[\](){QUOTE_MARK}]")
_JSON = json.JSONDecoder(strict=False)
_SURROGATE = re.compile("[\ud800-\udfff]")  # as an escape can make one; no later stage could encode it
_CLOSING = {'"': re.compile('"' + _ENDS_STRING), "'": re.compile("'" + _ENDS_STRING)}


class CallSyntaxError(ValueError):
    """The call cannot be understood; the message says what was expected and where."""


@dataclass(slots=True)
class CallsRead:
    """Calls found in one block, what had to be guessed, and the text that belongs to no call."""

    calls: list[tuple[str, dict[str, Json]]] = field(default_factory=list)
    guesses: list[str] = field(default_factory=list)
    rest: str = ""
    error: str | None = None


def read_calls(body: str, *, closed: bool) -> CallsRead:
    """Read `call:name{...}`, once or several times. `closed`: the model itself ended the block.

    Never raises: with `error` set, `rest` is the part from the first call that was not understood.
    """
    reader = _Reader(body, closed)
    found = CallsRead(guesses=reader.guesses)
    while True:
        reader.skip(_SPACE + ",")
        start = reader.at
        if start == len(body) and found.calls:
            return found
        try:
            found.calls.append(reader.call(is_first=not found.calls))
        except (CallSyntaxError, RecursionError) as error:
            found.error = str(error) or "nested too deeply"
            found.rest = body[start:]
            if found.calls and not found.rest.strip(_SPACE + "}])"):
                reader.guess("surplus closing brackets left out")
                found.rest, found.error = "", None
            return found


class _Reader:
    """A cursor in the text of one block; `_open` holds the brackets still to be closed."""

    def __init__(self, text: str, closed: bool) -> None:
        self.text, self.closed = text, closed
        self.at = 0
        self.guesses: list[str] = []
        self._open: list[str] = []
        self._hopeless: set[str] = set()  # quote characters with no closing one ahead: searched once

    def skip(self, characters: str) -> None:
        text, at = self.text, self.at
        while at < len(text) and text[at] in characters:
            at += 1
        self.at = at

    def guess(self, what: str) -> None:
        if what not in self.guesses:
            self.guesses.append(what)

    def call(self, *, is_first: bool) -> tuple[str, dict[str, Json]]:
        self._open.clear()
        if self.text.startswith("call:", self.at):
            self.at += len("call:")
        elif is_first and _NAMELESS.match(self.text, self.at):
            self.guess("'call:' missing before the name")
        else:
            raise self._error("'call:'")
        name = _NAME.match(self.text, self.at)
        if not name:
            raise self._error("a tool's name and '{'")
        self.at = name.end()
        opening = self._peek()
        if opening == "{":
            return name[1], self._object("}")
        if opening == "(":
            self.guess("parentheses taken for braces")
            return name[1], self._object(")")
        if not self.closed:
            raise self._error("'{'")
        self.guess("no arguments")
        return name[1], {}

    def _peek(self) -> str:
        return self.text[self.at : self.at + 1]

    def _error(self, wanted: str) -> CallSyntaxError:
        seen = self.text[self.at : self.at + 20].replace(QUOTE_MARK, '<|"|>') or "the end"
        return CallSyntaxError(f"expected {wanted} at character {self.at}, found {seen!r}")

    def _enter(self, closing: str) -> None:
        self.at += 1
        self._open.append(closing)
        if len(self._open) > MAX_DEPTH:
            raise self._error(f"at most {MAX_DEPTH} levels of nesting")

    def _leaves(self, closing: str) -> bool:
        """Whether the innermost bracket ends here; consumes its end."""
        self.skip(_SPACE + ",")
        if self._peek() == closing:
            self.at += 1
        elif self.at < len(self.text):
            return False
        elif self.closed:
            self.guess(f"missing {closing!r} added")
        else:
            raise self._error(repr(closing))
        self._open.pop()
        return True

    def _object(self, closing: str) -> dict[str, Json]:
        result: dict[str, Json] = {}
        self._enter(closing)
        while not self._leaves(closing):
            key = self._key("=:" if closing == ")" else ":")
            if key in result:
                self.guess(f"key {key!r} twice, the last one kept")
            result[key] = self._value()
            self._expect_separator(closing)
        return result

    def _array(self) -> list[Json]:
        result: list[Json] = []
        self._enter("]")
        while not self._leaves("]"):
            result.append(self._value())
            self._expect_separator("]")
        return result

    def _expect_separator(self, closing: str) -> None:
        self.skip(_SPACE)
        if self.at < len(self.text) and self._peek() not in ("," + closing):
            raise self._error(f"',' or {closing!r}")

    def _key(self, separators: str) -> str:
        first = self._peek()
        if first == QUOTE_MARK or first in ("'", '"'):
            key = self._quoted() if first == QUOTE_MARK else self._plain_quoted(first)
            if not isinstance(key, str):
                raise self._error("a key")
            self.skip(_SPACE)
        else:
            end = self.at
            while end < len(self.text) and self.text[end] not in separators + "{}[]," + QUOTE_MARK:
                end += 1
            key = self.text[self.at : end].strip(_SPACE)
            self.at = end
        if (
            not self._peek()
            or self._peek() not in separators
            or (not key and first not in ('"', "'", QUOTE_MARK))
        ):
            raise self._error("a key and ':'")
        self.at += 1
        return key

    def _value(self) -> Json:
        self.skip(" \t")
        start = self.at
        self.skip(_SPACE)
        first = self._peek()
        if first == QUOTE_MARK:
            return self._quoted()
        if first == "{":
            return self._object("}")
        if first == "[":
            return self._array()
        if first in ("'", '"') and first not in self._hopeless:
            text = self._plain_quoted(first)
            if text is not None:
                return text
        self.at = start
        return self._bare()

    def _quoted(self) -> str:
        start = self.at + 1
        end = self.text.find(QUOTE_MARK, start)
        if end >= 0:
            self.at = end + 1
            return self.text[start:end]
        if not self.closed:
            raise self._error("the end of a string")
        self.guess("unclosed string closed at the end of the call")
        rest = self.text[start:]
        for closing in reversed(self._open):
            if not rest.rstrip(_SPACE).endswith(closing):
                break
            rest = rest.rstrip(_SPACE)[:-1]
        self.at = len(self.text)
        return rest

    def _plain_quoted(self, quote: str) -> str | None:
        """A string in ordinary quotes; None where no quote closes it."""
        start = self.at + 1
        if quote == '"':
            try:
                value, end = _JSON.raw_decode(self.text, self.at)
            except (ValueError, RecursionError):
                pass
            else:
                if _CLOSING['"'].match(self.text, end - 1) and not _SURROGATE.search(value):
                    return self._after_plain(value, end)
        closing = _CLOSING[quote].search(self.text, start)
        if closing is None:
            self._hopeless.add(quote)
            return None
        self.guess(f"text between {quote} and {quote} taken as it stands")
        value = self.text[start : closing.start()].replace(QUOTE_MARK, '"')
        return self._after_plain(value.replace("\\'", "'") if quote == "'" else value, closing.end())

    def _after_plain(self, value: str, end: int) -> str:
        self.at = end
        if self._peek() == QUOTE_MARK:
            self.guess("surplus string delimiter left out")
            self.at += 1
        return value

    def _bare(self) -> Json:
        """A number, a literal, or text that lacks its delimiters."""
        end, ends_at_mark = self._end_of_bare()
        if end == len(self.text) and not self.closed:
            raise self._error("the end of a value")
        text = self.text[self.at : end]
        word = text.strip(_SPACE)
        if not word:
            raise self._error("a value")
        if ends_at_mark:
            self.guess("missing opening string delimiter added")
            self.at = end + 1
            return text
        self.at = end
        if word in LITERALS:
            return LITERALS[word]
        value = number(word)
        if value is not None:
            return value
        self.guess("text without delimiters taken as a string")
        if self._open[-1] == "]":
            return word
        text = text if "\n" in word else text.rstrip(_SPACE)
        return text.strip(" \t")  # newlines before the text, or around several lines, are part of it

    def _end_of_bare(self) -> tuple[int, bool]:
        """Where undelimited text stops, and whether a delimiter token is what stops it.

        A bracket that the text itself opened belongs to the text; any other that closes an open
        array or object stops it, though it be the wrong one.
        """
        inside = {_OPENING[closing]: 0 for closing in self._open}
        for match in _STOPS.finditer(self.text, self.at):
            character, at = match[0], match.start()
            if character == QUOTE_MARK:
                return at, True
            if character == ",":
                if not any(inside.values()) and (self._open[-1] == "]" or self._comma_separates(at)):
                    return at, False
            elif character in inside:
                inside[character] += 1
            elif inside.get(_OPENING.get(character, ""), 0):
                inside[_OPENING[character]] -= 1
            elif character in self._open:
                return at, False
        return len(self.text), False

    def _comma_separates(self, at: int) -> bool:
        word = self.text[self.at : min(at, self.at + _LONGEST_NUMBER)].strip(_SPACE)
        if word in LITERALS or _NUMBER.fullmatch(word):
            return True
        rest = _NEXT_KEY.match(self.text, at + 1)
        return rest is not None or self.text[at + 1 : at + 64].strip(_SPACE)[:1] in ("", self._open[-1])


def number(word: str) -> int | float | None:
    """The value of a number; None for what is none, or no JSON number can hold (it then stays text)."""
    if len(word) > _LONGEST_NUMBER or not _NUMBER.fullmatch(word):
        return None
    if word.lstrip("+-").isdecimal():
        return int(word)
    value = float(word)
    return value if math.isfinite(value) else None
