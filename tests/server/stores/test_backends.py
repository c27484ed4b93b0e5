"""What the stores of one backend do together, in every backend."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from patches.errors import AlgorithmMismatchError
from patches.model.change import ChangeInput
from patches.model.json_values import Op
from patches_server.algorithms import services_on
from patches_server.ot.recent import RecentLogs
from patches_server.ot.server import OTServer
from patches_server.stores.memory import MemoryBackend
from patches_server.stores.sqlite import SqliteBackend


@pytest.fixture(params=["memory", "sqlite"])
async def backend(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Any]:
    made: Any = MemoryBackend()
    if request.param == "sqlite":
        made = SqliteBackend(tmp_path / "server.db")
    yield made
    await made.close()


def change(id: str, base_rev: int, key: str) -> ChangeInput:
    ops: list[Op] = [{"op": "replace", "path": f"/{key}", "value": 1}]
    return ChangeInput(id=id, ops=ops, base_rev=base_rev)


@pytest.mark.parametrize(("owner", "other"), [("ot", "lww"), ("lww", "ot")])
async def test_a_document_is_deleted_by_its_own_algorithm_alone(
    backend: Any, owner: str, other: str
) -> None:
    services = services_on(backend)
    mine, theirs = services[owner].documents, services[other].documents
    await mine.commit_changes("d", [change("c1", 0, "a")])
    with pytest.raises(AlgorithmMismatchError):
        await theirs.delete_doc("d")
    assert (await mine.get_doc("d")).head == 1
    assert await backend.algorithm_of("d") == owner
    assert await backend.get_tombstone("d") is None


async def test_the_end_of_a_log_that_is_at_hand_is_not_trusted(
    backend: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two servers on one store: what the other has written is not at hand here.

    Even if nothing were ever forgotten, the store's transaction checks the head that a decision
    rested on, by revision and change id. So a log that is out of date is no error that shows: it
    costs a second decision.
    """
    monkeypatch.setattr(RecentLogs, "forget", lambda _self, _doc_id: None)
    ours, theirs = OTServer(backend), OTServer(backend)
    for rev in range(0, 12, 3):
        await ours.commit_changes("d", [change(f"a{rev}", rev, f"a{rev}")])
        await theirs.commit_changes("d", [change(f"b{rev}", rev + 1, f"b{rev}")])
        result = await ours.commit_changes("d", [change(f"c{rev}", rev + 1, f"c{rev}")])
        assert [each.id for each in result.changes] == [f"b{rev}", f"c{rev}"]
    found = await ours.get_changes_since("d", 0)
    assert [each.rev for each in found] == list(range(1, 13))
    assert len({each.id for each in found}) == 12
