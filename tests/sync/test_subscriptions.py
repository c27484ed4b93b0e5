"""Which documents this client hears about."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from patches.errors import NetworkError
from patches.sync.subscriptions import Subscriptions
from patches.testing.virtual_time import idle, virtual_time


class Asked:
    """Answers when it is told to."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []
        self.refused: set[str] = set()
        self.gate = asyncio.Event()
        self.gate.set()

    async def __call__(self, doc_ids: Sequence[str]) -> list[str]:
        self.asked.append(list(doc_ids))
        await self.gate.wait()
        return [doc_id for doc_id in doc_ids if doc_id not in self.refused]


@virtual_time
async def test_only_what_is_missing_is_asked_for() -> None:
    subscriptions, subscribe = Subscriptions(None), Asked()
    await subscriptions.cover(lambda: ["a", "b"], subscribe)
    await subscriptions.cover(lambda: ["a", "b", "c"], subscribe)
    await subscriptions.cover(lambda: ["a"], subscribe)
    assert subscribe.asked == [["a", "b"], ["c"]]
    assert subscriptions.granted == ("a", "b", "c")


@virtual_time
async def test_only_the_granted_are_remembered_and_the_others_asked_for_again() -> None:
    subscriptions, subscribe = Subscriptions(None), Asked()
    subscribe.refused = {"b"}
    await subscriptions.cover(lambda: ["a", "b"], subscribe)
    assert subscriptions.granted == ("a",)
    await subscriptions.cover(lambda: ["a", "b", "c"], subscribe)
    assert subscribe.asked[-1] == ["b", "c"]


@virtual_time
async def test_one_question_at_a_time_and_who_is_covered_waits_for_the_answer() -> None:
    subscriptions, subscribe = Subscriptions(lambda _ids: ["root"]), Asked()
    subscribe.gate.clear()
    first = asyncio.ensure_future(subscriptions.cover(lambda: ["a"], subscribe))
    second = asyncio.ensure_future(subscriptions.cover(lambda: ["a", "b"], subscribe))
    await idle()
    assert not second.done()
    subscribe.gate.set()
    await asyncio.gather(first, second)
    assert subscribe.asked == [["root"]]


@virtual_time
async def test_an_answer_of_a_lost_connection_grants_nothing() -> None:
    subscriptions, subscribe = Subscriptions(None), Asked()
    subscribe.gate.clear()
    asking = asyncio.ensure_future(subscriptions.cover(lambda: ["a"], subscribe))
    await idle()
    subscriptions.reset()
    subscribe.gate.set()
    with pytest.raises(NetworkError):
        await asking
    assert subscriptions.granted == ()


@virtual_time
async def test_only_what_nobody_needs_is_given_up() -> None:
    subscriptions, ask = Subscriptions(lambda ids: [name[0] for name in ids]), Asked()
    await subscriptions.cover(lambda: ["a1", "a2", "b1"], ask)
    await subscriptions.trim(lambda: ["a2", "b1"], ask)
    assert len(ask.asked) == 1
    await subscriptions.trim(lambda: ["b1"], ask)
    assert ask.asked[-1] == ["a"]
    assert subscriptions.granted == ("b",)
