"""The stream of commits: in order or not, over restarts and reloads, with rows in progress."""

from __future__ import annotations

import asyncio
import random
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from patches.algorithms.collections.store_views import EventStore, SingularStore
from patches.errors import NetworkError, PatchError, StatusError
from patches.model.change import Change
from patches.rows.condition_syntax import F
from patches.rows.row_ops import delete_op, insert_op
from patches.testing.fake_connection import Call
from patches.testing.virtual_time import VirtualTimeLoop, idle, virtual_time
from tests.support.board import Account, Client, Message, Task, client_of, item, server_of, task
from tests.support.table_server import Peer, TableServer, deliver, refusal

ONE = {"tasks": {"a": task("a", votes=3)}}


@virtual_time
async def test_scenario_1_what_one_writes_the_other_sees() -> None:
    server = server_of()
    async with client_of(server) as ann, client_of(server, seed=2) as bob:
        write = ann.tasks.insert(title="Spec")
        await write
        key = str(write.key)
        await ann.tasks.update(key, votes=1)
        await idle()
        assert bob.tasks[key] == task(key, "Spec", votes=1)
        await ann.tasks.delete(key)
        await idle()
        assert dict(bob.tasks) == dict(ann.tasks) == {}
        assert bob.doc.committed_rev == ann.doc.committed_rev == 3


class Disorder:
    """Broadcasts that are lost, come twice, come late or in another order."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.late: list[tuple[Peer, list[Change]]] = []

    def __call__(self, peer: Peer, changes: list[Change]) -> None:
        what = self.random.random()
        if what < 0.2:
            return
        if what < 0.4:
            self.late.append((peer, changes))
        else:
            deliver(peer, changes)
        if what > 0.8:
            deliver(peer, changes)
        while self.late and self.random.random() < 0.4:
            deliver(*self.late.pop(self.random.randrange(len(self.late))))


@pytest.mark.parametrize("seed", range(10))
def test_scenario_43_lost_repeated_and_reordered_broadcasts(seed: int) -> None:
    @virtual_time
    async def scene() -> None:
        server = server_of(ONE)
        async with client_of(server) as ann, client_of(server, seed=2) as bob:
            server.deliver = Disorder(seed)
            for number in range(40):
                client = ann if number % 2 else bob
                client.tasks.insert(id=f"t{number}", title="t")
                if number > 4 and f"t{number - 4}" in client.tasks:
                    client.tasks.update(f"t{number - 4}", votes=number)
                await idle(server.deliver.random.randrange(20))
            server.deliver = deliver
            await ann.settled()
            await bob.settled()
            server.write({"op": "replace", "path": "/tasks/a/votes", "value": 99})
            await ann.settled()
            await bob.settled()
            for client in (ann, bob):
                assert client.doc.state["tasks"] == server.rows["tasks"]
                assert client.doc.committed_rev == server.rev
                assert client.errors == []

    scene()


@virtual_time
async def test_another_history_reloads_and_keeps_pending_writes() -> None:
    server = server_of({"tasks": {key: task(key) for key in "abc"}})
    async with client_of(server) as ann:
        for number in range(5):
            server.write({"op": "replace", "path": "/tasks/a/votes", "value": number})
        await idle()
        assert ann.doc.committed_rev == 6
        ann.sync.set_online(False)
        write = ann.tasks.update("b", votes=9)
        await ann.doc.flush()
        server.token, server.rev = "restored", 2  # a backup, from before
        del server.rows["tasks"]["c"]
        server.touched = {("tasks", "a"): 2, ("tasks", "b"): 1}
        ann.sync.set_online(True)
        await write
        await ann.settled()
        assert ann.doc.state["tasks"] == server.rows["tasks"]
        assert ann.doc.committed_rev == server.rev == 3
        assert await ann.patches.list_quarantined_changes("d") == []


@virtual_time
async def test_rows_in_progress_are_shown_until_they_are_committed_or_end() -> None:
    server = server_of()
    async with client_of(server) as ann:
        signal = ann.connection.on_notification

        def tell(*ops: dict[str, Any]) -> None:
            change = {"id": "p", "ops": list(ops)}
            signal.emit("changesPartial", {"docId": "d", "changes": [change]})

        tell(insert_op("tasks", "a", task("a", "wri")))
        await idle()
        tell(insert_op("tasks", "a", task("a", "writing")))
        tell(insert_op("tasks", "b", task("b", "gone")))
        await idle()
        assert {row["title"] for row in ann.tasks.values()} == {"writing", "gone"}
        assert ann.doc.is_partial(Task, "a")
        tell(delete_op("tasks", "b"))
        server.write(insert_op("tasks", "a", task("a", "written")))
        await idle()
        assert dict(ann.tasks) == {"a": task("a", "written")}
        assert not ann.doc.is_partial("tasks", "a")
        tell(insert_op("tasks", "c", task("c")))
        await idle()
        assert "c" in ann.tasks
        ann.connection.drop()
        await idle()
        assert "c" not in ann.tasks, "on disconnect all rows in progress leave"


@virtual_time
async def test_an_event_store_refuses_at_once_what_its_rules_refuse() -> None:
    server = server_of()
    async with client_of(server) as ann:
        messages = ann.doc.store(Message)
        assert isinstance(messages, EventStore)
        newest = await messages.newest(2).load()
        for number in range(3):
            write = messages.add(role="user", content=f"hi {number}")
            await write
            server.write(
                {"op": "replace", "path": f"/messages/{write.key}/created_at", "value": number}
            )
            await idle()
        assert [row["content"] for row in newest.rows] == ["hi 2", "hi 1"]
        with pytest.raises(PatchError, match="only user messages"):
            messages.add(role="assistant", content="no")
        with pytest.raises(PatchError, match="not changed"):
            ann.doc.collection(Message).update(str(newest.rows[0]["id"]), content="other")


@virtual_time
async def test_a_singular_store_has_defaults_until_it_is_set() -> None:
    server = server_of()
    async with client_of(server) as ann:
        account = ann.doc.store(Account)
        assert isinstance(account, SingularStore)
        told: list[object] = []
        account.subscribe(told.append)
        assert account.value == {"theme": "light"}
        account.set(theme="dark")
        assert account.value == {"theme": "dark"}
        await ann.settled()
        account.set(theme="light")
        await ann.settled()
        assert told == [{"theme": "light"}, {"theme": "dark"}, {"theme": "light"}]


@virtual_time
async def test_a_table_of_the_server_that_is_not_declared_here_is_kept() -> None:
    server = server_of(ONE)
    server.rows["newer"] = {}
    async with client_of(server) as ann:
        row = {**task("b"), "colour": "red"}
        server.write(insert_op("tasks", "b", row), insert_op("newer", "n", {"id": "n"}))
        await idle()
        assert ann.doc.state["tasks"]["b"] == row
        assert ann.doc.state["newer"] == {"n": {"id": "n"}}
        await ann.tasks.update("b", votes=2)
        assert server.rows["tasks"]["b"] == {**row, "votes": 2}


async def test_synced_rows_are_there_after_a_restart(tmp_path: Path) -> None:
    server, file = server_of(ONE), tmp_path / "client.db"
    async with client_of(server, store=file) as ann:
        await ann.items.all().load()
        await ann.tasks.update("a", votes=4)
    server.write(delete_op("tasks", "a"), insert_op("tasks", "b", task("b")))
    async with client_of(server, store=file, connect=False) as ann:
        assert dict(ann.tasks) == {"a": task("a", votes=4)}
        assert ann.doc.committed_rev == 2
        await ann.sync.connect()
        await ann.sync.settled(10)
        assert dict(ann.tasks) == {"b": task("b")}
        assert ann.connection.methods.count("getDoc") == 0, "a difference is enough"


# ---- everything at once --------------------------------------------------------------------------


def check(client: Client, server: TableServer) -> None:
    """A copy in sync equals the tables, as far as it follows them."""
    shown = client.doc.state
    for name in ("tasks", "lists"):
        assert shown[name] == server.rows[name]
    for row in shown["items"].values():
        assert server.rows["items"][row["id"]] == row
    assert client.doc.committed_rev == server.rev
    assert client.doc.writes == ()


def ids_sent(clients: list[Client]) -> set[str]:
    """The ids of all changes that left for the server."""
    return {
        change.id
        for client in clients
        for call in client.connection.calls
        if call.method == "commitChanges"
        for change in call.changes
    }


async def settled_after_refusals(client: Client) -> None:
    """Settled; refusals are raised on the way, each once."""
    while True:
        try:
            await client.settled()
        except StatusError:
            continue
        return


def lose_some_answers(client: Client, source: random.Random) -> None:
    """Some commits are done, and their answers do not arrive."""
    commit = client.connection.replies["commitChanges"]

    def losing(call: Call) -> object:
        answer = commit(call)
        if source.random() < 0.1:
            raise NetworkError("the answer was lost")
        return answer

    client.connection.replies["commitChanges"] = losing


async def random_world(seed: int) -> None:
    source = random.Random(seed)
    server = server_of({"tasks": {"a": task("a")}, "items": {"i": item("i")}})
    decided: dict[str, str] = {}

    def refuse(change: Change) -> StatusError | None:
        if source.random() < 0.1:
            decided[change.id] = "refused"
            return refusal(403, "by chance", change.id)
        if source.random() < 0.1:
            return StatusError(503, "busy")
        return None

    server.refuse = refuse
    server.deliver = Disorder(seed)
    async with AsyncExitStack() as stack:
        clients = [
            await stack.enter_async_context(client_of(server, seed=seed + n)) for n in range(4)
        ]
        for client in clients:
            lose_some_answers(client, source)
        writes = []
        windows = []
        for client in clients[:2]:
            windows.append(await client.items.order_by("votes", desc=True).limit(3).load())
            await client.items.where(F.category == "b").load()
        for _ in range(60):
            client = source.choice(clients)
            kind = source.randrange(9)
            keys = list(client.tasks)
            if kind == 0:
                writes.append(client.tasks.insert(title="t", done=source.random() < 0.5))
            elif kind == 1 and keys:
                writes.append(client.tasks.update(source.choice(keys), votes=source.randrange(9)))
            elif kind == 2 and keys:
                writes.append(client.tasks.delete(source.choice(keys)))
            elif kind == 3:
                writes.append(client.doc.call("clear_done"))
            elif kind == 4 and keys:
                with client.doc.transaction() as write:
                    client.tasks.update(source.choice(keys), title=f"n{source.random()}")
                    client.doc.collection("lists").insert(name="l")
                writes.append(write)
            elif kind == 5:
                key = f"i{source.randrange(8)}"
                columns = {"category": source.choice("abc"), "votes": source.randrange(9)}
                if key in server.rows["items"]:
                    server.write(
                        {"op": "replace", "path": f"/items/{key}/votes", "value": columns["votes"]},
                        {
                            "op": "replace",
                            "path": f"/items/{key}/category",
                            "value": columns["category"],
                        },
                    )
                else:
                    server.write(insert_op("items", key, {"id": key, **columns}))
            elif kind == 6:
                client.connection.drop()
                client.connection.restore()
            elif kind == 7:
                client.sync.set_online(False)
                await idle(5)
                client.sync.set_online(True)
            await idle(source.randrange(25))
        server.deliver = deliver
        server.refuse = lambda _change: None
        for client in clients:
            client.connection.drop()
            client.connection.restore()
        for client in clients:
            await settled_after_refusals(client)
        for client in clients:
            client.connection.drop()
            client.connection.restore()
            await settled_after_refusals(client)
        for client in clients:
            check(client, server)
        for window in windows:
            wire = {"table": "items", "orderBy": [["votes", "desc"]], "limit": 3}
            assert [row["id"] for row in window.rows] == server.window(wire)
        for write in writes:
            assert write.status in ("confirmed", "rejected")
            is_empty = write.id not in ids_sent(clients)  # it changed nothing
            assert is_empty or (write.id in server.ids) == (write.status == "confirmed")
        assert len(server.executed) == len(set(server.executed))


@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_scenario_50_four_clients_end_equal_to_the_tables(seed: int) -> None:
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(random_world(seed))
