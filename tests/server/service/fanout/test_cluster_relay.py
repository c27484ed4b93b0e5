"""Presence between clients of two processes on one PostgreSQL database."""

from __future__ import annotations

from typing import Any

import pytest

from patches.testing.contracts.bus import until
from tests.support.raw_peer import RawPeer

pytest.importorskip(
    "asyncpg", reason="asyncpg is not installed: pip install patches-sync[postgres]"
)
from patches_server.service.fanout.cluster_relay import GONE_S, ClusterRelay
from tests.server.service.test_cluster import Stage, _Rights, staged


def relay_of(stage: Stage, number: int) -> ClusterRelay:
    relay = (stage.first, stage.second)[number].server.relay
    assert isinstance(relay, ClusterRelay)
    return relay


def names(room: Any) -> list[str]:
    return sorted(state["name"] for state in room.others.values())


@pytest.mark.parametrize("is_open", [True, False])
async def test_people_of_two_processes_see_each_other(postgres_url: str, is_open: bool) -> None:
    """Scenario 26: cursors, leaving, and a process that is killed."""
    options: dict[str, Any] = {} if is_open else {"auth": _Rights(lambda: True)}
    async with staged(postgres_url, **options) as stage:
        ann = await stage.person(stage.first, "d")
        bob = await stage.person(stage.second, "d")
        async with ann.sync.presence("d", {"name": "Ann"}) as anns:
            async with bob.sync.presence("d", {"name": "Bob", "cursor": 1}) as bobs:
                await until(lambda: names(anns) == ["Bob"] and names(bobs) == ["Ann"])
                bobs.update(cursor=7)
                await until(lambda: [each["cursor"] for each in anns.others.values()] == [7])
            await until(lambda: names(anns) == [])
            async with bob.sync.presence("d", {"name": "Bob"}):
                await until(lambda: names(anns) == ["Bob"])
                stage.channel.times = lambda _hint: 0  # as if the process were gone
                relay = relay_of(stage, 0)
                for process in relay._seen_at:
                    relay._seen_at[process] -= GONE_S + 1
                relay.drop_silent()
                await until(lambda: names(anns) == [])


async def test_peers_without_rooms_find_and_lose_each_other(postgres_url: str) -> None:
    """Scenario 27: as clients of @dabble/patches do it."""
    async with staged(postgres_url) as stage:
        ann = RawPeer(stage.first.server.connect())
        await until(lambda: relay_of(stage, 1)._known() == [ann.id])
        bob = RawPeer(stage.second.server.connect())
        assert (await bob.notification("peer-welcome"))["peers"] == [ann.id]
        assert await bob.result("peer-signal", ann.id, '{"id":"bob"}') == "ok"
        assert await ann.notification("signal") == {"from": bob.id, "data": '{"id":"bob"}'}
        assert await ann.result("peer-signal", bob.id, "x") == "ok"
        assert (await bob.notification("signal"))["from"] == ann.id
        bob.session.end()
        assert await ann.notification("peer-disconnected") == {"id": bob.id}
        assert (await ann.error("peer-signal", bob.id, "x"))["message"] == "Target not connected"
        ann.session.end()


async def test_a_message_into_a_room_needs_both_subscriptions(postgres_url: str) -> None:
    async with staged(postgres_url, auth=_Rights(lambda: True)) as stage:
        ann = RawPeer(stage.first.server.connect("ann"))
        bob = RawPeer(stage.second.server.connect("bob"))
        await until(lambda: relay_of(stage, 1)._known() == [ann.id])
        await until(lambda: relay_of(stage, 0)._known() == [bob.id])
        assert (await bob.error("peer-signal", ann.id, "x", "d"))["message"] == (
            "Target not connected"
        )
        await bob.result("subscribe", "d")
        await bob.result("peer-signal", ann.id, "secret", "d")  # she is not subscribed
        await ann.result("subscribe", ["d", "e"])
        await bob.result("peer-signal", ann.id, "hello", "d")
        signal = await ann.notification("signal")
        assert signal == {"from": bob.id, "data": "hello", "room": "d"}
        await bob.result("unsubscribe", "d")
        gone = await ann.notification("peer-disconnected")
        assert gone == {"id": bob.id, "room": "d"}
        for peer in (ann, bob):
            peer.session.end()


async def test_a_lost_join_is_made_good_by_the_next_list(postgres_url: str) -> None:
    async with staged(postgres_url) as stage:
        stage.channel.times = lambda hint: 0 if hint.kind in ("j", "g") else 1
        ann = RawPeer(stage.first.server.connect())
        bob = RawPeer(stage.first.server.connect())
        ann.session.end()
        stage.channel.times = lambda _hint: 1
        relay_of(stage, 0).announce()
        await until(lambda: relay_of(stage, 1)._known() == [bob.id])
        bob.session.end()
