"""Connections that come and go, on a clock that jumps."""

from __future__ import annotations

import asyncio
import random

import pytest

from patches.errors import FrameTooLargeError, NetworkError
from patches.net.streams import StreamTransport
from patches.net.transport import TransportState
from patches.runtime import Runtime
from patches.testing.streams import MemoryNetwork, MemoryStream, memory_transport
from patches.testing.virtual_time import idle, virtual_time


class _NoChance(random.Random):
    def random(self) -> float:
        return 0.0


def transport_to(network: MemoryNetwork) -> tuple[StreamTransport, list[TransportState]]:
    """A transport without jitter, and the states it goes through."""
    transport = memory_transport(network, runtime=Runtime(random=_NoChance()))
    states: list[TransportState] = []
    transport.on_state_change(states.append)
    return transport, states


def state_of(transport: StreamTransport) -> str:
    return transport.state


def now() -> float:
    return asyncio.get_running_loop().time()


@virtual_time
async def test_frames_go_both_ways_in_order() -> None:
    network = MemoryNetwork()
    transport, states = transport_to(network)
    got: list[bytes] = []
    transport.on_frame(got.append)
    await transport.connect()
    server = await network.accepted.get()
    for frame in (b"1", b"2", b"3"):
        transport.send(frame)
        await server.send(frame)
    assert [await server.receive() for _ in range(3)] == [b"1", b"2", b"3"]
    await idle()
    assert got == [b"1", b"2", b"3"]
    await transport.disconnect()
    assert states == ["connecting", "connected", "disconnected"]
    with pytest.raises(NetworkError):
        await server.receive()


@virtual_time
async def test_the_first_failure_raises_and_the_next_attempts_are_made() -> None:
    network = MemoryNetwork()
    network.up = False
    transport, states = transport_to(network)
    with pytest.raises(NetworkError, match="nobody there"):
        await transport.connect()
    assert states == ["connecting", "error", "disconnected"]
    assert transport.failure is not None
    await asyncio.sleep(0.9)
    assert network.attempts == 1
    network.up = True
    await asyncio.sleep(0.2)
    assert state_of(transport) == "connected"
    assert str(transport.failure) == "None"
    await transport.disconnect()


@virtual_time
async def test_waits_are_1_then_half_as_much_more_and_connecting_alone_does_not_reset_them() -> (
    None
):
    network = MemoryNetwork()
    transport, _ = transport_to(network)
    network.up = False
    await transport.connect(background=True)
    for total, attempts in ((0.5, 1), (1.5, 2), (3.0, 3), (5.0, 4)):  # 0, 1, 2.5, 4.75
        await asyncio.sleep(total - now())
        assert network.attempts == attempts
    network.up = True
    await asyncio.sleep(9 - now())  # 8.125
    assert state_of(transport) == "connected"
    network.cut()
    await asyncio.sleep(5)
    assert state_of(transport) == "disconnected"
    await asyncio.sleep(0.1)  # waited 5.0625, not 1
    assert state_of(transport) == "connected"
    await transport.disconnect()


@virtual_time
async def test_a_connection_that_lived_and_answered_starts_the_waits_over() -> None:
    network = MemoryNetwork()
    transport, _ = transport_to(network)
    network.up = False
    await transport.connect(background=True)
    await asyncio.sleep(20)
    network.up = True
    await asyncio.sleep(30)
    assert state_of(transport) == "connected"
    transport.mark_healthy()
    attempts = network.attempts
    await asyncio.sleep(10)
    network.cut()
    await asyncio.sleep(1.1)
    assert state_of(transport) == "connected"
    assert network.attempts == attempts + 1
    await transport.disconnect()


@virtual_time
async def test_a_connection_that_lived_and_never_answered_does_not() -> None:
    network = MemoryNetwork()
    transport, _ = transport_to(network)
    network.up = False
    await transport.connect(background=True)
    await asyncio.sleep(20)
    network.up = True
    await asyncio.sleep(30)
    attempts = network.attempts
    network.cut()
    await asyncio.sleep(5)
    assert network.attempts == attempts  # the waits have come to more than that
    await transport.disconnect()


@virtual_time
async def test_connect_again_while_waiting_tries_at_once() -> None:
    network = MemoryNetwork()
    network.up = False
    transport, _ = transport_to(network)
    with pytest.raises(NetworkError):
        await transport.connect()
    network.up = True
    await transport.connect()
    assert now() == 0
    await transport.connect()  # connected: at once
    await transport.disconnect()


@virtual_time
async def test_two_connects_share_one_attempt() -> None:
    network = MemoryNetwork()
    transport, _ = transport_to(network)
    await asyncio.gather(transport.connect(), transport.connect())
    assert network.attempts == 1
    await transport.disconnect()


@virtual_time
async def test_going_offline_closes_and_coming_online_connects_at_once() -> None:
    network = MemoryNetwork()
    transport, states = transport_to(network)
    await transport.connect()
    transport.set_online(False)
    await idle()
    assert state_of(transport) == "disconnected"
    assert network.streams[0].is_closed
    await asyncio.sleep(1000)
    assert network.attempts == 1
    started = now()
    transport.set_online(True)
    await idle()
    assert state_of(transport) == "connected"
    assert now() == started
    assert "error" not in states
    await transport.disconnect()


@virtual_time
async def test_offline_and_online_again_at_once_is_another_connection() -> None:
    network = MemoryNetwork()
    transport, states = transport_to(network)
    await transport.connect()
    transport.set_online(False)
    transport.set_online(True)
    await idle()
    assert network.streams[0].is_closed
    await asyncio.sleep(30)
    assert state_of(transport) == "connected"
    assert network.attempts == 2
    assert states[-3:] == ["disconnected", "connecting", "connected"]
    await transport.disconnect()


@virtual_time
async def test_a_stream_that_ends_is_shown_as_ended_at_once() -> None:
    transport, states = transport_to(MemoryNetwork())
    await transport.connect()
    transport.set_online(False)
    assert state_of(transport) == "disconnected"
    transport.set_online(True)
    assert state_of(transport) == "disconnected"
    with pytest.raises(NetworkError):
        transport.send(b"{}")
    await asyncio.sleep(30)
    assert state_of(transport) == "connected"
    assert states.count("connected") == 2
    await transport.disconnect()


@virtual_time
async def test_connect_while_offline_waits_until_online() -> None:
    network = MemoryNetwork()
    transport, _ = transport_to(network)
    transport.set_online(False)
    connecting = asyncio.ensure_future(transport.connect())
    await asyncio.sleep(100)
    assert not connecting.done()
    transport.set_online(True)
    await connecting
    assert state_of(transport) == "connected"
    await transport.disconnect()


@virtual_time
async def test_going_offline_ends_an_attempt_and_the_one_who_waits_gets_the_next() -> None:
    network = MemoryNetwork()
    silent = asyncio.Event()
    given_up = 0

    async def dial() -> MemoryStream:
        nonlocal given_up
        try:
            await silent.wait()  # the network that this attempt was made on is gone
        except asyncio.CancelledError:
            given_up += 1
            raise
        return await network.dial()

    transport = StreamTransport(dial, name="silent", runtime=Runtime(random=_NoChance()))
    states: list[TransportState] = []
    transport.on_state_change(states.append)
    connecting = asyncio.ensure_future(transport.connect())
    await idle()
    transport.set_online(False)
    await idle()
    assert (given_up, state_of(transport)) == (1, "disconnected")
    await asyncio.sleep(100)
    silent.set()
    assert network.attempts == 0
    silent.clear()
    transport.set_online(True)
    await idle()
    transport.set_online(False)
    transport.set_online(True)  # another network, in the same turn
    await idle()
    assert given_up == 2
    silent.set()
    await connecting
    assert now() == 100
    await transport.disconnect()
    given_up_once = ["connecting", "disconnected"]
    assert states == [*given_up_once, *given_up_once, "connecting", "connected", "disconnected"]


@pytest.mark.parametrize("goes", ["offline", "away"])
def test_a_stream_that_opens_in_the_turn_in_which_it_is_given_up_is_closed(goes: str) -> None:
    @virtual_time
    async def run() -> None:
        network = MemoryNetwork()
        opened = asyncio.Event()

        async def dial() -> MemoryStream:
            await opened.wait()
            return await network.dial()

        transport = StreamTransport(dial, name=goes, runtime=Runtime(random=_NoChance()))
        await transport.connect(background=True)
        await idle()
        opened.set()
        if goes == "offline":
            transport.set_online(False)
            await idle()
        else:
            await transport.disconnect()
        assert all(stream.is_closed for stream in network.streams)
        assert state_of(transport) == "disconnected"
        await transport.disconnect()

    run()


@virtual_time
async def test_disconnect_while_connecting_ends_the_wait() -> None:
    network = MemoryNetwork()
    transport, _ = transport_to(network)
    transport.set_online(False)
    connecting = asyncio.ensure_future(transport.connect())
    await idle()
    await transport.disconnect()
    with pytest.raises(NetworkError):
        await connecting
    await transport.disconnect()


@virtual_time
async def test_disconnect_ends_the_attempts() -> None:
    network = MemoryNetwork()
    network.up = False
    transport, states = transport_to(network)
    await transport.connect(background=True)
    await asyncio.sleep(2)
    attempts = network.attempts
    assert attempts == 2
    await transport.disconnect()
    transport.set_online(False)
    transport.set_online(True)
    network.up = True
    await asyncio.sleep(1000)
    assert network.attempts == attempts
    assert states[-1] == "disconnected"


@virtual_time
async def test_a_send_without_a_connection_is_a_network_error() -> None:
    network = MemoryNetwork()
    transport, _ = transport_to(network)
    with pytest.raises(NetworkError):
        transport.send(b"x")
    await transport.connect()
    network.cut()
    await idle()
    with pytest.raises(NetworkError):
        transport.send(b"x")
    await transport.disconnect()


@virtual_time
async def test_late_events_of_a_replaced_socket_touch_nothing() -> None:
    network = MemoryNetwork()
    transport, _states = transport_to(network)
    got: list[bytes] = []
    transport.on_frame(got.append)
    await transport.connect()
    old = await network.accepted.get()
    network.cut()
    await asyncio.sleep(2)
    assert state_of(transport) == "connected"
    states_before = list(_states)
    with pytest.raises(NetworkError):
        await old.send(b"late")
    await old.close()
    await idle()
    assert state_of(transport) == "connected"
    assert _states == states_before
    assert got == []
    await transport.disconnect()


@virtual_time
async def test_frames_after_disconnect_are_ignored() -> None:
    network = MemoryNetwork()
    transport, states = transport_to(network)
    got: list[bytes] = []
    transport.on_frame(got.append)
    await transport.connect()
    server = await network.accepted.get()
    await server.send(b"under way")
    await transport.disconnect()
    await idle()
    assert got == []
    assert states[-1] == "disconnected"


@virtual_time
async def test_the_close_code_says_why() -> None:
    network = MemoryNetwork()
    transport, _ = transport_to(network)
    await transport.connect()
    network.cut(1009)
    await idle()
    assert isinstance(transport.failure, FrameTooLargeError)
    await asyncio.sleep(2)
    network.cut(1013)
    await idle()
    assert "try again later" in str(transport.failure)
    await transport.disconnect()


@virtual_time
async def test_an_application_error_while_dialing_is_a_failed_attempt() -> None:
    attempts = 0

    async def dial() -> MemoryStream:
        nonlocal attempts
        attempts += 1
        raise ValueError("no token")

    transport = StreamTransport(dial, name="odd", runtime=Runtime(random=_NoChance()))
    with pytest.raises(NetworkError, match="no token"):
        await transport.connect()
    await asyncio.sleep(1.5)
    assert attempts == 2
    await transport.disconnect()


class _Broken:
    """A stream that fails in ways that `Stream` does not allow."""

    def __init__(self, *, receiving: BaseException | None, sending: BaseException | None) -> None:
        self._receiving, self._sending = receiving, sending

    async def send(self, frame: bytes) -> None:
        if self._sending is not None:
            raise self._sending

    async def receive(self) -> bytes:
        if self._receiving is None:
            await asyncio.Event().wait()
            raise AssertionError
        raise self._receiving

    async def close(self) -> None:
        raise OSError("closed already")


@pytest.mark.parametrize(
    ("receiving", "sending"),
    [
        (ConnectionResetError("Cannot write to closing transport"), None),
        (ValueError("a bug"), None),
        (asyncio.CancelledError(), None),
        (None, ValueError("a bug")),
        (None, asyncio.CancelledError()),
    ],
    ids=repr,
)
@virtual_time
async def test_whatever_a_stream_raises_ends_it_and_the_next_is_dialled(
    receiving: BaseException | None, sending: BaseException | None
) -> None:
    dialled: list[object] = []

    async def dial() -> _Broken:
        if not dialled:
            dialled.append(1)
            return _Broken(receiving=receiving, sending=sending)
        await asyncio.sleep(0)
        dialled.append(2)
        return _Broken(receiving=None, sending=None)

    transport = StreamTransport(dial, name="broken", runtime=Runtime(random=_NoChance()))
    states: list[TransportState] = []
    transport.on_state_change(states.append)
    await transport.connect(background=True)
    await idle()
    if sending is not None:
        transport.send(b"x")
        await idle()
    assert state_of(transport) == "disconnected"
    assert isinstance(transport.failure, NetworkError)
    await asyncio.sleep(1.1)
    assert state_of(transport) == "connected"
    assert dialled == [1, 2]
    await transport.disconnect()


@virtual_time
async def test_a_dial_that_is_cancelled_from_within_is_a_failed_attempt() -> None:
    attempts = 0

    async def dial() -> _Broken:
        nonlocal attempts
        attempts += 1
        if attempts == 1:
            raise asyncio.CancelledError
        return _Broken(receiving=None, sending=None)

    transport = StreamTransport(dial, name="broken", runtime=Runtime(random=_NoChance()))
    with pytest.raises(NetworkError, match="cancelled"):
        await transport.connect()
    await asyncio.sleep(1.1)
    assert state_of(transport) == "connected"
    await transport.disconnect()
