"""Whether `gemstead plan` keeps its word where memory is limited: conversations inside real control groups.

For each limit: the verdict of `gemstead plan` in a group of that size, then, in another such group, the
conversation it planned, on a cold disk: a whole context and 32 tokens more. "comfortable" must run; "no"
for memory must not, which means: be killed, or read the weights from the disk again and again. "tight" may.

    python bench/limits.py MODEL.gguf VARIANT:FORMAT LIMIT_MB ... [--context N]

Needs Linux and root. Exit code 1: a verdict was wrong.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from plan_check import CONVERSATION, NEW_TOKENS

from gemstead.weights.packed_file import default_folder

_FOLDER = Path("/sys/fs/cgroup")
# Version 1 and version 2: the folder of groups, the limit, the limit with swap, the most that was used.
_VERSIONS = (
    (_FOLDER / "memory", "memory.limit_in_bytes", "memory.memsw.limit_in_bytes", "memory.max_usage_in_bytes"),
    (_FOLDER, "memory.max", "memory.swap.max", "memory.peak"),
)
# What fits reads a token's rows of tables for each new token. What does not fit reads its weights again.
_MOST_READ_SHARE = 0.05  # of the weights, for each new token


class CannotLimitError(Exception):
    """Why no group can be made here."""


@dataclass(frozen=True)
class Group:
    """A control group whose processes have so much memory, and no swap."""

    folder: Path

    def run(self, words: Sequence[str], environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
        """Run a command in it; -9 where the system killed it."""
        join = ["sh", "-c", 'echo $$ > "$0" && exec "$@"', str(self.folder / "cgroup.procs")]
        return subprocess.run(
            [*join, *words], capture_output=True, text=True, check=False, env=dict(environment)
        )


@contextmanager
def group(limit: int) -> Iterator[Group]:
    """A group of `limit` bytes, removed in the end; CannotLimitError where there can be none."""
    for base, limited, swap, _ in _VERSIONS:
        if not (base / "cgroup.procs").exists():
            continue
        folder = base / f"gemstead-{uuid.uuid4().hex[:8]}"
        try:
            folder.mkdir()
        except OSError as error:
            raise CannotLimitError(f"no control group can be made: {error}") from error
        try:
            try:
                (folder / limited).write_text(str(limit), "ascii")
            except OSError as error:
                raise CannotLimitError(f"the groups here limit no memory: {error}") from error
            with suppress(OSError):  # a machine that does not count swap
                (folder / swap).write_text("0" if swap == "memory.swap.max" else str(limit), "ascii")
            yield Group(folder)
        finally:
            folder.rmdir()
        return
    raise CannotLimitError(f"there are no control groups in {_FOLDER}")


@dataclass(frozen=True)
class Outcome:
    """How a conversation ended in a group: ran, rereads, refused or killed; `figures` where it ended well."""

    ended: str
    about: str
    figures: Mapping[str, float]


def converse(path: Path, context: int, memory: int | None, limit: int, weights: int) -> Outcome:
    """The whole conversation within `limit` bytes; `weights`: the bytes that each new token needs."""
    forget([path, *packed_files()])
    with group(limit) as limited:
        words = [str(path), str(context), str(memory or 0), str(NEW_TOKENS), "1"]
        ran = limited.run([sys.executable, "-c", CONVERSATION, *words], os.environ)
    if ran.returncode == -9:
        return Outcome("killed", "killed by the system", {})
    if ran.returncode:
        return Outcome("refused", ran.stderr.strip().splitlines()[-1], {})
    figures = json.loads(ran.stdout)
    share = figures["read_bytes"] / NEW_TOKENS / weights
    speed = f"{NEW_TOKENS / figures['decode_s']:.1f} tok/s, peak {figures['peak_bytes'] / 1e6:,.0f} MB"
    about = f"{speed}, {100 * share:.1f}% of the weights read from disk a token"
    return Outcome("ran" if share <= _MOST_READ_SHARE else "rereads", about, figures)


def packed_files() -> Iterable[Path]:
    """The rearranged weights that are kept."""
    folder = default_folder()
    return () if folder is None else folder.glob("*.packed")


def forget(paths: Iterable[Path]) -> None:
    """Take the files out of the system's cache: pages in it count for the group that read them first."""
    for path in paths:
        file = os.open(path, os.O_RDONLY)
        os.fsync(file)
        os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(file)


def verdict(variant: str, name: str, context: int, limit: int) -> dict[str, Any]:
    """What `gemstead plan` says of one choice in a group of this size, and `free_bytes` of the machine."""
    words = [sys.executable, "-m", "gemstead", "plan", "--json", "--context", str(context)]
    with group(limit) as limited:
        ran = limited.run(words, os.environ)
    if ran.returncode not in (0, 1) or not ran.stdout:
        raise RuntimeError(f"gemstead plan ended with {ran.returncode} in {limit:,} bytes: {ran.stderr}")
    made = json.loads(ran.stdout)
    chosen: dict[str, Any] = next(
        choice for choice in made["choices"] if (choice["variant"], choice["format"]) == (variant, name)
    )
    return chosen | {"free_bytes": made["machine"]["free_bytes"]}


def is_kept(said: Mapping[str, Any], outcome: Outcome) -> bool:
    """Whether the verdict came true; "tight", and "no" for another reason than memory, promise nothing."""
    if said["verdict"] == "no":
        return said["reason"] != "memory" or outcome.ended != "ran"
    return said["verdict"] == "tight" or outcome.ended == "ran"


def main(argv: Sequence[str] | None = None) -> int:
    """Try every limit; exit code 1 when a verdict was wrong."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path)
    parser.add_argument("shape", metavar="VARIANT:FORMAT")
    parser.add_argument("limits", nargs="+", type=int, metavar="LIMIT_MB", help="millions of bytes")
    parser.add_argument("--context", type=int, default=2048)
    given = parser.parse_args(argv)
    variant, name = given.shape.split(":")
    wrong = 0
    for limit in given.limits:
        said = verdict(variant, name, given.context, limit * 1_000_000)
        weights = said["memory"]["weights"]
        outcome = converse(given.model, given.context, said["memory_option"], limit * 1_000_000, weights)
        kept = is_kept(said, outcome)
        wrong += not kept
        why = f" ({said['why']})" if said["why"] else ""
        print(
            f"{limit:,} MB: {said['verdict']}{why}; {outcome.ended}: {outcome.about}"
            f"{'' if kept else '; WRONG'}",
            flush=True,
        )
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
