"""`PostgresBus`: hints by `NOTIFY`, on a connection of its own.

A `NOTIFY` holds a lock over the cluster until its transaction is flushed, so none is in a commit:
hints are collected for a few milliseconds and sent apart.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

from patches_server.bus.hints import Hint
from patches_server.bus.network import BEAT_S, SILENT_S, NetworkBus

CHANNEL: Final = "patches"
#: PostgreSQL takes 7,999 bytes.
_MAX_PAYLOAD: Final = 7_900
_MAX_CHANGES: Final = 7_000
_COLLECT_S: Final = 0.005
_SEND_S: Final = 2.0


class PostgresBus(NetworkBus):
    """Good for about eight processes. `connect` opens a connection that is not pooled."""

    def __init__(
        self,
        connect: Callable[[], Awaitable[Any]],
        *,
        beat_s: float = BEAT_S,
        silent_s: float = SILENT_S,
    ) -> None:
        super().__init__(beat_s=beat_s, silent_s=silent_s)
        self._open = connect
        self._conn: Any = None

    async def _connect(self) -> None:
        self._conn = await self._open()
        self._conn.add_termination_listener(lambda _conn: self._connection_lost())
        await self._conn.add_listener(CHANNEL, self._notified)

    async def _send(self, hints: Sequence[Hint]) -> None:
        for payload in payloads(hints):
            async with asyncio.timeout(_SEND_S):
                await self._conn.execute("SELECT pg_notify($1, $2)", CHANNEL, payload.decode())

    async def _collect(self) -> None:
        await asyncio.sleep(_COLLECT_S)

    async def _disconnect(self) -> None:
        conn, self._conn = self._conn, None
        if conn is not None:
            conn.terminate()

    def _notified(self, _conn: Any, _pid: int, _channel: str, payload: str) -> None:
        self._received(payload.encode())


def payloads(hints: Sequence[Hint]) -> list[bytes]:
    """Hints packed into messages; changes that are too large stay at home."""
    packed: list[bytes] = []
    for hint in hints:
        encoded = hint.encode()
        if len(encoded) > _MAX_CHANGES:
            encoded = hint.without_changes().encode()
        if packed and len(packed[-1]) + len(encoded) < _MAX_PAYLOAD:
            packed[-1] += b"\n" + encoded
        else:
            packed.append(encoded)
    return packed
