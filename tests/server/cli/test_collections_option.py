"""`patches-server --collections`: where the server of collections comes from."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from patches_server.cli.main import main

MODULE = """
from patches.algorithms.collections import Collections
from patches_server.collections import CollectionsServer, SQLiteEngine

server = CollectionsServer(Collections("empty"), engine=SQLiteEngine())
nothing = None
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    (tmp_path / "some_board.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    yield "some_board"
    sys.modules.pop("some_board", None)


@pytest.mark.parametrize(
    ("choice", "said"),
    [
        ("some_board", "takes MODULE:NAME"),
        ("nowhere_at_all:server", "No module named"),
        ("some_board:other", "has no attribute 'other'"),
        ("some_board:nothing", "expected a patches_server.collections.CollectionsServer"),
    ],
)
def test_what_is_no_server_of_collections_is_said_in_one_line(
    module: str, choice: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--store", "memory:", "--collections", choice]) == 1
    assert said in capsys.readouterr().err


def test_a_route_to_collections_needs_the_server(
    module: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--store", "memory:", "--route", "board/*=collections"]) == 1
    assert "no algorithm 'collections'" in capsys.readouterr().err
