"""Writes the generated parts of the documentation: `just gen`; with --check it only looks.

A generated part stands between <!-- generated: NAME --> and <!-- end -->. What it says comes from
the code: the command line's own help, the chat's settings, the first line of each module.
"""

from __future__ import annotations

import ast
import csv
import re
import sys
from collections.abc import Callable
from pathlib import Path

import click

ROOT = Path(__file__).resolve().parents[1]
WIDTH = 100

# What stands beside src/, in the order a newcomer meets it.
FOLDERS = {
    "recipes/": "how pebble, the embedded model, is made: data, training, export",
    "native/": "the C++ core: kernels by instruction set, the forward, a C ABI; build.py builds it",
    "examples/": "short programs, all run by the tests",
    "docs/": "MODEL.md explains Gemma 4 from scratch; architecture.md this code; guides/, adr/",
    "tests/": "mirrors src/; parity/ golden/ fuzz/ house/ docs/ cut across",
    "bench/": "speed, and plans held to their word: run.py, peer.py, plan_check.py, limits.py, history.csv",
    "justfile": "the ten words: setup check test kernels parity bench docs gen golden fix",
}


def first_line(file: Path) -> str:
    """The first line of a module's docstring, without its full stop."""
    text = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
    return text.split("\n")[0].rstrip(".")


def tree() -> str:
    """The map of the repository."""
    lines = ["src/gemstead/"]
    for entry in sorted((ROOT / "src/gemstead").iterdir(), key=lambda path: (path.is_dir(), path.name)):
        source = entry / "__init__.py" if entry.is_dir() else entry
        if source.suffix == ".py" and source.exists() and not entry.name.startswith("_"):
            name = entry.name + ("/" if entry.is_dir() else "")
            lines.append(shorten(f"  {name:13}{first_line(source)}"))
    lines += [shorten(f"{name:15}{about}") for name, about in FOLDERS.items()]
    return "```\n" + "\n".join(lines) + "\n```"


def shorten(line: str) -> str:
    """The line, cut at a word where it is too wide."""
    return line if len(line) <= WIDTH else line[: WIDTH - 1].rsplit(" ", 1)[0].rstrip(",;:") + " …"


def commands() -> str:
    """The help of every command, as the command line prints it."""
    from gemstead.cli.main import COMMANDS, cli

    parts = []
    parent = cli.make_context("gemstead", [], resilient_parsing=True)
    for name in COMMANDS:
        command = cli.get_command(parent, name)
        assert command is not None
        context = click.Context(command, parent, name, terminal_width=90, max_content_width=90)
        parts.append(f"## gemstead {name}\n\n```text\n{command.get_help(context)}\n```")
    return "\n\n".join(parts)


def settings() -> str:
    """What /set knows in a chat."""
    from gemstead.cli.conversation import SETTINGS

    rows = [f"| `{name}` | {s.allowed} | {s.about} |" for name, s in SETTINGS.items()]
    return "\n".join(["| setting | allowed | meaning |", "| --- | --- | --- |", *rows])


def chat_commands() -> str:
    """What a chat understands."""
    from gemstead.cli.chat import HELP

    rows = [f"| `{name}` | {about} |" for name, about in HELP.items()]
    return "\n".join(["| type | to |", "| --- | --- |", *rows])


def fields(endpoint: str) -> Callable[[], str]:
    """The fields of one endpoint, from the table its requests are read by."""

    def table() -> str:
        from gemstead.server import anthropic, embeddings, ollama, openai, responses
        from gemstead.server.fields import docs_table

        tables = {
            "chat completions": openai.CHAT,
            "completions": openai.COMPLETION,
            "responses": responses.RESPONSES,
            "messages": anthropic.MESSAGES,
            "embeddings": embeddings.EMBEDDINGS,
            "ollama embed": embeddings.EMBED,
            "ollama chat": ollama.CHAT,
            "ollama generate": ollama.GENERATE,
            "ollama options": ollama.OPTIONS,
        }
        return docs_table(tables[endpoint])

    return table


def plan_check() -> str:
    """What gemstead plan predicts beside what was measured: bench/plan_check.csv."""
    with (ROOT / "bench/plan_check.csv").open(encoding="utf-8") as lines:
        rows = list(csv.DictReader(lines))
    header = "| model | format | memory, GB | | prefill, tok/s | | decode, tok/s | | others used |"
    names = "| | | predicted | measured | predicted | measured | predicted | measured | |"
    if not rows:
        return "Not measured yet."
    table = [header, "| --- " * 9 + "|", names]
    for row in rows:
        figures = []
        for name, unit, digits in (("bytes", 1e9, 2), ("prefill", 1, 1), ("decode", 1, 1)):
            predicted, measured = float(row[f"p_{name}"]), float(row[f"m_{name}"])
            off = f"{100 * (predicted / measured - 1):+.0f}%"
            figures += [f"{predicted / unit:.{digits}f} ({off})", f"{measured / unit:.{digits}f}"]
        others = f"{100 * float(row['others']):.0f}%"
        table.append(f"| {row['variant']} | {row['format']} | {' | '.join(figures)} | {others} |")
    places = dict.fromkeys(f"{row['machine']}, {row['threads']} threads, {row['date']}" for row in rows)
    return "\n".join([*places, "", *table])


# The measures of bench/peer.py in words: behind the name are the tokens timed and the context before them.
MEASURES = {
    "prefill 512 @0": "prefill, 512 tokens",
    "prefill 2048 @0": "prefill, 2,048 tokens",
    "prefill 128 @0": "prefill, 128 tokens",
    "decode 32 @0": "decode",
    "decode 24 @0": "decode",
    "decode 16 @0": "decode",
    "decode 32 @4096": "decode after 4,096 tokens",
    "together 128 @0": "decode, 4 sequences together",
    "clients 128 @0": "4 clients: 128 tokens in, 32 out",
    "clients 192 @0": "4 clients: 128 tokens in, 48 out",
    "disturbed 32 @0": "decode while others take a third of each core",
}
MACHINES = {"avx2": "two Zen 3 cores (AVX2)", "avx512_vnni": "two Zen 4 cores (AVX-512)"}
MODELS = {"random-gemma4-e2b": "E2B", "random-e2b": "E2B", "random-26b-a4b": "26B-A4B"}


def beside_peers() -> str:
    """The newest measurement of each kind in bench/history.csv."""
    with (ROOT / "bench/history.csv").open(encoding="utf-8") as lines:
        rows = [row for row in csv.DictReader(lines) if row["peer"] and row["measure"] in MEASURES]
    newest = {}
    for row in rows:
        isa = row["machine"].partition("(")[2].partition(")")[0]
        model = f"{MODELS.get(row['model'], row['model'])} {row['format']}"
        newest[isa, model, row["peer_name"].split()[0], row["threads"], MEASURES[row["measure"]]] = row
    tables = []
    for isa, place in MACHINES.items():
        table = [f"On {place}:\n", "| model | | threads | gemstead | | ratio |", "| --- " * 6 + "|"]
        for key in sorted(
            newest, key=lambda key: (*key[:3], -int(key[3]), list(MEASURES.values()).index(key[4]))
        ):
            if key[0] == isa:
                row = newest[key]
                peer = f"{row['peer']}, {key[2]}"
                figures = f"{row['ours']} | {peer} | {float(row['ratio']):.2f}"
                table.append(f"| {key[1]} | {key[4]} | {key[3]} | {figures} |")
        tables.append("\n".join(table))
    return "\n\n".join(tables)


ENDPOINTS = (
    "chat completions",
    "completions",
    "responses",
    "messages",
    "embeddings",
    "ollama embed",
    "ollama chat",
    "ollama generate",
    "ollama options",
)

PARTS: dict[str, dict[str, Callable[[], str]]] = {
    "README.md": {"tree": tree},
    "docs/guides/command-line.md": {
        "commands": commands,
        "chat commands": chat_commands,
        "settings": settings,
    },
    "docs/guides/plan.md": {"plan check": plan_check},
    "docs/guides/speed.md": {"beside peers": beside_peers},
    "docs/guides/serve.md": {name: fields(name) for name in ENDPOINTS},
}


def layout() -> str:
    """The structs of the C ABI."""
    from gemstead.backend.native.layout import header

    return header()


FILES: dict[str, Callable[[], str]] = {"native/include/layout.h": layout}  # generated whole


def wanted(name: str) -> str:
    """What a generated file should hold now."""
    if name in FILES:
        return FILES[name]()
    return filled((ROOT / name).read_text(encoding="utf-8"), PARTS[name])


def filled(text: str, parts: dict[str, Callable[[], str]]) -> str:
    """The text with each generated part written anew; every part must be there."""
    for name, make in parts.items():
        opening = f"<!-- generated: {name} -->"
        pattern = re.compile(re.escape(opening) + r"\n.*?<!-- end -->", re.DOTALL)
        if not pattern.search(text):
            raise SystemExit(f"there is no part {opening} ... <!-- end -->")
        replacement = f"{opening}\n{make()}\n<!-- end -->"
        text = pattern.sub(lambda _, new=replacement: new, text)
    return text


def stale() -> list[str]:
    """The files whose generated parts are not what they would be now."""
    return [
        name
        for name in (*PARTS, *FILES)
        if not (ROOT / name).exists() or (ROOT / name).read_text(encoding="utf-8") != wanted(name)
    ]


def main() -> int:
    """Write, or with --check name the files that would change and fail."""
    changed = stale()
    for name in changed:
        print(f"{name}: {'out of date; run just gen' if '--check' in sys.argv else 'written'}")
        if "--check" not in sys.argv:
            (ROOT / name).write_text(wanted(name), encoding="utf-8")
    return 1 if changed and "--check" in sys.argv else 0


if __name__ == "__main__":
    sys.exit(main())
