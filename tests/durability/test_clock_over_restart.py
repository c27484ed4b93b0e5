"""Server time never runs backwards over a restart (`docs/internals/reliability.md` 1.3)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from patches.model.change import Change, ChangeInput
from patches.runtime import Runtime
from patches_server.algorithms import services_on
from patches_server.stores.sqlite.backend import SqliteBackend

DAY = 86_400_000
NOON = 1_700_000_000_000


async def commit(path: Path, doc_id: str, number: int, *, wall: int) -> Change:
    """A commit by a server that is started for it while the wall clock says `wall`."""
    runtime = Runtime(wall_ms=lambda: wall)
    backend = SqliteBackend(path, runtime=runtime)
    try:
        name = "lww" if doc_id.startswith("lww/") else "ot"
        documents: Any = services_on(backend, runtime=runtime)[name].documents
        op = {"op": "replace", "path": "/a", "value": number}
        change = ChangeInput(id=f"c{number}", ops=[op], base_rev=number - 1)
        await documents.commit_changes(doc_id, [change])
        (last,) = await documents.get_changes_since(doc_id, number - 1)
        assert isinstance(last, Change)
        return last
    finally:
        await backend.close()


@pytest.mark.parametrize("doc_id", ["plan", "lww/board"])
async def test_a_clock_that_was_set_back_does_not_make_commits_older(
    tmp_path: Path, doc_id: str
) -> None:
    path = tmp_path / "server.db"
    first = await commit(path, doc_id, 1, wall=NOON)
    second = await commit(path, doc_id, 2, wall=NOON - DAY)
    third = await commit(path, doc_id, 3, wall=NOON + DAY)
    assert [change.committed_at for change in (first, second, third)] == [NOON, NOON, NOON + DAY]


async def test_a_write_after_the_clock_was_set_back_wins_over_the_one_before(
    tmp_path: Path,
) -> None:
    path = tmp_path / "server.db"
    await commit(path, "lww/board", 1, wall=NOON)
    last = await commit(path, "lww/board", 2, wall=NOON - DAY)
    assert [op["value"] for op in last.ops] == [2]


async def test_the_time_of_one_algorithms_commits_holds_for_the_other(tmp_path: Path) -> None:
    path = tmp_path / "server.db"
    await commit(path, "plan", 1, wall=NOON)
    other = await commit(path, "lww/board", 1, wall=NOON - DAY)
    assert other.committed_at == NOON
