"""The acceptance scenarios of replay documents, by their numbers, with the server running actions.

Each runs end to end: a real server, real sockets, one client a person, SQLite files.
"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest

from patches.algorithms.replay import Actions, Tx
from patches.errors import (
    ActionsOnlyError,
    ChangeRefusedError,
    DuplicateIdentityError,
    WritesRefusedError,
)
from patches.rows import Schema
from tests.algorithms.replay.a_board import FullError, a_board
from tests.replay.world import World, wait_until


async def test_01_offline_reopened_then_seen_by_others(tmp_path: Path) -> None:
    async with World(tmp_path, a_board()) as world:
        ann = await world.person("ann", online=False)
        key = ann.doc.run("add_todo@1", slot="a1", title="Milk")
        await ann.restart()
        assert ann.rows[key]["title"] == "Milk"
        assert ann.doc.has_pending
        await ann.connect()
        bob = await world.person("bob")
        assert bob.rows[key]["title"] == "Milk"
        await world.all_equal()


async def test_02_a_run_that_raises_changes_nothing(tmp_path: Path) -> None:
    async with World(tmp_path, a_board(limit=0)) as world:
        ann = await world.person("ann")
        before, shown = ann.doc.state, len(ann.shown)
        with pytest.raises(FullError):
            ann.doc.run("add_todo@1", slot="a1", title="Milk")
        with pytest.raises(TypeError):
            ann.doc.run("add_todo@1", slot=1, title="Milk")
        assert ann.doc.state is before
        assert not ann.doc.has_pending
        assert ann.doc.pending == ()
        assert len(ann.shown) == shown
        await ann.doc.flush()
        await ann.settled()
        assert await world.rev() == 0


async def test_03_there_is_no_other_way_to_write(tmp_path: Path) -> None:
    async with World(tmp_path, a_board()) as world:
        ann = await world.person("ann")
        ann.doc.run("add_todo@1", slot="a1", title="Milk")
        await ann.settled()
        before = ann.doc.state
        with pytest.raises(ActionsOnlyError):
            ann.doc.change(lambda draft: draft.update(x=1))
        with pytest.raises(ActionsOnlyError):
            ann.doc.apply([{"op": "remove", "path": "/todos"}])
        with pytest.raises(ActionsOnlyError):
            ann.doc.set({})
        with pytest.raises(ActionsOnlyError):
            ann.doc.edit()
        with pytest.raises(WritesRefusedError):
            ann.doc.sql("INSERT INTO todos(id, list_id, slot, title) VALUES ('a', '', '', '')")
        with pytest.raises(WritesRefusedError):
            ann.doc.sql("DELETE FROM todos")
        assert ann.doc.sql("SELECT count(*) AS n FROM todos WHERE done = ?", False) == [{"n": 1}]
        assert ann.doc.state == before
        assert not ann.doc.has_pending


def a_course(seats: int = 1) -> Actions:
    schema = Schema("todos")

    class Todo:
        id: str
        title: str

    schema.table("todos", identity=("title",))(Todo)
    actions = Actions(schema, check_purity=True)

    @actions.define("book")
    def book(tx: Tx, *, who: str) -> str:
        if tx.todos.count() >= seats:
            raise FullError("no seat is left")
        return tx.todos.insert(title=who)

    return actions


async def test_04_the_one_seat_is_given_to_who_was_first(tmp_path: Path) -> None:
    async with World(tmp_path, a_course()) as world:
        ann = await world.person("ann", online=False)
        bob = await world.person("bob")
        ann.doc.run("book@1", who="ann")
        world.clock.pass_s(300)
        bob.doc.run("book@1", who="bob")
        await bob.settled()
        assert bob.titles == ["bob"]
        world.clock.pass_s(300)
        await ann.connect()
        await world.all_equal()
        assert ann.titles == bob.titles == ["ann"]
        assert [(name, message) for _, name, message in bob.failed] == [
            ("book@1", "no seat is left")
        ]
        assert ann.failed == []
        for person in (ann, bob):
            assert all(len(state.get("todos", {})) <= 1 for state in person.shown)
        changes = await world.server.get_changes_since(world.doc_id, 0)
        assert [change.metadata["kind"] for change in changes] == ["action", "action", "sync"]


@pytest.mark.parametrize("order", list(itertools.permutations("abc")))
async def test_05_the_order_of_connecting_changes_nothing(
    tmp_path: Path, order: tuple[str, ...]
) -> None:
    async with World(tmp_path, a_course()) as world:
        people = {}
        for name in "abc":
            people[name] = await world.person(name, online=False)
            people[name].doc.run("book@1", who=name)
            world.clock.pass_s(60)
        for name in order:
            await people[name].connect()
        await world.all_equal()
        for person in people.values():
            assert person.titles == ["a"]
            assert all(len(state.get("todos", {})) <= 1 for state in person.shown)


async def test_06_changes_of_different_columns_both_survive(tmp_path: Path) -> None:
    async with World(tmp_path, a_board()) as world:
        ann, bob = await world.person("ann"), await world.person("bob")
        key = ann.doc.run("add_todo@1", slot="a1", title="Milk")
        await world.all_equal()
        await ann.restart()
        await bob.restart()
        ann.doc.run("rename@1", id=key, title="Oat milk")
        bob.doc.run("set_note@1", id=key, note="two")
        await ann.connect()
        await bob.connect()
        await world.all_equal()
        assert (ann.rows[key]["title"], ann.rows[key]["note"]) == ("Oat milk", "two")


async def test_07_a_late_insert_before_a_delete_does_not_bring_the_row_back(
    tmp_path: Path,
) -> None:
    actions = a_board()

    @actions.define("put")
    def put(tx: Tx, *, id: str, title: str) -> None:
        if not tx.todos.update(id, title=title):
            tx.todos.insert(id=id, list_id="home", slot=id, title=title)

    async with World(tmp_path, actions) as world:
        ann, bob = await world.person("ann", online=False), await world.person("bob")
        bob.doc.run(put, id="x", title="bob's")
        await bob.settled()
        ann.doc.run(put, id="x", title="ann's")
        world.clock.pass_s(1)
        bob.doc.run("remove@1", id="x")
        await bob.settled()
        await ann.connect()
        await world.all_equal()
        assert ann.rows == bob.rows == {}


async def test_08_a_sync_change_has_the_rows_that_differ_alone(tmp_path: Path) -> None:
    async with World(tmp_path, a_board(limit=50)) as world:
        ann, bob = await world.person("ann", online=False), await world.person("bob")
        ann.doc.run("add_todo@1", slot="late", title="late")
        for number in range(50):
            world.clock.pass_s(1)
            bob.doc.run("add_todo@1", slot=f"s{number}", title=f"t{number}")
        await bob.settled()
        await ann.connect()
        await world.all_equal()
        changes = await world.server.get_changes_since(world.doc_id, 0)
        assert [change.metadata["kind"] for change in changes] == ["action"] * 51 + ["sync"]
        assert len(changes[-1].metadata["corrects"]) == 50
        assert [op["op"] for op in changes[-1].ops] == ["remove"]
        assert [name for _, name, _ in bob.failed] == ["add_todo@1"]


async def test_09_an_action_that_writes_nothing_is_a_change_like_any_other(
    tmp_path: Path,
) -> None:
    async with World(tmp_path, a_board()) as world:
        ann, bob = await world.person("ann"), await world.person("bob")
        ann.doc.run("nothing@1")
        assert len(ann.doc.pending) == 1
        await ann.settled()
        assert await world.rev() == 1
        ann.doc.run("add_todo@1", slot="a1", title="Milk")
        await world.all_equal()
        assert bob.titles == ["Milk"]
        assert await world.rev() == 2


async def test_10_a_column_set_to_null_arrives_as_null_and_comes_back(tmp_path: Path) -> None:
    async with World(tmp_path, a_board()) as world:
        ann, bob = await world.person("ann"), await world.person("bob")
        key = ann.doc.run("add_todo@1", slot="a1", title="Milk")
        ann.doc.run("set_note@1", id=key, note="two")
        await world.all_equal()
        await ann.restart()
        ann.doc.run("set_note@1", id=key, note=None)
        assert ann.rows[key]["note"] is None
        await ann.doc.flush()
        (change,) = [action.id for action in ann.doc.pending]
        await ann.patches.eject_pending_change(world.doc_id, change, "undone")
        assert ann.rows[key]["note"] == "two"
        ann.doc.run("set_note@1", id=key, note=None)
        await ann.connect()
        await world.all_equal()
        assert bob.rows[key]["note"] is None


async def test_11_what_is_done_after_seeing_something_sorts_after_it(tmp_path: Path) -> None:
    async with World(tmp_path, a_board()) as world:
        ann = await world.person("ann")
        key = ann.doc.run("add_todo@1", slot="a1", title="Milk")
        await ann.settled()
        bob = await world.person("bob", online=False)
        bob.clock_error_ms = -30_000
        await bob.connect()
        ann.doc.run("rename@1", id=key, title="ann's")
        await world.all_equal()
        bob.doc.run("rename@1", id=key, title="bob's")
        await world.all_equal()
        assert ann.titles == ["bob's"]
        changes = await world.server.get_changes_since(world.doc_id, 0)
        clocks = [change.metadata["clock"] for change in changes]
        assert clocks == sorted(clocks)
        assert changes[-1].created_at < changes[-2].created_at


async def test_13_ids_stay_when_an_action_runs_again(tmp_path: Path) -> None:
    actions = a_board()

    @actions.define("add_numbered")
    def add_numbered(tx: Tx, *, slot: str) -> str:
        return tx.todos.insert(list_id="home", slot=slot, title=f"number {tx.todos.count()}")

    @actions.define("twice")
    def twice(tx: Tx) -> None:
        tx.todos.insert(list_id="home", slot="a", title="one")
        tx.todos.insert(list_id="home", slot="a", title="two")

    async with World(tmp_path, actions) as world:
        ann, bob = await world.person("ann", online=False), await world.person("bob")
        ann.doc.run(add_numbered, slot="first")
        world.clock.pass_s(1)
        key = bob.doc.run(add_numbered, slot="second")
        bob.doc.run("set_note@1", id=key, note="mine")
        await bob.settled()
        assert bob.rows[key]["title"] == "number 0"
        await ann.connect()
        await world.all_equal()
        assert (bob.rows[key]["title"], bob.rows[key]["note"]) == ("number 1", "mine")
        with pytest.raises(DuplicateIdentityError, match="todos"):
            bob.doc.run(twice)


async def test_14_time_and_chance_are_those_of_the_first_run(tmp_path: Path) -> None:
    async with World(tmp_path, a_board()) as world:
        ann, bob = await world.person("ann", online=False), await world.person("bob")
        early = ann.doc.run("add_todo@1", slot="early", title="early")
        world.clock.pass_s(10)
        key = bob.doc.run("add_todo@1", slot="a1", title="Milk")
        first = dict(bob.rows[key])
        await bob.settled()
        world.clock.pass_s(10)
        await ann.connect()
        await world.all_equal()
        assert ann.rows[key] == bob.rows[key] == first
        assert first["at"] == ann.rows[early]["at"] + 10_000
        assert 0 <= first["luck"] < 1
        assert first["luck"] != ann.rows[early]["luck"]


async def test_24_an_answer_that_is_lost_has_its_effect_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with World(tmp_path, a_board()) as world:
        ann = await world.person("ann")
        original, lost = world.server.commit_changes, 0

        async def commit_and_lose(*given: Any) -> Any:
            nonlocal lost
            result = await original(*given)
            if lost < 2:
                lost += 1
                raise ConnectionResetError
            return result

        monkeypatch.setattr(world.server, "commit_changes", commit_and_lose)
        ann.doc.run("add_todo@1", slot="a1", title="Milk")
        ann.doc.run("finish_all@1")
        await ann.sync.settled(30)
        assert await world.rev() == 2
        await world.all_equal()


@pytest.mark.server_runs
async def test_31_a_rolling_deployment_loses_nothing(tmp_path: Path) -> None:
    newer = a_board()

    @newer.define("add_todo", version=2)
    def add_todo(tx: Tx, *, title: str) -> str:
        return tx.todos.insert(list_id="home", slot=title, title=title.upper())

    async with World(tmp_path, a_board()) as world:
        ann = await world.person("ann", online=False, actions=newer)
        ann.doc.run(add_todo, title="milk")
        await ann.dial()
        await wait_until(lambda: ann.doc.sync_error is not None)
        assert "UNKNOWN_ACTION" in str(getattr(ann.doc.sync_error, "data", ""))
        assert ann.doc.has_pending
        await world.stop_server()
        await world.start_server(newer)
        await ann.sync.settled(30)
        await world.all_equal()
        assert ann.titles == ["MILK"]


async def test_32_an_older_client_follows_what_it_cannot_run(tmp_path: Path) -> None:
    newer = a_board()

    @newer.define("shout")
    def shout(tx: Tx) -> None:
        for row in tx.todos.all():
            tx.todos.update(row["id"], title=row["title"].upper())

    async with World(tmp_path, newer) as world:
        ann = await world.person("ann")
        bob = await world.person("bob", actions=a_board())
        bob.doc.run("add_todo@1", slot="b", title="bob's")
        await world.all_equal()
        ann.doc.run(shout)
        await world.all_equal()
        assert bob.titles == ["BOB'S"]
        bob.doc.run("add_todo@1", slot="c", title="more")
        await world.all_equal()
        assert ann.titles == ["BOB'S", "more"]


async def test_34_a_refused_action_is_undone_and_the_others_go_on(tmp_path: Path) -> None:
    def authorize(_context: Any, change: Any) -> bool:
        return bool(change.metadata["action"]["args"].get("title") != "forbidden")

    async with World(tmp_path, a_board(), authorize=authorize) as world:
        ann = await world.person("ann", online=False)
        ann.doc.run("add_todo@1", slot="a", title="first")
        key = ann.doc.run("add_todo@1", slot="b", title="forbidden")
        ann.doc.run("number@1")
        assert len(ann.doc.pending) == 3
        await ann.doc.flush()
        await ann.dial()
        with pytest.raises(ChangeRefusedError, match="not allowed"):
            await ann.settled()
        await world.all_equal()
        assert key not in ann.rows
        assert ann.titles == ["0"]
        (entry,) = await ann.patches.list_quarantined_changes()
        assert entry.change.metadata["action"]["args"]["title"] == "forbidden"
        assert "not allowed" in entry.reason


@pytest.mark.server_runs
async def test_35_an_action_run_by_the_server_reaches_everybody(tmp_path: Path) -> None:
    async with World(tmp_path, a_board()) as world:
        ann = await world.person("ann")
        actions = world.actions
        for slot in "abc":
            change = await world.server.run(
                world.doc_id, "add_todo@1", author="the cron", slot=slot, title=slot
            )
            assert "error" not in change.metadata
        await world.all_equal()
        assert ann.titles == ["a", "b", "c"]
        assert change.metadata["author"] == "the cron"
        refused = await world.server.run(
            world.doc_id, actions.action_of("add_todo@1").function, slot="d", title="d"
        )
        assert refused.metadata["error"] == "home is full"
        await world.all_equal()
        assert ann.titles == ["a", "b", "c"]


async def test_38_many_offline_actions_commit_in_batches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with World(tmp_path, a_board(check_purity=False)) as world:
        ann = await world.person("ann", online=False)
        for number in range(2_000):
            ann.doc.run("put_setting@1", id=f"s{number % 50}", value=number)
        bob = await world.person("bob")
        calls = 0
        original = world.server.commit_changes

        async def counted(*given: Any) -> Any:
            nonlocal calls
            calls += 1
            return await original(*given)

        monkeypatch.setattr(world.server, "commit_changes", counted)
        await ann.connect()
        await world.all_equal()
        assert await world.rev() == 2_000
        assert calls <= 10
        assert len(bob.doc.state["settings"]) == 50


async def test_39_a_follower_without_actions_mirrors_what_is_committed(tmp_path: Path) -> None:
    actions = a_board(check_purity=False)
    async with World(tmp_path, actions) as world:
        follower = await world.person("follower", actions=Actions(actions.schema))
        ann = await world.person("ann")
        for number in range(1_000):
            ann.doc.run("put_setting@1", id=f"s{number % 50}", value=number)
        await world.all_equal()
        assert await world.rev() == 1_000
        assert follower.doc._working is None


async def test_12_a_clock_that_is_ahead_is_set_back_and_nothing_is_lost(tmp_path: Path) -> None:
    async with World(tmp_path, a_board(limit=9)) as world:
        bob = await world.person("bob")
        ann = await world.person("ann", online=False)
        ann.clock_error_ms = 3_600_000
        keys = [ann.doc.run("add_todo@1", slot=slot, title=slot) for slot in "abc"]
        ids = [action.id for action in ann.doc.pending]
        await ann.connect()
        await world.all_equal()
        assert sorted(ann.rows) == sorted(keys)
        changes = await world.server.get_changes_since(world.doc_id, 0)
        assert [change.id for change in changes] == ids
        assert all(c.metadata["clock"][0] <= world.clock.ms for c in changes)
        assert await ann.patches.list_quarantined_changes() == []
        bob.doc.run("add_todo@1", slot="d", title="d")
        await world.all_equal()
        (last,) = await world.server.get_changes_since(world.doc_id, 3)
        assert last.metadata["clock"][0] <= world.clock.ms
        ann.doc.run("rename@1", id=keys[0], title="still ahead")
        await ann.settled()
        await world.all_equal()
        assert bob.rows[keys[0]]["title"] == "still ahead"


async def test_23_of_those_who_commit_at_once_every_action_lands_once(tmp_path: Path) -> None:
    async with World(tmp_path, a_board(limit=100, check_purity=False)) as world:
        people = [await world.person(name) for name in "abcde"]
        loads = []
        for person in people:
            person.patches.on_error(lambda error, _context: loads.append(error))
        for round_ in range(4):
            for person in people:
                title = f"{person.name}{round_}"
                person.doc.run("add_todo@1", slot=title, title=title)
                person.doc.run("put_setting@1", id="last", value=round_)
        await world.all_equal()
        assert people[0].titles == sorted(f"{name}{n}" for name in "abcde" for n in range(4))
        changes = await world.server.get_changes_since(world.doc_id, 0)
        made = [change.id for change in changes if change.metadata["kind"] == "action"]
        assert len(made) == len(set(made)) == 40
        assert loads == []
