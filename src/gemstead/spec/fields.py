"""Reading settings one by one while collecting everything that is wrong with them.

hf.py and gguf.py share it, so that a bad file is answered with one ConfigError that lists all its
faults: field, value seen, values allowed. It knows no field names of its own.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from numbers import Integral, Real
from typing import Any, TypeVar

from gemstead.errors import ConfigError

T = TypeVar("T")
_LARGEST = 2**31 - 1  # no size of a model comes near; a larger one is a damaged or hostile file


@dataclass
class Problems:
    """Faults found so far. `unreadable`: some needed value is missing, so conclusions would be noise."""

    found: list[str] = field(default_factory=list)
    unreadable: bool = False

    def add(self, problem: str) -> None:
        """Note one fault that leaves the other values usable."""
        self.found.append(problem)

    def add_unreadable(self, problem: str) -> None:
        """Note one fault that leaves a needed value unknown."""
        self.found.append(problem)
        self.unreadable = True

    def raise_if_any(self, attempt: str) -> None:
        """Raise one ConfigError listing every fault, if there is one."""
        if self.found:
            count = "1 problem" if len(self.found) == 1 else f"{len(self.found)} problems"
            lines = "".join(f"\n  - {problem}" for problem in self.found)
            raise ConfigError(f"{attempt}: {count} in the description of the model:{lines}")


class Fields:
    """Typed access to one mapping of settings; `where` is how messages name the mapping.

    A value of None counts as absent. A getter without default notes an absent field as a fault.
    Every getter returns a value of the right type, so that reading can go on to the next fault.
    """

    def __init__(self, values: Mapping[str, Any], where: str, problems: Problems) -> None:
        self.values = values
        self.where = where
        self.problems = problems

    def label(self, key: str) -> str:
        """How a message names a field."""
        return f"{self.where}{key}"

    def has(self, key: str) -> bool:
        """Whether the field is present and not None."""
        return self.values.get(key) is not None

    def integer(
        self, key: str, default: int | None = None, *, minimum: int = 1, maximum: int = _LARGEST
    ) -> int:
        """A whole number from minimum to maximum."""
        allowed = f"a whole number from {minimum} to {maximum}"
        value = self.values.get(key, default)
        value = default if value is None else value
        if value is None:
            return self._missing(key, allowed, minimum)
        if is_integer(value) and minimum <= value <= maximum:
            return int(value)
        return self._wrong(key, value, allowed, minimum if default is None else default)

    def number(self, key: str, default: float | None = None, *, positive: bool = True) -> float:
        """A finite number, above zero unless `positive` is False."""
        allowed = "a number above 0" if positive else "a finite number"
        value = self.values.get(key, default)
        value = default if value is None else value
        if value is None:
            return self._missing(key, allowed, 1.0)
        if is_number(value) and (value > 0 or not positive):
            return float(value)
        return self._wrong(key, value, allowed, 1.0 if default is None else default)

    def flag(self, key: str, default: bool) -> bool:
        """True or False; anything else is a fault."""
        value = self.values.get(key)
        if value is None:
            return default
        if isinstance(value, bool):
            return value
        return self._wrong(key, value, "true or false", default)

    def mapping(self, key: str) -> Mapping[str, Any]:
        """A mapping; absent is empty."""
        value = self.values.get(key)
        if value is None:
            return {}
        if isinstance(value, Mapping):
            return value
        return self._wrong(key, value, "a mapping", {})

    def token_ids(self, key: str) -> tuple[int, ...] | None:
        """One token id or a list of them, as a tuple; None when absent. Ids beyond the vocabulary pass.

        -1, which is how transformers writes "no such token", is left out.
        """
        value = self.values.get(key)
        if value is None:
            return None
        ids = list(value) if _is_list(value) else [value]
        if all(is_integer(i) and i >= -1 for i in ids):
            return tuple(int(i) for i in ids if i >= 0)
        return self._wrong(key, value, "a token id or a list of token ids", ())

    def one_of(self, key: str, allowed: Collection[Any], default: Any) -> Any:
        """One of the listed values; absent is `default`."""
        value = self.values.get(key)
        if value is None:
            return default
        if any(type(value) is type(a) and value == a for a in allowed):
            return value
        return self._wrong(key, value, " or ".join(shown(a) for a in allowed), default)

    def require(self, fixed: Mapping[str, tuple[Any, str]]) -> None:
        """Fields that may be absent but, if present, must have one value: {field: (value, reason)}."""
        for key, (only, reason) in fixed.items():
            if self.has(key) and self.values[key] != only:
                told = "it must be absent" if only is None else f"allowed is {shown(only)}"
                self.problems.add(f"{self.label(key)} is {shown(self.values[key])}; {told}: {reason}")

    def refuse_unknown(self, known: Iterable[str]) -> None:
        """Note every present field outside `known`: it might change the result."""
        for key in sorted(map(str, set(self.values) - set(known))):
            if self.values.get(key) is not None:
                self.problems.add(
                    f"{self.label(key)} = {shown(self.values[key])} is not a field gemstead knows and could "
                    "change the result; remove it if it does not, or use a newer gemstead"
                )

    def _missing(self, key: str, allowed: str, fallback: T) -> T:
        self.problems.add_unreadable(f"{self.label(key)} is missing; it must be {allowed}")
        return fallback

    def _wrong(self, key: str, value: Any, allowed: str, fallback: T) -> T:
        self.problems.add_unreadable(f"{self.label(key)} is {shown(value)}; it must be {allowed}")
        return fallback


def is_integer(value: Any) -> bool:
    """Whether value is a whole number (numpy's too), and not a truth value."""
    return isinstance(value, Integral) and not isinstance(value, bool)


def is_number(value: Any) -> bool:
    """Whether value is a finite number (numpy's too), and not a truth value."""
    if not isinstance(value, Real) or isinstance(value, bool):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number too large for a float
        return False


def shown(value: Any) -> str:
    """A value as a message shows it: JSON's words, cut short."""
    words = {None: "null", True: "true", False: "false"}
    text = words[value] if value is None or isinstance(value, bool) else repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _is_list(value: Any) -> bool:
    return isinstance(value, list | tuple) or (hasattr(value, "tolist") and getattr(value, "ndim", 0) == 1)
