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
