"""One question and its answer, before it is a conversation.

A Turn says what the person wrote, what pebble thinks, which tools it calls and how it answers;
`finish` runs the real tools, so every result in the data is a real one. Neighbours: generators make
Turns, conversation.py strings them together, serial.py writes them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date

from gemstead.agent import dates, tools
from gemstead.errors import InputError


@dataclass
class Call:
    """A tool call; values are strings, or a number as text in a `Bare`."""

    name: str
    arguments: dict[str, str | Bare]
    result: str = ""


class Bare(str):
    """A number or word written without quotes in a call."""

    __slots__ = ()


@dataclass
class Turn:
    """One exchange. '{result}' in the answer is the last call's result, '{r0}', '{r1}' each call's."""

    user: str
    answer: str
    intent: str
    thought: str = ""
    calls: list[Call] = field(default_factory=list)
    facts: dict[str, str] = field(default_factory=dict)  # what follow-ups may build on

    def finish(self, today: date) -> Turn:
        """Run the calls as of `today` and put the results into the answer."""
        for call in self.calls:
            call.result = run(call, today)
        results = {f"r{i}": call.result for i, call in enumerate(self.calls)}
        if self.calls:
            last = self.calls[-1].result
            results["result"] = last
            self.facts["result"] = last
            failed = next((c.result for c in self.calls if c.result.startswith("error: ")), None)
            if failed:
                self.answer = "I can't do that: " + failed.removeprefix("error: ").split(";")[0] + "."
                self.facts = {}
                return self
        for name, value in results.items():
            self.answer = self.answer.replace("{" + name + "}", value)
        return self


def run(call: Call, today: date) -> str:
    """The tool's own answer, with errors as loop.py words them."""
    plain = {k: str(v) for k, v in call.arguments.items()}
    try:
        if call.name == "calculator":
            return tools.calculator(plain["expression"])
        if call.name == "convert_units":
            return tools.convert_units(plain["value"], plain["from_unit"], plain["to_unit"])
        amount = int(plain["amount"]) if "amount" in plain else None
        return dates.compute(
            plain["operation"],
            plain["date"],
            amount,
            plain.get("unit", "days"),
            plain.get("other_date"),
            today=today,
        )
    except InputError as error:
        return f"error: {error}"
