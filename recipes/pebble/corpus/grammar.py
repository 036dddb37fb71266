"""The phrase banks: reading, holding out, and saying one line in many ways.

A bank file has sections ('== name | field | ...') of one phrase a line ('> ...' is an answer):
'[a|b|]' is a choice, which may nest, '{slot}' is filled by the generator. A stable hash keeps about 8 % of
all sentences (and of the names) for evaluation, never trained on. Neighbours: every generator here.
"""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

PHRASES = Path(__file__).resolve().parent.parent / "phrases"
HELD_PERCENT = 8
WORDS = ("names",)  # of these sections single words are held out
ASKED_WISHES = (  # what may stand before a wish, as a question and as a statement; likewise for a thing
    "how do I|how do I|how do I|how can I|how can I|how could I|how would I|how should I|how does one|"
    "how do you|how do we|how can you|how to|what do I do to|what do I type to|what do I need to do to|"
    "what must I do to|what command do I use to|which command do I need to|which command lets me|"
    "what's the way to|where do I|where can I|what is the best way to|what's the easiest way to|"
    "is there a way to|is it possible to|is there a command to|can I|can you|may I|could I|"
    "am I able to|do you know how to|do you know how I can|what steps do I take to|any idea how to|"
    "how am I supposed to|can you show me how to|can you explain how to|could you tell me how to"
)
SAID_WISHES = (
    "I want to|I'd like to|I would like to|I need to|I have to|I am trying to|I'm trying to|help me|"
    "help me to|show me how to|tell me how to|explain how to|explain how I can|teach me how to|"
    "please explain how to|I don't know how to|I can't figure out how to|I wonder how to|how to|"
    "let me know how to|steps to|i wanna|I wish to|need to|trying to|want to"
)
ASKED_THINGS = (
    "what about|what do you know about|what can you tell me about|can you tell me about|"
    "can you explain|how about|could you tell me about|what should I know about|could you explain|"
    "do you know anything about"
)
SAID_THINGS = (
    "tell me about|tell me more about|explain|explain to me|I have a question about|something about|"
    "info on|information on|information about|details on|give me information about|"
    "I'd like to know about|help with|I want to know about|I want to know more about|describe|"
    "say something about|question about|please explain|please tell me about|let's talk about|"
    "I need help with|I need to know about|I was wondering about"
)
THING_FRAMES = (  # around a noun phrase such as '17% of 2400', with and without a question mark
    "what is|what's|whats|what is|what's|how much is|what would be|what do you get for|can you tell me|"
    "could you tell me|can you calculate|could you calculate|can you work out|could you work out|"
    "can you find|could you find|can you compute|can you figure out|can you give me|do you know|"
    "would you tell me|could you please tell me|can you please tell me|could you figure out|"
    "any idea what is|what do I get for|can I have|could I get|could you give me|do you happen to know"
)
SAID_THING_FRAMES = (
    "calculate|compute|work out|find|tell me|give me|I need|I need to know|I'd like to know|"
    "I want to know|please tell me|determine|figure out|get me|show me|help me find|help me work out|"
    "help me calculate|find out|let me know|I'm looking for|I would like to know|I want|I would like|"
    "quickly tell me|please calculate|please work out|please find|please compute|please give me|check|"
    "I have to know|I'm trying to find|I'm trying to work out|let's find|look up|say|name"
)
COMMAND_FRAMES = (  # around a command such as 'multiply 6 by 7'
    "can you|could you|would you|can you please|could you please|will you|would you please|"
    "can I ask you to|can you help me|could you help me|do you mind if I ask you to|are you able to|"
    "is it possible to|what do I get if I|what do you get if you|what do you get when you|"
    "what happens if I|what is it if I|what is the result if I|what is the answer if you|"
    "what's the outcome if I|what will I get if I|what if I|how do I|how would you|"
    "what do we get when we|how much is it if I"
)
SAID_COMMAND_FRAMES = (
    "please|I want you to|I'd like you to|I'd like to|I want to|I need to|I need you to|help me|"
    "help me to|let's|try to|go ahead and|we have to|I have to|I must|I would like to|you should|"
    "please help me|now|next,|just|kindly|I'm trying to|I am supposed to|my teacher wants me to|"
    "be so kind and|quickly"
)
Node = str | tuple["Node", ...] | list["Node"]  # text or '{slot}'; a sequence; a choice


@dataclass(frozen=True)
class Section:
    """The lines of one intent; `fields` are the parts of its header after the name."""

    name: str
    fields: tuple[str, ...]
    lines: tuple[Node, ...]
    sources: tuple[str, ...]
    answers: tuple[str, ...] = ()  # the lines that began with '>'


@dataclass
class Style:
    """How one person types: case, apostrophes, mistakes. One is drawn per conversation or turn."""

    case: str = "normal"  # or lower
    apostrophe: str = "'"
    typo_chance: float = 0.0
    capitalise: bool = True

    @classmethod
    def draw(cls, rng: random.Random) -> Style:
        """A random typist; most write plainly."""
        kind = rng.random()
        case = "lower" if kind < 0.25 else "normal"
        apostrophe = rng.choices(["'", "", "’"], [88, 9, 3])[0]
        return cls(case, apostrophe, 0.4 if rng.random() < 0.02 else 0.0, rng.random() < 0.92)


def held_out(text: str, percent: int = HELD_PERCENT) -> bool:
    """Whether a stable hash keeps `text` for evaluation."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=4).digest(), "big") % 100 < percent


@dataclass
class Banks:
    """All sections of all bank files, to be said in trained, held-out or all wordings."""

    part: str = "train"
    sections: dict[str, Section] = field(default_factory=dict)

    @classmethod
    def load(cls, part: str = "train", folder: Path = PHRASES) -> Banks:
        """Read every .txt file of `folder`; part is 'train', 'held' or 'all'."""
        banks = cls(part)
        found: dict[str, tuple[tuple[str, ...], list[str]]] = {}  # a section may go on in another file
        for path in sorted(folder.glob("*.txt")):
            for header, lines in _blocks(path.read_text(encoding="utf-8")):
                name, *fields = (field_.strip() for field_ in header.split("|"))
                known, earlier = found.get(name, ((), []))
                found[name] = (known or tuple(fields), earlier + lines)
        for name, (fields, lines) in found.items():
            answers = tuple(line[1:].strip() for line in lines if line.startswith(">"))
            kept = list(dict.fromkeys(framed(line) for line in lines if not line.startswith(">")))
            kept = _select(kept, part) if name in WORDS else kept
            nodes = tuple(_compile(line) for line in kept)
            banks.sections[name] = Section(name, fields, nodes, tuple(kept), answers)
        return banks

    def __getitem__(self, name: str) -> Section:
        return self.sections[name]

    def starting(self, prefix: str) -> list[Section]:
        """The sections whose names begin with `prefix`, in file order."""
        return [s for n, s in self.sections.items() if n.startswith(prefix)]

    def free(self, wording: str) -> bool:
        """Whether this part may use a sentence; case, marks and slots' contents do not make it another."""
        bare = " ".join(re.findall(r"[a-z]+|[{}%*/+=^-]", wording.lower()))
        return self.part == "all" or held_out(bare) == (self.part == "held")

    def pick(self, name: str, rng: random.Random) -> str:
        """A line of a section without slots, expanded as it is written."""
        return "".join(text for text, _ in expand(rng.choice(self.sections[name].lines), {}, rng))


def _select(lines: list[str], part: str) -> list[str]:
    held = [line for line in lines if held_out(line)]
    if part == "all" or len(lines) < 8 or not held or len(held) == len(lines):
        return lines
    return held if part == "held" else [line for line in lines if line not in set(held)]


def _blocks(text: str) -> list[tuple[str, list[str]]]:
    blocks: list[tuple[str, list[str]]] = []
    for raw in text.splitlines():
        line = raw.strip()
        if line.startswith("=="):
            blocks.append((line[2:].strip(), []))
        elif line and not line.startswith("#"):
            blocks[-1][1].append(line)
    return blocks


def framed(line: str) -> str:
    """A line in a sentence: a wish ('~ install it'), a topic ('= pipes'), a thing ('@'), a command ('!')."""
    frames = {
        "~ ": (ASKED_WISHES, SAID_WISHES),
        "= ": (ASKED_THINGS, SAID_THINGS),
        "@ ": (THING_FRAMES, SAID_THING_FRAMES),
        "! ": (COMMAND_FRAMES, SAID_COMMAND_FRAMES),
    }
    if line[:2] not in frames:
        return line
    asked, said = frames[line[:2]]
    return f"[[{asked}] {line[2:]}?|[{said}] {line[2:]}]"


def _compile(line: str) -> Node:
    parts = re.findall(r"\[|\]|\||\{\w+\}|[^\[\]|{}]+", line)
    node, rest = _sequence(parts, 0)
    if rest != len(parts):
        raise ValueError(f"unbalanced brackets in the phrase {line!r}")
    return node


def _sequence(parts: list[str], at: int) -> tuple[Node, int]:
    items: list[Node] = []
    while at < len(parts) and parts[at] not in ("|", "]"):
        if parts[at] == "[":
            choices: list[Node] = []
            while parts[at] != "]":
                option, at = _sequence(parts, at + 1)
                choices.append(option)
                if at >= len(parts):
                    raise ValueError(f"unbalanced brackets in {''.join(parts)!r}")
            items.append(choices)
        else:
            items.append(parts[at])
        at += 1
    return tuple(items), at


def expand(node: Node, slots: dict[str, str], rng: random.Random) -> list[tuple[str, bool]]:
    """One way to say the line, as (text, came from a slot) pieces."""
    if isinstance(node, list):
        return expand(rng.choice(node), slots, rng)
    if isinstance(node, tuple):
        return [piece for child in node for piece in expand(child, slots, rng)]
    if node.startswith("{"):
        return [(slots[node[1:-1]], True)]
    return [(node, False)]


class NoWordingError(Exception):
    """All sentences that came up belong to the other part."""


def say(
    banks: Banks,
    lines: Sequence[Node],
    slots: dict[str, str],
    style: Style,
    rng: random.Random,
    *,
    extras: float = 0.2,
) -> str:
    """One of `lines` as this person would type it; `extras` is the chance of an opener or a closer.

    NoWordingError when no sentence for this part of the data is found among them.
    """
    for _ in range(60):
        pieces = _sentence(banks, rng.choice(lines), slots, rng, extras)
        if banks.free("".join("{}" if is_slot else text for text, is_slot in pieces)):
            return _typed(pieces, style, rng)
    raise NoWordingError(str(lines[0])[:60])


def _sentence(
    banks: Banks, node: Node, slots: dict[str, str], rng: random.Random, extras: float
) -> list[tuple[str, bool]]:
    pieces = expand(node, slots, rng)
    literal = "".join(text for text, _ in pieces)
    question = literal.rstrip().endswith("?")
    bare = literal.rstrip().endswith((".", "!", ","))
    if rng.random() < extras:
        pieces = _with_opener(banks, pieces, question, rng)
    if rng.random() < extras * 0.25 and not bare:
        return _with_closer(banks, pieces, question, rng)
    return _punctuate(pieces, question, rng)


def _typed(pieces: list[tuple[str, bool]], style: Style, rng: random.Random) -> str:
    styled = [(text if is_slot else _styled(text, style, rng), is_slot) for text, is_slot in pieces]
    out = re.sub(r" {2,}", " ", "".join(text for text, _ in styled)).strip()
    out = re.sub(r" +([,.!;](?:\s|$))", r"\1", out)
    if style.case == "normal" and style.capitalise and out[:1].islower() and not styled[0][1]:
        out = out[0].upper() + out[1:]
    return out


def _with_opener(
    banks: Banks, pieces: list[tuple[str, bool]], question: bool, rng: random.Random
) -> list[tuple[str, bool]]:
    name = "openers_any" if rng.random() < 0.5 else "openers_question" if question else "openers_imperative"
    first, is_slot = pieces[0]
    keep = is_slot or re.match(r"I\b|I'", first) is not None
    if name == "openers_imperative" and (is_slot or not re.match(r"[a-z]", first)):
        name = "openers_any"
    if name == "openers_question" and not re.match(
        r"(what|how|which|when|on which|in which|on what|if|who|where|why)\b", first.lower()
    ):
        name = "openers_any"
    lowered = first if keep else first[:1].lower() + first[1:]
    return [(banks.pick(name, rng) + " ", False), (lowered, is_slot), *pieces[1:]]


def _with_closer(
    banks: Banks, pieces: list[tuple[str, bool]], question: bool, rng: random.Random
) -> list[tuple[str, bool]]:
    last, is_slot = pieces[-1]
    if not is_slot:
        pieces = [*pieces[:-1], (last.rstrip().rstrip("?"), False)]
    mark = "?" if question and rng.random() < 0.7 else ""
    closer = banks.pick("closers", rng)
    return [*pieces, ((closer if closer[0] == "," else f" {closer}") + mark, False)]


def _punctuate(pieces: list[tuple[str, bool]], question: bool, rng: random.Random) -> list[tuple[str, bool]]:
    last, is_slot = pieces[-1]
    if question and not is_slot:
        mark = rng.choices(["?", "", "??", " ?", ".", "?!", "!"], [72, 20, 2, 3, 2, 0.5, 0.5])[0]
        return [*pieces[:-1], (last.rstrip().rstrip("?") + mark, False)]
    if not is_slot and last.rstrip().endswith((".", "!", ",")):
        mark = "" if rng.random() < 0.25 else last.rstrip()[-1]
        return [*pieces[:-1], (last.rstrip()[:-1] + mark, False)]
    mark = rng.choices(["", ".", "!", "?", "..."], [55, 38, 3, 3, 1])[0]
    return [*pieces, (mark, False)]


def _styled(text: str, style: Style, rng: random.Random) -> str:
    if style.apostrophe != "'":
        text = re.sub(r"(?<=[A-Za-z])'(?=[a-z])", style.apostrophe, text)
    if style.typo_chance and rng.random() < style.typo_chance:
        text = _mistype(text, rng)
    return text.lower() if style.case == "lower" else text


def _mistype(text: str, rng: random.Random) -> str:
    """One slip in one word of four letters or more."""
    words = list(re.finditer(r"[A-Za-z]{4,}", text))
    if not words:
        return text
    word = rng.choice(words)
    at = rng.randrange(word.start() + 1, word.end() - 1)
    kind = rng.randrange(4)
    if kind == 0:
        return text[:at] + text[at + 1 :]
    if kind == 1:
        return text[:at] + text[at] + text[at:]
    if kind == 2:
        return text[:at] + text[at + 1] + text[at] + text[at + 2 :]
    return text[:at] + rng.choice("aeiorstnl") + text[at + 1 :]
