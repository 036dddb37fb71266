"""The values inside a GGUF's metadata: a cursor that cannot leave the file, and arrays left in place.

Every count, length and byte of text is checked before it is used; arrays of strings are kept as
they are and made into strings only when asked for. Refuses nested arrays. Neighbour: gguf.py.
"""

from __future__ import annotations

import codecs
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, overload

import numpy as np

from gemstead.errors import WeightsError
from gemstead.weights.mapped import Bytes, MappedFile

# Number of a metadata type in the file -> its struct code; strings, arrays and bools apart.
SCALARS: Mapping[int, str] = {
    0: "B",
    1: "b",
    2: "H",
    3: "h",
    4: "I",
    5: "i",
    6: "f",
    7: "B",
    10: "Q",
    11: "q",
    12: "d",
}
BOOL, STRING, ARRAY = 7, 8, 9

# Far above any real file (a Gemma 4 has < 1,000 tensors and 0.8 million strings), so that a hostile
# count costs neither minutes nor memory.
MAX_STRINGS = 2_000_000
MAX_NUMBERS = 2_000_000  # in all arrays of a file; Gemma 4 has 0.5 million
MAX_TEXT_BYTES = 1 << 24  # of one value; a chat template has 16 kB
MAX_ALL_TEXT_BYTES = 1 << 26  # of a file; Gemma 4 has 14 MB
# Small arrays become lists at once, up to this many values in a file; others stay NumberArray.
_EAGER_VALUES = 1 << 18
_TEXT_CHUNK = 1 << 20  # bytes of an array of strings looked at together
_FEW = 4096  # strings that one look must pass, or they are passed one by one
_LENGTH = struct.Struct("<Q")  # of a string


@dataclass(frozen=True)
class NumberArray:
    """A long array of numbers or booleans left in the file."""

    file: MappedFile = field(repr=False)
    start: int
    count: int
    code: str

    def __len__(self) -> int:
        return self.count

    def tolist(self) -> list[Any]:
        """The values as Python numbers."""
        width = struct.calcsize(self.code)
        values: list[Any] = self.file.view(self.start, self.count * width).view(f"<{self.code}").tolist()
        return values


def string_bytes(text: str) -> bytes:
    """A string as a GGUF holds it: its length in eight bytes, and its bytes."""
    raw = text.encode("utf-8")
    return len(raw).to_bytes(8, "little") + raw


@dataclass(frozen=True)
class StringArray(Sequence[str]):
    """An array of strings left in the file between `start` and `end`; its extent has been checked."""

    file: MappedFile = field(repr=False)
    start: int
    end: int
    length: int

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[str]:
        buffer, at, unpack = self.file.buffer, self.start, _LENGTH.unpack_from
        for number in range(self.length):
            end = at + 8 + unpack(buffer, at)[0]
            try:
                yield str(buffer[at + 8 : end], "utf-8")
            except UnicodeDecodeError as error:
                raise WeightsError(
                    f"{self.file.path} is damaged: string {number} of an array is not UTF-8: "
                    f"{error.object[:40]!r}"
                ) from error
            at = end

    def __contains__(self, text: object) -> bool:
        return isinstance(text, str) and self._find(text) is not None

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        return self.tolist()[index]

    def index(self, text: Any, start: int = 0, stop: int | None = None) -> int:
        """Where `text` stands first, decoding nothing; ValueError when it is absent."""
        found = self._find(str(text))
        if found is None or not start <= found < (self.length if stop is None else stop):
            raise ValueError(f"{text!r} is not in the array")
        return found

    def _find(self, text: str) -> int | None:
        """The number of the first string equal to `text`."""
        wanted = string_bytes(text)
        buffer, at, unpack = self.file.buffer, self.start, _LENGTH.unpack_from
        number, place = 0, buffer.find(wanted, at, self.end)
        while place >= 0:
            while at < place:  # the bytes may also occur inside a string: walk to be sure
                at += 8 + unpack(buffer, at)[0]
                number += 1
            if at == place:
                return number
            place = buffer.find(wanted, place + 1, self.end)
        return None

    def tolist(self) -> list[str]:
        """The strings, decoded."""
        return list(self)

    def raw(self) -> Bytes:
        """All of it where it lies in the file: for each string its length in eight bytes, and its bytes."""
        return self.file.view(self.start, self.end - self.start)

    def check_text(self) -> None:
        """WeightsError naming the first string that is not UTF-8."""
        # The lengths between the strings are ASCII bytes where every string is shorter than 128 bytes,
        # as all of Gemma's are: the whole array is then UTF-8 exactly when each string is.
        decoder = codecs.getincrementaldecoder("utf-8")()
        try:
            for at in range(self.start, self.end, _TEXT_CHUNK):
                decoder.decode(self.file.buffer[at : min(at + _TEXT_CHUNK, self.end)])
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            for _ in self:
                pass


def _behind(file: MappedFile, at: int, count: int) -> int:
    """Where `count` strings from byte `at` end; beyond the file where it is too short for them.

    A string knows only where the next one begins, and one by one half a million cost a tenth of a second: so
    many are looked at together, and after a look that shows few, ever more are passed without another.
    """
    patience = _FEW
    try:
        while count and at <= file.size:
            passed = length = 0
            if count >= _FEW:
                window = file.view(at, min(_TEXT_CHUNK, file.size - at))
                passed, length = _short_strings(window, count)
            if passed < _FEW:
                passed, length = min(count, patience), 0
                patience *= 2
                for _ in range(passed):
                    length += 8 + _LENGTH.unpack_from(file.buffer, at + length)[0]
            at, count = at + length, count - passed
    except (struct.error, OverflowError, IndexError, ValueError):
        return file.size + 1
    return at


def _short_strings(window: Bytes, count: int) -> tuple[int, int]:
    """How many strings of under 256 bytes the window begins with, at most `count`, and their bytes.

    Wherever seven zeros stand a length may begin one byte before. From the first on, each one that begins
    where the last string ends is a length for certain.
    """
    zero = window[1:] == 0
    two = zero[:-1] & zero[1:]
    four = two[:-2] & two[2:]
    seven = four[:-3] & four[3:]
    if np.count_nonzero(seven) > window.size // 8:  # more than there can be strings
        return 0, 0
    starts = np.flatnonzero(seven)
    if not starts.size or starts[0]:
        return 0, 0
    ends = starts + 8 + window[starts]
    broken = np.flatnonzero(ends[:-1] != starts[1:])
    passed = min(count, int(broken[0]) + 1 if broken.size else starts.size)
    return passed, int(ends[passed - 1])


class Cursor:
    """A reading position in a mapped file that refuses to leave it."""

    def __init__(self, file: MappedFile) -> None:
        self.file = file
        self.at = 0
        self.strings_left = MAX_STRINGS
        self.numbers_left = MAX_NUMBERS
        self.text_left = MAX_ALL_TEXT_BYTES
        self.eager_left = _EAGER_VALUES

    def fail(self, fault: str) -> WeightsError:
        """The error for a fault in this file."""
        return WeightsError(f"{self.file.path} is damaged: {fault}")

    def need(self, count: int, what: str) -> None:
        """Make sure `count` more bytes exist."""
        if count > self.file.size - self.at:
            raise self.fail(
                f"{what} needs {count} bytes at byte {self.at}, but the file ends at {self.file.size}"
            )

    def number(self, code: str, what: str) -> Any:
        """One little-endian number."""
        reader = struct.Struct("<" + code)
        self.need(reader.size, what)
        (value,) = reader.unpack_from(self.file.buffer, self.at)
        self.at += reader.size
        return value

    def text(self, what: str, limit: int = MAX_TEXT_BYTES) -> str:
        """One string of at most `limit` bytes."""
        length = self.number("Q", f"the length of {what}")
        self.need(length, what)
        limit = min(limit, self.text_left)
        if length > limit:
            raise self.fail(f"{what} is {length} bytes long; at most {limit} are believable")
        self.text_left -= length
        raw = self.file.buffer[self.at : self.at + length]
        self.at += length
        try:
            return str(raw, "utf-8")
        except UnicodeDecodeError as error:
            raise self.fail(f"{what} is not UTF-8: {raw[:40]!r}") from error

    def value(self, kind: int, what: str) -> Any:
        """One metadata value of type number `kind`."""
        if kind == STRING:
            return self.text(what)
        if kind == ARRAY:
            return self._array(what)
        code = SCALARS.get(kind)
        if code is None:
            raise self.fail(f"{what} has type number {kind}; GGUF knows 0 to 12")
        value = self.number(code, what)
        if code == "f":
            # The shortest decimal of the single: 1e-6 was meant, not 9.999999974752427e-07.
            return float(str(np.float32(value)))
        return self._truth(value, what) if kind == BOOL else value

    def _truth(self, value: int, what: str) -> bool:
        if value > 1:
            raise self.fail(f"{what} is a boolean of value {value}; 0 and 1 are allowed")
        return bool(value)

    def _array(self, what: str) -> Any:
        kind = self.number("I", f"the element type of {what}")
        count = self.number("Q", f"the length of {what}")
        if kind == STRING:
            return self._strings(count, what)
        code = SCALARS.get(kind)
        if code is None:
            shown = "nested arrays" if kind == ARRAY else f"elements of type number {kind}"
            raise self.fail(f"{what} holds {shown}; numbers, booleans and strings are allowed")
        width = struct.calcsize("<" + code)
        self.need(count * width, what)
        self.numbers_left -= count
        if self.numbers_left < 0:  # a sparse file costs nothing to make and would fill the memory
            raise self.fail(f"{what} brings the numbers to more than {MAX_NUMBERS}, which is not believable")
        array = NumberArray(self.file, self.at, count, "?" if kind == BOOL else code)
        self.at += count * width
        if kind == BOOL and count and array.file.view(array.start, count).max() > 1:
            raise self.fail(f"{what} holds a boolean other than 0 and 1")
        if count > self.eager_left:
            return array
        self.eager_left -= count
        return array.tolist()

    def _strings(self, count: int, what: str) -> StringArray:
        self.need(8 * count, what)
        self.strings_left -= count
        if self.strings_left < 0:
            raise self.fail(f"{what} brings the strings to more than {MAX_STRINGS}, which is not believable")
        start = self.at
        at = _behind(self.file, start, count)
        if at > self.file.size:
            raise self.fail(f"a string of {what} runs past the end of the file")
        if at - start > self.text_left:
            raise self.fail(f"{what} holds {at - start} bytes of text; {self.text_left} are believable")
        self.text_left -= at - start
        self.at = at
        strings = StringArray(self.file, start, at, count)
        strings.check_text()
        return strings
