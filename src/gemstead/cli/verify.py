"""`gemstead verify`: whether a model is whole and sound, check by check, reading every byte once or twice.

One line a check on stdout, progress on stderr; exit code 1 if one failed. With --json one object.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import click

import gemstead
from gemstead.cli.names import DEFAULT_MODEL, check_model, path_of
from gemstead.cli.progress import counter
from gemstead.cli.screen import Screen, plain
from gemstead.cli.show import amount, count, size, template_line
from gemstead.errors import GemsteadError
from gemstead.hub.examine import examine
from gemstead.hub.verify import FileCheck, check_files, local_model
from gemstead.spec.model import ModelSpec
from gemstead.spec.tensors import is_ignorable
from gemstead.text.template import recognise
from gemstead.weights.soundness import faulty_values
from gemstead.weights.store import Store, open_store

OK, NOTE, FAULT = "ok", "note", "fault"

EPILOG = (
    "Checked are: all files and parts are there; their SHA-256, where gemstead's manifest or the cache they "
    "lie in says it; every tensor the model needs, none that it does not know, all of the right shape; every "
    "value finite; the vocabulary; the chat template; and that the model computes. A note is no failure."
)


@dataclass(frozen=True)
class Check:
    """One thing that was looked at; `state` is ok, note or fault."""

    name: str
    state: str
    text: str


@click.command(epilog=EPILOG)
@click.argument("model", default=DEFAULT_MODEL)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.pass_context
def verify(context: click.Context, model: str, as_json: bool) -> None:
    """Check that a model is whole and sound.

    MODEL is a name such as e2b, a GGUF file, a Hugging Face folder, or pebble. All of it is read, so a large
    model takes a while. Exit code 0: nothing is wrong; 1: something is.
    """
    screen = Screen()
    name = check_model(model)
    path = path_of(name)
    found: list[Check] = []
    for check in checks(path, screen):
        screen.erase_live()
        found.append(check)
        if not as_json:
            click.echo("\n".join(plain(line) for line in line_of(check).split("\n")))
    is_sound = all(check.state != FAULT for check in found)
    if as_json:
        whole = {"path": str(path), "sound": is_sound, "checks": [asdict(check) for check in found]}
        click.echo(json.dumps(whole, ensure_ascii=False))
    else:
        click.echo(f"{plain(str(path))} is {'sound' if is_sound else 'NOT sound'}")
    context.exit(0 if is_sound else 1)


def line_of(check: Check) -> str:
    """'  ok     values    all 129 tensors ...'; what has several lines keeps them below each other."""
    return f"  {check.state:7}{check.name:12}" + check.text.replace("\n", "\n" + " " * 21)


def checks(path: Path, screen: Screen) -> Iterator[Check]:
    """Every check in order; what needs an opened model is left out where it does not open."""
    yield hashes(path, screen)
    try:
        store = open_store(path)
    except GemsteadError as error:
        yield Check("tensors", FAULT, str(error))
        return
    with store:
        yield tensors(store)
        yield values(store, screen)
        yield template(store)
        yield vocabulary(store)
    if isinstance(store.spec, ModelSpec):
        yield computes(path)


def hashes(path: Path, screen: Screen) -> Check:
    """All files there, and the ones they should be."""
    model = local_model(path)
    facts = model.facts if model is not None else examine(path)
    if facts is None:
        return Check("files", FAULT, f"{path} is no Gemma 4 that gemstead reads")
    if facts.fault is not None:
        return Check("files", FAULT, facts.fault)
    manifest = model.manifest if model is not None else None
    try:
        found = check_files(facts.files, manifest, counter(facts.bytes, screen, "read"))
    except GemsteadError as error:
        return Check("files", FAULT, str(error))
    faults = [f"{check.path} {check.fault}" for check in found if check.fault is not None]
    if faults:
        return Check("files", FAULT, "\n".join(faults))
    return Check("files", *told(found))


def told(found: list[FileCheck]) -> tuple[str, str]:
    """What the hashes of sound files say."""
    checked = sum(check.expected is not None for check in found)
    number = f"{len(found)} file{'s' * (len(found) > 1)}"
    if checked:
        rest = "" if checked == len(found) else f"; nobody says the hash of the other {len(found) - checked}"
        return OK, f"{checked} of {number} {'has' if checked == 1 else 'have'} the SHA-256 it should{rest}"
    shown = "\n".join(f"{check.sha256}  {Path(check.path).name}" for check in found[:8])
    return NOTE, f"{number}, and nobody here says which SHA-256 is right; compare yourself:\n{shown}"


def tensors(store: Store) -> Check:
    """That it opened says that nothing is missing, unknown or misshapen."""
    other = [name for name in store.source.tensors if is_ignorable(name, store.spec)]
    used = f"{len(store.tensors):,} tensors, {amount(sum(map(count, store.tensors.values())))} values"
    beside = f"; {len(other):,} more that the text model does not read" if other else ""
    return Check("tensors", OK, f"{used}: none missing, all of the right shape{beside}")


def values(store: Store, screen: Screen) -> Check:
    """Every value looked at."""
    faults = faulty_values(store, counter(store.total_bytes, screen, "read"))
    if faults:
        return Check("values", FAULT, "\n".join(faults[:20] + ["..."] * (len(faults) > 20)))
    return Check("values", OK, f"all finite ({size(store.total_bytes)} read)")


def template(store: Store) -> Check:
    """Which generation of Google's chat template it carries."""
    known = store.chat_template is not None and recognise(store.chat_template).known
    return Check("template", OK if known else NOTE, template_line(store).removeprefix("warning: "))


def vocabulary(store: Store) -> Check:
    """Whether text can be turned into tokens."""
    if store.has_tokenizer:
        return Check("vocabulary", OK, f"{store.spec.vocab_size:,} tokens")
    if isinstance(store.spec, ModelSpec):
        return Check("vocabulary", FAULT, "none: the model works on token ids only; fetch tokenizer.json too")
    return Check("vocabulary", OK, "none, and a drafter needs none")


def computes(path: Path) -> Check:
    """Opened for computing, one token long."""
    try:
        with gemstead.open(path, context=64) as model:
            bos = model.spec.tokens.bos
            scores = model.logits([bos])
            if model.store.has_tokenizer:
                model.tokenizer.encode("Hello")
    except (GemsteadError, MemoryError) as error:
        return Check("computes", FAULT, str(error) or "not enough memory")
    is_finite = bool((abs(scores) < float("inf")).all())
    return Check("computes", OK if is_finite else FAULT, "finite scores" if is_finite else "scores are NaN")
