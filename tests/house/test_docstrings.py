"""Every module says what it is for, every public function what its types cannot say."""

from __future__ import annotations

import ast

FUNCTIONS = ast.FunctionDef | ast.AsyncFunctionDef


def silent_modules(modules) -> list[str]:
    """Modules whose docstring is missing or one line long; an __init__ may have one line."""
    found = []
    for module in modules:
        lines = (ast.get_docstring(module.tree) or "").split("\n")
        filled = [line for line in lines if line.strip()]
        if len(filled) < (1 if module.is_package else 2):
            found.append(f"{module.path}: the module docstring has {len(filled)} lines; write two to five")
    return found


def is_overload(function) -> bool:
    names = [ast.unparse(decorator).split(".")[-1] for decorator in function.decorator_list]
    return any(name in ("overload", "override", "setter") for name in names)


def is_torch_forward(node, parent) -> bool:
    """torch.nn.Module.forward: the class already says what is computed."""
    bases = [ast.unparse(base) for base in getattr(parent, "bases", [])]
    return node.name == "forward" and any(base.endswith("Module") for base in bases)


def silent_functions(modules) -> list[str]:
    """Public functions, classes and methods without a docstring."""
    found = []

    def visit(module, parent, prefix: str) -> None:
        for node in parent.body:
            if not isinstance(node, FUNCTIONS | ast.ClassDef) or node.name.startswith("_"):
                continue
            if isinstance(node, FUNCTIONS) and is_overload(node):
                continue
            if ast.get_docstring(node) is None and not is_torch_forward(node, parent):
                found.append(f"{module.path}:{node.lineno}: {prefix}{node.name} has no docstring")
            if isinstance(node, ast.ClassDef):
                visit(module, node, f"{prefix}{node.name}.")

    for module in modules:
        visit(module, module.tree, "")
    return found


def test_every_module_says_what_it_is_for(package, expect_none):
    expect_none(silent_modules(package))


def test_every_public_function_is_explained(package, expect_none):
    expect_none(silent_functions(package))


def test_silent_module_is_found(plant):
    modules = plant(
        {
            "src/gemstead/a.py": '"""One line."""',
            "src/gemstead/b.py": "",
            "src/gemstead/c.py": '"""Two lines.\n\nYes.\n"""',
            "src/gemstead/d/__init__.py": '"""One line."""',
            "src/gemstead/e/__init__.py": "x = 1",
        }
    )
    assert [text.split(":")[0] for text in silent_modules(modules)] == [
        "src/gemstead/a.py",
        "src/gemstead/b.py",
        "src/gemstead/e/__init__.py",
    ]


def test_silent_function_is_found(plant):
    source = '''
        """Doc."""
        def public(): ...
        def _private(): ...
        class Thing:
            """Doc."""
            def method(self): ...
            def __len__(self): ...
            def told(self):
                """Doc."""
        class Layer(nn.Module):
            """Doc."""
            def forward(self, x): ...
        class _Hidden:
            def method(self): ...
    '''
    complaints = silent_functions(plant({"src/gemstead/a.py": source}))
    assert [text.split(": ")[1].split()[0] for text in complaints] == ["public", "Thing.method"]
