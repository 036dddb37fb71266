"""The size budget of design.md, at its hard limits; raising one needs an ADR."""

from __future__ import annotations

import ast

FILE_LINES = 500
FUNCTION_LINES = 60
PARAMETERS = 8
MORE_PARAMETERS = {("src/gemstead/model.py", "open"): 9}  # ADR 0010
EXAMPLE_LINES = 40
HEADER_LINES = {"native/include/gemstead.h": 200}


def long_files(modules) -> list[str]:
    """Files over their budget; examples are short by rule."""
    found = []
    for module in modules:
        budget = EXAMPLE_LINES if module.path.startswith("examples/") else FILE_LINES
        if module.num_lines > budget:
            found.append(f"{module.path}: {module.num_lines} lines, the budget is {budget}")
    return found


def functions(module):
    return [x for x in ast.walk(module.tree) if isinstance(x, ast.FunctionDef | ast.AsyncFunctionDef)]


def body_lines(function) -> int:
    """Lines from `def` to the end, without the docstring."""
    lines = function.end_lineno - function.lineno + 1
    first = function.body[0]
    if ast.get_docstring(function) is not None:
        lines -= first.end_lineno - first.lineno + 1
    return lines


def long_functions(modules) -> list[str]:
    return [
        f"{module.path}:{function.lineno}: {function.name} has {body_lines(function)} lines, "
        f"the budget is {FUNCTION_LINES}"
        for module in modules
        for function in functions(module)
        if body_lines(function) > FUNCTION_LINES
    ]


def wide_functions(modules) -> list[str]:
    """Functions with too many parameters; self and cls do not count."""
    found = []
    for module in modules:
        for function in functions(module):
            args = function.args
            names = [a.arg for a in (*args.posonlyargs, *args.args, *args.kwonlyargs)]
            names += [a.arg for a in (args.vararg, args.kwarg) if a is not None]
            count = len([name for name in names if name not in ("self", "cls")])
            if count > MORE_PARAMETERS.get((module.path, function.name), PARAMETERS):
                found.append(
                    f"{module.path}:{function.lineno}: {function.name} takes {count} parameters, "
                    f"the budget is {PARAMETERS}"
                )
    return found


def test_files_keep_their_budget(everything, expect_none):
    expect_none(long_files(everything))


def test_functions_keep_their_budget(everything, expect_none):
    expect_none(long_functions(everything))


def test_parameters_keep_their_budget(everything, expect_none):
    expect_none(wide_functions(everything))


def test_headers_keep_their_budget(root):
    for path, budget in HEADER_LINES.items():
        header = root / path
        if header.exists():
            assert len(header.read_text(encoding="utf-8").splitlines()) <= budget, path


def test_long_file_is_found(plant):
    modules = plant({"src/gemstead/a.py": "x = 1\n" * 501, "src/gemstead/b.py": "x = 1\n" * 500})
    assert len(long_files(modules)) == 1
    assert len(long_files(plant({"examples/a.py": "x = 1\n" * 41}))) == 1


def test_long_function_is_found(plant):
    body = "    x = 1\n"
    docstring = '    """' + "text\n" * 40 + '"""\n'
    modules = plant(
        {
            "src/gemstead/a.py": "def long():\n" + body * 60,
            "src/gemstead/b.py": "def fits():\n" + docstring + body * 59,
            "src/gemstead/c.py": "class C:\n    async def long(self):\n" + ("    " + body) * 60,
        }
    )
    assert [text.split(":")[0][-4:] for text in long_functions(modules)] == ["a.py", "c.py"]


def test_wide_function_is_found(plant):
    modules = plant(
        {
            "src/gemstead/a.py": "def f(a, b, c, d, e, f, g, h, *, i): ...",
            "src/gemstead/b.py": "class C:\n    def f(self, a, b, c, d, *, e, f, g, h): ...",
        }
    )
    assert len(wide_functions(modules)) == 1
