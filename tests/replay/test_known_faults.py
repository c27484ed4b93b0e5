"""Faults that systems of this kind are known for, each with the scene in which it would show.

An action that writes nothing (9), a column set to NULL (10) and an effect that a re-run drops (4)
are among the scenarios; a rollback that loads the whole log is in
`tests/algorithms/replay/test_past.py`. Here is the whole log in one request.
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.algorithms.replay.a_board import a_board
from tests.replay.world import DOC, World


async def test_offline_work_is_sent_in_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with World(tmp_path, a_board(check_purity=False)) as world:
        ann = await world.person("ann", online=False)
        for number in range(1_200):
            ann.doc.run("put_setting@1", id=f"s{number % 20}", value=number)
        sizes: list[int] = []
        commit = world.server.commit_changes

        async def counted(doc_id: str, changes: Any, *rest: Any) -> Any:
            sizes.append(len(changes))
            return await commit(doc_id, changes, *rest)

        monkeypatch.setattr(world.server, "commit_changes", counted)
        await ann.connect()
        assert sum(sizes) == 1_200
        assert max(sizes) <= 500


async def test_who_is_far_behind_fetches_the_rows_and_not_the_log(tmp_path: Path) -> None:
    board = a_board(check_purity=False)
    async with World(tmp_path, board, max_entries=50, retention=timedelta(days=14)) as world:
        ann, bob = await world.person("ann"), await world.person("bob")
        ann.doc.run("put_setting@1", id="s0", value=0)
        await world.all_equal()
        await bob.restart()
        for number in range(300):
            ann.doc.run("put_setting@1", id="s0", value=number)
        await ann.settled()
        assert await world.server.compact(DOC) == 251
        bob.doc.run("put_setting@1", id="s1", value=1)
        await bob.connect()
        await world.all_equal()
        assert {key: row["value"] for key, row in ann.doc.state["settings"].items()} == {
            "s0": 299,
            "s1": 1,
        }
