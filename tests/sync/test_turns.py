"""How long a client holds its event loop while a long queue meets the server, in lines of code."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from patches import Change, Document, Patches, PatchesSync, Snapshot
from patches.net.connection import CommitAnswer
from patches.testing.fake_connection import Call, FakeConnection
from tests.support.turns import TurnMeter

FOREIGN = 300
#: About 5 ms, the default of `yield_every_ms`. Twice the queue makes a turn no longer.
LINES = 52_000


def edit(doc: Document, number: int) -> None:
    def of_text(draft: Any) -> None:
        draft["mine"] = number
        draft.text("body").insert(number * 7 % 50, "x")

    def of_list(draft: Any) -> None:
        draft["mine"] = number
        draft["list"].insert(0, number)

    doc.change(of_text if number % 2 else of_list)


def foreign(rev: int) -> Change:
    ops: list[dict[str, Any]] = [
        {"op": "replace", "path": "/theirs", "value": rev},
        {"op": "@txt", "path": "/body", "value": [{"retain": 3}, {"insert": "y"}]},
    ]
    return Change(id=f"f{rev}", ops=ops, base_rev=rev - 1, rev=rev, created_at=1, committed_at=1)


def committed(call: Call, rev: int) -> list[Change]:
    """The answer to a commit at `rev`, made in another thread: it is the server's work."""
    return [
        change.replace(rev=at, base_rev=at - 1, committed_at=1)
        for at, change in enumerate(call.changes, start=rev + 1)
    ]


async def longest_turn(count: int, max_payload_bytes: int | None) -> int:
    """Of a client that comes back with `count` edits while others have made some."""
    state = {"mine": 0, "theirs": 0, "list": [], "body": {"ops": [{"insert": "-" * 60 + "\n"}]}}
    connection = FakeConnection(getDoc=Snapshot(state=state, rev=1))
    async with Patches() as patches:
        sync = PatchesSync(patches, connection, max_payload_bytes=max_payload_bytes)
        doc = await patches.open_doc("d")
        async with sync:
            await sync.settled(10)
        for number in range(count):
            edit(doc, number)
            if number % 100 == 99:
                await doc.flush()
        await doc.flush()

        async def serve() -> None:
            missed = [foreign(rev) for rev in range(2, 2 + FOREIGN)]
            rev = 1 + FOREIGN
            while True:
                call = await connection.next_call("commitChanges")
                answer = await asyncio.to_thread(committed, call, rev)
                rev = answer[-1].rev
                call.answer(CommitAnswer([*missed, *answer]))
                missed = []

        server = asyncio.create_task(serve())
        with TurnMeter() as meter:
            async with sync:
                await sync.settled(60)
        server.cancel()
        assert doc.committed_rev == 1 + FOREIGN + count
        assert len(doc.state["list"]) == (count + 1) // 2
    return meter.longest


@pytest.mark.interpreted  # what is compiled is not counted
@pytest.mark.parametrize("max_payload_bytes", [None, 200_000], ids=["whole", "in batches"])
async def test_a_long_queue_does_not_hold_the_loop(max_payload_bytes: int | None) -> None:
    assert await longest_turn(3_000, max_payload_bytes) <= LINES
