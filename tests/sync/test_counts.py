"""How much code the client runs for what it does most, and what it keeps for what does nothing.

Counts do not depend on the machine's speed. The bounds are a tenth above what was counted when they
were set: lower them with what you save.
"""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest

from benchmarks.keystroke import Counter
from patches import Document, Patches, PatchesSync
from patches.model.change import Change
from patches.testing.local_server import LocalServer

pytestmark = pytest.mark.interpreted  # what is compiled is not counted
ROUNDS = 7


async def middle(measure: Callable[[Counter, int], Awaitable[None]]) -> int:
    """The median of the calls in a few rounds, after some that are not counted."""
    counter, counts = Counter(), []
    for number in range(3 * ROUNDS):
        await measure(counter, number)
        counts.append(counter.stop().calls)
        await asyncio.sleep(0)
    return sorted(counts[-ROUNDS:])[ROUNDS // 2]


def set_field(draft: Any, number: int) -> None:
    draft["n"] = number


def type_letter(draft: Any, number: int) -> None:
    draft.text("body").insert(number, "x")


# ---- a local edit --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("algorithm", "edit", "most"),
    [("ot", set_field, 67), ("lww", set_field, 75), ("ot", type_letter, 114)],
)
async def test_an_edit_that_is_shown(
    algorithm: str, edit: Callable[[Any, int], None], most: int
) -> None:
    async with Patches() as patches:
        doc = await patches.open_doc("d", algorithm=algorithm)
        doc.set({"n": -1, "other": {"a": [1]}})

        async def one(counter: Counter, number: int) -> None:
            counter.start()
            doc.change(lambda draft: edit(draft, number))
            counter.stop()
            await doc.flush()

        assert await middle(one) <= most


@pytest.mark.parametrize("algorithm", ["ot", "lww"])
async def test_an_edit_makes_as_many_calls_in_a_large_document(algorithm: str) -> None:
    counts = []
    for size in (1, 2_000):
        async with Patches() as patches:
            doc = await patches.open_doc("d", algorithm=algorithm)
            doc.set({"n": -1, **{f"key{at}": at for at in range(size)}})

            async def one(counter: Counter, number: int, doc: Document = doc) -> None:
                counter.start()
                doc.change(lambda draft: set_field(draft, number))
                counter.stop()
                await doc.flush()

            counts.append(await middle(one))
    assert counts[0] == counts[1]


# ---- a delivery ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("algorithm", "most"), [("ot", 111), ("lww", 146)])
async def test_a_delivery_that_is_shown(algorithm: str, most: int) -> None:
    """From the connection to the document's subscriber, in a document that is at rest."""
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(LocalServer(routes={"*": algorithm}))
        patches = await stack.enter_async_context(Patches(default_algorithm=algorithm))
        sync = PatchesSync(patches, server.connection())
        await stack.enter_async_context(sync)
        doc = await patches.open_doc("d")
        doc.set({"n": -1})
        await sync.settled(10)
        first = doc.committed_rev

        async def one(counter: Counter, number: int) -> None:
            rev = first + number
            op: dict[str, Any] = {"op": "replace", "path": "/n", "value": number}
            if algorithm == "lww":
                op |= {"ts": 10_000_000_000_000 + number, "rev": rev + 1}
            change = Change(
                id=f"c{number}", ops=[op], base_rev=rev, rev=rev + 1, created_at=1, committed_at=1
            )
            shown = asyncio.Event()

            def update(_: object) -> None:
                counter.stop()
                shown.set()

            unsubscribe = doc.on_update(update)
            counter.start()
            sync.connection.on_changes_committed.emit("d", [change])
            await shown.wait()
            unsubscribe()
            await asyncio.sleep(0.001)

        assert await middle(one) <= most


# ---- an open -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("algorithm", "most"), [("ot", 990), ("lww", 1_090)])
async def test_an_open_of_what_the_server_has(algorithm: str, most: int) -> None:
    """Until it is synced, with all that the server does for it."""
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(LocalServer(routes={"*": algorithm}))
        author = await stack.enter_async_context(Patches(default_algorithm=algorithm))
        author_sync = PatchesSync(author, server.connection())
        await stack.enter_async_context(author_sync)
        for number in range(3 * ROUNDS):
            (await author.open_doc(f"d{number}")).set({"n": number})
        await author_sync.settled(10)
        reader = await stack.enter_async_context(Patches(default_algorithm=algorithm))
        sync = PatchesSync(reader, server.connection())
        await stack.enter_async_context(sync)

        async def one(counter: Counter, number: int) -> None:
            counter.start()
            doc = await reader.open_doc(f"d{number}")
            await sync.settled(10)
            counter.stop()
            assert doc.state == {"n": number}

        assert await middle(one) <= most


# ---- what is at rest -----------------------------------------------------------------------------


def blocks() -> int:
    """How many blocks of memory are in use."""
    gc.collect()
    return sys.getallocatedblocks()


async def test_what_a_connection_and_a_document_keep_while_nothing_happens() -> None:
    """On both ends of it: client, connection, session; document, worker, subscription."""
    count = 20
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(LocalServer())
        clients: list[Patches] = []
        syncs: list[PatchesSync] = []

        async def connect() -> None:
            clients.append(await stack.enter_async_context(Patches()))
            syncs.append(PatchesSync(clients[-1], server.connection()))
            await stack.enter_async_context(syncs[-1])
            await syncs[-1].settled(10)

        for _ in range(3):
            await connect()
        before = blocks()
        for _ in range(count):
            await connect()
        per_connection = (blocks() - before) / count
        await clients[0].open_doc("first")
        await syncs[0].settled(10)
        before = blocks()
        for number in range(count):
            await clients[0].open_doc(f"d{number}")
        await syncs[0].settled(10)
        per_document = (blocks() - before) / count
    assert per_connection <= 617
    assert per_document <= 111
