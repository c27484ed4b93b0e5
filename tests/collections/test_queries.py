"""Live queries, subsets and windows, and functions of the state."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from patches.errors import (
    DocumentClosedError,
    InvalidConditionError,
    InvalidRequestError,
    InvalidRowError,
    NetworkError,
    StatusError,
)
from patches.model.change import Change
from patches.model.json_values import Op
from patches.rows.condition_syntax import F
from patches.rows.row_ops import Row, delete_op, insert_op
from patches.testing.virtual_time import idle, virtual_time
from tests.support.board import Client, client_of, item, seeded, server_of, task
from tests.support.table_server import TableServer, deliver


def vote(key: str, votes: int, table: str = "items") -> Op:
    return {"op": "replace", "path": f"/{table}/{key}/votes", "value": votes}


# ---- eager tables --------------------------------------------------------------------------------


@virtual_time
async def test_a_query_follows_rows_and_tells_only_of_what_differs() -> None:
    server = server_of({"tasks": {key: task(key, votes=n) for n, key in enumerate("abcd")}})
    async with client_of(server) as ann:
        top = ann.tasks.where(F.done == False).order_by("votes", desc=True).limit(2)  # noqa: E712  # makes a condition
        told: list[list[str]] = []
        top.subscribe(lambda rows: told.append([str(row["id"]) for row in rows]))
        for op in (
            vote("a", 1, "tasks"),  # below the window
            vote("a", 9, "tasks"),
            {"op": "replace", "path": "/tasks/d/done", "value": True},
        ):
            server.write(op)
            await idle()
        write = ann.tasks.update("b", votes=20)
        await write
        await idle()
        assert told == [["d", "c"], ["a", "d"], ["a", "c"], ["b", "a"]]
        await top.more(1)
        assert [row["id"] for row in top.rows] == ["b", "a", "c"]
        await top.close()
        server.write(delete_op("tasks", "a"))
        await idle()
        assert told[4:] == [["b", "a", "c"]]


@virtual_time
async def test_a_query_is_checked_where_it_is_written() -> None:
    async with client_of(server_of()) as ann:
        with pytest.raises(InvalidConditionError):
            ann.tasks.where(F.colour == "red")
        with pytest.raises(InvalidRowError):
            ann.tasks.order_by("colour")
        with pytest.raises(InvalidRequestError):
            ann.tasks.limit(0)


@virtual_time
async def test_equal_queries_are_kept_once() -> None:
    async with client_of(server_of({"tasks": {"a": task("a")}})) as ann:
        one, other = (ann.tasks.where(F.votes >= 0).limit(5) for _ in range(2))
        assert one.rows is other.rows
        await one.close()
        assert [row["id"] for row in other.rows] == ["a"]


@virtual_time
async def test_a_transaction_tells_a_query_once_at_its_end() -> None:
    async with client_of(server_of()) as ann:
        told: list[int] = []
        ann.tasks.limit(10).subscribe(lambda rows: told.append(len(rows)))
        with ann.doc.transaction():
            ann.tasks.insert(title="a")
            ann.tasks.insert(title="b")

        def failing() -> None:
            with ann.doc.transaction():
                ann.tasks.insert(title="c")
                raise ValueError("no")

        with pytest.raises(ValueError, match="no"):
            failing()
        assert told == [0, 2]
        await ann.settled()


@virtual_time
async def test_a_subscriber_may_write() -> None:
    async with client_of(server_of()) as ann:

        def second(rows: list[Row]) -> None:
            if len(rows) == 1:
                ann.tasks.insert(title="second")

        ann.tasks.limit(10).subscribe(second)
        ann.tasks.insert(title="first")
        assert sorted(str(row["title"]) for row in ann.tasks.values()) == ["first", "second"]
        await ann.settled()


# ---- functions of the state ----------------------------------------------------------------------


@virtual_time
async def test_scenario_34_a_function_is_computed_when_its_tables_change() -> None:
    server = server_of({"lists": {"l": {"id": "l", "name": "Home"}}})
    async with client_of(server) as ann:
        runs: list[int] = []

        def votes_by_list(state: Any) -> dict[str, int]:
            runs.append(1)
            return {
                str(each["name"]): sum(
                    task["votes"] for task in state["tasks"].values() if task["list_id"] == key
                )
                for key, each in state["lists"].items()
            }

        live = ann.doc.live(votes_by_list)
        told: list[dict[str, int]] = []
        live.subscribe(told.append)
        for op in (
            insert_op("tasks", "a", task("a", votes=2, list_id="l")),
            {"op": "replace", "path": "/tasks/a/title", "value": "same sum"},
            insert_op("account", "u", {"id": "u", "user_id": "u", "created_at": 1}),
        ):
            server.write(op)
            await idle()
        assert told == [{"Home": 0}, {"Home": 2}]
        assert len(runs) == 3
        live.close()
        server.write(vote("a", 9, "tasks"))
        await idle()
        assert live.value == {"Home": 2}
        assert len(runs) == 3


@virtual_time
async def test_a_function_that_fails_keeps_its_value_and_disturbs_nothing() -> None:
    server = server_of({"tasks": {"a": task("a", votes=2)}})
    async with client_of(server) as ann:
        live = ann.doc.live(lambda state: 10 / state["tasks"]["a"]["votes"])
        server.write(vote("a", 0, "tasks"))
        server.write(insert_op("tasks", "b", task("b")))
        await idle()
        assert live.value == 5
        assert ann.tasks.keys() == {"a", "b"}
        assert ann.errors == []


# ---- on demand -----------------------------------------------------------------------------------


def shop() -> TableServer:
    return server_of({"items": {f"i{n}": item(f"i{n}", "ab"[n % 2], votes=n) for n in range(10)}})


def keys_of(client: Client) -> set[str]:
    return set(client.items)


@virtual_time
async def test_scenario_27_a_category_comes_with_load_and_leaves_with_close() -> None:
    server = shop()
    async with client_of(server) as ann:
        assert keys_of(ann) == set()
        server.write(vote("i0", 50))
        await idle()
        assert keys_of(ann) == set()
        query = ann.items.where(F.category == "a")
        await query.load()
        assert keys_of(ann) == {"i0", "i2", "i4", "i6", "i8"}
        assert ann.items["i0"]["votes"] == 50
        ann.connection.replies.pop("commitChanges")
        ann.items.update("i2", votes=7)
        await query.close()
        await idle()
        assert keys_of(ann) == {"i2"}, "an unconfirmed write concerns it"
        assert ann.connection.count("unloadSubset") == 1
        (await ann.connection.next_call("commitChanges")).commit(3)
        await idle()
        assert keys_of(ann) == set()


@virtual_time
async def test_scenario_28_rows_move_in_and_out_live_and_over_a_disconnect() -> None:
    server = shop()
    async with client_of(server) as ann:
        query = await ann.items.where(F.category == "a").load()

        def move(key: str, category: str) -> None:
            server.write({"op": "replace", "path": f"/items/{key}/category", "value": category})

        move("i1", "a")
        move("i0", "b")
        await idle()
        assert {row["id"] for row in query.rows} == {"i1", "i2", "i4", "i6", "i8"}
        ann.sync.set_online(False)
        move("i3", "a")
        move("i1", "b")
        server.write(delete_op("items", "i2"))
        ann.sync.set_online(True)
        await ann.settled()
        assert {row["id"] for row in query.rows} == {"i3", "i4", "i6", "i8"}
        assert keys_of(ann) == {"i3", "i4", "i6", "i8"}
        move("i5", "a")
        await idle()
        assert "i5" in ann.items, "the subset counts on the new connection too"


@virtual_time
async def test_scenario_29_a_window_is_exact_at_every_notification() -> None:
    source = seeded(5)
    server = server_of(
        {"items": {f"i{n}": item(f"i{n}", votes=source.randrange(500)) for n in range(1_000)}}
    )
    async with client_of(server) as ann:
        top = ann.items.order_by("votes", desc=True).limit(50)
        await top.load()
        wire = {"table": "items", "orderBy": [["votes", "desc"]], "limit": 50}

        def exact(rows: list[Row]) -> None:
            assert [row["id"] for row in rows] == server.window(wire)
            seen.append(len(rows))

        seen: list[int] = []
        top.subscribe(exact)
        for _ in range(300):
            server.write(vote(f"i{source.randrange(1_000)}", source.randrange(600)))
            await idle(8)
            assert len(ann.items) == 50
        assert len(seen) > 50
        wire["limit"] = 100
        await top.more(50)
        assert len(top.rows) == 100
        assert seen[-1] == 100


@virtual_time
async def test_scenario_30_two_queries_with_one_subset_load_it_once() -> None:
    server = shop()
    async with client_of(server) as ann:
        one, other = (ann.items.where(F.category == "a") for _ in range(2))
        await asyncio.gather(one.load(), other.load())
        assert server.loads == 1
        await one.close()
        await idle()
        assert len(ann.items) == 5
        assert ann.connection.count("unloadSubset") == 0
        await other.close()
        await idle()
        assert len(ann.items) == 0
        assert ann.connection.count("unloadSubset") == 1


@virtual_time
async def test_a_query_asked_for_offline_is_loaded_with_the_next_connection() -> None:
    server = shop()
    async with client_of(server, connect=False) as ann:
        query = ann.items.where(F.category == "a")
        loading = asyncio.ensure_future(query.load())
        await idle()
        assert query.loading
        await ann.sync.connect()
        await loading
        assert len(query.rows) == 5
        assert not query.loading


@virtual_time
async def test_a_load_that_is_interrupted_is_made_again() -> None:
    server = shop()
    async with client_of(server) as ann:
        load = ann.connection.replies.pop("loadSubset")
        query = ann.items.where(F.category == "a")
        loading = asyncio.ensure_future(query.load())
        await ann.connection.next_call("loadSubset")
        ann.connection.drop()
        ann.connection.replies["loadSubset"] = load
        ann.connection.restore()
        await loading
        assert len(query.rows) == 5


@virtual_time
async def test_a_load_that_fails_after_the_next_connection_is_made_again() -> None:
    server = shop()
    async with client_of(server) as ann:
        load = ann.connection.replies.pop("loadSubset")
        query = ann.items.where(F.category == "a")
        loading = asyncio.ensure_future(query.load())
        call = await ann.connection.next_call("loadSubset")
        ann.connection.replies["loadSubset"] = load
        ann.doc.synced_again()  # over another connection, before the end of this one is heard
        call.fail(NetworkError("the connection was lost"))
        await loading
        assert len(query.rows) == 5


@virtual_time
async def test_a_load_ends_with_its_query_and_with_its_document() -> None:
    async with client_of(shop(), connect=False) as ann:
        closed, waiting = ann.items.where(F.category == "a"), ann.items.where(F.category == "b")
        loads = [asyncio.ensure_future(query.load()) for query in (closed, waiting)]
        await idle()
        await closed.close()
        await idle()
        assert [load.done() for load in loads] == [True, False]
        await ann.patches.close_doc("d")
        with pytest.raises(DocumentClosedError, match="before a query of 'items' was loaded"):
            await loads[1]


@virtual_time
async def test_a_refused_load_is_raised() -> None:
    async with client_of(shop()) as ann:
        ann.connection.replies["loadSubset"] = StatusError(413, "too many rows")
        with pytest.raises(StatusError, match="too many"):
            await ann.items.all().load()
        assert len(ann.items) == 0


@virtual_time
async def test_changes_beside_a_load_come_out_right_whichever_comes_first() -> None:
    for order in ("answer first", "change first"):
        server = shop()
        async with client_of(server) as ann:
            load = ann.connection.replies.pop("loadSubset")
            everything, late = ann.items.where(F.votes >= 0), list[tuple[Any, list[Change]]]()
            await _loaded(ann, load, everything)
            server.deliver = lambda peer, changes, late=late: late.append((peer, changes))  # type: ignore[misc]  # a lambda with a default
            query = ann.items.where(F.category == "a")
            server.write(vote("i0", 100))
            loading = asyncio.ensure_future(query.load())
            call = await ann.connection.next_call("loadSubset")
            answer = load(call)
            server.write(vote("i0", 200), delete_op("items", "i2"))
            server.write(insert_op("items", "i2", item("i2", "a", 300)))
            if order == "answer first":
                call.answer(answer)
                await loading
            for peer, changes in late:
                deliver(peer, changes)
            await idle()
            if order == "change first":
                call.answer(answer)
                await loading
            votes = {key: row["votes"] for key, row in ann.items.items()}
            assert votes == {key: row["votes"] for key, row in server.rows["items"].items()}, order


async def _loaded(ann: Client, load: Any, query: Any) -> None:
    loading = asyncio.ensure_future(query.load())
    call = await ann.connection.next_call("loadSubset")
    call.answer(load(call))
    await loading


@virtual_time
async def test_a_reload_keeps_loaded_subsets_and_windows() -> None:
    server = shop()
    async with client_of(server) as ann:
        top = await ann.items.order_by("votes", desc=True).limit(3).load()
        plain = await ann.items.where(F.category == "b").load()
        ann.sync.set_online(False)
        server.rows["items"]["i0"] = item("i0", "a", 99)
        server.token = "second"
        server.rev = 1
        write = ann.tasks.insert(title="kept")
        await ann.doc.flush()
        ann.sync.set_online(True)
        await write
        await ann.settled()
        assert [row["id"] for row in top.rows] == ["i0", "i9", "i8"]
        assert {row["id"] for row in plain.rows} == {"i1", "i3", "i5", "i7", "i9"}
        assert set(ann.items) == {"i0", "i8", "i9", "i1", "i3", "i5", "i7"}
