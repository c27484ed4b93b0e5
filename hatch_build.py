"""Build hook: compiles the pure core with mypyc when `PATCHES_COMPILE=1` is set.

Without the variable nothing happens and the wheel is pure Python. `COMPILED` lists what is
compiled: functions of their arguments, in which a program's own time is spent. Coroutines, signals
and records stay interpreted: compiling them gains nothing.

`python hatch_build.py` compiles in place, beside the sources, so that the tests can run on the
compiled modules; `make test-compiled` does that in a copy of the project.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

ROOT = Path(__file__).parent
COMPILED = (
    "patches/json_patch/**/*.py",
    "patches/text/*.py",
    "patches/model/json_values.py",
    "patches/algorithms/ot/edit_runs.py",
    "patches/algorithms/ot/meeting_index.py",
    "patches/algorithms/ot/slots.py",
    "patches/algorithms/ot/walk.py",
)
#: Modules of records, and what takes untyped arguments from users: a compiled `int` takes `True`.
INTERPRETED = frozenset({"__init__.py", "delta.py", "kinds.py", "patch.py", "path_proxy.py"})
#: orjson for its types: without them the compiler takes whatever the base interpreter has.
REQUIREMENTS = ["mypy>=1.13", "setuptools>=70", "orjson>=3.11.6"]

_SETUP = """
import sys
from mypyc.build import mypycify
from setuptools import setup
setup(
    name="patches-core",
    packages=[],
    ext_modules=mypycify(["--ignore-missing-imports", *sys.argv.pop().split(",")], opt_level="3"),
)
"""


class CompileHook(BuildHookInterface[Any]):
    """Adds compiled modules to a wheel, if asked for."""

    PLUGIN_NAME = "custom"

    def dependencies(self) -> list[str]:
        """What compiling needs beside the build backend."""
        return REQUIREMENTS if wanted() else []

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile, and let the wheel carry the results and the platform's tag."""
        if not wanted() or self.target_name != "wheel":
            return
        if version == "editable":
            compile_into(ROOT)
            return
        into = Path(tempfile.mkdtemp(prefix="patches-compiled-"))
        for library in compile_into(into):
            build_data["force_include"][str(library)] = str(library.relative_to(into))
        build_data["pure_python"] = False
        build_data["infer_tag"] = True


def wanted() -> bool:
    """True if the environment asks for a compiled build."""
    return os.environ.get("PATCHES_COMPILE", "") not in ("", "0")


def sources() -> list[str]:
    """The modules to compile, as paths below the project's root."""
    found = (path for pattern in COMPILED for path in sorted(ROOT.glob(pattern)))
    return [str(path.relative_to(ROOT)) for path in found if path.name not in INTERPRETED]


def compile_into(into: Path) -> list[Path]:
    """Compile the pure core below `into`; returns the shared libraries. Raises if mypyc fails."""
    with tempfile.TemporaryDirectory(prefix="patches-mypyc-") as folder:
        work = Path(folder)
        shutil.copytree(ROOT / "patches", work / "patches", ignore=shutil.ignore_patterns("*.so"))
        (work / "setup.py").write_text(_SETUP)
        built = work / "built"
        subprocess.run(
            [
                *(sys.executable, "setup.py", "-q", "build_ext"),
                *("--build-lib", str(built), "--build-temp", str(work / "temp")),
                ",".join(sources()),
            ],
            cwd=work,
            check=True,
        )
        libraries = [path for path in built.rglob("*") if path.suffix in (".so", ".pyd")]
        targets = [into / path.relative_to(built) for path in libraries]
        for path, target in zip(libraries, targets, strict=True):
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, target)
        return targets


if __name__ == "__main__":
    print(f"compiled {len(compile_into(ROOT))} libraries")  # noqa: T201 - a command
