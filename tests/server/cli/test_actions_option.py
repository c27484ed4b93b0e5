"""`patches-server --actions`: where the actions of replay documents come from."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from patches_server.cli.main import main

MODULE = """
from patches.algorithms.replay import Actions
from patches.rows import Schema

actions = Actions(Schema("empty"))
nothing = 5
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    (tmp_path / "some_actions.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    yield "some_actions"
    sys.modules.pop("some_actions", None)


@pytest.mark.parametrize(
    ("choice", "problem"),
    [
        ("some_actions", "takes MODULE:NAME"),
        ("nowhere_at_all:actions", "No module named"),
        ("some_actions:other", "has no attribute 'other'"),
        ("some_actions:nothing", "expected patches.algorithms.replay.Actions"),
    ],
)
def test_what_is_no_actions_is_said_in_one_line(
    module: str, choice: str, problem: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--store", "memory:", "--port", "0", "--actions", choice]) == 1
    error = capsys.readouterr().err
    assert problem in error
    assert error.count("\n") == 1
