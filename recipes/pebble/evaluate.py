"""Asks a finished pebble the held-out questions and the strangers' ones, and scores its answers.

A call counts when tool and outcome equal what is expected; an answer counts when it says the outcome,
or, without a tool, is the expected text. Greedy, thinking off and on; history is the expected one.

    python recipes/pebble/evaluate.py --model src/gemstead/pebble/pebble.gguf --write
"""

from __future__ import annotations

import argparse
import json
import re
from collections import defaultdict
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import gemstead
from gemstead.agent import tools
from gemstead.agent.loop import ToolResult, call_tool, run_turns
from gemstead.types import Message, TextDelta, ToolCall

HERE = Path(__file__).resolve().parent
BEYOND = r"beyond|can't do that|only write text|only speak English"
GROUPS = {
    "calculator": "arithmetic",
    "convert_units": "unit conversion",
    "date_math": "dates",
    "about": "about gemstead",
    "beyond": "beyond it",
}


@dataclass
class Expected:
    """What one turn should do: calls with their results, and what the answer must say."""

    user: str
    calls: list[ToolCall] = field(default_factory=list)
    results: list[str] = field(default_factory=list)
    answer: str = ""  # exact text, unless `says`
    says: str = ""  # a regular expression instead
    group: str = "conversation"


@dataclass
class Case:
    """A conversation up to the turn that is judged."""

    before: list[Expected]
    turn: Expected


@dataclass
class Outcome:
    """What happened."""

    case: Case
    calls: list[str]
    answer: str
    called_right: bool
    answered_right: bool


def heldout(path: Path) -> list[Case]:
    """The questions build_data.py wrote; its `today` becomes the tools' today."""
    cases = []
    for line in path.read_text(encoding="utf-8").splitlines():
        record = json.loads(line)
        _set_today(date.fromisoformat(record["today"]))
        turns = [_from_record(turn) for turn in record["turns"]]
        cases.append(Case(turns[:-1], turns[-1]))
    return cases


def _set_today(day: date) -> None:
    tools._today = lambda: day


def _from_record(turn: dict[str, Any]) -> Expected:
    calls = [ToolCall(c["name"], _typed(c["arguments"]), id=f"c{i}") for i, c in enumerate(turn["calls"])]
    group = GROUPS.get(calls[0].name if calls else turn["intent"].split("_")[0], "conversation")
    results = [str(call_tool(call, tools.BUILT_IN).result) for call in calls]  # as the tools answer now
    answer = turn["answer"]
    for call, result in zip(turn["calls"], results, strict=True):
        answer = answer.replace(call["result"], result)
    return Expected(turn["user"], calls, results, answer, group=group)


def _typed(arguments: dict[str, str]) -> dict[str, Any]:
    numbers = {"value": float, "amount": int}
    out: dict[str, Any] = {k: numbers.get(k, str)(v) for k, v in arguments.items()}
    if isinstance(value := out.get("value"), float) and value.is_integer():
        out["value"] = int(value)
    return out


def strangers(path: Path) -> list[Case]:
    """The hand-written questions."""
    cases: list[Case] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        question, _, wanted = line.rpartition(" => ")
        turn = _from_words(question.removeprefix("+ "), wanted)
        before = [*cases[-1].before, cases[-1].turn] if line.startswith("+ ") else []
        cases.append(Case(before, turn))
    return cases


def _from_words(question: str, wanted: str) -> Expected:
    kind, _, rest = wanted.strip().partition(" ")
    if kind in ("says", "beyond"):
        group = "beyond it" if kind == "beyond" else "conversation"
        return Expected(question, says=rest or BEYOND, group=group)
    if kind == "calc":
        call = ToolCall("calculator", {"expression": rest}, id="c0")
    elif kind == "unit":
        left, _, target = rest.partition(" > ")
        value, _, unit = left.partition(" ")
        call = ToolCall(
            "convert_units", {**_typed({"value": value}), "from_unit": unit, "to_unit": target}, id="c0"
        )
    else:
        words = rest.split()
        arguments: dict[str, Any] = {"operation": words[0], "date": words[1]}
        if words[0] == "difference":
            arguments |= {"other_date": words[2], "unit": words[3]}
        elif words[0] != "weekday":
            arguments |= {"amount": int(words[2]), "unit": words[3]}
        call = ToolCall("date_math", arguments, id="c0")
    result = str(call_tool(call, tools.BUILT_IN).result)
    return Expected(question, [call], [result], f"{result}", group=GROUPS[call.name])


def history(before: Iterable[Expected]) -> list[Message]:
    """The conversation as it should have gone."""
    out: list[Message] = []
    for turn in before:
        out.append(Message.user(turn.user))
        if turn.calls:
            out.append(Message.assistant(tool_calls=tuple(turn.calls)))
            out += [Message.tool(r, call=c) for c, r in zip(turn.calls, turn.results, strict=True)]
        out.append(Message.assistant(_spoken(turn)))
    return out


def _spoken(turn: Expected) -> str:
    if turn.answer and not turn.says and not turn.calls:
        return turn.answer
    if not turn.calls:
        named = re.match(r"(?:hi, I'm|my name is) (\w+)", turn.user)
        return f"Nice to meet you, {named[1]}!" if named else "All right. What would you like next?"
    result = turn.results[-1]
    if turn.calls[0].name == "calculator":
        expression = str(turn.calls[0].arguments["expression"])
        return f"{expression} {'is' if ' of ' in expression else '='} {result}."
    if turn.calls[0].name == "convert_units":
        return f"{result}."
    return f"{'It' if turn.calls[0].arguments['operation'] == 'difference' else 'That'} is {result}."


def ask(model: gemstead.Model, case: Case, thinking: bool, constrain: bool = True) -> Outcome:
    """Ask one question and judge what comes."""
    messages = [*history(case.before), Message.user(case.turn.user)]
    said, results = "", []

    def chat(now: list[Message]) -> Any:
        return model.chat(
            now, tools.BUILT_IN, thinking=thinking, constrain=constrain, temperature=0.0, max_tokens=200
        )

    for event in run_turns(chat, messages, tools.BUILT_IN, max_rounds=3):
        if isinstance(event, TextDelta):
            said += event.text
        elif isinstance(event, ToolResult):
            results.append(event)
    return judge(case, said.strip(), results)


def judge(case: Case, said: str, results: list[ToolResult]) -> Outcome:
    """Whether the calls and the answer are what was expected."""
    turn = case.turn
    made = [(r.call.name, str(r.result)) for r in results]
    wanted = list(zip((c.name for c in turn.calls), turn.results, strict=True))
    called = made == wanted or (len(made) == len(wanted) == 1 and _same_number(made[0], wanted[0]))
    if turn.group == "beyond it":
        right = not results and re.search(BEYOND, said) is not None
    elif turn.says:
        right = re.search(turn.says, said) is not None
    elif turn.calls:
        right = said == turn.answer or (called and all(_core(result) in said for _, result in wanted))
    else:
        right = said == turn.answer
    shown = [f"{r.call.name}{dict(r.call.arguments)} -> {r.result}" for r in results]
    return Outcome(case, shown, said, called, right)


def _same_number(made: tuple[str, str], wanted: tuple[str, str]) -> bool:
    return made[0] == wanted[0] and _core(made[1]) == _core(wanted[1])


def _core(result: str) -> str:
    """The part of a result an answer must say."""
    if result.startswith("error: "):
        return result.removeprefix("error: ").split(";")[0]
    return result.rpartition(" = ")[2].split()[0] if " = " in result else result.split(" (")[0]


def table(title: str, outcomes: dict[bool, list[Outcome]]) -> str:
    """A Markdown table by group, thinking off and on."""
    rows = [
        f"| {title} | questions | calls, off | answers, off | calls, on | answers, on |",
        "|---|---|---|---|---|---|",
    ]
    groups: dict[str, dict[bool, list[Outcome]]] = defaultdict(lambda: {False: [], True: []})
    for thinking, found in outcomes.items():
        for outcome in found:
            for name in (outcome.case.turn.group, "all"):
                groups[name][thinking].append(outcome)
    for name in sorted(groups, key=lambda n: (n == "all", n)):
        cells = [str(max(len(v) for v in groups[name].values()))]
        for thinking in (False, True):
            found = groups[name][thinking]
            for right in ("called_right", "answered_right"):
                share = 100 * sum(getattr(o, right) for o in found) / len(found) if found else float("nan")
                cells.append(f"{share:.1f} %")
        rows.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(rows)


def write_readme(text: str) -> None:
    """Put the tables between the markers of the recipe's README."""
    path = HERE / "README.md"
    old = path.read_text(encoding="utf-8")
    new = re.sub(
        r"(<!-- evaluation -->\n).*?(<!-- end -->)", lambda m: f"{m[1]}{text}\n{m[2]}", old, flags=re.S
    )
    path.write_text(new, encoding="utf-8")


def main() -> None:
    """Evaluate and print; --write puts the tables into README.md."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="pebble")
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--questions", type=Path, default=HERE / "out/data/questions.jsonl")
    parser.add_argument("--count", type=int, default=600, help="at most, of each kind")
    parser.add_argument("--parallel", type=int, default=8)
    parser.add_argument("--failures", type=Path, default=HERE / "out/failures.txt")
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--unconstrained", action="store_true", help="let malformed calls happen")
    flags = parser.parse_args()
    model = gemstead.open(flags.model, backend=flags.backend)
    sets = {
        "held-out": heldout(flags.questions)[: flags.count],
        "strangers": strangers(HERE / "strangers.txt"),
    }
    tables, failures = [], []
    for title, found in sets.items():
        cases = found[: flags.count]
        outcomes = {}
        for thinking in (False, True):
            with ThreadPoolExecutor(flags.parallel) as pool:
                outcomes[thinking] = list(
                    pool.map(lambda c, t=thinking: ask(model, c, t, not flags.unconstrained), cases)
                )
            failures += [
                (title, thinking, o) for o in outcomes[thinking] if not (o.called_right and o.answered_right)
            ]
        tables.append(table(title, outcomes))
        print(tables[-1], flush=True)
    lines = []
    for title, thinking, o in failures:
        turn = o.case.turn
        lines.append(f"[{title}, thinking {'on' if thinking else 'off'}, {turn.group}] {turn.user}")
        lines.append(
            f"    wanted: {[f'{c.name}{dict(c.arguments)}' for c in turn.calls]} {turn.says or turn.answer}"
        )
        lines.append(f"    got:    {o.calls} {o.answer}")
    flags.failures.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(f"{len(failures)} failures -> {flags.failures}")
    if flags.write:
        write_readme("\n\n".join(tables))


if __name__ == "__main__":
    main()
