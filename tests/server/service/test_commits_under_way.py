"""A commit that is sent again while it is carried out."""

from __future__ import annotations

import asyncio
from typing import Any

from patches.errors import StorageError
from patches.limits import Limits

CHANGE: dict[str, Any] = {"id": "c1", "ops": [], "baseRev": 0, "createdAt": 7}


async def test_a_repetition_over_another_connection_gets_the_answer_of_the_first(
    connect: Any, documents: Any
) -> None:
    first, again, reader = connect(), connect(), connect()
    await reader.result("subscribe", "d")
    documents.gate.clear()
    calls = [await peer.start("commitChanges", "d", [CHANGE]) for peer in (first, again)]
    await asyncio.sleep(0.01)
    assert documents.entered == ["c1"]
    documents.gate.set()
    answers = [await peer.answer(call) for peer, call in zip((first, again), calls, strict=True)]
    assert answers[0]["result"] == answers[1]["result"]
    assert [change["rev"] for change in answers[0]["result"]["changes"]] == [1]
    assert len(reader.unread("changesCommitted")) == 1


async def test_a_repetition_is_asked_for_its_own_right(serve: Any, documents: Any) -> None:
    async def can_access(principal: object, *_: object) -> bool:
        return principal == "ann"

    connect = await serve(auth=can_access)
    ann, eve = connect("ann"), connect("eve")
    documents.gate.clear()
    call = await ann.start("commitChanges", "d", [CHANGE])
    assert (await eve.error("commitChanges", "d", [CHANGE]))["code"] == 403
    documents.gate.set()
    assert "result" in await ann.answer(call)


async def test_other_changes_are_other_commits(connect: Any, documents: Any) -> None:
    peers = [connect() for _ in range(4)]
    documents.gate.clear()
    others: list[dict[str, Any]] = [{}, {"baseRev": 1}, {"createdAt": 8}, {"id": "c2"}]
    for peer, fields in zip(peers, others, strict=True):
        await peer.start("commitChanges", "d", [{**CHANGE, **fields}])
    await asyncio.sleep(0.01)
    assert len(documents.entered) == 4
    documents.gate.set()


async def test_a_failure_is_the_repetitions_too(connect: Any, documents: Any) -> None:
    async def fail(*_: object) -> Any:
        await documents.gate.wait()
        raise StorageError("disk I/O error")

    documents.commit_changes = fail
    first, again = connect(), connect()
    documents.gate.clear()
    calls = [await peer.start("commitChanges", "d", [CHANGE]) for peer in (first, again)]
    await asyncio.sleep(0.01)
    documents.gate.set()
    for peer, call in zip((first, again), calls, strict=True):
        assert (await peer.answer(call))["error"]["code"] == 503


async def test_a_commit_goes_on_while_a_repetition_waits_for_it(serve: Any, documents: Any) -> None:
    connect = await serve(limits=Limits(store_timeout_s=0.05))
    first, again = connect(), connect()
    documents.gate.clear()
    call = await first.start("commitChanges", "d", [CHANGE])
    assert (await first.answer(call))["error"]["data"] == {"reason": "STORAGE"}
    call = await again.start("commitChanges", "d", [CHANGE])
    await asyncio.sleep(0)
    documents.gate.set()
    assert [each["id"] for each in (await again.answer(call))["result"]["changes"]] == ["c1"]
    assert documents.entered == ["c1"]
