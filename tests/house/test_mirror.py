"""tests/ mirrors src/gemstead/: each test file has its module, each module is tested by name.

A module is tested by a file of its own name, by one of the package that holds it, or, where it is a
small part of another, by any test that imports it. The parts of one backend are tested together.
"""

from __future__ import annotations

import ast
from pathlib import Path, PurePosixPath

# Folders of tests that cut across the package.
CROSS_CUTTING = {
    "parity",
    "golden",
    "fuzz",
    "house",
    "docs",
    "property",
    "recipes",
    "bench",
    "support",
    "clients",
}

# Modules that hold only declarations: their users are their tests.
DECLARATIONS = {"errors", "backend/base", "__main__"}


def stems(path: PurePosixPath) -> set[str]:
    """What a test file may be about: 'weights/test_gguf_hostile' -> weights/gguf, weights/gguf_hostile."""
    words = path.stem.removeprefix("test_").split("_")
    return {str(path.parent / "_".join(words[: n + 1])) for n in range(len(words))}


def source_stems(sources: list[str]) -> set[str]:
    """Modules and packages of the package by path: 'text/parser', 'backend/reference'."""
    found = set()
    for source in sources:
        path = PurePosixPath(source)
        if path.stem != "__init__":
            found.add(str(path.with_suffix("")))
        found |= {str(parent) for parent in path.parents if str(parent) != "."}
    return found


def orphans(sources: list[str], tests: list[str]) -> list[str]:
    """Test files that belong to no module."""
    known = source_stems(sources)
    return [
        f"tests/{test}: there is no src/gemstead module of that name"
        for test in tests
        if PurePosixPath(test).parts[0] not in CROSS_CUTTING and not stems(PurePosixPath(test)) & known
    ]


def untested(sources: list[str], tests: list[str], imported: frozenset[str] = frozenset()) -> list[str]:
    """Modules without a test file of their own or of a package that holds them, and that no test imports."""
    tested = {stem for test in tests for stem in stems(PurePosixPath(test))}
    tested |= {str(PurePosixPath(test).parent) for test in tests if test.startswith("backend/")} - {"backend"}
    found = []
    for source in sources:
        path = PurePosixPath(source).with_suffix("")
        owners = {str(path), *(str(p) for p in path.parents)}
        dotted = "gemstead." + str(path).replace("/", ".")
        if path.name == "__init__" or str(path) in DECLARATIONS or dotted in imported:
            continue
        if not owners & tested:
            found.append(f"src/gemstead/{source}: no test file tests/{path.parent}/test_{path.name}.py")
    return found


def listing(folder: Path, pattern: str) -> list[str]:
    return sorted(file.relative_to(folder).as_posix() for file in folder.rglob(pattern))


def test_every_test_file_has_its_module(root, expect_none):
    expect_none(orphans(listing(root / "src/gemstead", "*.py"), listing(root / "tests", "test_*.py")))


def imported_by(modules) -> frozenset[str]:
    """Every module named in an import of these files, `from a import b` as a and as a.b."""
    found = set()
    for module in modules:
        for node in ast.walk(module.tree):
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return frozenset(found)


def test_every_module_is_tested(root, everything, expect_none):
    imported = imported_by([module for module in everything if module.path.startswith("tests/")])
    sources, tests = listing(root / "src/gemstead", "*.py"), listing(root / "tests", "test_*.py")
    expect_none(untested(sources, tests, imported))


def test_orphan_is_found():
    sources = ["text/parser.py", "backend/reference/forward.py", "session.py"]
    good = [
        "text/test_parser.py",
        "text/test_parser_split.py",
        "backend/test_reference.py",
        "test_session.py",
    ]
    assert orphans(sources, good) == []
    assert orphans(sources, ["text/test_lexer.py", "golden/test_anything.py"]) == [
        "tests/text/test_lexer.py: there is no src/gemstead module of that name"
    ]


def test_untested_module_is_found():
    sources = ["text/parser.py", "text/__init__.py", "backend/reference/forward.py", "errors.py"]
    assert untested(sources, ["text/test_parser.py", "backend/test_reference.py"]) == []
    assert len(untested(sources, ["golden/test_parser.py"])) == 2
    assert len(untested(sources, [], frozenset({"gemstead.text.parser"}))) == 1
