"""Whether a document's user may write to it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from patches import Patches, PatchesSync
from patches.errors import ReadOnlyError
from patches.testing.fake_connection import FakeConnection
from patches.testing.local_server import LocalServer
from tests.support.raw_peer import RawPeer


class Rights:
    def __init__(self) -> None:
        self.kinds = {"read", "write"}

    async def __call__(self, _who: object, _doc: str, kind: str, *_: object) -> bool:
        return kind in self.kinds


async def changes_to(doc: Any, value: bool | None) -> None:
    changed = asyncio.Event()
    unsubscribe = doc.on_access_change(lambda now: changed.set() if now is value else None)
    if doc.can_write is not value:
        await asyncio.wait_for(changed.wait(), 5)
    unsubscribe()


async def test_scenario_28_can_write_follows_the_rights() -> None:
    rights = Rights()
    async with LocalServer(auth=rights) as local, Patches() as patches:
        async with PatchesSync(patches, local.connection()) as sync:
            doc = await patches.open_doc("d")
            assert doc.can_write is None
            await changes_to(doc, True)
            doc.change(lambda draft: draft.update(a=1))
            await sync.settled(5)
            rights.kinds = {"read"}
            local.server.revoke(doc_id="d")
            await changes_to(doc, False)
            with pytest.raises(ReadOnlyError):
                doc.change(lambda draft: draft.update(a=2))
            assert doc.state == {"a": 1}
            rights.kinds = {"read", "write"}
            local.server.revoke(doc_id="d")
            await changes_to(doc, True)
            doc.change(lambda draft: draft.update(a=3))
            await sync.settled(5)
            assert await local.server.read("d") == {"a": 3}


async def test_it_is_asked_again_on_the_next_connection() -> None:
    rights = Rights()
    async with LocalServer(auth=rights) as local, Patches() as patches:
        sync = PatchesSync(patches, local.connection())
        doc = await patches.open_doc("d")
        assert doc.can_write is None  # there is no connection to ask by
        async with sync:
            await changes_to(doc, True)
            await sync.disconnect()
            rights.kinds = {"read"}
            await sync.connect()
            await changes_to(doc, False)


async def test_scenario_28_a_server_that_does_not_say() -> None:
    async with LocalServer() as local, Patches() as patches:
        del local.server.methods["getAccess"]
        async with PatchesSync(patches, local.connection()) as sync:
            doc = await patches.open_doc("d")
            assert doc.can_write is None
            doc.change(lambda draft: draft.update(a=1))
            await sync.settled(5)
            assert doc.can_write is None


async def test_nobody_is_asked_for_what_nobody_wants_to_know() -> None:
    connection = FakeConnection()
    async with Patches() as patches, PatchesSync(patches, connection):
        await patches.open_doc("d")
        assert "getAccess" not in connection.methods


async def test_the_answer_says_nothing_of_what_may_not_be_read() -> None:
    rights = Rights()
    async with LocalServer(auth=rights) as local:
        await local.server.edit("lww/d", lambda draft: draft.update(a=1))
        peer = RawPeer(local.server.connect())
        assert await peer.result("getAccess", ["lww/d"]) == [
            {"docId": "lww/d", "read": True, "write": True, "algorithm": "lww"}
        ]
        rights.kinds = set()
        local.server.revoke()
        assert await peer.notification("accessChanged") == {
            "docId": "lww/d",
            "read": False,
            "write": False,
        }
        assert await peer.result("getAccess", ["lww/d", "none"]) == [
            {"docId": "lww/d", "read": False, "write": False},
            {"docId": "none", "read": False, "write": False},
        ]
