"""The version, what the wheel holds, and what a bare install of it can do."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import zipfile
from importlib.metadata import version
from pathlib import Path

import pytest

import patches
import patches_server
from patches_server.cli.main import main

ROOT = Path(__file__).parent.parent
PYENV = Path.home() / ".pyenv" / "versions"


def test_the_version_is_that_of_the_distribution() -> None:
    assert patches.__version__ == patches_server.__version__ == version("patches-sync")


def test_the_command_names_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"patches-server {patches.__version__}\n"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    run(
        sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check",
        "--no-deps", "--no-build-isolation", "-w", str(folder), str(ROOT),
    )  # fmt: skip
    [built] = folder.glob("*.whl")
    return built


def run(*command: str, cwd: Path | None = None) -> str:
    done = subprocess.run(
        command, cwd=cwd, capture_output=True, text=True, timeout=300, check=False,
        env={name: value for name, value in os.environ.items() if name != "PATCHES_COMPILE"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.long
def test_s67_the_wheel_has_both_packages_and_nothing_else(wheel: Path) -> None:
    in_packages = {
        path.relative_to(ROOT).as_posix()
        for package in ("patches", "patches_server")
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and path.suffix != ".so"
    }
    about = {
        f"patches_sync-{patches.__version__}.dist-info/{name}"
        for name in ("METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE")
    }
    assert set(zipfile.ZipFile(wheel).namelist()) == in_packages | about
    kinds = {Path(name).suffix or Path(name).name for name in in_packages}
    assert kinds <= {".css", ".html", ".js", ".py", ".sql", ".svg", ".ts", ".typed"}
    assert {"patches/py.typed", "patches_server/py.typed"} <= in_packages


def interpreters() -> list[str]:
    """The interpreters of this machine that the package supports; this one is always there."""
    found = {f"{sys.version_info.major}.{sys.version_info.minor}": sys.executable}
    for minor in range(11, 15):
        for program in (shutil.which(f"python3.{minor}"), *PYENV.glob(f"3.{minor}.*/bin/python")):
            if program is not None and f"3.{minor}" not in found:
                asked = [str(program), "-c", "import sys; print(sys.version_info[1])"]
                done = subprocess.run(asked, capture_output=True, text=True, check=False)
                if done.stdout.strip() == str(minor):
                    found[f"3.{minor}"] = str(program)
    return list(found.values())


@pytest.mark.long
@pytest.mark.parametrize("interpreter", interpreters())
def test_s67_a_bare_install_runs_the_first_program_without_a_warning(
    interpreter: str, wheel: Path, tmp_path: Path
) -> None:
    run(interpreter, "-m", "venv", str(tmp_path / "venv"))
    python = str(tmp_path / "venv" / "bin" / "python")
    run(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", str(wheel))
    version = run(python, "-W", "error", "-m", "patches_server", "--version")
    assert version.split() == ["patches-server", patches.__version__]
    assert run(str(Path(python).with_name("patches-server")), "--version") == version
    assert run(str(Path(python).with_name("patches")), "--version").split()[1] == version.split()[1]
    text = (ROOT / "README.md").read_text("utf-8").partition("## The same in one program")[2]
    program = re.search(r"```python\n(.*?)^```", text, re.M | re.S)
    assert program is not None
    (tmp_path / "first.py").write_text(program[1], "utf-8")
    assert "'steps': ['think', 'build']" in run(python, "-W", "error", "first.py", cwd=tmp_path)
