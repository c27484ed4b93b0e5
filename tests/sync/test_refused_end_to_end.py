"""Refusals of the real server: what is set aside, what arrives, what is learnt."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from patches import Patches, PatchesSync
from patches.errors import ChangeRefusedError
from patches.limits import Limits
from patches.model.change import Change
from patches.testing.fixtures import ServerFixture
from patches.testing.local_server import LocalServer
from patches.testing.virtual_time import virtual_time


def no_shouting(_principal: object, _doc_id: str, changes: Sequence[Any]) -> Any:
    for change in changes:
        if any(str(op.get("value", "")).isupper() for op in change.ops):
            return ChangeRefusedError(change.id, "please do not shout")
    return None


@pytest.mark.parametrize("algorithm", ["ot", "lww"])
def test_only_what_is_refused_is_set_aside_however_often(algorithm: str) -> None:
    @virtual_time
    async def run() -> None:
        async with (
            LocalServer(validate=no_shouting, routes={"*": algorithm}) as server,
            Patches() as patches,
            PatchesSync(patches, server.connection()) as sync,
        ):
            doc = await patches.open_doc("d", algorithm=algorithm)
            doc.set({"title": "calm"})
            await sync.settled(60)
            for number in range(6):  # online, one after the other
                doc.apply([{"op": "replace", "path": f"/loud{number}", "value": "LOUD"}])
                with pytest.raises(ChangeRefusedError):
                    await sync.settled(60)
            sync.set_online(False)
            for number in range(12):  # offline, among others, all sent at once
                value = "LOUD" if number % 5 == 3 else f"calm {number}"
                doc.apply([{"op": "replace", "path": f"/n{number}", "value": value}])
                await doc.flush()
            sync.set_online(True)
            for _ in range(2):  # each refusal is raised once
                with pytest.raises(ChangeRefusedError):
                    await sync.settled(60)
            await sync.settled(60)
            expected = {f"n{n}": f"calm {n}" for n in range(12) if n % 5 != 3}
            assert doc.state == {"title": "calm", **expected}
            served = (await server.services[algorithm].documents.get_doc("d")).head
            assert doc.committed_rev == served
            entries = await patches.list_quarantined_changes("d")
            assert {entry.change.ops[0]["value"] for entry in entries} == {"LOUD"}
            assert all(len(entry.change.ops) == 1 for entry in entries)
            assert len(entries) == 6 + 2
            assert sync.synced["d"].status == "synced"

    run()


async def test_the_size_of_a_commit_is_learnt_once() -> None:
    async with ServerFixture({"limits": Limits(max_commit_bytes=300_000)}) as server:
        client = await server.client("ann")
        doc = await client.open_doc("d")
        await client.sync.settled(10)
        commits: list[int] = []
        original = client.sync.connection.commit_changes

        async def counted(doc_id: str, changes: Sequence[Change], *rest: Any) -> Any:
            commits.append(sum(len(change.encoded) for change in changes))
            return await original(doc_id, changes, *rest)

        client.sync.connection.commit_changes = counted  # type: ignore[method-assign, assignment]  # watched
        for round_ in range(2):
            with client.link.down():
                for number in range(9):
                    value = "x" * 100_000
                    doc.apply([{"op": "replace", "path": f"/r{round_}n{number}", "value": value}])
                    await doc.flush()
            await client.sync.settled(30)
        assert len([size for size in commits if size > 300_000]) <= 2
        assert client.errors == []
        assert len(await server.state("d")) == 18


async def test_the_size_of_a_frame_is_learnt_once() -> None:
    limits = Limits(max_frame_bytes=65_536, max_commit_bytes=None, max_change_bytes=None)
    async with ServerFixture({"limits": limits}) as server, Patches() as patches:
        url = await server.url()
        async with PatchesSync(patches, url) as sync:
            doc = await patches.open_doc("d")
            await sync.settled(10)
            sync.set_online(False)
            for number in range(12):
                doc.apply([{"op": "replace", "path": f"/n{number}", "value": "x" * 20_000}])
                await doc.flush()
            sync.set_online(True)
            await sync.settled(30)
            lost: list[bool] = []
            sync.on_state_change(lambda state: lost.append(not state.connected))
            for number in range(12):
                doc.apply([{"op": "replace", "path": f"/m{number}", "value": "x" * 20_000}])
            await sync.settled(30)
            assert True not in lost
        assert len(await server.state("d")) == 24
