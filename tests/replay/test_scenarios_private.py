"""The scenarios of private rows: who sees what, on the wire too."""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Self

import aiohttp
import pytest

from patches.algorithms.replay import Actions, Tx
from patches.errors import ChangeRefusedError
from patches.rows import Schema
from tests.replay.world import Person, World, wait_until


def projects() -> Actions:
    schema = Schema("projects")

    class Task:
        id: str
        title: str
        done: bool = False
        audience: str = "*"

    schema.table("tasks", identity=("title",))(Task)
    actions = Actions(schema, check_purity=True)

    @actions.define("add_task")
    def add_task(tx: Tx, *, title: str, audience: str = "*") -> str:
        return tx.tasks.insert(title=title, audience=audience)

    @actions.define("complete_project", rights="all")
    def complete_project(tx: Tx) -> None:
        for row in tx.tasks.all():
            tx.tasks.update(row["id"], done=True)

    @actions.define("complete_openly", rights="all", share_args=True)
    def complete_openly(tx: Tx) -> None:
        complete_project(tx)

    @actions.define("finish")
    def finish(tx: Tx, *, title: str) -> None:
        for row in tx.tasks.where(title=title):
            tx.tasks.update(row["id"], done=True)

    @actions.define("add_two")
    def add_two(tx: Tx, *, public: str, private: str) -> None:
        tx.tasks.insert(title=public)
        tx.tasks.insert(title=private, audience=f"user:{tx.author}")

    @actions.define("add_two_openly", share_args=True)
    def add_two_openly(tx: Tx, *, public: str, private: str) -> None:
        add_two(tx, public=public, private=private)

    @actions.define("count_mine")
    def count_mine(tx: Tx, *, title: str) -> None:
        mine = tx.tasks.count(audience=f"user:{tx.author}")
        tx.tasks.insert(title=f"{title} {mine}")

    return actions


TEAMS: dict[str, set[str]] = {}


def audiences(context: Any) -> set[str]:
    user = context.principal
    return {"*", f"user:{user}"} | {team for team, users in TEAMS.items() if user in users}


def private_world(folder: Path) -> World:
    TEAMS.clear()
    return World(folder, projects(), audiences=audiences)


async def all_in_sync(world: World) -> None:
    for _ in range(2):
        for person in world.people:
            await person.settled()


class Listener:
    """A connection of somebody's, frame by frame."""

    def __init__(self, world: World, user: str) -> None:
        self.world, self.user = world, user
        self.frames: list[str] = []
        self._answered = asyncio.Event()

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession()
        self._socket = await self._session.ws_connect(f"{self.world.url}?user={self.user}")
        self._reading = asyncio.ensure_future(self._read())
        await self.call("subscribe", self.world.doc_id)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()
        await self._reading

    async def call(self, method: str, *params: Any) -> None:
        """Call a method, and wait for the next answer."""
        self._answered.clear()
        await self._socket.send_json(
            {"jsonrpc": "2.0", "id": 1, "method": method, "params": list(params)}
        )
        await asyncio.wait_for(self._answered.wait(), 5)

    async def _read(self) -> None:
        async for message in self._socket:
            self.frames.append(message.data)
            if '"id":1,' in message.data:
                self._answered.set()


def tasks(person: Person) -> dict[str, bool]:
    return {row["title"]: row["done"] for row in person.doc.state["tasks"].values()}


@pytest.mark.server_runs
async def test_18_each_sees_only_own_rows_and_a_third_no_trace_of_them(tmp_path: Path) -> None:
    async with private_world(tmp_path) as world, AsyncExitStack() as stack:
        ann, bob = await world.person("ann"), await world.person("bob")
        eve = await world.person("eve")
        wire = await stack.enter_async_context(Listener(world, "eve"))
        ann.doc.run("add_task@1", title="ann's secret", audience="user:ann")
        bob.doc.run("add_task@1", title="bob's secret", audience="user:bob")
        ann.doc.run("add_task@1", title="for all")
        await all_in_sync(world)
        ann.doc.run("complete_project@1")
        await all_in_sync(world)
        assert tasks(ann) == {"ann's secret": True, "for all": True}
        assert tasks(bob) == {"bob's secret": True, "for all": True}
        assert tasks(eve) == {"for all": True}
        await wait_until(lambda: any('"rev":4,' in frame for frame in wire.frames))
        await wire.call("getDoc", world.doc_id)
        await wire.call("getChangesSince", world.doc_id, 0)
        assert any("for all" in frame for frame in wire.frames)
        assert not any("secret" in frame or "user:" in frame for frame in wire.frames)
        assert len((await world.server.state(world.doc_id))["tasks"]) == 3


@pytest.mark.parametrize("shared", [False, True])
async def test_20_a_partial_viewer_gets_the_patch_and_no_arguments(
    tmp_path: Path, shared: bool
) -> None:
    async with private_world(tmp_path) as world:
        ann, bob = await world.person("ann"), await world.person("bob")
        name = "add_two_openly@1" if shared else "add_two@1"
        ann.doc.run(name, public="seen", private="hidden")
        await all_in_sync(world)
        assert tasks(bob) == {"seen": False}
        assert tasks(ann) == {"seen": False, "hidden": False}
        wire = await bob.sync.connection.call("getChangesSince", world.doc_id, 0)
        (change,) = wire
        assert ("action" in change) is shared
        assert [op["value"]["title"] for op in change["ops"]] == ["seen"]
        own = await ann.sync.connection.call("getChangesSince", world.doc_id, 0)
        assert own[0]["action"]["args"] == {"public": "seen", "private": "hidden"}


async def test_21_what_depends_on_private_rows_converges_and_comes_to_rest(
    tmp_path: Path,
) -> None:
    async with private_world(tmp_path) as world:
        ann, bob = await world.person("ann"), await world.person("bob")
        ann.doc.run("add_task@1", title="ann's", audience="user:ann")
        ann.doc.run("count_mine@1", title="ann has")
        bob.doc.run("count_mine@1", title="bob has")
        await all_in_sync(world)
        assert tasks(ann) == {"ann's": False, "ann has 1": False, "bob has 0": False}
        assert tasks(bob) == {"ann has 1": False, "bob has 0": False}
        rev = await world.rev()
        for _ in range(10):
            for person in world.people:
                await person.settled()
        assert await world.rev() == rev


@pytest.mark.server_runs
async def test_an_action_that_writes_a_foreign_row_has_no_effect_and_its_author_is_told(
    tmp_path: Path,
) -> None:
    async with private_world(tmp_path) as world:
        ann, bob = await world.person("ann"), await world.person("bob")
        ann.doc.run("add_task@1", title="for bob", audience="user:bob")
        await all_in_sync(world)
        assert tasks(ann) == tasks(bob) == {}
        await wait_until(lambda: bool(ann.failed))
        ((_, name, message),) = ann.failed
        assert name == "add_task@1"
        assert "user:bob" in message
        assert bob.failed == []
        wire = await bob.sync.connection.call("getChangesSince", world.doc_id, 0)
        assert "for bob" not in json.dumps(wire)


async def test_the_rights_of_the_author_hold_in_a_re_run(tmp_path: Path) -> None:
    async with private_world(tmp_path) as world:
        ann, bob = await world.person("ann"), await world.person("bob", online=False)
        bob.doc.run("add_task@1", title="early")
        world.clock.pass_s(1)
        ann.doc.run("add_task@1", title="ann's", audience="user:ann")
        ann.doc.run("count_mine@1", title="ann has")
        await ann.settled()
        await bob.connect()
        await all_in_sync(world)
        assert tasks(ann) == {"early": False, "ann's": False, "ann has 1": False}


@pytest.mark.client_runs
async def test_19_the_owners_device_adds_what_an_action_does_to_private_rows(
    tmp_path: Path,
) -> None:
    async with private_world(tmp_path) as world, AsyncExitStack() as stack:
        ann = await world.person("ann")
        bob, second = await world.person("bob"), await world.person("bob", device="bob's other")
        wire = await stack.enter_async_context(Listener(world, "ann"))
        bob.doc.run("add_task@1", title="bob's secret", audience="user:bob")
        ann.doc.run("add_task@1", title="for all")
        await all_in_sync(world)
        ann.doc.run("complete_openly@1")
        await all_in_sync(world)
        done = {"bob's secret": True, "for all": True}
        await wait_until(lambda: tasks(bob) == tasks(second) == done)
        await all_in_sync(world)
        assert tasks(ann) == {"for all": True}
        log = (await world.server.store.load(world.doc_id, now=0)).log
        changes = [entry.change for entry in log]
        assert [change.metadata["kind"] for change in changes] == ["action"] * 3 + ["sync"]
        assert changes[-1].metadata["author"] == "bob"
        assert changes[-1].metadata["corrects"] == [changes[-2].id]
        await wait_until(lambda: any('"rev":4' in frame for frame in wire.frames))
        assert not any("secret" in frame or "user:bob" in frame for frame in wire.frames)
        assert not bob.doc.has_pending
        assert not second.doc.has_pending


@pytest.mark.client_runs
async def test_who_runs_an_action_that_writes_a_foreign_row_is_refused(tmp_path: Path) -> None:
    async with private_world(tmp_path) as world:
        ann, bob = await world.person("ann"), await world.person("bob")
        ann.doc.run("add_task@1", title="for bob", audience="user:bob")
        with pytest.raises(ChangeRefusedError, match="user:bob"):
            await ann.settled()
        await all_in_sync(world)
        assert tasks(ann) == tasks(bob) == {}
        assert [name for _, name, _ in ann.failed] == ["add_task@1"]
        (entry,) = await ann.patches.list_quarantined_changes()
        assert entry.change.metadata["action"]["args"]["title"] == "for bob"
        assert await world.rev() == 0


async def test_22_who_leaves_a_team_loses_its_rows_and_who_joins_gets_them(
    tmp_path: Path, runner: str
) -> None:
    async with private_world(tmp_path) as world:
        TEAMS["team:1"] = {"ann", "bob"}
        ann, bob = await world.person("ann"), await world.person("bob")
        ann.doc.run("add_task@1", title="the team's", audience="team:1")
        ann.doc.run("add_task@1", title="for all")
        await all_in_sync(world)
        assert tasks(bob) == {"the team's": False, "for all": False}

        TEAMS["team:1"] = {"ann"}
        world.server.access_changed()
        await wait_until(lambda: tasks(bob) == {"for all": False})
        ann.doc.run("finish@1", title="for all")
        await all_in_sync(world)
        assert tasks(bob) == {"for all": True}
        assert tasks(ann) == {"the team's": False, "for all": True}

        await bob.restart()
        bob.doc.run("add_task@1", title="too late", audience="team:1")
        rev = await world.rev()
        if runner == "client":
            with pytest.raises(ChangeRefusedError, match="team:1"):
                await bob.connect()
            assert len(await bob.patches.list_quarantined_changes()) == 1
            assert await world.rev() == rev
        else:
            await bob.connect()  # it raises on the server, and comes to nothing
        await all_in_sync(world)
        await wait_until(lambda: [name for _, name, _ in bob.failed] == ["add_task@1"])
        assert tasks(bob) == {"for all": True}

        TEAMS["team:1"] = {"ann", "bob"}
        world.server.access_changed()
        await wait_until(lambda: tasks(bob) == {"the team's": False, "for all": True})
        assert tasks(ann) == tasks(bob)
