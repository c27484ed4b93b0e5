"""`ServerSession`: one peer's conversation, without a socket.

A transport gives it the frames that arrive, one after another, and writes what its outbox holds.
So the same code serves aiohttp, an in-memory transport and the simulation.

Calls are pipelined: each is a task of the server's, at most `max_inflight_requests` of one
connection at once, and reading stops while there are that many, or while the peer does not take the
answers that are there (`Outbox.has_room`). Calls that name the same document
keep their order, so commits are ordered by arrival and a read sees the commit before it; this is
kept by each call waiting for the one before it, per document. A call that has begun goes on when
the socket is lost: the others are to hear of what it commits.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from dataclasses import replace
from functools import partial
from typing import Any, Final, Protocol

from patches.errors import (
    PatchesError,
    StatusError,
    TooManyRequestsError,
    UnauthorizedError,
    UnavailableError,
)
from patches.limits import Limits
from patches.model import codec
from patches.model.ids import random_id
from patches.model.json_values import Json
from patches.runtime import Runtime
from patches_server.documents.context import CallContext
from patches_server.documents.offload import BYTES_PER_STEP, Offloader
from patches_server.service.calls import Call, Calls
from patches_server.service.fanout.hub import Hub
from patches_server.service.fanout.outbox import SIGNED_OUT, TOO_SLOW, Outbox
from patches_server.service.fanout.relay import (
    AwarenessRelay,
    Relayed,
    is_signal,
    is_withdrawal,
)
from patches_server.service.memory_budget import MemoryBudget, Share
from patches_server.service.methods import Method
from patches_server.service.rates import TokenBucket
from patches_server.service.stats import ServerStats
from patches_server.wire import checks as wire_checks
from patches_server.wire.frames import (
    Answer,
    Frame,
    Malformed,
    Request,
    as_text,
    error_frame,
    find_id,
    is_unforeseen,
    memory_needed,
    parse_frame,
    result_frame,
    wire_error,
)

_log = logging.getLogger("patches_server.service.session")

_SUBSCRIPTION_CALLS: Final = ("subscribe", "unsubscribe")
#: What a client syncs a document with: one at a time, the next when it has applied an answer.
_SYNC_CALLS: Final = ("getDoc", "getChangesSince", "commitChanges")
#: Answers of one connection that are made at once, each as large as a document may be.
_READS_AT_ONCE: Final = 8
#: Larger commits are carried out in a task of their own.
_SMALL_COMMIT: Final = 4_096
#: Larger frames count as commits do, whatever they hold, and before they are parsed: that costs.
_LARGE_FRAME: Final = 64 * 1024
#: Smaller frames are parsed whatever they need: a connection has few of them under way.
_SMALL_FRAME: Final = 4 * 1024


class SessionHost(Protocol):
    """What a session needs of the server that it is with."""

    limits: Limits
    runtime: Runtime
    offload: Offloader
    memory: MemoryBudget
    stats: ServerStats
    hub: Hub
    relay: AwarenessRelay | None
    calls: Calls
    methods: dict[str, Method]
    closing: bool

    def begin(self, serve: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run a call as a task of the server, which may outlive the session."""

    def disconnected(self, session: ServerSession) -> None:
        """The session has ended."""


class ServerSession:
    """One connected peer, from `PatchesServer.connect` until `end`."""

    def __init__(self, server: SessionHost, *, connection_id: str, principal: object) -> None:
        loop = asyncio.get_running_loop()
        limits = server.limits
        self._server, self._limits, self._loop = server, limits, loop
        self.connection_id = connection_id
        self.outbox = Outbox(limits)
        self.context = CallContext(
            client_id=getattr(principal, "client_id", None) or connection_id,
            connection_id=connection_id,
            principal=principal,
        )
        self.subscriptions: set[str] = set()
        self.ended = False
        self._requests = TokenBucket(limits.requests_per_s, limits.requests_burst, now=loop.time())
        self._commit_bytes = TokenBucket(
            limits.commit_bytes_per_s, limits.commit_bytes_burst, now=loop.time()
        )
        self._room = asyncio.Semaphore(limits.max_inflight_requests or 2**31)
        self._reads = asyncio.Semaphore(_READS_AT_ONCE)
        #: Per document: set when the last call that named it is done.
        self._last_calls: dict[str, asyncio.Event] = {}
        self._expires_at: int | None = getattr(principal, "expires_at", None)
        self._expiry = self._expiry_timer()
        _log.info("connected", extra={"connection": connection_id})

    async def receive(self, frame: bytes | str) -> None:
        """Take one frame. Returns when the next may come, which is before the answer."""
        if not self.outbox.takes_calls:
            await self.outbox.has_room()
        if self._is_closing():
            return
        size, now = len(frame), self._loop.time()
        wait_s = self._requests.take(1, now=now)
        if not wait_s and size > _LARGE_FRAME:
            wait_s = self._commit_bytes.take(size, now=now)
        if wait_s:
            self._refuse(find_id(frame), _too_fast(wait_s))
            return
        if size <= _SMALL_COMMIT:
            await self._received(parse_frame(frame, self._limits.max_depth), size, None)
            return
        offload, steps = self._server.offload, size // BYTES_PER_STEP
        share = None
        if size > _SMALL_FRAME:
            share = await self._server.memory.take(
                await offload(steps, lambda: memory_needed(frame))
            )
            share.give_back_within(self._limits.store_timeout_s)
        is_begun = False
        try:
            parsed = await offload(steps, lambda: parse_frame(frame, self._limits.max_depth))
            if not self._is_closing():
                is_begun = await self._received(parsed, size, share)
        finally:
            if share is not None and not is_begun:
                share.give_back()

    async def _received(self, parsed: Frame, size: int, share: Share | None) -> bool:
        """Do what a frame asks for; whether a call was begun."""
        if isinstance(parsed, Request):
            return await self._begin(parsed, size, share)
        if isinstance(parsed, Malformed):
            self.outbox.answer(parsed.answer)
        elif is_signal(parsed.jsonrpc, parsed.method, parsed.params):
            self._relay(parsed.params, size)
        elif self._server.relay is not None and is_withdrawal(parsed.method):
            self._server.relay.withdraw(self, parsed.params)
        return False

    def close(self, code: int, reason: str) -> None:
        """Ask the transport to close the socket, once what is queued is written."""
        self.outbox.close(code, reason)

    def end(self) -> None:
        """The transport is gone: no more frames either way, all subscriptions end."""
        if self.ended:
            return
        self.ended = True
        if self._expiry is not None:
            self._expiry.cancel()
        self.outbox.close(1000, "closed", discard=True)
        closing = self.outbox.closing
        if closing is not None and closing.code == TOO_SLOW:
            self._server.stats.queue_drops += 1
        self._server.disconnected(self)
        _log.info(
            "disconnected",
            extra={"connection": self.connection_id, "code": closing and closing.code},
        )

    def _is_closing(self) -> bool:
        """Signed out, cut off or gone: nothing more is done for this peer."""
        return self.outbox.closing is not None

    # Calls.

    async def _begin(self, request: Request, size: int, share: Share | None) -> bool:
        """Start a call, or answer at once what needs no work. Whether a call was started, which
        gives the share of memory back."""
        try:
            self._check_admission(request, size)
            method = self._method(request)
        except PatchesError as exc:
            self._refuse(request.id, exc)
            if isinstance(exc, UnauthorizedError):
                self.close(SIGNED_OUT, "sign-in expired")
            return False
        if method is None and request.method not in _SUBSCRIPTION_CALLS:
            self._answer_signal(request, size)
            return False
        if request.method == "commitChanges" and self._commit_at_once(request, size):
            return False
        doc_ids = _named(request.params)
        before, done = self._queue_behind(doc_ids)
        if request.method in _SYNC_CALLS and not before:
            self._server.hub.called(self, doc_ids)
        await self._room.acquire()
        self._server.begin(
            partial(self._serve, request, method, size, doc_ids, before, done, share)
        )
        return True

    def _commit_at_once(self, request: Request, size: int) -> bool:
        """Carry an ordinary commit out in the turn in which it came; `False`: nothing was done.

        Nothing that this peer has asked for about any document may be under way, or be held back:
        the order of its calls, of their answers and of the broadcasts is the same either way.
        """
        if size > _SMALL_COMMIT or self._last_calls or self._server.hub.holds_back:
            return False
        answer = self._server.calls.commit_at_once(request.params, self.context, size)
        if answer is None:
            return False
        self.outbox.answer(result_frame(request.id, answer))
        return True

    def _check_admission(self, request: Request, size: int) -> None:
        if self._expires_at is not None and self._server.runtime.wall_ms() >= self._expires_at:
            raise UnauthorizedError("the sign-in has expired")
        if self._server.closing:
            raise _going_away()
        if request.method == "commitChanges" and size <= _LARGE_FRAME:  # else it is paid for
            wait_s = self._commit_bytes.take(size, now=self._loop.time())
            if wait_s:
                raise _too_fast(wait_s)

    def _method(self, request: Request) -> Method | None:
        """The method's row; `None` for the hub's and the relay's own calls."""
        if not isinstance(request.method, str) or request.method not in self._server.methods:
            if request.method in _SUBSCRIPTION_CALLS:
                return None
            if self._server.relay is not None and is_signal(
                request.jsonrpc, request.method, request.params
            ):
                return None
            raise PatchesError(f"Unknown method '{as_text(request.method)}'.")
        return self._server.methods[request.method]

    def _queue_behind(self, doc_ids: set[str]) -> tuple[list[asyncio.Event], asyncio.Event]:
        done = asyncio.Event()
        before = [self._last_calls[doc_id] for doc_id in doc_ids if doc_id in self._last_calls]
        for doc_id in doc_ids:
            self._last_calls[doc_id] = done
        return before, done

    async def _serve(
        self,
        request: Request,
        method: Method | None,
        size: int,
        doc_ids: set[str],
        before: list[asyncio.Event],
        done: asyncio.Event,
        share: Share | None,
    ) -> None:
        try:
            for earlier in before:
                await earlier.wait()
            if method is None or method.kind != "read":
                await self._carry_out(request, method, size)
                return
            # Answers may be large, so few are made ahead of what the peer has taken.
            async with self._reads:
                await self.outbox.has_room()
                if self._server.closing:
                    self._refuse(request.id, _going_away())
                elif not self._is_closing():
                    await self._carry_out(request, method, size)
        finally:
            self._server.hub.answered(self, doc_ids)
            done.set()
            self._room.release()
            if share is not None:
                share.give_back()
            for doc_id in doc_ids:
                if self._last_calls.get(doc_id) is done:
                    del self._last_calls[doc_id]

    async def _carry_out(self, request: Request, method: Method | None, size: int) -> None:
        with _Patience(partial(self._give_up, request.id), self._limits.store_timeout_s) as it:
            answer = await self._answer(request, method, size, it)
        if not it.ran_out:
            self.outbox.answer(answer)

    def _give_up(self, request_id: Json) -> None:
        """The store takes too long. A call that has begun goes on: the others are to be told of
        what it commits. One that still waits for its turn is not begun any more.
        """
        self._refuse(request_id, UnavailableError("no answer in time", {"reason": "STORAGE"}))

    async def _answer(
        self, request: Request, method: Method | None, size: int, patience: _Patience
    ) -> bytes:
        try:
            if method is None:
                return result_frame(request.id, await self._subscription(request))
            call = Call(
                name=str(request.method),
                method=method,
                params=request.params,
                size=size,
                context=replace(
                    self.context, has_given_up=patience.is_over, keep_waiting=patience.stop
                ),
            )
            return result_frame(request.id, await self._server.calls.run(call))
        except Exception as exc:  # boundary: one call's failure is its own
            ref = random_id(self._server.runtime.random, 10)
            if is_unforeseen(exc):
                _log.exception(
                    "%s failed (ref %s)",
                    request.method,
                    ref,
                    extra={"connection": self.connection_id},
                )
            return self._error(request.id, exc, ref)

    async def _subscription(self, request: Request) -> Answer:
        wanted = wire_checks.param(request.params, 0)
        if request.method == "subscribe":
            granted = await self._server.hub.subscribe(self, wanted)
            if self._server.relay is not None:
                self._server.relay.subscribed(self, granted)
            return codec.encode(granted)
        return codec.encode(self._server.hub.unsubscribe(self, wanted))

    def _refuse(self, request_id: Json, error: Exception) -> None:
        self.outbox.answer(self._error(request_id, error, ""))

    def _error(self, request_id: Json, error: Exception, ref: str) -> bytes:
        wire = wire_error(error, ref)
        self._server.stats.errors[str(wire["code"])] += 1
        return error_frame(request_id, wire)

    # The relay.

    def _relay(self, params: list[Json], size: int) -> Relayed:
        if self._server.relay is None:
            return Relayed.NO_TARGET
        return self._server.relay.pass_on(self, params, size=size, now=self._loop.time())

    def _answer_signal(self, request: Request, size: int) -> None:
        outcome = self._relay(request.params, size)
        if outcome is Relayed.SENT:
            # The key order of the original, which differs from that of all other answers.
            head = b'{"jsonrpc":"2.0","result":"ok","id":'
            self.outbox.answer(head + codec.encode(request.id) + b"}")
        else:
            self._refuse(request.id, PatchesError(outcome.value))

    def _expiry_timer(self) -> asyncio.TimerHandle | None:
        if self._expires_at is None:
            return None
        left_s = (self._expires_at - self._server.runtime.wall_ms()) / 1000
        return self._loop.call_later(max(0.0, left_s), self.close, SIGNED_OUT, "sign-in expired")


class _Patience:
    """Calls `give_up` once when its body takes too long; the body goes on."""

    def __init__(self, give_up: Callable[[], None], timeout_s: float | None) -> None:
        self._give_up, self._timeout_s = give_up, timeout_s
        self._timer: asyncio.TimerHandle | None = None
        self.ran_out = False

    def is_over(self) -> bool:
        """Whether the caller has been told to try again."""
        return self.ran_out

    def __enter__(self) -> _Patience:
        if self._timeout_s is not None:
            self._timer = asyncio.get_running_loop().call_later(self._timeout_s, self._run_out)
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """From now on it may take as long as it takes."""
        if self._timer is not None:
            self._timer.cancel()

    def _run_out(self) -> None:
        self.ran_out = True
        self._give_up()


def _named(params: list[Json]) -> set[str]:
    """The documents that a call is about."""
    first = params[0] if params else None
    return {
        name for name in (first if isinstance(first, list) else [first]) if isinstance(name, str)
    }


def _going_away() -> StatusError:
    return UnavailableError("the server is going away", {"reason": "CLOSING"})


def _too_fast(wait_s: float) -> StatusError:
    return TooManyRequestsError("too many requests", retry_after_ms=max(1, round(wait_s * 1000)))
