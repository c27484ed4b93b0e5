"""Which documents the server broadcasts to this client."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from patches.errors import NetworkError
from patches.sync.link import Link
from patches.sync.subscriptions import Subscriptions
from patches.testing.virtual_time import idle, virtual_time


class Calls:
    """`subscribe` or `unsubscribe`; answers when the gate is open."""

    def __init__(self) -> None:
        self.calls: list[list[str]] = []
        self.refused: set[str] = set()
        self.gate = asyncio.Event()
        self.gate.set()

    async def __call__(self, doc_ids: Sequence[str]) -> list[str]:
        self.calls.append(list(doc_ids))
        await self.gate.wait()
        return [doc_id for doc_id in doc_ids if doc_id not in self.refused]


@virtual_time
async def test_only_what_is_missing_is_asked_for() -> None:
    link, subscriptions, subscribe = Link(), Subscriptions(None), Calls()
    await subscriptions.subscribe_missing(link, lambda: ["a", "b"], subscribe)
    await subscriptions.subscribe_missing(link, lambda: ["a", "b", "c"], subscribe)
    await subscriptions.subscribe_missing(link, lambda: ["a"], subscribe)
    assert subscribe.calls == [["a", "b"], ["c"]]
    assert list(link.granted) == ["a", "b", "c"]


@virtual_time
async def test_only_the_granted_are_remembered_and_the_others_asked_for_again() -> None:
    link, subscriptions, subscribe = Link(), Subscriptions(None), Calls()
    subscribe.refused = {"b"}
    await subscriptions.subscribe_missing(link, lambda: ["a", "b"], subscribe)
    assert list(link.granted) == ["a"]
    await subscriptions.subscribe_missing(link, lambda: ["a", "b", "c"], subscribe)
    assert subscribe.calls[-1] == ["b", "c"]


@virtual_time
async def test_one_question_at_a_time_and_who_is_covered_waits_for_the_answer() -> None:
    link, subscribe = Link(), Calls()
    subscriptions = Subscriptions(lambda _ids: ["root"])
    subscribe.gate.clear()
    first = asyncio.ensure_future(subscriptions.subscribe_missing(link, lambda: ["a"], subscribe))
    second = asyncio.ensure_future(
        subscriptions.subscribe_missing(link, lambda: ["a", "b"], subscribe)
    )
    await idle()
    assert not second.done()
    subscribe.gate.set()
    await asyncio.gather(first, second)
    assert subscribe.calls == [["root"]]


@virtual_time
async def test_an_answer_of_a_lost_connection_grants_nothing() -> None:
    link, subscriptions, subscribe = Link(), Subscriptions(None), Calls()
    subscribe.gate.clear()
    subscribing = asyncio.ensure_future(
        subscriptions.subscribe_missing(link, lambda: ["a"], subscribe)
    )
    await idle()
    link.end(was_lost=True)
    subscribe.gate.set()
    with pytest.raises(NetworkError):
        await subscribing
    assert list(link.granted) == []


@virtual_time
async def test_only_what_nobody_needs_is_given_up() -> None:
    link, call = Link(), Calls()
    subscriptions = Subscriptions(lambda ids: [name[0] for name in ids])
    await subscriptions.subscribe_missing(link, lambda: ["a1", "a2", "b1"], call)
    await subscriptions.unsubscribe_unused(link, lambda: ["a2", "b1"], call)
    assert len(call.calls) == 1
    await subscriptions.unsubscribe_unused(link, lambda: ["b1"], call)
    assert call.calls[-1] == ["a"]
    assert list(link.granted) == ["b"]
