"""The signals of a server: after the fact, in order, delaying nobody."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from patches_server import allow_all, create_server
from patches_server.service.server_signals import MAX_BEHIND, ServerSignal
from tests.support.raw_peer import RawPeer

KINDS = (
    *("connect", "disconnect", "first_open", "last_close"),
    *("created", "committed", "deleted", "version", "refused"),
)


def noted(seen: list[tuple[str, Any]], kind: str) -> Any:
    return lambda *args: seen.append((kind, args[0]))


def put(n: int) -> Any:
    return lambda draft: draft.update(n=n)


async def quiet() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


@pytest.mark.parametrize("doc_id", ["d", "lww/d"])
async def test_scenario_27_every_signal_fires_once_and_in_order(doc_id: str) -> None:
    server = create_server(auth=allow_all)
    seen: list[tuple[Any, ...]] = []
    for name in KINDS:
        getattr(server, f"on_{name}")(noted(seen, name))
    server.rule("*")(lambda review: "no" if review.after.get("n") == 13 else None)
    async with server:
        peer = RawPeer(server.connect())
        await peer.result("subscribe", [doc_id])
        await peer.result("subscribe", [doc_id])
        for n in range(3):
            await server.edit(doc_id, put(n))
        bad = {"id": "bad", "ops": [{"op": "replace", "path": "/n", "value": 13}], "baseRev": 3}
        await peer.error("commitChanges", doc_id, [bad])
        documents = (await server.router.find(doc_id)).documents
        await documents.capture_current_version(doc_id)
        await peer.result("unsubscribe", [doc_id])
        await server.delete(doc_id)
        peer.session.end()
        await quiet()
        assert [kind for kind, _ in seen if kind != "created"] == [
            "connect",
            "first_open",
            "committed",
            "committed",
            "committed",
            "refused",
            "version",
            "last_close",
            "deleted",
            "disconnect",
        ]
        assert [kind for kind, _ in seen].count("created") == 1


async def test_scenario_27_a_slow_subscriber_delays_no_commit() -> None:
    async with create_server(auth=allow_all) as server:
        revs: list[int] = []
        go_on = asyncio.Event()

        async def slow(_doc_id: str, changes: Any, author: str | None) -> None:
            await go_on.wait()
            revs.append(changes[-1].rev)

        server.on_committed(slow)
        for n in range(20):
            await server.edit("d", put(n), author="ann")
        assert revs == []
        go_on.set()
        await quiet()
        await quiet()
        assert revs == list(range(1, 21))


async def test_a_subscriber_that_is_far_behind_loses_the_oldest() -> None:
    signal: ServerSignal[[int]] = ServerSignal("on_test", asyncio.ensure_future)
    seen: list[int] = []
    unsubscribe = signal(seen.append)
    for number in range(MAX_BEHIND + 5):
        signal.emit(number)
    await quiet()
    assert seen == list(range(5, MAX_BEHIND + 5))
    assert signal.lost == 5
    unsubscribe()
    signal.emit(1)
    await quiet()
    assert not signal
    assert len(seen) == MAX_BEHIND


async def test_a_subscriber_that_fails_gets_the_next_event() -> None:
    signal: ServerSignal[[int]] = ServerSignal("on_test", asyncio.ensure_future)
    seen: list[int] = []

    def fails(number: int) -> None:
        seen.append(number)
        raise ValueError(number)

    signal(fails)
    signal.emit(1)
    signal.emit(2)
    await quiet()
    assert seen == [1, 2]
    with pytest.raises(TypeError):
        signal(5)  # type: ignore[arg-type]  # the mistake
