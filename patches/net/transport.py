"""`Transport`: what carries frames. It knows no documents.

A frame is one JSON text as UTF-8 bytes. Frames leave in the order of `send` and arrive in the order
in which the peer sent them; those that were under way when a connection ends are lost.
"""

from __future__ import annotations

from typing import Final, Literal, Protocol, TypeAlias

from patches.aio.signals import Signal
from patches.errors import NetworkError

#: A header of an answer that opens no websocket: why, percent-encoded.
REASON_HEADER: Final = "Patches-Reason"

TransportState: TypeAlias = Literal["disconnected", "connecting", "connected", "error"]


class Transport(Protocol):
    """Frames to and from one peer, over connections that come and go."""

    #: Called with the new state, after `state` has changed.
    on_state_change: Signal[[TransportState]]
    #: A frame from the peer. Subscribers must not block.
    on_frame: Signal[[bytes]]

    @property
    def state(self) -> TransportState:
        """Where the connection is."""

    @property
    def failure(self) -> NetworkError | None:
        """Why the last connection ended or could not be made; `None` while there is one."""

    async def connect(self, *, background: bool = False) -> None:
        """Connect, and stay connected until `disconnect`, with retries.

        Returns once connected; raises `NetworkError` if the first attempt fails, and goes on
        trying. With `background` it returns at once. Returns at once when connected already.
        """

    async def disconnect(self) -> None:
        """Give the connection up. Afterwards nothing runs, and no signal comes."""

    def set_online(self, online: bool) -> None:
        """What the host knows about its network. Offline: no socket, no attempts."""

    def send(self, frame: bytes) -> None:
        """Send a frame after those sent before. Raises `NetworkError` when not connected."""

    def mark_healthy(self) -> None:
        """The peer has answered a request, so this connection is a good one."""
