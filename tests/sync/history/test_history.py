"""Versions of a document, from the real server."""

from __future__ import annotations

import random
from typing import Any

import pytest

from patches.client.patches import Patches
from patches.errors import PatchesError, VersionError
from patches.runtime import Runtime
from patches.sync import PatchesSync
from patches.sync.history.history import CACHED_VERSIONS, PatchesHistoryClient
from patches.testing.fake_connection import FakeConnection
from patches.testing.local_server import LocalServer
from patches.testing.virtual_time import virtual_time


@virtual_time
async def test_versions_are_made_listed_named_and_shown() -> None:
    async with (
        LocalServer() as server,
        Patches(runtime=Runtime(random=random.Random(1))) as patches,
        PatchesSync(patches, server.connection()) as sync,
    ):
        doc = await patches.open_doc("d")
        history = PatchesHistoryClient("d", sync.connection)
        shown: list[object] = []
        history.on_state_change(shown.append)
        for number in (1, 2, 3):
            doc.apply([{"op": "replace", "path": "/n", "value": number}])
            doc.apply([{"op": "replace", "path": f"/k{number}", "value": number}])
            await sync.settled(5)
            version_id = await history.create_version({"name": f"v{number}"})
            assert version_id is not None
        assert await history.create_version() is None  # nothing new
        one, two, three = history.versions
        assert [version.name for version in history.versions] == ["v1", "v2", "v3"]
        assert await history.get_version_state(two.id) == {"n": 2, "k1": 1, "k2": 2}
        assert history.state is shown[-1]
        changes = await history.get_version_changes(three.id)
        assert len(changes) == 2
        assert await history.scrub_to(three.id, 0) == {"n": 2, "k1": 1, "k2": 2}
        assert await history.scrub_to(three.id, 1) == {"n": 3, "k1": 1, "k2": 2}
        assert await history.scrub_to(three.id, 99) == doc.state
        await history.list_versions(reverse=True, limit=2)
        assert [version.name for version in history.versions] == ["v3", "v2"]
        assert await history.scrub_to(two.id, 0) == {"n": 1, "k1": 1}  # its parent is not listed
        await history.update_version(one.id, {"name": "first"})
        assert history.versions[0].name == "first"
        with pytest.raises(PatchesError, match="endRev"):
            await history.update_version(one.id, {"endRev": 5})


@virtual_time
async def test_the_last_few_versions_are_kept() -> None:
    connection = FakeConnection(getVersionState=lambda call: {"id": call.args[1]})
    await connection.connect()
    history = PatchesHistoryClient("d", connection)
    for number in range(CACHED_VERSIONS + 1):
        assert await history.get_version_state(f"v{number}") == {"id": f"v{number}"}
    asked = len(connection.calls)
    await history.get_version_state("v1")
    assert len(connection.calls) == asked
    await history.get_version_state("v0")
    assert len(connection.calls) == asked + 1
    history.clear()
    await history.get_version_state("v1")
    assert len(connection.calls) == asked + 2


def version(id: str, start_rev: int, end_rev: int, **more: Any) -> dict[str, Any]:
    times = {"startedAt": 1, "endedAt": 2}
    return {
        "id": id, "origin": "main", "startRev": start_rev, "endRev": end_rev, **times, **more
    }  # fmt: skip


def change(id: str, rev: int, *ops: Any) -> dict[str, Any]:
    return {
        "id": id, "rev": rev, "baseRev": rev - 1, "ops": list(ops), "createdAt": 1, "committedAt": 2
    }  # fmt: skip


@virtual_time
async def test_a_change_that_cannot_be_applied_is_left_out_whole_as_in_the_server_s_states() -> (
    None
):
    connection = FakeConnection(
        getStateBeforeVersion={"a": 0},
        getVersionChanges=[
            change(
                "c1",
                1,
                {"op": "replace", "path": "/a", "value": 1},
                {"op": "move", "from": "/nothing", "path": "/c"},
            ),
            change("c2", 2, {"op": "replace", "path": "/b", "value": 2}),
            change("c3", 3, {"op": "replace", "path": "/b/c", "value": 3}),
            change("c4", 4, {"op": "remove", "path": ""}),
        ],
    )
    await connection.connect()
    history = PatchesHistoryClient("d", connection)
    shown = [await history.scrub_to("v", count) for count in range(5)]
    assert shown == [{"a": 0}, {"a": 0}, {"a": 0, "b": 2}, {"a": 0, "b": 2}, None]


@virtual_time
async def test_a_parent_that_ends_earlier_is_not_the_state_before_a_version() -> None:
    connection = FakeConnection(
        listVersions=[
            version("one", 1, 2),
            version("two", 3, 3, parentId="one"),
            version("later", 6, 6, parentId="two"),
        ],
        getVersionState=lambda call: {"after": call.args[1]},
        getStateBeforeVersion=lambda call: {"before": call.args[1]},
        getVersionChanges=[],
    )
    await connection.connect()
    history = PatchesHistoryClient("d", connection)
    await history.list_versions()
    assert await history.scrub_to("two", 0) == {"after": "one"}
    assert await history.scrub_to("later", 0) == {"before": "later"}  # 4 and 5 are between


@virtual_time
async def test_odd_answers_and_arguments_are_refused() -> None:
    connection = FakeConnection(listVersions="x")
    await connection.connect()
    history = PatchesHistoryClient("d", connection)
    with pytest.raises(VersionError, match="no list"):
        await history.list_versions()
    with pytest.raises(VersionError, match="-1"):
        await history.scrub_to("v", -1)
