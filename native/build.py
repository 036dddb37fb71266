"""Builds the native core with the system's C++ compiler: one list of sources, one set of flags.

Standard library only, for it also runs inside `pip install`. Objects are kept by content, so a
second build compiles only what changed. Refuses nothing silently: a compiler's complaint is printed.

    python native/build.py library         # into src/, where the package looks for it
    python native/build.py test            # build and run its tests
    python native/build.py test --sanitize address,undefined
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shlex
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

NATIVE = Path(__file__).resolve().parent
LIBRARY = NATIVE.parent / "src/gemstead/backend/native/libgemstead.so"
FLAGS = [
    "-std=c++20",
    "-O3",
    "-fPIC",
    "-fno-math-errno",
    "-ffp-contract=off",
    "-Wall",
    "-Wextra",
    "-Wno-unknown-pragmas",
]
# The scalar kernels are the definition: the vectorizer has no say in them.
SCALAR_FLAGS = ["-fno-tree-vectorize"]


def compiler() -> list[str]:
    """$CXX, or c++."""
    return shlex.split(os.environ.get("CXX", "c++"))


def sources(*folders: str) -> list[Path]:
    """The .cpp files below these folders of native/, sorted."""
    return sorted(file for folder in folders for file in (NATIVE / folder).rglob("*.cpp"))


def compile_one(source: Path, objects: Path, extra: list[str]) -> Path:
    """The object file of a source, compiled unless it is there already."""
    flags = [*FLAGS, *extra, *(SCALAR_FLAGS if source.name == "scalar.cpp" else [])]
    headers = sorted(p for p in NATIVE.rglob("*.h"))
    digest = hashlib.blake2b(repr([*compiler(), *flags]).encode(), digest_size=12)
    for file in [source, *headers]:
        digest.update(file.read_bytes())
    name = f"{source.parent.name}-{source.stem}-{digest.hexdigest()}.o"
    target = objects / name
    if not target.exists():
        temporary = target.with_suffix(f".{os.getpid()}.tmp")
        subprocess.run([*compiler(), *flags, "-c", str(source), "-o", str(temporary)], check=True)
        temporary.replace(target)
    return target


def build(files: list[Path], output: Path, objects: Path, extra: list[str], link: str = "") -> None:
    """Compile (as many at a time as there are cores) with `extra`, and link with `link` too."""
    objects.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        compiled = list(pool.map(lambda file: compile_one(file, objects, extra), files))
    output.parent.mkdir(parents=True, exist_ok=True)
    temporary = output.with_suffix(f".{os.getpid()}.tmp")
    flags = [*extra, *link.split(), "-pthread"]
    subprocess.run([*compiler(), *flags, *map(str, compiled), "-o", str(temporary)], check=True)
    temporary.replace(output)


def library(output: Path, objects: Path) -> None:
    """The shared library the Python package loads."""
    build(sources("kernels", "src"), output, objects, [], "-shared")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["test", "library"])
    parser.add_argument("--sanitize", default="", help="such as address,undefined")
    parser.add_argument("--build", type=Path, default=NATIVE.parent / "build/native")
    flags = parser.parse_args()
    if flags.what == "library":
        return library(LIBRARY, flags.build / "objects")
    extra = [f"-fsanitize={flags.sanitize}", "-fno-sanitize-recover=all", "-g"] if flags.sanitize else []
    mark = f"_{flags.sanitize.replace(',', '_')}" if flags.sanitize else ""
    failed = 0
    for test in sources("tests"):
        program = flags.build / f"{test.stem}{mark}"
        build([*sources("kernels", "src"), test], program, flags.build / "objects", extra)
        failed |= subprocess.run([str(program)], check=False).returncode
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
