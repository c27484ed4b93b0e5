"""The register of rows and tests (`README.md`) names tests that there are, and every row."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
REGISTER = (HERE / "README.md").read_text(encoding="utf-8")
ROWS = re.compile(r"^\| ([PT]\d+) \| (.+) \|$", re.MULTILINE)


@cache
def functions_of(name: str) -> frozenset[str]:
    folder = ROOT / "patches" if name.startswith("testing/contracts/") else ROOT / "tests"
    tree = ast.parse((folder / name).read_text(encoding="utf-8"))
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, functions))


def named() -> list[tuple[str, str]]:
    """Every `(file, test)` of the register."""
    found, file = [], ""
    for name in re.findall(r"`([\w/]+\.py|test_\w+)`", REGISTER.split("## Promises")[1]):
        if name.endswith(".py"):
            file = name
        else:
            found.append((file, name))
    return found


def test_every_test_that_is_named_exists() -> None:
    assert len(named()) > 120
    assert [f"{file}: {test}" for file, test in named() if test not in functions_of(file)] == []


def test_every_row_has_a_test() -> None:
    rows = dict(ROWS.findall(REGISTER))
    wanted = [f"P{n}" for n in range(1, 14)] + [f"T{n}" for n in range(1, 46) if n != 42]
    assert list(rows) == wanted
    assert all("`test_" in tests for tests in rows.values())


def test_a_test_with_a_number_in_its_name_is_in_that_row() -> None:
    rows = dict(ROWS.findall(REGISTER))
    for file in HERE.glob("test_*.py"):
        for test in functions_of(f"security/{file.name}"):
            for number in re.findall(r"(?<=_)t(\d\d)(?=_)", test):
                assert f"`{test}`" in rows[f"T{int(number)}"], test
