"""`README.md` beside this file: every row of the race checklist names tests, and they exist."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

TESTS = Path(__file__).parents[1]
README = (Path(__file__).parent / "README.md").read_text("utf-8")
ROWS = [
    row
    for row in README.splitlines()
    if row.startswith("| ") and not re.fullmatch(r"\| \w+ \| (tests|why) \||\| --- \| --- \|", row)
]
NAMES = sorted(set(re.findall(r"`([\w/]+\.py)::(\w+)`", README)))


@cache
def functions_of(path: str) -> set[str]:
    if not (TESTS / path).exists():
        return set()
    tree = ast.parse((TESTS / path).read_text("utf-8"))
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    return {node.name for node in ast.walk(tree) if isinstance(node, functions)}


def test_every_named_test_exists() -> None:
    gone = [f"{path}::{name}" for path, name in NAMES if name not in functions_of(path)]
    assert gone == []
    assert len(NAMES) > 100


def test_every_row_names_a_test_or_says_why_there_is_none() -> None:
    excused = README.split("### Lines that do not apply")[1].split("\n## ")[0].splitlines()
    unshown = [row for row in ROWS if "::" not in row and row not in excused]
    assert unshown == []
    assert len(ROWS) > 150


def test_every_race_test_is_on_the_page() -> None:
    written = {f"{path}::{name}" for path, name in NAMES}
    there = {
        f"sync/{file.name}::{name}"
        for file in Path(__file__).parent.glob("test_races_*.py")
        for name in functions_of(f"sync/{file.name}")
        if name.startswith("test_")
    }
    assert sorted(there - written) == []
