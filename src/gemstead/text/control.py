"""The control tokens of Gemma 4: their exact texts, and their ids in one vocabulary.

Only names and strings live here. Finding the ids in a vocabulary is tokenizer.py; writing the
tokens is template.py; reading them back is parser.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

PAD = "<pad>"
EOS = "<eos>"
BOS = "<bos>"
UNK = "<unk>"
MASK = "<mask>"
TOOL_OPEN, TOOL_CLOSE = "<|tool>", "<tool|>"
CALL_OPEN, CALL_CLOSE = "<|tool_call>", "<tool_call|>"
RESPONSE_OPEN, RESPONSE_CLOSE = "<|tool_response>", "<tool_response|>"
QUOTE = '<|"|>'
THINK = "<|think|>"
CHANNEL_OPEN, CHANNEL_CLOSE = "<|channel>", "<channel|>"
TURN_OPEN, TURN_CLOSE = "<|turn>", "<turn|>"
IMAGE_OPEN, IMAGE, IMAGE_CLOSE = "<|image>", "<|image|>", "<image|>"
AUDIO_OPEN, AUDIO, AUDIO_CLOSE = "<|audio>", "<|audio|>", "<audio|>"
VIDEO = "<|video|>"


@dataclass(frozen=True, slots=True)
class ControlIds:
    """The id of every control token in one vocabulary; None where the vocabulary lacks it."""

    pad: int | None = None
    eos: int | None = None
    bos: int | None = None
    unk: int | None = None
    mask: int | None = None
    tool_open: int | None = None
    tool_close: int | None = None
    call_open: int | None = None
    call_close: int | None = None
    response_open: int | None = None
    response_close: int | None = None
    quote: int | None = None
    think: int | None = None
    channel_open: int | None = None
    channel_close: int | None = None
    turn_open: int | None = None
    turn_close: int | None = None
    image_open: int | None = None
    image: int | None = None
    image_close: int | None = None
    audio_open: int | None = None
    audio: int | None = None
    audio_close: int | None = None
    video: int | None = None

    @classmethod
    def of(cls, ids: Mapping[str, int]) -> ControlIds:
        """Look the control tokens up among `ids`, which maps texts of special tokens to ids."""
        return cls(**{name: ids.get(text) for name, text in CONTROL_TEXTS.items()})


LOW_IDS: Mapping[int, str] = {
    **dict(enumerate((PAD, EOS, BOS, UNK, MASK))),
    46: TOOL_OPEN,
    47: TOOL_CLOSE,
    48: CALL_OPEN,
    49: CALL_CLOSE,
    50: RESPONSE_OPEN,
    51: RESPONSE_CLOSE,
    52: QUOTE,
    98: THINK,
    100: CHANNEL_OPEN,
    101: CHANNEL_CLOSE,
    105: TURN_OPEN,
    106: TURN_CLOSE,
}
"""Where Gemma 4's own vocabulary has its control tokens, the media ones apart: for who makes another one."""

CONTROL_TEXTS: Mapping[str, str] = {f.name: globals()[f.name.upper()] for f in fields(ControlIds)}
