"""A rendered prompt: control tokens and plain text kept apart until they are token ids.

Because a piece is either a control token or text that is encoded without specials, no text of a
user, a tool or a document can become a control token. template.py writes prompts; session.py and
training read them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from gemstead.errors import ConfigError
from gemstead.text.control import AUDIO, CHANNEL_OPEN, IMAGE, QUOTE, VIDEO
from gemstead.text.tokenizer import SPACE, Tokenizer
from gemstead.types import MediaPart

PLACEHOLDERS = {"image": IMAGE, "audio": AUDIO, "video": VIDEO}


class Piece(NamedTuple):
    """A control token, or a run of text; `learned` where the model itself must write it."""

    text: str
    is_control: bool
    learned: bool = False


@dataclass(frozen=True, slots=True)
class MediaSlot:
    """Where a media part's placeholder stands: the index of its piece, and what to put there."""

    piece: int
    part: MediaPart


@dataclass(frozen=True, slots=True)
class Prompt:
    """What render() returns. `opens_thought`: the model's output begins inside a thought."""

    pieces: tuple[Piece, ...]
    media: tuple[MediaSlot, ...] = ()
    opens_thought: bool = False

    @property
    def text(self) -> str:
        """The rendered string, as a Jinja template would print it."""
        return "".join(piece.text for piece in self.pieces)

    def encode(self, tokenizer: Tokenizer) -> list[int]:
        """Token ids, BOS once at the start; each media part is still its one placeholder id."""
        return self.encode_with_mask(tokenizer)[0]

    def encode_with_mask(self, tokenizer: Tokenizer) -> tuple[list[int], list[bool]]:
        """Token ids and, for each, whether the model must learn to write it (the loss mask).

        True for thoughts, calls, the stop token after calls, answers and the closing of the
        model's turns; False for headers, everybody else's text, tool results, and a thought
        opening that the template itself supplies after a tool result.
        """
        ids: list[int] = []
        mask: list[bool] = []
        run: list[Piece] = []
        for piece in self.pieces:
            if not piece.is_control:
                run.append(piece)
                continue
            _encode_run(run, tokenizer, ids, mask)
            run = []
            token_id = tokenizer.id_of(piece.text)
            if token_id is None or not tokenizer.is_special(token_id):
                raise ConfigError(
                    f"cannot encode the prompt: the vocabulary has no control token {piece.text}"
                )
            ids.append(token_id)
            mask.append(piece.learned)
        _encode_run(run, tokenizer, ids, mask)
        return ids, mask

    def media_positions(self, tokenizer: Tokenizer) -> list[int]:
        """Index in encode()'s ids of each media slot's placeholder, in order."""
        wanted = {slot.piece for slot in self.media}
        positions, count, run = [], 0, ""
        for index, piece in enumerate(self.pieces):
            if not piece.is_control:
                run += piece.text
                continue
            count += len(tokenizer.encode(run))
            run = ""
            if index in wanted:
                positions.append(count)
            count += 1
        return positions


class PromptWriter:
    """Collects the pieces of a prompt in order."""

    def __init__(self) -> None:
        self._pieces: list[Piece] = []
        self._media: list[MediaSlot] = []

    def control(self, token: str, *, learned: bool = False) -> None:
        """One control token."""
        self._pieces.append(Piece(token, True, learned))

    def text(self, text: str, *, learned: bool = False) -> None:
        """A run of plain text; nothing in it is ever read as a control token."""
        if text:
            self._pieces.append(Piece(text, False, learned))

    def quoted(self, text: str, *, learned: bool = False) -> None:
        """A string of the tool language: raw text between two delimiter tokens."""
        self.control(QUOTE, learned=learned)
        self.text(text, learned=learned)
        self.control(QUOTE, learned=learned)

    def media(self, part: MediaPart) -> None:
        """The placeholder of an image, a sound or a video."""
        self._media.append(MediaSlot(len(self._pieces), part))
        self.control(PLACEHOLDERS[part.kind])

    def finish(self) -> Prompt:
        """The prompt written so far."""
        last = [piece.text for piece in self._pieces if piece.is_control][-1:]
        return Prompt(tuple(self._pieces), tuple(self._media), opens_thought=last == [CHANNEL_OPEN])


def _encode_run(run: list[Piece], tokenizer: Tokenizer, ids: list[int], mask: list[bool]) -> None:
    """Encode adjacent text pieces as one string, as if they had never been apart.

    A token belongs to the piece in which its first byte lies.
    """
    if not run:
        return
    new = tokenizer.encode("".join(piece.text for piece in run))
    ids += new
    if len({piece.learned for piece in run}) == 1:
        mask += [run[0].learned] * len(new)
        return
    learned_at = b"".join(
        (b"\1" if piece.learned else b"\0") * len(piece.text.replace(SPACE, " ").encode()) for piece in run
    )
    at = 0
    for token_id in new:
        mask.append(bool(learned_at[at]))
        at += len(tokenizer.token_bytes(token_id))
