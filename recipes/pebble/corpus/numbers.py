"""Numbers as people write them, each with the plain digits a tool call carries.

Whole and decimal, negative, grouped by commas, in words, with currency. About one in seven numbers
of three digits or more is held out by hash and appears in evaluation only.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from corpus.grammar import held_out

_ONES = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
]
_TENS = ["-", "-", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]


@dataclass(frozen=True)
class Number:
    """`surface` is what the person types, `plain` what goes into the call."""

    surface: str
    plain: str


def in_words(n: int, hyphen: str = "-") -> str:
    """English words for 0 to 999,999."""
    if n < 20:
        return _ONES[n]
    if n < 100:
        return _TENS[n // 10] + (hyphen + _ONES[n % 10] if n % 10 else "")
    if n < 1000:
        rest = f" and {in_words(n % 100, hyphen)}" if n % 100 else ""
        return f"{_ONES[n // 100]} hundred{rest}"
    rest = f" {in_words(n % 1000, hyphen)}" if n % 1000 else ""
    return f"{in_words(n // 1000, hyphen)} thousand{rest}"


@dataclass
class Numbers:
    """Draws numbers; `held` draws the held-out ones (and short ones, which are nobody's secret)."""

    rng: random.Random
    held: bool = False
    in_words: bool = False  # write whatever is below a thousand in words

    def _free(self, digits: str) -> bool:
        bare = digits.replace(".", "")
        return len(bare) < 3 or held_out("n" + bare, 14) == self.held

    def whole(self, low: int, high: int) -> int:
        """A whole number, spread evenly over its number of digits."""
        for _ in range(400):
            digits = self.rng.randint(len(str(low)), len(str(high)))
            n = self.rng.randint(max(low, 10 ** (digits - 1)), min(high, 10**digits - 1))
            if self.rng.random() < 0.2 and n > 99:
                n = self._rounded(n)
            if low <= n <= high and self._free(str(n)):
                return n
        return n

    def _rounded(self, n: int) -> int:
        unit = 10 ** self.rng.randint(1, max(1, len(str(n)) - 1))
        return max(unit, n // unit * unit)

    def decimal(self, high: int = 1000) -> str:
        """Digits with one to three places that do not end in 0."""
        for _ in range(400):
            places = self.rng.choices([1, 2, 3], [50, 40, 10])[0]
            n = self.rng.randint(0, min(high, 10 ** self.rng.randint(1, len(str(high)))))
            part = "".join(self.rng.choice("0123456789") for _ in range(places - 1)) + self.rng.choice(
                "123456789"
            )
            if self._free(f"{n}{part}"):
                break
        return f"{n}.{part}"

    def draw(self, kind: str, below: str | None = None) -> Number:
        """A number of a kind (see _KINDS), smaller than `below` where that is given."""
        if kind == "n":
            pick = self.rng.random()
            kind = "i" if pick < 0.70 else "d" if pick < 0.88 else "neg" if pick < 0.91 else "b"
        if kind == "d":
            text = self.decimal()
            return Number(text, text)
        if kind == "m":
            return self._money()
        if kind == "p":
            return self._percent()
        if kind == "neg":
            text = self.decimal() if self.rng.random() < 0.2 else str(self.whole(1, 999))
            sign = self.rng.choices(["-", "negative ", "minus "], [70, 18, 12])[0]
            return Number(sign + text, f"-{text}")
        if kind == "Y":
            year = str(self.rng.randint(1850, int(below) - 1) if below else self.rng.randint(1900, 2060))
            return Number(year, year)
        low, high = _KINDS[kind]
        if below is not None and below.isdigit():
            high = max(low, min(high, int(below) - 1))
        return self.written(self.whole(low, high))

    def written(self, n: int) -> Number:
        """A whole number with commas, in words or plain."""
        pick = self.rng.random()
        if self.in_words and (n < 1000 or (n < 100_000 and n % 100 == 0)):
            words = in_words(n, self.rng.choice("- -"))
            return Number(words if self.rng.random() < 0.8 else words.replace(" and ", " "), str(n))
        if n >= 1000 and pick < 0.35:
            return Number(f"{n:,}", str(n))
        if (
            (n <= 20 and pick < 0.14)
            or (n <= 100 and pick < 0.07)
            or (n % 100 == 0 and n < 10**6 and pick < 0.10)
        ):
            words = in_words(n, self.rng.choice("- -"))
            if words.startswith("one ") and self.rng.random() < 0.4:
                words = "a" + words[3:]
            return Number(words, str(n))
        if n >= 1_000_000 and n % 1_000_000 == 0 and pick < 0.7:
            return Number(f"{n // 1_000_000} million", str(n))
        if n >= 1000 and n % 1000 == 0 and n < 1_000_000 and 0.35 < pick < 0.45:
            return Number(f"{n // 1000}k", str(n))
        return Number(str(n), str(n))

    def _money(self) -> Number:
        pick = self.rng.random()
        if pick < 0.45:
            text = f"{self.whole(1, 999)}.{self.rng.randint(0, 99):02d}"
        else:
            text = str(self.whole(2, 20000))
        shown = f"{int(text):,}" if text.isdigit() and len(text) > 3 and self.rng.random() < 0.5 else text
        form = self.rng.random()
        if form < 0.55:
            return Number(self.rng.choices("$€£", [70, 18, 12])[0] + shown, text)
        if form < 0.80:
            return Number(f"{shown} {self.rng.choices(_CURRENCIES, [50, 20, 15, 5, 5, 5])[0]}", text)
        return Number(shown, text)

    def _percent(self) -> Number:
        pick = self.rng.random()
        if pick < 0.15:
            text = f"{self.rng.randint(0, 30)}.{self.rng.choice('1234556789')}"
        elif pick < 0.22:
            text = str(self.rng.randint(100, 400))
        else:
            text = str(self.rng.choice([self.rng.randint(1, 99), 5 * self.rng.randint(1, 19)]))
        form = self.rng.random()
        if form < 0.62:
            return Number(f"{text}%", text)
        if form < 0.90 or not text.isdigit() or int(text) > 99:
            return Number(
                f"{text} {self.rng.choices(['percent', 'per cent', 'pct', '%'], [80, 10, 5, 5])[0]}", text
            )
        return Number(f"{in_words(int(text))} percent", text)

    def listing(self, kind: str, least: int = 3, most: int = 6) -> Number:
        """Several numbers: '3, 4 and 5' and the '3, 4, 5' a function takes."""
        drawn = [self.draw(kind) for _ in range(self.rng.randint(least, most))]
        plain = [d.plain for d in drawn]
        surfaces = plain if self.rng.random() < 0.85 else [d.surface for d in drawn]
        if any("," in s for s in surfaces):
            surfaces = plain
        joined = ", ".join(surfaces[:-1])
        last = surfaces[-1]
        form = self.rng.choices(range(6), [40, 25, 15, 10, 7, 3])[0]
        shown = [
            f"{joined} and {last}",
            f"{joined}, {last}",
            f"{joined}, and {last}",
            " ".join(surfaces),
            f"{' and '.join(surfaces)}",
            f"{joined} & {last}",
        ][form]
        return Number(shown, ", ".join(plain))


_CURRENCIES = ["dollars", "euros", "pounds", "bucks", "USD", "EUR"]
_KINDS = {
    "i": (1, 9999),
    "b": (1000, 9_999_999),
    "k": (2, 20),
    "t": (2, 9),
    "c": (2, 99),
    "s": (2, 999),
    "h": (20, 9999),
    "y": (5, 99),
}
