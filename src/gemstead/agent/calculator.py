"""Evaluates arithmetic written by a model: exact fractions inside, plain decimals outside.

A small parser of its own, so nothing is ever executed: numbers, + - * / ^ mod, brackets, percent
('17% of 2400', '200 + 10%'), factorials and a table of functions. Refuses names it does not know and
anything that would grow without bound. Used by tools.py; its number format also by units.py.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from decimal import Context, Decimal, DecimalException
from fractions import Fraction

from gemstead.errors import InputError

MAX_CHARS = 400
MAX_DEPTH = 40
MAX_BITS = 16_384  # of a numerator or denominator; about 4900 digits
SIGNIFICANT = 8  # digits shown of a value that does not end
_DECIMAL = Context(prec=60)

_TOKEN = re.compile(
    r"\s*(?:(?P<number>(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?)|(?P<name>[^\W\d_]\w*)|(?P<op>\*\*|//|[-+*/^%!(),√π]))"
)
_SYMBOLS = str.maketrans({"×": "*", "·": "*", "÷": "/", "−": "-", "–": "-", "[": "(", "]": ")"})
_WORDS = {
    "plus": "+",
    "minus": "-",
    "times": "*",
    "x": "*",
    "over": "/",
    "of": "of",
    "mod": "mod",
    "percent": "%",
}
_PI = Fraction(Decimal("3.14159265358979323846264338327950288419716939937510"))
_EULER = Fraction(Decimal("2.71828182845904523536028747135266249775724709369995"))


def evaluate(expression: str) -> Fraction:
    """The exact value of `expression` (irrational functions are good to 50 digits).

    Raises InputError for anything that is not arithmetic, divides by zero or grows too large.
    """
    if not isinstance(expression, str) or not expression.strip():
        raise InputError("the expression is empty; write one such as 17% of 2400")
    if len(expression) > MAX_CHARS:
        raise InputError(f"the expression has {len(expression)} characters; at most {MAX_CHARS} are allowed")
    return _Parser(_tokens(expression)).parse()


def format_number(value: Fraction, significant: int = SIGNIFICANT) -> str:
    """`value` as plain decimal text: exact where it is short, else rounded to `significant` digits."""
    if value.denominator == 1 and abs(value.numerator) < 10**40:
        return str(value.numerator)
    exact = _exact_decimal(value)
    if exact is not None:
        return exact
    rounded = Context(prec=significant).divide(Decimal(value.numerator), Decimal(value.denominator))
    if rounded.adjusted() < -6 or rounded.adjusted() >= 21:
        mantissa, _, exponent = f"{rounded:e}".partition("e")
        mantissa = mantissa.rstrip("0").rstrip(".") if "." in mantissa else mantissa
        return f"{mantissa}e{int(exponent)}"
    text = f"{rounded:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _exact_decimal(value: Fraction) -> str | None:
    """The finite decimal expansion of `value` if it has at most 10 places and 18 digits."""
    scaled = value * 10**10
    if scaled.denominator != 1 or abs(scaled) >= 10**20:
        return None
    text = f"{Decimal(scaled.numerator).scaleb(-10, _DECIMAL):f}".rstrip("0").rstrip(".")
    return text if len(text.lstrip("-0.").replace(".", "")) <= 18 else None


def _tokens(expression: str) -> list[str]:
    text = re.sub(r"[$€£₹_=?]", " ", expression).translate(_SYMBOLS).rstrip(" .")
    if not re.search(r"[A-Za-z]\s*\(", text):  # outside a function's arguments a comma groups thousands
        text = re.sub(r"(?<=\d),(?=\d{3}(?!\d))", "", text)
    out: list[str] = []
    position = 0
    while position < len(text.rstrip()):
        match = _TOKEN.match(text, position)
        if match is None:
            raise InputError(f"cannot read {text[position:].strip()[:20]!r} in the expression {expression!r}")
        position = match.end()
        token = match.group("number") or match.group("op")
        if token is None:
            token = _WORDS.get(match.group("name").lower(), match.group("name").lower())
        out.append({"**": "^", "√": "sqrt", "π": "pi"}.get(token, token))
    return out


def _bounded(value: Fraction) -> Fraction:
    if max(value.numerator.bit_length(), value.denominator.bit_length()) > MAX_BITS:
        raise InputError("the number grows too large; use smaller numbers")
    return value


def _number(text: str) -> Fraction:
    exponent = re.search(r"[eE]([+-]?\d+)$", text)
    if exponent and abs(int(exponent.group(1))) > 1000:
        raise InputError(f"the number {text} is too large or too small")
    return Fraction(text.rstrip(".") if "." in text and not exponent else text)


def _decimal(value: Fraction) -> Decimal:
    return _DECIMAL.divide(Decimal(value.numerator), Decimal(value.denominator))


def _integer(value: Fraction, what: str) -> int:
    if value.denominator != 1:
        raise InputError(f"{what} needs a whole number, not {format_number(value)}")
    return value.numerator


def _power(base: Fraction, exponent: Fraction) -> Fraction:
    if base == 0 and exponent < 0:
        raise InputError("division by zero")
    if exponent.denominator == 1:
        size = max(base.numerator.bit_length(), base.denominator.bit_length())
        if size > 1 and size * abs(exponent.numerator) > MAX_BITS:
            raise InputError("the power grows too large; use smaller numbers")
        return Fraction(base**exponent.numerator) if size > 1 or base >= 0 else _sign_power(exponent)
    if base < 0:
        raise InputError("a negative number has no such real power")
    if exponent == Fraction(1, 2):
        return _sqrt(base)
    if abs(exponent) > 1000:
        raise InputError("the power grows too large; use smaller numbers")
    return Fraction(_DECIMAL.power(_decimal(base), _decimal(exponent))) if base else Fraction(0)


def _sign_power(exponent: Fraction) -> Fraction:
    return Fraction(1 if exponent.numerator % 2 == 0 else -1)


def _root(value: Fraction, degree: int) -> Fraction:
    """The real root of `value`, exact where numerator and denominator are perfect powers."""
    if value < 0 and degree % 2 == 0:
        raise InputError("a negative number has no real square root")
    sign, size = (-1, -value) if value < 0 else (1, value)
    top, bottom = (_whole_root(part, degree) for part in (size.numerator, size.denominator))
    if top is not None and bottom is not None:
        return Fraction(sign * top, bottom)
    return sign * Fraction(_DECIMAL.power(_decimal(size), _decimal(Fraction(1, degree))))


def _whole_root(number: int, degree: int) -> int | None:
    if number.bit_length() > 900:  # past float range: let the decimal root answer
        return None
    guess = math.isqrt(number) if degree == 2 else round(number ** (1 / degree))
    return next((n for n in (guess - 1, guess, guess + 1) if n >= 0 and n**degree == number), None)


def _sqrt(value: Fraction) -> Fraction:
    return _root(value, 2)


def _factorial(value: Fraction) -> Fraction:
    number = _integer(value, "a factorial")
    if not 0 <= number <= 1000:
        raise InputError(f"a factorial needs a whole number from 0 to 1000, not {number}")
    return Fraction(math.factorial(number))


def _round(value: Fraction, places: Fraction = Fraction(0)) -> Fraction:
    digits = _integer(places, "round")
    if abs(digits) > 50:
        raise InputError(f"round takes at most 50 places, not {digits}")
    scaled = value * Fraction(10) ** digits
    half_up = math.floor(abs(scaled) + Fraction(1, 2))
    return Fraction(half_up if scaled >= 0 else -half_up) / Fraction(10) ** digits


def _log(value: Fraction, base: Fraction = Fraction(10)) -> Fraction:
    if value <= 0 or base <= 0 or base == 1:
        raise InputError("a logarithm needs a number above 0 and a base above 0 other than 1")
    exponent = round(math.log(value) / math.log(base))
    if abs(exponent) < 1000 and base**exponent == value:
        return Fraction(exponent)
    return Fraction(_DECIMAL.divide(_DECIMAL.ln(_decimal(value)), _DECIMAL.ln(_decimal(base))))


def _exp(value: Fraction) -> Fraction:
    if abs(value) > 1000:
        raise InputError("the power grows too large; use smaller numbers")
    return Fraction(_DECIMAL.exp(_decimal(value)))


def _modulo(value: Fraction, by: Fraction) -> Fraction:
    if by == 0:
        raise InputError("division by zero")
    return value % by


def _median(*values: Fraction) -> Fraction:
    ordered, middle = sorted(values), len(values) // 2
    return ordered[middle] if len(values) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


def _floating(function: Callable[[float], float]) -> Callable[[Fraction], Fraction]:
    return lambda value: Fraction(Decimal(f"{function(float(value)):.12g}"))


_FUNCTIONS: dict[str, tuple[int, int, Callable[..., Fraction]]] = {  # name: fewest, most arguments
    "sqrt": (1, 1, _sqrt),
    "cbrt": (1, 1, lambda v: _root(v, 3)),
    "abs": (1, 1, abs),
    "round": (1, 2, _round),
    "floor": (1, 1, lambda v: Fraction(math.floor(v))),
    "ceil": (1, 1, lambda v: Fraction(math.ceil(v))),
    "min": (1, 99, lambda *v: min(v)),
    "max": (1, 99, lambda *v: max(v)),
    "sum": (1, 99, lambda *v: sum(v, Fraction(0))),
    "average": (1, 99, lambda *v: sum(v, Fraction(0)) / len(v)),
    "mean": (1, 99, lambda *v: sum(v, Fraction(0)) / len(v)),
    "median": (1, 99, _median),
    "factorial": (1, 1, _factorial),
    "gcd": (1, 99, lambda *v: Fraction(math.gcd(*(_integer(x, "gcd") for x in v)))),
    "lcm": (1, 99, lambda *v: Fraction(math.lcm(*(_integer(x, "lcm") for x in v)))),
    "pow": (2, 2, _power),
    "log": (1, 2, _log),
    "log10": (1, 1, _log),
    "log2": (1, 1, lambda v: _log(v, Fraction(2))),
    "ln": (1, 1, lambda v: _log(v, _EULER)),
    "exp": (1, 1, _exp),
    "sin": (1, 1, _floating(math.sin)),
    "cos": (1, 1, _floating(math.cos)),
    "tan": (1, 1, _floating(math.tan)),
    "radians": (1, 1, lambda v: v * _PI / 180),
}


class _Parser:
    """Recursive descent over the tokens; a value travels with whether it is a bare percentage."""

    def __init__(self, tokens: list[str]) -> None:
        self.tokens = tokens
        self.position = 0
        self.depth = 0

    def parse(self) -> Fraction:
        try:
            value, _ = self._sum()
        except (DecimalException, OverflowError, ZeroDivisionError):
            raise InputError("the number grows too large; use smaller numbers") from None
        if self.position < len(self.tokens):
            raise InputError(f"did not expect {self.tokens[self.position]!r} in the expression")
        return value

    def _peek(self) -> str:
        return self.tokens[self.position] if self.position < len(self.tokens) else ""

    def _take(self, *wanted: str) -> str:
        token = self._peek()
        if token and token in wanted:
            self.position += 1
            return token
        return ""

    def _sum(self) -> tuple[Fraction, bool]:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise InputError(f"the expression nests deeper than {MAX_DEPTH} levels")
        left, percent = self._product()
        while operator := self._take("+", "-"):
            right, right_percent = self._product()
            if right_percent and not percent:  # 200 + 10% means 10 % of the 200
                right *= left
            left = _bounded(left + right if operator == "+" else left - right)
            percent = percent and right_percent
        self.depth -= 1
        return left, percent

    def _product(self) -> tuple[Fraction, bool]:
        left, percent = self._unary()
        while True:
            operator = self._take("*", "/", "//", "of", "mod")
            if not operator and self._peek() == "(":  # 2(3 + 4)
                operator = "*"
            if not operator:
                return left, percent
            right, _ = self._unary()
            if operator in ("/", "//") and right == 0:
                raise InputError("division by zero")
            if operator in ("*", "of"):
                left = left * right
            elif operator == "mod":
                left = _modulo(left, right)
            else:
                left = left / right if operator == "/" else Fraction(left // right)
            left, percent = _bounded(left), False

    def _unary(self) -> tuple[Fraction, bool]:
        sign = 1
        while operator := self._take("+", "-"):
            sign = -sign if operator == "-" else sign
        value, percent = self._power()
        return sign * value, percent

    def _power(self) -> tuple[Fraction, bool]:
        base, percent = self._postfix()
        if not self._take("^"):
            return base, percent
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise InputError(f"the expression nests deeper than {MAX_DEPTH} levels")
        exponent, _ = self._unary()
        self.depth -= 1
        return _bounded(_power(base, exponent)), False

    def _postfix(self) -> tuple[Fraction, bool]:
        value, percent = self._atom(), False
        while True:
            if self._take("!"):
                value = _factorial(value)
            elif self._peek() == "%" and self._starts_operand(self.position + 1):
                self.position += 1  # 17 % 5, as programmers write a remainder
                return _modulo(value, self._atom()), False
            elif self._take("%"):
                value, percent = value / 100, True
            else:
                return value, percent

    def _starts_operand(self, position: int) -> bool:
        token = self.tokens[position] if position < len(self.tokens) else ""
        return bool(token) and (token[0].isdigit() or token[0] == "." or token == "(" or token in _FUNCTIONS)

    def _atom(self) -> Fraction:
        token = self._peek()
        self.position += 1
        if not token:
            raise InputError("the expression ends too early")
        if token[0].isdigit() or token[0] == ".":
            return _number(token)
        if token == "(":
            value, _ = self._sum()
            self._close()
            return value
        if token in ("pi", "e"):
            return _PI if token == "pi" else _EULER
        if token in _FUNCTIONS:
            return _bounded(self._call(token))
        if token[0].isalpha():
            known = ", ".join(sorted(_FUNCTIONS))
            raise InputError(f"unknown name {token!r}; known are pi, e, {known}")
        raise InputError(f"did not expect {token!r} in the expression")

    def _call(self, name: str) -> Fraction:
        fewest, most, function = _FUNCTIONS[name]
        if not self._take("("):  # sqrt 2
            return function(self._unary()[0])
        arguments = [self._sum()[0]]
        while self._take(","):
            arguments.append(self._sum()[0])
        self._close()
        if not fewest <= len(arguments) <= most:
            raise InputError(f"{name} takes {fewest} to {most} numbers, not {len(arguments)}")
        return function(*arguments)

    def _close(self) -> None:
        if not self._take(")"):
            raise InputError("a bracket is not closed in the expression")
