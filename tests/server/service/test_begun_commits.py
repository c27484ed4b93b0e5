"""Commits that were decided at once and are on their way to disk: what happens until they are."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from patches.limits import Limits
from patches.testing.local_server import LocalServer
from patches_server.stores.sqlite.backend import SqliteBackend
from tests.support.raw_peer import RawPeer

ALGORITHMS = ["ot", "lww"]


class Scene:
    """A server on a file, whose writer can be held up."""

    def __init__(self, path: Path, algorithm: str, **options: Any) -> None:
        self.path, self.doc_id = path, f"{algorithm}/d"
        self.backend = SqliteBackend(path)
        self.server = LocalServer(self.backend, **options)
        self.peers: list[RawPeer] = []

    async def start(self, number: int) -> None:
        await self.server.__aenter__()
        self.peers = [RawPeer(self.server.server.connect()) for _ in range(number)]
        for peer in self.peers:
            await peer.result("subscribe", [self.doc_id, f"{self.doc_id}2"])
        for rev in range(2):  # from the second on, what a commit rests on is at hand
            for doc_id in (self.doc_id, f"{self.doc_id}2"):
                await self.peers[0].result("commitChanges", doc_id, [self.change("first", rev)])
        for peer in self.peers:
            peer.unread()
            peer._unread.clear()

    def change(self, name: str, base_rev: int, path: str | None = None) -> dict[str, Any]:
        op = {"op": "replace", "path": path or f"/{name}", "value": name}
        return {"id": f"{name}{base_rev}", "ops": [op], "baseRev": base_rev}

    async def commit(self, peer: int, name: str, doc_id: str | None = None) -> int:
        changes = [self.change(name, 2)]
        return await self.peers[peer].start("commitChanges", doc_id or self.doc_id, changes)

    async def stored(self, doc_id: str | None = None) -> list[int]:
        """The revisions in which something was stored."""
        result = await self.peers[0].result("getChangesSince", doc_id or self.doc_id, 2)
        if not self.doc_id.startswith("lww"):
            return [change["rev"] for change in result]
        return sorted({op["rev"] for change in result for op in change["ops"]})

    def told(self, peer: int) -> list[int]:
        """The revisions of the broadcasts that a peer has got."""
        got = self.peers[peer].unread("changesCommitted")
        return [frame["params"]["changes"][-1]["rev"] for frame in got]


@pytest.fixture(params=ALGORITHMS)
async def scene(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Scene]:
    scene = Scene(tmp_path / "server.db", request.param)
    await scene.start(6)
    yield scene
    await scene.server.__aexit__(None, None, None)


async def test_commits_of_many_documents_and_of_one_are_one_transaction(scene: Scene) -> None:
    statements: list[str] = []
    database = scene.backend.database
    await database.write(lambda conn: conn.set_trace_callback(statements.append))
    with database._writing:  # the writer waits
        calls = [(peer, await scene.commit(peer, f"a{peer}")) for peer in range(6)]
        other = f"{scene.doc_id}2"
        calls += [(peer, await scene.commit(peer, f"b{peer}", other)) for peer in range(6)]
        await asyncio.sleep(0.02)
        assert scene.told(5) == []
    answers = [await scene.peers[peer].answer(call) for peer, call in calls]
    await database.write(lambda conn: conn.set_trace_callback(None))
    heads = [answer["result"]["changes"][-1]["rev"] for answer in answers]
    assert heads == [*range(3, 9), *range(3, 9)]
    assert await scene.stored() == list(range(3, 9))
    assert statements.count("COMMIT") <= 3, "one that was under way, one, and the last"


async def test_nobody_hears_of_a_commit_before_it_is_on_disk_and_then_in_order(
    scene: Scene,
) -> None:
    with scene.backend.database._writing:
        calls = [(peer, await scene.commit(peer, f"a{peer}")) for peer in range(5)]
        await asyncio.sleep(0.02)
        assert [scene.told(peer) for peer in range(6)] == [[]] * 6
    for peer, call in calls:
        await scene.peers[peer].answer(call)
    assert scene.told(5) == [3, 4, 5, 6, 7]
    for peer in range(5):  # its own is answered where its broadcast would be
        assert scene.told(peer) == [rev for rev in (3, 4, 5, 6, 7) if rev != peer + 3]


async def test_of_a_group_that_fails_every_commit_is_refused_and_can_be_made_again(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = scene.backend.database
    run = database._run_in_savepoint

    def failing(connection: sqlite3.Connection, writes: Any) -> None:
        run(connection, writes)
        monkeypatch.setattr(database, "_run_in_savepoint", run)
        raise sqlite3.OperationalError("disk I/O error")

    with database._writing:
        calls = [(peer, await scene.commit(peer, f"a{peer}")) for peer in range(4)]
        other = await scene.commit(0, "b", f"{scene.doc_id}2")
        monkeypatch.setattr(database, "_run_in_savepoint", failing)
    for peer, call in [*calls, (0, other)]:
        error = (await scene.peers[peer].answer(call))["error"]
        assert (error["code"], error["data"]["reason"]) == (503, "STORAGE")
    assert await scene.stored() == []
    assert [scene.told(peer) for peer in range(6)] == [[]] * 6, "nobody hears of what is not there"
    for peer, _ in calls:  # the head is the old one again, also in memory
        answer = await scene.peers[peer].answer(await scene.commit(peer, f"a{peer}"))
        assert answer["result"]["changes"][-1]["rev"] == peer + 3
    assert await scene.stored() == [3, 4, 5, 6]
    assert scene.told(5) == [3, 4, 5, 6]


async def test_what_another_process_has_written_meanwhile_is_no_loss(scene: Scene) -> None:
    theirs = LocalServer(SqliteBackend(scene.path))
    async with theirs:
        stranger = RawPeer(theirs.server.connect())
        await stranger.result("commitChanges", scene.doc_id, [scene.change("x", 2)])
        with scene.backend.database._writing:
            calls = [(peer, await scene.commit(peer, f"a{peer}")) for peer in range(5)]
        answers = [await scene.peers[peer].answer(call) for peer, call in calls]
    assert sorted(answer["result"]["changes"][-1]["rev"] for answer in answers) == [4, 5, 6, 7, 8]
    assert await scene.stored() == [3, 4, 5, 6, 7, 8]


async def test_a_call_that_comes_after_sees_the_commit(scene: Scene) -> None:
    with scene.backend.database._writing:
        commit = await scene.commit(0, "a")
        read = await scene.peers[0].start("getChangesSince", scene.doc_id, 2)
        again = await scene.peers[0].start("commitChanges", scene.doc_id, [scene.change("b", 3)])
        await asyncio.sleep(0.02)
        assert scene.peers[0].unread() == []
    frames = [await scene.peers[0].next() for _ in range(3)]
    assert [frame["id"] for frame in frames] == [commit, read, again]
    assert [frame["result"] != [] for frame in frames] == [True] * 3
    assert await scene.stored() == [3, 4]


async def test_the_same_commit_sent_again_is_answered_and_not_stored_again(scene: Scene) -> None:
    with scene.backend.database._writing:
        first = await scene.commit(0, "a")
        again = await scene.peers[1].start("commitChanges", scene.doc_id, [scene.change("a", 2)])
        await asyncio.sleep(0.02)
    for peer, call in ((0, first), (1, again)):
        answer = await scene.peers[peer].answer(call)
        assert answer["result"]["changes"][-1]["rev"] == 3
    assert await scene.stored() == [3]


async def test_a_deletion_comes_after_the_commits_before_it(scene: Scene) -> None:
    with scene.backend.database._writing:
        calls = [(peer, await scene.commit(peer, f"a{peer}")) for peer in range(3)]
        deletion = await scene.peers[4].start("deleteDoc", scene.doc_id)
        await asyncio.sleep(0.02)
    for peer, call in calls:
        assert "result" in await scene.peers[peer].answer(call)
    assert "error" not in await scene.peers[4].answer(deletion)
    frames = [frame for frame in scene.peers[5].unread() if "method" in frame]
    assert [frame["method"] for frame in frames] == ["changesCommitted"] * 3 + ["docDeleted"]
    late = await scene.peers[0].error("commitChanges", scene.doc_id, [scene.change("late", 2)])
    assert late["code"] == 410


@pytest.mark.parametrize("algorithm", ALGORITHMS)
async def test_a_commit_that_takes_too_long_is_answered_and_goes_on(
    algorithm: str, tmp_path: Path
) -> None:
    scene = Scene(tmp_path / "server.db", algorithm, limits=Limits(store_timeout_s=0.3))
    await scene.start(2)
    try:
        with scene.backend.database._writing:
            call = await scene.commit(0, "a")
            error = (await scene.peers[0].answer(call))["error"]
            assert (error["code"], error["data"]) == (503, {"reason": "STORAGE"})
        told = await scene.peers[1].notification("changesCommitted")
        assert told["changes"][-1]["rev"] == 3
        assert scene.peers[0].unread() == [], "it is answered once"
        again = await scene.peers[0].answer(await scene.commit(0, "a"))
        assert again["result"]["changes"][-1]["rev"] == 3
    finally:
        await scene.server.__aexit__(None, None, None)


async def test_a_server_that_closes_finishes_what_it_has_begun(tmp_path: Path) -> None:
    scene = Scene(tmp_path / "server.db", "ot")
    await scene.start(2)
    with scene.backend.database._writing:
        call = await scene.commit(0, "a")
        closing = asyncio.create_task(scene.server.server.close())
        await asyncio.sleep(0.02)
        assert not closing.done()
    await closing
    assert (await scene.peers[0].answer(call))["result"]["changes"][-1]["rev"] == 3
    await scene.server.__aexit__(None, None, None)


async def test_one_who_is_gone_has_committed_all_the_same(scene: Scene) -> None:
    with scene.backend.database._writing:
        await scene.commit(0, "a")
        scene.peers[0].session.end()
    told = await scene.peers[1].notification("changesCommitted")
    assert told["changes"][-1]["rev"] == 3


async def test_a_large_commit_is_told_of_before_the_small_one_behind_it(tmp_path: Path) -> None:
    """One goes by a task, the next by a callback: the subscribers hear of them in order."""
    scene = Scene(tmp_path / "server.db", "ot")
    await scene.start(4)
    with scene.backend.database._writing:
        first = await scene.commit(0, "a")
        text = [{**scene.change("long", 2), "metadata": "x" * 5_000}]  # no small frame
        second = await scene.peers[1].start("commitChanges", scene.doc_id, text)
        await asyncio.sleep(0.02)
        third = await scene.commit(2, "b")
        await asyncio.sleep(0.02)
    for peer, call in enumerate((first, second, third)):
        assert (await scene.peers[peer].answer(call))["result"]["changes"][-1]["rev"] == peer + 3
    assert scene.told(3) == [3, 4, 5]
    await scene.server.__aexit__(None, None, None)
