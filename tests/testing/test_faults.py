from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from patches.errors import NetworkError
from patches.testing.clock import FakeClock
from patches.testing.faults import Link
from patches.testing.streams import MemoryStream


class Peer:
    """The server's end of the newest connection."""

    end: MemoryStream

    def accept(self, stream: MemoryStream) -> None:
        self.end = stream


@pytest.fixture
def clock() -> Iterator[FakeClock]:
    clock = FakeClock()
    yield clock
    clock.uninstall()


@pytest.fixture
def server() -> Peer:
    return Peer()


@pytest.fixture
def link(server: Peer) -> Link:
    return Link(server.accept)


def nothing_comes(stream: MemoryStream) -> bool:
    return not stream._inbox


async def test_frames_pass_in_order_both_ways(link: Link, server: Peer) -> None:
    client = await link.dial()
    for number in range(3):
        await client.send(b"%d" % number)
    assert [await server.end.receive() for _ in range(3)] == [b"0", b"1", b"2"]
    await server.end.send(b"back")
    assert await client.receive() == b"back"


async def test_a_cut_ends_both_sides_and_loses_what_is_under_way(link: Link, server: Peer) -> None:
    client = await link.dial()
    await client.send(b"lost")
    link.cut()
    assert not link.is_connected
    for end in (client, server.end):
        with pytest.raises(NetworkError, match="1006"):
            await end.receive()


async def test_a_cut_may_leave_what_has_arrived(link: Link, server: Peer) -> None:
    client = await link.dial()
    await client.send(b"kept")
    link.cut(lose=False)
    assert await server.end.receive() == b"kept"


async def test_what_is_held_comes_in_order_when_released(link: Link, server: Peer) -> None:
    client = await link.dial()
    with link.held("to_server"):
        await client.send(b"1")
        await client.send(b"2")
        await server.end.send(b"the other way is open")
        assert await client.receive() == b"the other way is open"
        assert nothing_comes(server.end)
    assert await server.end.receive() == b"1"
    assert await server.end.receive() == b"2"


async def test_what_is_held_is_lost_with_its_connection(link: Link, server: Peer) -> None:
    client = await link.dial()
    link.hold()
    await client.send(b"old")
    link.cut()
    link.release()
    client = await link.dial()
    await client.send(b"new")
    assert await server.end.receive() == b"new"


async def test_a_delay_holds_each_frame_for_so_long(
    link: Link, server: Peer, clock: FakeClock
) -> None:
    clock.install()
    client = await link.dial()
    link.delay_s = 2.0
    await client.send(b"1")
    await clock.advance(1)
    await client.send(b"2")
    link.delay_s = 0.0
    await client.send(b"3")  # may not overtake
    assert nothing_comes(server.end)
    await clock.advance(1)
    assert await server.end.receive() == b"1"
    assert nothing_comes(server.end)
    await clock.advance(1)
    assert [await server.end.receive() for _ in range(2)] == [b"2", b"3"]


async def test_the_answer_to_a_method_is_lost_with_the_connection(link: Link, server: Peer) -> None:
    client = await link.dial()
    link.lose_answer("commitChanges")
    await client.send(b'{"id":1,"method":"getDoc"}')
    await client.send(b'{"id":2,"method":"commitChanges"}')
    assert [await server.end.receive() for _ in range(2)]
    await server.end.send(b'{"method":"changesCommitted"}')
    await server.end.send(b'{"id":1,"result":1}')
    assert [await client.receive() for _ in range(2)]
    await server.end.send(b'{"id":2,"result":2}')
    assert not link.is_connected
    again = await link.dial()
    await server.end.send(b'{"id":3,"result":3}')  # only once
    assert await again.receive() == b'{"id":3,"result":3}'


async def test_a_request_is_lost_with_the_connection(link: Link, server: Peer) -> None:
    client = await link.dial()
    link.lose_request()
    await client.send(b'{"method":"peer-signal"}')
    assert await server.end.receive()
    await client.send(b'{"id":1,"method":"getDoc"}')
    with pytest.raises(NetworkError):
        await server.end.receive()


async def test_while_it_is_down_no_connection_can_be_made(link: Link, server: Peer) -> None:
    client = await link.dial()
    with link.down():
        with pytest.raises(NetworkError):
            await client.receive()
        with pytest.raises(NetworkError, match="down"):
            await link.dial()
    await link.dial()
    assert link.attempts == 3


async def test_a_new_connection_ends_the_old_one(link: Link, server: Peer) -> None:
    old = await link.dial()
    new = await link.dial()
    assert old.is_closed
    assert not new.is_closed
    await asyncio.sleep(0)
