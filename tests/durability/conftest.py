"""A server's file that tests damage."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TypeAlias

import pytest

from patches.model.change import ChangeInput
from patches.model.json_values import Op
from patches_server.algorithms import services_on
from patches_server.stores.sqlite.backend import SqliteBackend

Damage: TypeAlias = Callable[..., None]


@pytest.fixture
async def path(tmp_path: Path) -> Path:
    """OT documents `plan` (versions at revisions 3 and 6, 8 revisions) and `log` (5 revisions, no
    version), and LWW documents `lww/board` (a version, then one more revision) and `lww/other`."""
    path = tmp_path / "server.db"
    backend = SqliteBackend(path)
    services = services_on(backend)
    ot, lww = services["ot"].documents, services["lww"].documents

    def change(rev: int) -> ChangeInput:
        ops: list[Op] = [{"op": "replace", "path": f"/f{rev}", "value": {"n": rev}}]
        return ChangeInput(id=f"c{rev}", ops=ops, base_rev=rev - 1)

    for rev in range(1, 9):
        await ot.commit_changes("plan", [change(rev)])
        if rev in (3, 6):
            await ot.capture_current_version("plan")
    for rev in range(1, 6):
        await ot.commit_changes("log", [change(rev)])
        await lww.commit_changes("lww/board", [change(rev)])
        await lww.commit_changes("lww/other", [change(rev)])
        if rev == 4:
            await lww.capture_current_version("lww/board")
    await backend.close()
    return path


@pytest.fixture
def damage(path: Path) -> Damage:
    """Runs statements on the file."""

    def run(*statements: str) -> None:
        with closing(sqlite3.connect(path)) as conn, conn:
            for statement in statements:
                conn.execute(statement)

    return run
