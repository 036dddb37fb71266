"""`gemstead quantize`: a model in another number format, and what that cost each of its tensors.

The table goes to stdout, progress to stderr; with --json stdout is one object. The work itself is
weights/quantize.py.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from gemstead.backend.native.cores import usable_cores
from gemstead.cli.names import check_model, path_of
from gemstead.cli.options import Command, absolute, read_text
from gemstead.cli.progress import counter
from gemstead.cli.screen import Screen, plain
from gemstead.cli.show import group_of, size
from gemstead.engine.importance import Importance, measure_importance
from gemstead.errors import ConfigError, InputError
from gemstead.model import tokenizer_of
from gemstead.spec.model import ModelSpec
from gemstead.text.tokenizer import read_tokenizer_json
from gemstead.text.tokenizer_file import tokenizer_files
from gemstead.weights.mixture import MIXTURES, PLAIN
from gemstead.weights.quantize import Conversion, TensorReport, Texts
from gemstead.weights.store import Store, open_store
from gemstead.weights.vocabulary import Vocabulary

EPILOG = (
    "Formats such as q4_k_m are mixed much as llama.cpp's own quantizer mixes them, and llama.cpp reads the "
    "file too. A calibration text is read by the model once; what its words make large is rounded "
    "with more care. Take text like your own, a few thousand words: the model reads it slowly, in numpy."
)
# Options that name a part of a model, and the tensors they mean.
_PARTS = {"embeddings": "embed_tokens", "ple": "embed_tokens_per_layer", "experts": "*.experts.*"}
_WINDOW = 512  # tokens of calibration text read together
_CALIBRATION_TOKENS = 4096


def _part_option(name: str, what: str) -> Callable[[Command], Command]:
    """The option that chooses another format for one part of the model."""
    return click.option(f"--{name}", metavar="FORMAT", help=f"Another format for the {what}.")


@click.command(epilog=EPILOG)
@click.argument("source", metavar="SRC")
@click.argument("target", metavar="DST", type=click.Path(path_type=Path))
@click.option(
    "--format",
    "mixture",
    required=True,
    type=click.Choice(list(MIXTURES), case_sensitive=False),
    metavar="FORMAT",
    help=f"One of {', '.join(MIXTURES)}.",
)
@_part_option("embeddings", "token embeddings, which are the output head too")
@_part_option("ple", "per-layer embeddings of E2B and E4B")
@_part_option("experts", "experts of 26B-A4B")
@click.option(
    "--tensor",
    "tensors",
    multiple=True,
    metavar="PATTERN=FORMAT",
    help="Another format for tensors by name, such as '*.down_proj=q8_0'; the last that fits wins.",
)
@click.option(
    "--calibration",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Text by which to judge what matters.",
)
@click.option(
    "--calibration-tokens",
    type=click.IntRange(min=1),
    default=_CALIBRATION_TOKENS,
    show_default=True,
    metavar="N",
    help="Read so much of it.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, every tensor included.")
def quantize(source: str, target: Path, mixture: str, as_json: bool, **more: Any) -> None:
    """Write a model in another number format.

    SRC is a name, a GGUF file or a Hugging Face folder; DST a new .gguf file, or for f32, f16 and bf16 also a
    new folder of safetensors. Best made from full precision: what a format has lost does not come back.
    """
    screen = Screen()
    name = check_model(source)
    overrides = [(_PARTS[part], more[part]) for part in _PARTS if more[part] is not None]
    overrides += [_override(text) for text in more["tensors"]]
    with open_store(path_of(name)) as store:
        conversion = Conversion(store, absolute(target), mixture.lower(), overrides)
        for line in warnings(conversion, mixture.lower()):
            screen.say(line)
        texts = texts_of(store, conversion)
        importance = None
        if more["calibration"] is not None:
            importance = calibrate(store, more["calibration"], more["calibration_tokens"], screen)
        seen = counter(conversion.before_bytes, screen, "writing to disk")
        try:
            reports = conversion.run(texts, importance, usable_cores(), seen)
        finally:
            screen.erase_live()
    if as_json:
        click.echo(json.dumps(as_object(target, mixture.lower(), importance, reports), ensure_ascii=False))
    else:
        click.echo("\n".join(plain(line) for line in lines(target, conversion, reports)))


def _override(text: str) -> tuple[str, str]:
    pattern, mark, name = text.rpartition("=")
    if not mark or not pattern or not name:
        raise click.UsageError(
            f"--tensor {text!r} has no PATTERN=FORMAT; write for instance --tensor '*.down_proj=q8_0'",
            click.get_current_context(),
        )
    return pattern, name.lower()


def warnings(conversion: Conversion, mixture: str) -> list[str]:
    """What the person should know before it begins."""
    again = conversion.quantized_before
    if not again:
        return []
    what = f"the source holds {', '.join(again)} already"
    if mixture in PLAIN:
        return [f"warning: {what}; {mixture} makes it larger and brings back nothing that was lost"]
    return [
        f"warning: {what}, and rounding it once more loses more than {mixture} loses of the original; "
        "start from the bf16 or f32 model if you can"
    ]


def texts_of(store: Store, conversion: Conversion) -> Texts:
    """The vocabulary in the form the new container needs, where it needs another."""
    if conversion.needs_vocabulary and store.tokenizer_json is not None:
        tokens, types, merges = read_tokenizer_json(store.tokenizer_json)
        missing = store.spec.vocab_size - len(tokens)
        tokens += [f"<unused_{len(tokens) + i}>" for i in range(missing)]
        types += [5] * missing  # unused; ids the model has rows for and the tokenizer no name
        tokens = [token or f"<hole_{i}>" for i, token in enumerate(tokens)]
        special = {"unknown": tokens.index("<unk>")} if "<unk>" in tokens else {}
        return Texts(Vocabulary(tokens, types, [" ".join(pair) for pair in merges], special=special))
    vocabulary = store.vocabulary() if conversion.needs_tokenizer else None
    if vocabulary is None:
        return Texts()
    return Texts(
        files=tokenizer_files(vocabulary.tokens, vocabulary.types, vocabulary.merges, vocabulary.special)
    )


def calibrate(store: Store, file: Path, most_tokens: int, screen: Screen) -> Importance:
    """What matters to each tensor, from the text in `file`."""
    if not isinstance(store.spec, ModelSpec):
        raise ConfigError(f"{store.path} is a drafter; only a whole model can read a calibration text")
    tokenizer = tokenizer_of(store, store.spec)
    if tokenizer is None:
        raise ConfigError(f"{store.path} holds no vocabulary, so it cannot read a calibration text")
    ids = tokenizer.encode(read_text(file))[:most_tokens]
    if not ids:
        raise InputError(f"the calibration file {file} holds no text")
    step = min(_WINDOW, store.spec.max_position_embeddings) - 1
    bos = store.spec.tokens.bos
    texts = [[bos, *ids[i : i + step]] for i in range(0, len(ids), step)]
    total, done = sum(map(len, texts)), 0
    screen.status(f"reading {total:,} tokens of {file}")

    def seen(count: int) -> None:
        nonlocal done
        done += count
        screen.live(f"{done:,} of {total:,} tokens read")

    try:
        return measure_importance(store, texts, usable_cores(), seen)
    finally:
        screen.erase_live()


def as_object(
    target: Path, mixture: str, importance: Importance | None, reports: Sequence[TensorReport]
) -> dict[str, Any]:
    """Everything, for --json."""
    return {
        "path": str(target),
        "format": mixture,
        "calibrated": importance is not None,
        "before_bytes": sum(report.before_bytes for report in reports),
        "after_bytes": sum(report.after_bytes for report in reports),
        "tensors": [asdict(report) for report in reports],
    }


def lines(target: Path, conversion: Conversion, reports: Sequence[TensorReport]) -> list[str]:
    """The report for people: a line for each group of tensors, with the one that lost most."""
    groups: dict[str, list[TensorReport]] = {}
    for report in reports:
        groups.setdefault(group_of(report.name), []).append(report)
    shown = [f"  {'':22}{'tensors':>8}{'before':>10}{'after':>10}{'error':>8}  formats"]
    for name, found in groups.items():
        error = max(report.relative_rmse for report in found)
        worst = max(found, key=lambda report: report.relative_rmse)
        formats = ", ".join(dict.fromkeys(report.after for report in found))
        before = size(sum(report.before_bytes for report in found))
        after = size(sum(report.after_bytes for report in found))
        shown.append(
            f"  {name:22}{len(found):>8}{before:>10}{after:>10}{percent(error):>8}  {formats}"
            + (f"; most in {worst.name}" if error and len(found) > 1 else "")
        )
    total = f"{size(conversion.before_bytes)} became {size(conversion.after_bytes)}"
    return [
        f"{target}: {total}",
        "",
        *shown,
        "",
        "  error: root mean square of what rounding changed, over that of the values; the group's largest",
    ]


def percent(part: float) -> str:
    """8.6%, 0.04%, or nothing for 0."""
    if part == 0:
        return "none"
    return f"{100 * part:.1f}%" if part >= 0.001 else f"{100 * part:.3f}%"
