"""`RedisBus`: hints by Redis (or Valkey) publish and subscribe, to whoever follows a document."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Any, Final

from redis.asyncio import Redis

from patches_server.bus.hints import Hint
from patches_server.bus.network import BEAT_S, SILENT_S, NetworkBus

_MAX_CHANGES: Final = 64 * 1024
_SEND_S: Final = 2.0
_CONFIRM_S: Final = 2.0


class RedisBus(NetworkBus):
    """Good for about 32 processes. `prefix` keeps several installations apart."""

    def __init__(
        self,
        url: str,
        *,
        prefix: str = "patches:",
        beat_s: float = BEAT_S,
        silent_s: float = SILENT_S,
    ) -> None:
        super().__init__(beat_s=beat_s, silent_s=silent_s)
        self._url, self._prefix = url, prefix
        self._redis: Redis | None = None
        self._pubsub: Any = None
        self._reader: asyncio.Task[None] | None = None
        self._followed: set[str] = set()
        #: Channels that were asked for and are not confirmed.
        self._awaited: dict[str, asyncio.Event] = {}

    async def follow(self, doc_id: str) -> None:
        if doc_id in self._followed:
            return
        self._followed.add(doc_id)
        if self._pubsub is None:
            return
        channel = self._channel(doc_id)
        confirmed = self._awaited.setdefault(channel, asyncio.Event())
        try:
            async with asyncio.timeout(_CONFIRM_S):
                await self._pubsub.subscribe(channel)
                await confirmed.wait()
        except Exception:  # boundary: the bus is down, and connects to all channels again
            self._connection_lost()
        finally:
            self._awaited.pop(channel, None)

    def unfollow(self, doc_id: str) -> None:
        self._followed.discard(doc_id)
        if self._pubsub is not None:
            self._tasks.spawn(self._unsubscribe(doc_id), name="unfollow")

    async def _unsubscribe(self, doc_id: str) -> None:
        if doc_id not in self._followed and self._pubsub is not None:
            with contextlib.suppress(Exception):  # a connection that is gone receives nothing
                await self._pubsub.unsubscribe(self._channel(doc_id))

    async def _connect(self) -> None:
        self._redis = Redis.from_url(
            self._url, socket_timeout=None, socket_connect_timeout=2.0, health_check_interval=0
        )
        self._pubsub = self._redis.pubsub()
        await self._pubsub.subscribe(
            self._prefix + "all", *(self._channel(doc_id) for doc_id in self._followed)
        )
        self._reader = asyncio.create_task(self._read(self._pubsub), name="hints from Redis")

    async def _read(self, pubsub: Any) -> None:
        """Receive until the connection is gone. Owned by the bus, ended by `_disconnect`."""
        try:
            async for message in pubsub.listen():
                channel = message["channel"].decode()
                if message["type"] == "subscribe" and channel in self._awaited:
                    self._awaited[channel].set()
                elif message["type"] == "message":
                    self._received(message["data"])
        except Exception:  # boundary: whatever the driver raises, the connection is gone
            self._connection_lost()

    async def _send(self, hints: Sequence[Hint]) -> None:
        assert self._redis is not None
        async with asyncio.timeout(_SEND_S):
            pipeline = self._redis.pipeline(transaction=False)
            for hint in hints:
                sent = hint if hint.size <= _MAX_CHANGES else hint.without_changes()
                is_for_followers = hint.kind in ("c", "d") and hint.doc_id is not None
                channel = self._channel(hint.doc_id or "") if is_for_followers else None
                pipeline.publish(channel or self._prefix + "all", sent.encode())
            await pipeline.execute()

    async def _disconnect(self) -> None:
        reader, self._reader = self._reader, None
        pubsub, self._pubsub = self._pubsub, None
        redis, self._redis = self._redis, None
        if reader is not None:
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)
        for closing in (pubsub, redis):
            if closing is not None:
                with contextlib.suppress(Exception):  # it is given up in any case
                    await closing.aclose()

    def _channel(self, doc_id: str) -> str:
        return f"{self._prefix}d:{doc_id}"
