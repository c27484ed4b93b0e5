"""The scenarios of recovery: hostile clients, lost and damaged copies, retention, deletion."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from patches.algorithms.replay import Actions, ReplayAlgorithm, ReplayDoc, Tx
from patches.client.patches import Patches
from patches.errors import MissingChangesError, SchemaTooOldError, StatusError
from patches.model.change import Change
from patches.rows import Schema
from patches.runtime import Runtime
from tests.algorithms.replay.a_board import a_board
from tests.replay.world import DOC, Person, World, wait_until


def forged(change_id: str, *, ops: list[Any] | None = None, **metadata: Any) -> dict[str, Any]:
    return {
        "id": change_id,
        "ops": ops or [],
        "baseRev": 0,
        "createdAt": 1_800_000_000_000,
        "kind": "action",
        "action": {"name": "add_todo@1", "args": {"slot": "a", "title": change_id}},
        "clock": [1_800_000_000_000, 0, "forger"],
        **metadata,
    }


async def commit(person: Person, *changes: dict[str, Any]) -> Any:
    return await person.sync.connection.call("commitChanges", DOC, list(changes), {})


@pytest.mark.server_runs
async def test_16_forged_operations_are_not_looked_at(tmp_path: Path) -> None:
    async with World(tmp_path, a_board()) as world:
        ann, eve = await world.person("ann"), await world.person("eve")
        row = {"id": "x", "list_id": "home", "slot": "x", "title": "forged"}
        answer = await commit(
            eve, forged("c1", ops=[{"op": "add", "path": "/todos/x", "value": row}])
        )
        (change,) = answer["changes"]
        assert [op["value"]["title"] for op in change["ops"]] == ["c1"]
        await eve.stop()  # what a socket commits itself it is not told
        world.people.remove(eve)
        await world.all_equal()
        assert ann.titles == ["c1"]


@pytest.mark.server_runs
async def test_17_author_and_clock_are_those_of_who_is_signed_in(tmp_path: Path) -> None:
    async with World(tmp_path, a_board()) as world:
        ann, eve = await world.person("ann"), await world.person("eve")
        ann.doc.run("nothing@1")
        await ann.settled()
        (first,) = await world.server.get_changes_since(DOC, 0)
        answer = await commit(eve, forged("c1", author="ann", error="x", failed=[{"id": "y"}]))
        change = answer["changes"][-1]
        assert change["author"] == "eve"
        assert "error" not in change
        assert "failed" not in change
        stolen = [1_800_000_000_001, 0, first.metadata["clock"][2]]
        with pytest.raises(StatusError, match="another user") as caught:
            await commit(eve, forged("c2", clock=stolen))
        assert (caught.value.code, caught.value.change_id) == (403, "c2")
        assert await world.rev() == 2


@pytest.mark.server_runs
@pytest.mark.parametrize(
    ("bad", "problem"),
    [
        ({"kind": "sync"}, "expected an action"),
        ({"kind": None}, "expected an action"),
        ({"action": None}, "expected {name, args}"),
        ({"action": {"name": "add_todo@1"}}, "expected {name, args}"),
        ({"action": {"name": "add_todo@1", "args": {}}}, "needs the argument"),
        ({"action": {"name": "add_todo@1", "args": {"slot": 1, "title": ""}}}, "expected a string"),
        ({"clock": [1]}, r"expected \[ms, n, client\]"),
        ({"clock": [1_800_000_061_000, 0, "a"]}, "ahead of the server"),
    ],
    ids=str,
)
async def test_what_is_malformed_is_refused_and_nothing_is_stored(
    tmp_path: Path, bad: dict[str, Any], problem: str
) -> None:
    async with World(tmp_path, a_board()) as world:
        eve = await world.person("eve")
        with pytest.raises(StatusError, match=problem) as caught:
            await commit(eve, forged("good"), forged("bad", **bad))
        assert (caught.value.code, caught.value.scope) == (400, "change")
        assert caught.value.change_id == "bad"
        assert await world.rev() == 1


@pytest.mark.server_runs
async def test_an_action_that_takes_too_long_is_refused(tmp_path: Path) -> None:
    actions = a_board(check_purity=False)

    @actions.define("endless")
    def endless(tx: Tx, *, rounds: int) -> None:
        tx.sql(
            "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < ?) "
            "SELECT count(*) FROM c",
            rounds,
        )

    async with World(tmp_path, actions, max_action_s=0.05) as world:
        ann = await world.person("ann")
        with pytest.raises(StatusError, match="not done within its time") as caught:
            await commit(
                ann,
                forged("good"),
                forged("slow", action={"name": "endless@1", "args": {"rounds": 10**12}}),
                forged("after"),
            )
        assert caught.value.data is not None
        assert caught.value.data["code"] == "ACTION_TOO_SLOW"
        assert await world.rev() == 1


async def test_25_broadcasts_that_are_lost_doubled_or_out_of_order(tmp_path: Path) -> None:
    async with World(tmp_path, a_board(limit=50, check_purity=False)) as world:
        ann, bob = await world.person("ann"), await world.person("bob")
        algorithm = bob.patches.algorithm_of(DOC)
        for number in range(6):
            ann.doc.run("add_todo@1", slot=f"s{number}", title=f"t{number}")
        bob.doc.run("add_todo@1", slot="bob", title="bob's")
        await world.all_equal()
        changes = await world.server.get_changes_since(DOC, 0)
        await bob.stop()
        await bob.start()
        before = bob.doc.state
        for batch in (changes[2:4], changes[::-1], changes[:1], changes[3:], changes):
            await algorithm_of(bob).apply_server_changes(DOC, batch, bob.doc)
            assert bob.doc.state == before
        ann.doc.run("remove@1", id=next(iter(ann.rows)))
        ann.doc.run("nothing@1")
        await ann.settled()
        missed = await world.server.get_changes_since(DOC, len(changes))
        with pytest.raises(MissingChangesError):
            await algorithm_of(bob).apply_server_changes(DOC, missed[1:], bob.doc)
        assert bob.doc.state == before
        assert algorithm is not algorithm_of(bob)
        await bob.connect()
        await world.all_equal()


def algorithm_of(person: Person) -> Any:
    return person.patches.algorithm_of(DOC)


async def offline_past_the_floor(world: World, *, work: bool) -> tuple[Person, list[str]]:
    ann, bob = await world.person("ann"), await world.person("bob")
    ann.doc.run("add_todo@1", slot="a", title="first")
    await world.all_equal()
    await bob.restart()
    ids: list[str] = []
    if work:
        bob.doc.run("add_todo@1", slot="b", title="bob's")
        bob.doc.run("number@1")
        ids = [action.id for action in bob.doc.pending]
    world.clock.pass_s(20 * 86_400)
    ann.doc.run("add_todo@1", slot="c", title="later")
    await ann.settled()
    world.clock.pass_s(20 * 86_400)
    assert await world.server.compact(DOC) == 2
    assert await world.server.compact(DOC) == 0
    return bob, ids


async def test_27_a_client_offline_past_the_floor_keeps_its_work(tmp_path: Path) -> None:
    async with World(tmp_path, a_board(limit=9), retention=timedelta(days=14)) as world:
        bob, ids = await offline_past_the_floor(world, work=True)
        await bob.connect()
        await world.all_equal()
        changes = await world.server.get_changes_since(DOC, 2)
        assert [change.id for change in changes] == ids
        assert bob.titles == ["0", "1", "2"]


async def test_28_without_work_it_reloads_silently(tmp_path: Path) -> None:
    async with World(tmp_path, a_board(limit=9), retention=timedelta(days=14)) as world:
        bob, _ = await offline_past_the_floor(world, work=False)
        errors: list[Exception] = []
        await bob.dial()
        bob.sync.on_error(lambda error, _context: errors.append(error))
        await bob.settled()
        fresh = await world.person("fresh")
        await world.all_equal()
        assert bob.doc.state == fresh.doc.state
        assert errors == []


async def test_what_was_folded_is_committed_once_all_the_same(tmp_path: Path) -> None:
    async with World(tmp_path, a_board(), retention=timedelta(days=14)) as world:
        eve = await world.person("eve")
        await commit(eve, forged("c1"))
        world.clock.pass_s(20 * 86_400)
        assert await world.server.compact(DOC) == 1
        await world.stop_server()
        await world.start_server()
        await wait_until(lambda: eve.sync.state.connected)
        again = await commit(eve, {**forged("c1"), "baseRev": 1})
        assert [change["id"] for change in again["changes"]] == ["c1"]
        assert await world.rev() == 1


async def test_29_a_restored_backup_is_another_history(tmp_path: Path) -> None:
    async with World(tmp_path, a_board(limit=20)) as world:
        ann, bob = await world.person("ann"), await world.person("bob")
        ann.doc.run("add_todo@1", slot="a", title="kept")
        await world.all_equal()
        await world.stop_server()
        backup = tmp_path / "backup.db"
        shutil.copy(tmp_path / "server.db", backup)
        await world.start_server()
        await wait_until(lambda: ann.sync.state.connected)
        ann.doc.run("add_todo@1", slot="b", title="lost")
        await ann.settled()
        await bob.restart()
        bob.doc.run("add_todo@1", slot="c", title="pending")
        await world.stop_server()
        for name in ("server.db", "server.db-wal", "server.db-shm"):
            (tmp_path / name).unlink(missing_ok=True)
        shutil.copy(backup, tmp_path / "server.db")
        await world.start_server()
        await bob.connect()
        await wait_until(lambda: ann.sync.state.connected)
        await world.all_equal()
        assert ann.titles == bob.titles == ["kept", "pending"]


async def test_30_a_row_that_was_edited_by_something_else_is_found_and_fetched(
    tmp_path: Path,
) -> None:
    async with World(tmp_path, a_board(limit=9)) as world:
        ann = await world.person("ann")
        ann.doc.run("add_todo@1", slot="a", title="right")
        await world.all_equal()
        await ann.restart()
        ann.doc.run("add_todo@1", slot="b", title="mine")
        await ann.stop()
        with sqlite3.connect(tmp_path / "ann.db") as file:
            file.execute("UPDATE replay_rows SET content = replace(content, 'right', 'wrong')")
        file.close()
        errors: list[Exception] = []
        person = Person(world, "ann", world.actions, "ann")
        world.people[:] = [person]
        await start_online(person, errors)
        await world.all_equal()
        assert person.titles == ["mine", "right"]
        assert any("checksum" in str(error) for error in errors)


async def start_online(person: Person, errors: list[Exception]) -> None:
    """Connect first, then open the document: what is damaged is fetched when it is opened."""
    person.runtime = Runtime(wall_ms=lambda: person.world.clock.ms, random=random.Random(5))
    algorithm = ReplayAlgorithm(person.actions, author=person.name, runtime=person.runtime)
    person.patches = await person._stack.enter_async_context(
        Patches(
            person.world.folder / f"{person.device}.db",
            algorithms=[algorithm],
            runtime=person.runtime,
        )
    )
    person.patches.on_error(lambda error, _context: errors.append(error))
    await person.dial()
    doc = await person.patches.open_doc(DOC, algorithm="replay")
    assert isinstance(doc, ReplayDoc)
    person.doc = doc


async def test_33_a_client_with_an_older_schema_stops_and_keeps_its_work(tmp_path: Path) -> None:
    def boards(*, newer: bool) -> Actions:
        schema = Schema("todos", version=2 if newer else 1)
        columns = {"id": str, "title": str} | ({"colour": str} if newer else {})
        declared = type("Todo", (), {"__annotations__": columns, "colour": "white"})
        schema.table("todos", identity=("title",))(declared)
        actions = Actions(schema)

        @actions.define("add")
        def add(tx: Tx, *, title: str) -> str:
            return tx.todos.insert(title=title)

        return actions

    async with World(tmp_path, boards(newer=False)) as world:
        ann = await world.person("ann")
        old = await world.person("old")
        ann.doc.run("add@1", title="before")
        await world.all_equal()
        await world.stop_server()
        await ann.stop()
        await world.start_server(boards(newer=True))
        ann.actions = boards(newer=True)
        await ann.start()
        assert ann.doc.state["todos"][row_key(ann, "before")]["colour"] == "white"
        await ann.connect()
        await wait_until(lambda: old.sync.state.connected)
        ann.doc.run("add@1", title="coloured")
        await ann.settled()
        await wait_until(lambda: isinstance(old.doc.sync_error, SchemaTooOldError))
        old.doc.run("add@1", title="old's")
        await old.doc.flush()
        assert old.doc.has_pending
        assert sorted(row["title"] for row in old.doc.state["todos"].values()) == [
            "before",
            "old's",
        ]
        await old.stop()
        old.actions = boards(newer=True)
        await old.start()
        await old.connect()
        await world.all_equal()
        assert old.titles == ["before", "coloured", "old's"]


def row_key(person: Person, title: str) -> str:
    return next(key for key, row in person.rows.items() if row["title"] == title)


async def test_36_work_on_a_deleted_document_is_handed_over(tmp_path: Path) -> None:
    async with World(tmp_path, a_board()) as world:
        ann, bob = await world.person("ann"), await world.person("bob")
        ann.doc.run("add_todo@1", slot="a", title="x")
        await world.all_equal()
        await bob.restart()
        bob.doc.run("add_todo@1", slot="b", title="bob's")
        await bob.doc.flush()
        await ann.patches.delete_doc(DOC)
        await ann.sync.settled(10)
        handed: list[tuple[str, Sequence[Change]]] = []
        await bob.dial()
        bob.sync.on_remote_doc_deleted(lambda doc_id, changes: handed.append((doc_id, changes)))
        await wait_until(lambda: bool(handed))
        ((doc_id, changes),) = handed
        assert doc_id == DOC
        assert [change.metadata["action"]["args"]["title"] for change in changes] == ["bob's"]
        assert await world.server.undelete_doc(DOC)
        carol = await world.person("carol")
        carol.doc.run("add_todo@1", slot="c", title="anew")
        await carol.settled()
        assert await world.rev() == 1


async def test_37_a_child_inserted_after_its_parent_is_gone_is_refused_everywhere(
    tmp_path: Path,
) -> None:
    schema = Schema("lists")

    class Parent:
        id: str

    class Todo:
        id: str
        parent: str
        title: str = ""

    schema.table("parents")(Parent)
    schema.table("todos", references={"parent": "parents"})(Todo)
    actions = Actions(schema, check_purity=True)

    @actions.define("add_parent")
    def add_parent(tx: Tx, *, id: str) -> None:
        tx.parents.insert(id=id)

    @actions.define("remove_parent")
    def remove_parent(tx: Tx, *, id: str) -> None:
        tx.parents.delete(id)

    @actions.define("add_child")
    def add_child(tx: Tx, *, id: str, parent: str) -> None:
        tx.todos.insert(id=id, parent=parent)

    async with World(tmp_path, actions) as world:
        ann, bob = await world.person("ann"), await world.person("bob")
        ann.doc.run(add_parent, id="p")
        ann.doc.run(add_child, id="first", parent="p")
        await world.all_equal()
        await bob.restart()
        world.clock.pass_s(1)
        bob.doc.run(add_child, id="between", parent="p")
        world.clock.pass_s(1)
        ann.doc.run(remove_parent, id="p")
        await ann.settled()
        assert ann.rows == {}
        world.clock.pass_s(1)
        bob.doc.run(add_child, id="late", parent="p")
        assert set(bob.rows) == {"first", "between", "late"}
        await bob.connect()
        await world.all_equal()
        assert ann.rows == bob.rows == {}
        assert [(name, message) for _, name, message in bob.failed] == [
            ("add_child@1", "todos.parent: there is no row 'p' in parents")
        ]


CLIENT = """
import asyncio, sys
sys.path.insert(0, {root!r})
from tests.algorithms.replay.a_board import a_board
from patches.algorithms.replay import ReplayAlgorithm
from patches import Patches, PatchesSync

async def main():
    algorithm = ReplayAlgorithm(a_board(limit=10**6), author="ann")
    async with Patches({file!r}, algorithms=[algorithm]) as patches:
        doc = await patches.open_doc("lists/home", algorithm="replay")
        async with PatchesSync(patches, {url!r}) as sync:
            print("ready", flush=True)
            number = len(doc.state["todos"])
            while True:
                doc.run("add_todo@1", slot=f"s{{number}}", title=f"t{{number}}")
                doc.run("put_setting@1", id="count", value=number + 1)
                number += 1
                if number % 3 == 0:
                    await doc.flush()
                await asyncio.sleep(0)

asyncio.run(main())
"""


async def test_26_a_client_killed_at_any_moment_opens_at_a_step(tmp_path: Path) -> None:
    random_ = random.Random(7)
    async with World(tmp_path, a_board(limit=10**6, check_purity=False)) as world:
        world.clock.ms = 2_000_000_000_000  # the clients' own time is behind it
        script = CLIENT.format(
            root=str(Path(__file__).parent.parent.parent),
            file=str(tmp_path / "killed.db"),
            url=f"{world.url}?user=ann",
        )
        for _ in range(6):
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-c", script, stdout=subprocess.PIPE
            )
            assert process.stdout is not None
            assert await asyncio.wait_for(process.stdout.readline(), 20) == b"ready\n"
            await asyncio.sleep(0.05 + random_.random() * 0.3)
            os.kill(process.pid, signal.SIGKILL)
            await process.wait()
        ann = await world.person("ann", device="killed", actions=a_board(limit=10**6))
        bob = await world.person("bob")
        await world.all_equal()
        # The two actions of a round follow on each other: at most the last one is missing.
        count = ann.doc.state["settings"]["count"]["value"]
        assert len(ann.rows) - count in (0, 1)
        assert len(ann.rows) > 20
        assert bob.doc.state == ann.doc.state
