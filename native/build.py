"""Builds the native core with the system's C++ compiler: one list of sources, one set of flags.

Standard library only, for it also runs inside `pip install`. Objects are kept by content, so a
second build compiles only what changed. Refuses nothing silently: a compiler's complaint is printed.

    python native/build.py library         # into src/, where the package looks for it
    python native/build.py test            # build and run its tests
    python native/build.py test --sanitize address,undefined
    python native/build.py test --emulate avx512    # on AVX2, by SIMDe
    python native/build.py test --arm               # cross-compiled, by QEMU

The last two end with status 77, and name the packages, where their tools are not installed.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
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
# SIMDe wants AVX2 for the whole file; it is slow to compile, and its speed means nothing.
EMULATED = ["-DGS_EMULATED_AVX512"]
SIMDE_FLAGS = ["-mavx2", "-mfma", "-mf16c", "-mbmi2", "-O1", "-Wno-psabi"]
SIMDE_FLAGS += ["-include", str(NATIVE / "tests/emulated_avx512.h")]
ARM_COMPILER = "aarch64-linux-gnu-g++"
# QEMU's processors and what the kernels must find on them: Raspberry Pi 3, Raspberry Pi 5, all there is.
ARM_PROCESSORS = {"cortex-a53": "neon", "cortex-a76": "dotprod", "max": "i8mm"}
SKIPPED = 77


def compiler() -> list[str]:
    """$CXX, or c++."""
    return shlex.split(os.environ.get("CXX", "c++"))


@dataclass(frozen=True)
class Toolchain:
    """What compiles and links: a compiler, flags beyond FLAGS, and whether AVX-512 is emulated."""

    compiler: list[str]
    extra: list[str]
    emulated: bool = False

    def flags(self, source: Path) -> list[str]:
        """All flags a source is compiled with."""
        own = {"scalar.cpp": SCALAR_FLAGS}
        if self.emulated:
            own |= {"avx512.cpp": [*EMULATED, *SIMDE_FLAGS], "isa.cpp": EMULATED}
        return [*FLAGS, *self.extra, *own.get(source.name, [])]


def sources(*folders: str) -> list[Path]:
    """The .cpp files below these folders of native/, sorted."""
    return sorted(file for folder in folders for file in (NATIVE / folder).rglob("*.cpp"))


def compile_one(tools: Toolchain, source: Path, objects: Path) -> Path:
    """The object file of a source, compiled unless it is there already."""
    command = [*tools.compiler, *tools.flags(source)]
    digest = hashlib.blake2b(repr(command).encode(), digest_size=12)
    included = [source.with_name("neon.cpp")] if source.name in ("dotprod.cpp", "i8mm.cpp") else []
    for file in [source, *included, *sorted(NATIVE.rglob("*.h"))]:
        digest.update(file.read_bytes())
    name = f"{source.parent.name}-{source.stem}-{digest.hexdigest()}.o"
    target = objects / name
    if not target.exists():
        temporary = target.with_suffix(f".{os.getpid()}.tmp")
        subprocess.run([*command, "-c", str(source), "-o", str(temporary)], check=True)
        temporary.replace(target)
    return target


def build(tools: Toolchain, files: list[Path], output: Path, objects: Path, link: str = "") -> None:
    """Compile (as many at a time as there are cores), and link with `link` too."""
    objects.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        compiled = list(pool.map(lambda file: compile_one(tools, file, objects), files))
    output.parent.mkdir(parents=True, exist_ok=True)
    temporary = output.with_suffix(f".{os.getpid()}.tmp")
    flags = [*tools.extra, *link.split(), "-pthread"]
    subprocess.run([*tools.compiler, *flags, *map(str, compiled), "-o", str(temporary)], check=True)
    temporary.replace(output)


def library(output: Path, objects: Path) -> None:
    """The shared library the Python package loads."""
    build(Toolchain(compiler(), []), sources("kernels", "src"), output, objects, "-shared")


def run(*command: str | Path) -> int:
    """The exit status of a test."""
    return subprocess.run([str(word) for word in command], check=False).returncode


def runs(flags: list[str], program: Path) -> bool:
    """Whether an empty program built with these flags runs."""
    program.parent.mkdir(parents=True, exist_ok=True)
    command = [*compiler(), *flags, "-x", "c++", "-", "-o", str(program)]
    built = subprocess.run(command, input="int main() {}", text=True, capture_output=True, check=False)
    ran = not built.returncode and not subprocess.run([program], capture_output=True, check=False).returncode
    program.unlink(missing_ok=True)
    return ran


def skip(what: str, why: str) -> int:
    """Say by name what is not tested."""
    print(f"skipped: {what}: {why}")
    return SKIPPED


def test_native(folder: Path, sanitize: str) -> int:
    """The tests, for and on this machine; with sanitizers less optimized, for nothing is timed."""
    mark = f"_{sanitize.replace(',', '_')}" if sanitize else ""
    extra = [f"-fsanitize={sanitize}", "-fno-sanitize-recover=all", "-g", "-O1"] if sanitize else []
    if sanitize and not runs(extra, folder / f"probe{mark}.{os.getpid()}"):
        return skip(f"the core under {sanitize}", "programs built with -fsanitize do not run here")
    failed = 0
    for test in sources("tests"):
        program = folder / f"{test.stem}{mark}"
        files = [*sources("kernels", "src"), test]
        build(Toolchain(compiler(), extra), files, program, folder / "objects")
        failed |= run(program)
    return 1 if failed else 0


def test_emulated(folder: Path) -> int:
    """The AVX-512 kernels by SIMDe; that the real intrinsics compile, every build shows."""
    what = "the AVX-512 kernels"
    if platform.machine() not in ("x86_64", "AMD64"):
        return skip(what, "SIMDe is used on x86-64 only")
    probe = "#if !__has_include(<simde/x86/avx512.h>)\n#error\n#endif\n"
    command = [*compiler(), "-E", "-x", "c++", "-"]
    if subprocess.run(command, input=probe, text=True, capture_output=True, check=False).returncode:
        return skip(what, "SIMDe is not installed (Debian: libsimde-dev)")
    program = folder / "test_kernels_emulated_avx512"
    files = [*sources("kernels"), NATIVE / "tests/test_kernels.cpp"]
    build(Toolchain(compiler(), [], emulated=True), files, program, folder / "objects")
    return run(program, "avx512")


def test_arm(folder: Path) -> int:
    """The NEON kernels on every processor of ARM_PROCESSORS, the model on one that has all of them.

    QEMU's speed says nothing of theirs. test_threads stays out: under QEMU the memory order is this
    machine's, so it would show nothing.
    """
    what = "the NEON kernels"
    if shutil.which(ARM_COMPILER) is None:
        return skip(what, f"{ARM_COMPILER} is not installed (Debian: g++-aarch64-linux-gnu)")
    emulator = shutil.which("qemu-aarch64-static") or shutil.which("qemu-aarch64")
    if emulator is None:
        return skip(what, "qemu-aarch64 is not installed (Debian: qemu-user-static)")
    programs = {test: folder / f"{test}_arm" for test in ("test_kernels", "test_model", "test_choose")}
    for test, program in programs.items():
        files = [*sources("kernels", "src"), NATIVE / f"tests/{test}.cpp"]
        build(Toolchain([ARM_COMPILER], ["-static"]), files, program, folder / "objects")
    failed = 0
    for processor, isa in ARM_PROCESSORS.items():
        print(f"{processor}:", flush=True)
        failed |= run(emulator, "-cpu", processor, programs["test_kernels"], isa)
        failed |= run(emulator, "-cpu", processor, programs["test_choose"])
    failed |= run(emulator, "-cpu", "max", programs["test_model"])
    return 1 if failed else 0


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["test", "library"])
    parser.add_argument("--sanitize", default="", help="such as address,undefined")
    parser.add_argument("--emulate", choices=["avx512"], help="test kernels this machine cannot run")
    parser.add_argument("--arm", action="store_true", help="test the NEON kernels")
    parser.add_argument("--build", type=Path, default=NATIVE.parent / "build/native")
    flags = parser.parse_args()
    if flags.what == "library":
        return library(LIBRARY, flags.build / "objects")
    if flags.emulate:
        sys.exit(test_emulated(flags.build))
    sys.exit(test_arm(flags.build) if flags.arm else test_native(flags.build, flags.sanitize))


if __name__ == "__main__":
    main()
