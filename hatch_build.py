"""Builds the C++ core inside `pip install`, so that a wheel holds it and fits one kind of machine.

Without a C++ compiler the wheel is pure Python and says so: everything works, slowly. A compiler that
fails is an error. Called by hatchling; native/build.py does the work.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from packaging.tags import sys_tags

ROOT = Path(__file__).resolve().parent


class NativeBuildHook(BuildHookInterface):  # type: ignore[type-arg]
    """Adds libgemstead.so to the wheel. GEMSTEAD_NATIVE=0 leaves it out, =1 insists on it."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile for both kinds of wheel, ordinary and editable."""
        del version
        wish = os.environ.get("GEMSTEAD_NATIVE", "")
        if wish == "0":
            return
        spec = importlib.util.spec_from_file_location("native_build", ROOT / "native/build.py")
        assert spec is not None
        assert spec.loader is not None
        build = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = build  # a dataclass looks its own module up
        spec.loader.exec_module(build)
        if shutil.which(build.compiler()[0]) is None:
            if wish == "1":
                raise RuntimeError(f"GEMSTEAD_NATIVE=1, but there is no C++ compiler {build.compiler()[0]!r}")
            self.app.display_warning(
                f"no C++ compiler {build.compiler()[0]!r} here: gemstead is installed without its fast engine"
            )
            return
        try:
            build.library(build.LIBRARY, ROOT / "build/native/objects")
        except subprocess.CalledProcessError as error:
            raise RuntimeError(
                f"the C++ core did not compile ({error}); a C++20 compiler is needed, such as g++ 11 or "
                "clang 14 ($CXX chooses one); GEMSTEAD_NATIVE=0 installs without the fast engine"
            ) from error
        build_data["artifacts"].append(build.LIBRARY.relative_to(ROOT).as_posix())
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{next(sys_tags()).platform}"
