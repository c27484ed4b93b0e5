"""mypy and pyright, both strict, accept the typed examples and report each misuse."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
EXAMPLES = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "examples").glob("typed_*.py"))
REJECTED = "tests/typing/rejected.py"

Reports = set[tuple[str, int]]


def mypy(*files: str) -> Reports:
    """The lines that mypy reports."""
    if shutil.which("mypy", path=str(Path(sys.executable).parent)) is None:
        pytest.skip("mypy is not installed; it comes with the extra `test`")
    # `rejected.py` is excluded from the project's own run, not when it is named
    command = [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", *files]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=500, check=False
    )
    found = re.findall(r"^([^:\n]+):(\d+): error", done.stdout, re.MULTILINE)
    assert done.returncode in (0, 1), done.stdout + done.stderr
    return {(name, int(line)) for name, line in found}


def pyright(*files: str) -> Reports:
    """The lines that pyright reports; basedpyright is pyright with a node of its own."""
    program = Path(sys.executable).parent / "basedpyright"
    if not program.exists():
        pytest.skip("basedpyright is not installed; it comes with the extra `test`")
    config = ROOT / "tests" / "typing" / "pyrightconfig.json"
    command = [str(program), "--project", str(config), "--outputjson"]
    command += ["--pythonpath", sys.executable]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=500, check=False,
        env={**os.environ, "BASEDPYRIGHT_DOCSTUBS": "0"},
    )  # fmt: skip
    assert done.returncode in (0, 1), done.stdout + done.stderr
    return {
        (str(Path(each["file"]).relative_to(ROOT)), each["range"]["start"]["line"] + 1)
        for each in json.loads(done.stdout)["generalDiagnostics"]
        if each["severity"] == "error"
    }


@pytest.mark.parametrize("checker", [mypy, pyright], ids=["mypy", "pyright"])
def test_s01_the_examples_are_accepted_and_each_misuse_is_reported(
    checker: Callable[..., Reports],
) -> None:
    assert len(EXAMPLES) == 4
    lines = (ROOT / REJECTED).read_text().splitlines()
    wrong = {(REJECTED, at) for at, line in enumerate(lines, 1) if line.endswith("# wrong")}
    assert len(wrong) > 15
    assert checker(*EXAMPLES, REJECTED) == wrong
