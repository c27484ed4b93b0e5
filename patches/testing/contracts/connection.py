"""`ConnectionContract`: what the sync coordinator relies on in a `PatchesConnection`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import pytest

from patches.aio.signals import Signal
from patches.errors import NetworkError
from patches.model.change import Change
from patches.net.connection import PatchesConnection
from patches.net.transport import TransportState
from patches.testing.virtual_time import idle, virtual_time

#: All that a connection has for the coordinator.
MEMBERS = tuple(
    name
    for name in (*PatchesConnection.__dict__, *PatchesConnection.__annotations__)
    if not name.startswith("_")
)


@dataclass(kw_only=True)
class ConnectionScene:
    """A connection to a server that answers nothing, and what a test does to the network."""

    connection: PatchesConnection
    #: Whether the server can be reached from now on.
    set_reachable: Callable[[bool], None]
    #: The connection breaks.
    cut: Callable[[], None]


def _state(connection: PatchesConnection) -> TransportState:
    return connection.state  # what a property gives changes between two looks


def _failure(connection: PatchesConnection) -> NetworkError | None:
    return connection.failure


async def _connected(scene: ConnectionScene) -> PatchesConnection:
    await scene.connection.connect()
    return scene.connection


class ConnectionContract:
    """Every connection passes these. Subclass it and give `scene`; it is called in a running loop.

    The server of a scene accepts connections and answers no call.
    """

    def scene(self) -> ConnectionScene:
        """A connection that nobody has connected yet."""
        raise NotImplementedError

    def test_it_has_all_that_the_coordinator_uses(self) -> None:
        @virtual_time
        async def run() -> None:
            connection = self.scene().connection
            assert [name for name in MEMBERS if not hasattr(connection, name)] == []
            signals = [name for name in MEMBERS if name.startswith("on_")]
            assert all(isinstance(getattr(connection, name), Signal) for name in signals)

        run()

    def test_it_tells_each_state_once(self) -> None:
        @virtual_time
        async def run() -> None:
            scene = self.scene()
            connection = scene.connection
            told: list[TransportState] = []

            def note(state: TransportState) -> None:
                assert state == connection.state
                told.append(state)

            connection.on_state_change(note)
            assert _state(connection) == "disconnected"
            await connection.connect()
            assert _state(connection) == "connected"
            await connection.connect()
            await connection.disconnect()
            assert _state(connection) == "disconnected"
            assert told == ["connecting", "connected", "disconnected"]

        run()

    @pytest.mark.parametrize("background", [False, True])
    def test_it_says_why_a_connection_cannot_be_made(self, background: bool) -> None:
        @virtual_time
        async def run() -> None:
            scene = self.scene()
            connection = scene.connection
            failures: list[NetworkError | None] = []

            def note(state: TransportState) -> None:
                if state == "error":
                    failures.append(connection.failure)

            connection.on_state_change(note)
            scene.set_reachable(False)
            assert _failure(connection) is None
            if background:
                await connection.connect(background=True)
                await idle()
            else:
                with pytest.raises(NetworkError) as raised:
                    await connection.connect()
                failures.append(raised.value)
            assert len(failures) in (1, 2)
            assert all(isinstance(failure, NetworkError) for failure in failures)
            assert isinstance(_failure(connection), NetworkError)
            assert len({str(failure) for failure in (*failures, connection.failure)}) == 1
            scene.set_reachable(True)
            await connection.connect()
            assert _failure(connection) is None
            await connection.disconnect()

        run()

    @pytest.mark.parametrize("how", ["cut", "disconnect", "offline"])
    def test_what_is_in_flight_fails_when_the_connection_ends(self, how: str) -> None:
        @virtual_time
        async def run() -> None:
            scene = self.scene()
            connection = await _connected(scene)
            change = Change(id="c", ops=[], base_rev=0, rev=1, created_at=1)
            calls: list[Awaitable[object]] = [
                connection.subscribe(["d"]),
                connection.get_doc("d"),
                connection.get_changes_since("d", 1),
                connection.commit_changes("d", [change]),
                connection.call("anything"),
            ]
            waiting = [asyncio.ensure_future(call) for call in calls]
            await idle()
            if how == "cut":
                scene.set_reachable(False)
                scene.cut()
            elif how == "offline":
                connection.set_online(False)
            else:
                await connection.disconnect()
            async with asyncio.timeout(1):
                results = await asyncio.gather(*waiting, return_exceptions=True)
            assert [type(result) for result in results] == [NetworkError] * len(calls)
            assert isinstance(_failure(connection), NetworkError)
            await connection.disconnect()

        run()

    def test_a_call_without_a_connection_fails_at_once(self) -> None:
        @virtual_time
        async def run() -> None:
            connection = self.scene().connection
            async with asyncio.timeout(1):
                for call in (connection.get_doc("d"), connection.call("anything")):
                    with pytest.raises(NetworkError):
                        await call

        run()

    def test_offline_it_waits_for_the_network(self) -> None:
        @virtual_time
        async def run() -> None:
            connection = self.scene().connection
            connection.set_online(False)
            await connection.connect(background=True)
            await idle()
            assert _state(connection) != "connected"
            connection.set_online(True)
            await idle()
            assert _state(connection) == "connected"
            await connection.disconnect()

        run()
