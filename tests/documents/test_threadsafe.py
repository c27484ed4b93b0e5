"""`doc.threadsafe`: edits from threads other than the document's own."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from aiohttp.test_utils import TestServer

from patches import Patches, PatchesSync
from patches.errors import PatchError, WrongLoopError, WrongThreadError
from patches_server import allow_all, create_app


async def test_47_only_threadsafe_edits_from_other_threads() -> None:
    refused: list[str] = []
    async with (
        TestServer(create_app(auth=allow_all)) as server,
        Patches() as ann,
        PatchesSync(ann, str(server.make_url("/ws"))) as sync,
        Patches() as ben,
        PatchesSync(ben, str(server.make_url("/ws"))) as other_sync,
    ):
        doc = await ann.open_doc("n")
        doc.set({"n": 0})

        def edit() -> None:
            for _ in range(150):
                with pytest.raises(WrongThreadError) as error:
                    doc.change(lambda draft: draft.increment("n"))
                refused.append(str(error.value))
                doc.threadsafe.change(lambda draft: draft.increment("n"))

        await asyncio.gather(*(asyncio.to_thread(edit) for _ in range(4)))
        assert len(refused) == 600
        assert doc.state == {"n": 600}
        await sync.settled(10)
        seen = await ben.open_doc("n")
        await other_sync.settled(10)
        async with asyncio.timeout(10):
            async for state in seen:
                if state == {"n": 600}:
                    break


async def test_each_member_runs_on_the_loop_and_answers() -> None:
    async with Patches() as patches:
        doc = await patches.open_doc("plan")
        loop_thread = threading.get_ident()
        ran: list[int] = []

        def work() -> None:
            doc.threadsafe.set({"items": []})
            doc.threadsafe.apply([{"op": "add", "path": "/items/-", "value": 1}])
            doc.threadsafe.change(lambda draft: ran.append(threading.get_ident()))
            with doc.threadsafe.edit() as draft:
                draft["items"].append(2)
            with pytest.raises(KeyError):
                doc.threadsafe.change(lambda draft: draft["nothing"])
            with pytest.raises(PatchError):
                doc.threadsafe.apply([{"op": "add", "path": "/a", "value": {1, 2}}])
            doc.threadsafe.flush()

        await asyncio.to_thread(work)
        assert doc.state == {"items": [1, 2]}
        assert ran == [loop_thread]
        assert not doc.unsaved


async def test_a_block_that_others_came_between_changes_nothing() -> None:
    async with Patches() as patches:
        doc = await patches.open_doc("plan")
        doc.set({"n": 1})

        def work() -> None:
            with doc.threadsafe.edit() as draft:
                draft["n"] = 2
                doc.threadsafe.change(lambda other: other.update(m=1))

        with pytest.raises(PatchError, match="changed while it was being edited"):
            await asyncio.to_thread(work)
        assert doc.state == {"n": 1, "m": 1}


async def test_in_the_documents_own_thread() -> None:
    async with Patches() as patches:
        doc = await patches.open_doc("plan")
        doc.threadsafe.change(lambda draft: draft.update(n=1))
        assert doc.state == {"n": 1}
        with pytest.raises(WrongLoopError, match="await"):
            doc.threadsafe.flush()


def test_after_the_end_of_the_loop() -> None:
    async def live() -> Any:
        async with Patches() as patches:
            return await patches.open_doc("plan")

    doc = asyncio.run(live())
    for call in (lambda: doc.threadsafe.set({}), doc.threadsafe.flush):
        with ThreadPoolExecutor(1) as other, pytest.raises(WrongLoopError, match="ended"):
            other.submit(call).result()
