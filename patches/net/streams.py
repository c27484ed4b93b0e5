"""`StreamTransport`: a `Transport` over anything that can be opened again and again.

One task lives from `connect` to `disconnect`. It opens a stream, reads it to its end, waits, and
opens the next. There is one stream at a time, and it is finished before the next one exists, so
nothing late from an old one can reach a new one.

    disconnected ──> connecting ──> connected ──> disconnected (waits, then connecting)
                          └──────> error ──> disconnected (waits, then connecting)
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final, Protocol, TypeAlias

from patches.aio.signals import Signal
from patches.errors import NetworkError, SignInRefusedError
from patches.net.backoff import HEALTHY_AFTER_S, reconnect_wait
from patches.net.transport import TransportState
from patches.runtime import Runtime

_log = logging.getLogger("patches.net")

#: Frames that may wait for the socket; more, and it is given up (the peer does not read).
OUTBOX_FRAMES: Final = 100_000


class Stream(Protocol):
    """One open connection. `StreamTransport` uses it from one reader and one writer task."""

    async def send(self, frame: bytes) -> None:
        """Hand a frame to the network. Raises `NetworkError` when the stream has ended."""

    async def receive(self) -> bytes:
        """The next frame. Raises `NetworkError` that names the cause when the stream has ended.

        Any other exception, here and in `send`, ends the stream too, and is logged.
        """

    async def close(self) -> None:
        """Close it. Closing twice is fine."""


#: Opens a stream. Raises `NetworkError`, its cause named.
Dial: TypeAlias = Callable[[], Awaitable[Stream]]


class StreamTransport:
    """Frames over streams that `dial` opens. See `Transport` for the calls."""

    def __init__(self, dial: Dial, *, name: str, runtime: Runtime | None = None) -> None:
        self._dial = dial
        self._name = name
        self._random = (runtime or Runtime()).random
        self._state: TransportState = "disconnected"
        self._failure: NetworkError | None = None
        self._task: asyncio.Task[None] | None = None
        self._first: asyncio.Future[None] | None = None
        self._outbox: asyncio.Queue[bytes] | None = None
        self._online = True
        self._went_offline = asyncio.Event()  # since the present attempt began
        self._changed = asyncio.Event()
        self._is_healthy = False
        self.on_state_change: Signal[[TransportState]] = Signal("on_state_change")
        self.on_frame: Signal[[bytes]] = Signal("on_frame")

    @property
    def state(self) -> TransportState:
        return self._state

    @property
    def failure(self) -> NetworkError | None:
        return self._failure

    async def connect(self, *, background: bool = False) -> None:
        if self._task is None or self._task.done():
            self._changed = asyncio.Event()
            self._task = asyncio.get_running_loop().create_task(self._run(), name=self._name)
        if background or self._state == "connected":
            return
        if self._first is None:
            self._first = asyncio.get_running_loop().create_future()
            self._changed.set()  # a wait between two attempts ends now
        await asyncio.shield(self._first)  # others may wait for the same attempt

    async def disconnect(self) -> None:
        task, self._task = self._task, None
        if task is None:
            return
        self._outbox = None  # first: frames that the old stream still delivers are dropped
        self._settle_first(NetworkError(f"{self._name}: disconnected before it was connected"))
        self._failure = NetworkError(f"{self._name}: disconnected")
        self._set_state("disconnected")
        task.cancel()
        await asyncio.wait([task])

    def set_online(self, online: bool) -> None:
        self._online = online
        if not online:
            self._went_offline.set()
            if self._state == "connected":
                # At once: who comes online again must not take the stream that ends for a good one.
                self._outbox = None
                self._failure = NetworkError(f"{self._name}: offline")
                self._set_state("disconnected")
        self._changed.set()

    def send(self, frame: bytes) -> None:
        if self._outbox is None:
            raise NetworkError(f"{self._name}: not connected")
        try:
            self._outbox.put_nowait(frame)
        except asyncio.QueueFull:
            raise NetworkError(f"{self._name}: the peer does not take our frames") from None

    def mark_healthy(self) -> None:
        self._is_healthy = True

    # ---- the one task ----------------------------------------------------------------------------

    async def _run(self) -> None:
        """Keep a stream open until cancelled."""
        loop = asyncio.get_running_loop()
        attempt = 0
        while True:
            await self._until_online()
            self._went_offline = asyncio.Event()
            self._set_state("connecting")
            try:
                stream = await self._open_while_online()
            except NetworkError as exc:
                self._lost(exc, failed=True)
            else:
                if stream is None:  # no attempt has failed: the next one comes without a wait
                    self._set_state("disconnected")
                    continue
                opened_at = loop.time()
                self._lost(await self._use(stream), failed=False)
                if self._is_healthy and loop.time() - opened_at >= HEALTHY_AFTER_S:
                    attempt = 0
            signed_in = not isinstance(self._failure, SignInRefusedError)
            await self._pause(reconnect_wait(attempt, self._random.random(), signed_in=signed_in))
            attempt += 1

    async def _open_while_online(self) -> Stream | None:
        """Open a stream; `None` when the host goes offline meanwhile: what was begun on a network
        that is gone may hang for long."""
        opening = asyncio.ensure_future(self._open())
        offline = asyncio.ensure_future(self._until_offline())
        stream = None
        try:
            await asyncio.wait((opening, offline), return_when=asyncio.FIRST_COMPLETED)
            if opening.cancelled():
                raise NetworkError(f"{self._name}: connecting was cancelled")
            if opening.done():
                stream = opening.result()
            return stream
        finally:
            for part in (opening, offline):
                part.cancel()
            await asyncio.wait((opening, offline))
            if stream is None and not opening.cancelled() and opening.exception() is None:
                await _close(opening.result())  # it opened in the turn in which it was given up

    async def _open(self) -> Stream:
        try:
            return await self._dial()
        except (NetworkError, asyncio.CancelledError):
            raise
        except Exception as exc:  # boundary: an application's own code gives headers and tokens
            _log.warning("%s: cannot connect", self._name, exc_info=exc)
            raise NetworkError(f"{self._name}: {type(exc).__name__}: {exc}") from exc

    async def _use(self, stream: Stream) -> NetworkError:
        """Read and write a stream until it ends; why it ended."""
        outbox: asyncio.Queue[bytes] = asyncio.Queue(OUTBOX_FRAMES)
        self._outbox, self._is_healthy, self._failure = outbox, False, None
        parts = [
            asyncio.ensure_future(part)
            for part in (self._read(stream, outbox), _write(stream, outbox), self._until_offline())
        ]
        try:
            self._set_state("connected")
            self._settle_first(None)
            done, _ = await asyncio.wait(parts, return_when=asyncio.FIRST_COMPLETED)
            # the reader knows why; the writer only that it cannot write
            return next(self._why(part) for part in parts if part in done)
        finally:
            if self._outbox is outbox:
                self._outbox = None
            for part in parts:
                part.cancel()
            await asyncio.wait(parts)
            await _close(stream)

    def _why(self, part: asyncio.Future[NetworkError]) -> NetworkError:
        """Why a part of the stream's work ended. Whatever a stream raises ends that stream alone;
        raised here, it would end the reconnecting too."""
        if part.cancelled():
            return NetworkError(f"{self._name}: the stream was cancelled")
        error = part.exception()
        if error is None:
            return part.result()
        _log.warning("%s: the stream failed", self._name, exc_info=error)
        failure = NetworkError(f"{self._name}: {type(error).__name__}: {error}")
        failure.__cause__ = error
        return failure

    async def _read(self, stream: Stream, outbox: asyncio.Queue[bytes]) -> NetworkError:
        try:
            while True:
                frame = await stream.receive()
                if self._outbox is not outbox:
                    return NetworkError(f"{self._name}: disconnected")
                self.on_frame.emit(frame)
        except NetworkError as exc:
            return exc

    async def _until_offline(self) -> NetworkError:
        # an event, not the present state: a task that was notified treats the stream
        # as lost, even if the host is online again before the task has a turn
        await self._went_offline.wait()
        return NetworkError(f"{self._name}: offline")

    async def _until_online(self) -> None:
        while not self._online:
            self._changed.clear()
            await self._changed.wait()

    async def _pause(self, wait_s: float) -> None:
        """Wait before the next attempt; a `connect` or the host coming online ends it."""
        if self._first is None:
            self._changed.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._changed.wait()

    # ---- what the outside sees -------------------------------------------------------------------

    def _lost(self, failure: NetworkError, *, failed: bool) -> None:
        self._failure = failure
        if failed:
            self._set_state("error")
            self._settle_first(failure)
        self._set_state("disconnected")

    def _settle_first(self, failure: NetworkError | None) -> None:
        first, self._first = self._first, None
        if first is None or first.done():
            return
        if failure is None:
            first.set_result(None)
        else:
            first.set_exception(failure)
            first.exception()  # whoever waited may have gone

    def _set_state(self, state: TransportState) -> None:
        if state != self._state:
            self._state = state
            self.on_state_change.emit(state)


async def _write(stream: Stream, outbox: asyncio.Queue[bytes]) -> NetworkError:
    try:
        while True:
            await stream.send(await outbox.get())
    except NetworkError as exc:
        return exc


async def _close(stream: Stream) -> None:
    try:
        await stream.close()
    except Exception as exc:  # boundary: the stream is given up either way
        _log.warning("a stream could not be closed", exc_info=exc)
