"""`ServerSession`: one peer's calls, without a transport and without a wire format.

The door that a peer came through reads its messages, begins calls, and writes what the outbox
holds. `JsonRpcPeer` does so for JSON-RPC; another format is another such class.

Calls are pipelined: each is a task of the server's, at most `max_inflight_requests` of one
connection at once, and reading stops while there are that many, or while the peer does not take the
answers that are there (`Outbox.has_room`). Calls that name the same document keep their order, so
commits are ordered by arrival and a read sees the commit before it; this is kept by each call
waiting for the one before it, per document. A call that has begun goes on when the connection is
lost: the others must be notified of what it commits.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Final

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
from patches_server.documents.context import CallContext
from patches_server.documents.document_server import Begun
from patches_server.documents.offload import BYTES_PER_STEP, T
from patches_server.service.begun_commits import BegunCommits
from patches_server.service.calls import Call
from patches_server.service.deadline import ResponseDeadline
from patches_server.service.fanout.outbox import SIGNED_OUT, TOO_SLOW, Outbox
from patches_server.service.fanout.relay import AwarenessRelay, is_signal
from patches_server.service.memory_budget import NO_SHARE, Share
from patches_server.service.methods import SIGNAL, WITHDRAWAL, Method, unknown_method
from patches_server.service.rates import TokenBucket
from patches_server.service.session_host import Outcome as Outcome
from patches_server.service.session_host import Reply, SessionHost
from patches_server.wire.frames import is_unforeseen, wire_error

_log = logging.getLogger("patches_server.service.session")

#: Answers of one connection that are made at once, each as large as a document may be.
_READS_AT_ONCE: Final = 8
#: Larger messages count as commits do, whatever they hold, and before they are parsed: that costs.
_LARGE_MESSAGE: Final = 64 * 1024
#: Smaller messages are parsed whatever they need: a connection has few of them under way.
_SMALL_MESSAGE: Final = 4 * 1024


class ServerSession:
    """One connected peer, from `PatchesServer.open` until `end`."""

    def __init__(
        self, server: SessionHost, *, connection_id: str, principal: object, outbox: Outbox
    ) -> None:
        loop = asyncio.get_running_loop()
        limits = server.limits
        self._server, self._limits, self._loop = server, limits, loop
        self.connection_id = connection_id
        self.outbox = outbox
        self.hub: Final = server.hub
        self.context: CallContext = CallContext(
            client_id=getattr(principal, "client_id", None) or connection_id,
            connection_id=connection_id,
            principal=principal,
        )
        self.subscriptions: dict[str, None] = {}
        self.ended: bool = False
        self._requests = TokenBucket(limits.requests_per_s, limits.requests_burst, now=loop.time())
        self._commit_bytes = TokenBucket(
            limits.commit_bytes_per_s, limits.commit_bytes_burst, now=loop.time()
        )
        self._in_flight = asyncio.Semaphore(limits.max_inflight_requests or 2**31)
        self._reads = asyncio.Semaphore(_READS_AT_ONCE)
        #: Per document: set when the last call that named it is done.
        self._last_calls: dict[str, asyncio.Event] = {}
        self._begun = BegunCommits(limits.store_timeout_s)
        self._expires_at: int | None = getattr(principal, "expires_at", None)
        self._expiry = self._expiry_timer()
        _log.info("connected", extra={"connection": connection_id})

    @property
    def limits(self) -> Limits:
        """The server's."""
        return self._limits

    @property
    def relay(self) -> AwarenessRelay | None:
        """The server's."""
        return self._server.relay

    def is_closing(self) -> bool:
        """Signed out, cut off or gone: nothing more is done for this peer."""
        return self.outbox.closing is not None

    # For doors.

    async def admit(self, size: int, memory_needed: Callable[[], int]) -> Share:
        """Wait until one more message may be parsed, which takes so much memory.

        The share is given to `begin`, or given back. Raises `TooManyRequestsError`, which is to be
        answered. See `is_closing` afterwards.
        """
        if not self.outbox.takes_calls:
            await self.outbox.has_room()
        now = self._loop.time()
        wait_s = self._requests.take(1, now=now)
        if not wait_s and size > _LARGE_MESSAGE:
            wait_s = self._commit_bytes.take(size, now=now)
        if wait_s:
            raise _too_fast(wait_s)
        if size <= _SMALL_MESSAGE:
            return NO_SHARE
        share = await self._server.memory.take(await self.offload(size, memory_needed))
        share.give_back_within(self._limits.store_timeout_s)
        return share

    async def offload(self, size: int, work: Callable[[], T]) -> T:
        """The result of pure work on so many bytes, done off the event loop if that is much."""
        return await self._server.offload(size // BYTES_PER_STEP, work)

    async def begin(
        self,
        name: Json,
        params: Sequence[Json],
        reply: Reply,
        *,
        size: int,
        share: Share = NO_SHARE,
    ) -> None:
        """Begin a call. Returns when the next message may come, which is before `reply` is called.

        `size`: of its message, in bytes. `share` is given back when the call is over.
        """
        is_begun = False
        try:
            method = self._admitted_method(name, size)
            if method.is_instant:
                reply(Outcome(method.encoded(method.run(self, params, size))))
                return
            if method.is_commit:
                at_once = self._commit_at_once(method, params, size, reply)
                if at_once is Begun.BEGUN:
                    await self._in_flight.acquire()  # by its end at the latest
                if at_once is not None:
                    return
            doc_ids = _named(params)
            before, done = self._queue_behind(doc_ids)
            self.hub.answers_first.begins(self, doc_ids)
            if method.is_sync and not before:
                self.hub.answers_first.called(self, doc_ids)
            await self._in_flight.acquire()
            call = Call(
                name=str(name), method=method, params=params, size=size, context=self.context
            )
            self._server.begin(partial(self._serve, call, reply, doc_ids, before, done, share))
            is_begun = True
        except PatchesError as exc:
            reply(self.failure(exc))
            if isinstance(exc, UnauthorizedError):
                self.close(SIGNED_OUT, "sign-in expired")
        finally:
            if not is_begun and share is not NO_SHARE:
                share.give_back()

    async def call(self, name: str, *params: Json) -> Outcome:
        """Carry a call out and wait for how it ended: for a door whose messages are calls."""
        ended: asyncio.Future[Outcome] = self._loop.create_future()

        def reply(outcome: Outcome) -> None:
            if not ended.done():
                ended.set_result(outcome)

        await self.begin(name, params, reply, size=codec.json_size(params))
        return await ended

    def notify(self, name: Json, params: Json, size: int) -> None:
        """Take a message that is not answered. Only presence has such messages."""
        relay = self._server.relay
        if relay is None:
            return
        if name == SIGNAL and isinstance(params, list) and is_signal(params):
            relay.pass_on(self, params, size=size)
        elif name == WITHDRAWAL:
            relay.withdraw(self, params)

    def failure(self, error: Exception, ref: str = "") -> Outcome:
        """The outcome of a call that failed. `ref` is in the log beside what is not sent."""
        answer = wire_error(error, ref)
        self._server.stats.errors[str(answer["code"])] += 1
        return Outcome(error=answer)

    def close(self, code: int, reason: str) -> None:
        """Ask the transport to close the connection, once what is queued is written."""
        self.outbox.close(code, reason)

    def end(self) -> None:
        """The transport is gone: no more messages either way, all subscriptions end."""
        if self.ended:
            return
        self.ended = True
        if self._expiry is not None:
            self._expiry.cancel()
        self._begun.close()
        self.outbox.close(1000, "closed", discard=True)
        closing = self.outbox.closing
        if closing is not None and closing.code == TOO_SLOW:
            self._server.stats.queue_drops += 1
        self._server.disconnected(self)
        _log.info(
            "disconnected",
            extra={"connection": self.connection_id, "code": closing and closing.code},
        )

    # Calls.

    def _admitted_method(self, name: Json, size: int) -> Method:
        """The method of a call that may be made now."""
        if self._expires_at is not None and self._server.runtime.wall_ms() >= self._expires_at:
            raise UnauthorizedError("the sign-in has expired")
        if self._server.closing:
            raise _going_away()
        method = self._server.methods.get(name) if isinstance(name, str) else None
        if method is None:
            raise unknown_method(name)
        if method.is_commit and size <= _LARGE_MESSAGE:  # a larger one is paid for
            wait_s = self._commit_bytes.take(size, now=self._loop.time())
            if wait_s:
                raise _too_fast(wait_s)
        return method

    def _commit_at_once(
        self, method: Method, params: Sequence[Json], size: int, reply: Reply
    ) -> Outcome | Begun | None:
        """Carry an ordinary commit out, or begin to, in the turn in which it came.

        `None`: nothing was done. No other call of this peer about the document may
        be under way: the order of its calls, of their answers and of the broadcasts is the same
        either way.
        """
        doc_id = params[0] if params else None
        if size > _SMALL_MESSAGE or not isinstance(doc_id, str) or doc_id in self._last_calls:
            return None
        self.hub.answers_first.called(self, (doc_id,))
        ended = partial(self._commit_ended, method, doc_id, params, size, reply)
        try:
            answer = self._server.calls.commit_at_once(params, self.context, size, ended)
        except Exception as exc:  # boundary: one call's failure is its own
            outcome = self._failed("commitChanges", exc)
            reply(outcome)
            return outcome
        if isinstance(answer, bytes):
            outcome = Outcome(answer)
            reply(outcome)
            return outcome
        if answer is Begun.BEGUN:
            self._server.call_begun()
            begun = self._begun.begin(doc_id, partial(self._give_up, reply))
            self._last_calls[doc_id] = begun.done
            self.hub.answers_first.begins(self, (doc_id,))
        return answer

    def _commit_ended(
        self,
        method: Method,
        doc_id: str,
        params: Sequence[Json],
        size: int,
        reply: Reply,
        answer: bytes | Exception | None,
    ) -> None:
        """Answer a commit that was begun, or carry it out as any other."""
        begun = self._begun.end(doc_id)
        if answer is None and not begun.has_given_up:
            call = Call(
                name="commitChanges", method=method, params=params, size=size, context=self.context
            )
            self._server.begin(
                partial(self._serve, call, reply, {doc_id}, [], begun.done, NO_SHARE)
            )
        else:
            if not begun.has_given_up:
                if isinstance(answer, Exception):
                    reply(self._failed("commitChanges", answer))
                else:
                    reply(Outcome(answer))
            self._over({doc_id}, begun.done, NO_SHARE)
        self._server.call_ended()

    def _queue_behind(self, doc_ids: set[str]) -> tuple[list[asyncio.Event], asyncio.Event]:
        done = asyncio.Event()
        before = [self._last_calls[doc_id] for doc_id in doc_ids if doc_id in self._last_calls]
        for doc_id in doc_ids:
            self._last_calls[doc_id] = done
        return before, done

    async def _serve(
        self,
        call: Call,
        reply: Reply,
        doc_ids: set[str],
        before: list[asyncio.Event],
        done: asyncio.Event,
        share: Share,
    ) -> None:
        try:
            for earlier in before:
                await earlier.wait()
            if call.method.kind != "read" or call.method.target == "connection":
                await self._carry_out(call, reply)
                return
            # Answers may be large, so few are made ahead of what the peer has taken.
            async with self._reads:
                await self.outbox.has_room()
                if self._server.closing:
                    reply(self.failure(_going_away()))
                elif not self.is_closing():
                    await self._carry_out(call, reply)
        finally:
            self._over(doc_ids, done, share)

    def _over(self, doc_ids: set[str], done: asyncio.Event, share: Share) -> None:
        """A call is over: those that came after it may go on."""
        self.hub.answers_first.answered(self, doc_ids)
        self.hub.answers_first.ends(self, doc_ids)
        done.set()
        self._in_flight.release()
        share.give_back()
        for doc_id in doc_ids:
            if self._last_calls.get(doc_id) is done:
                del self._last_calls[doc_id]

    def _give_up(self, reply: Reply) -> None:
        # A call that has begun goes on, because the others must be notified of what it commits. One
        # that still waits for its turn is not begun any more.
        reply(self.failure(UnavailableError("no answer in time", {"reason": "STORAGE"})))

    async def _carry_out(self, call: Call, reply: Reply) -> None:
        give_up = partial(self._give_up, reply)
        with ResponseDeadline(give_up, self._limits.store_timeout_s) as deadline:
            outcome = await self._outcome(call, deadline)
        if not deadline.has_passed:
            reply(outcome)

    async def _outcome(self, call: Call, deadline: ResponseDeadline) -> Outcome:
        try:
            if call.method.target == "connection":
                result = await call.method.run(self, call.params, call.size)
                return Outcome(call.method.encoded(result))
            context = replace(
                call.context, has_given_up=deadline.is_over, keep_waiting=deadline.stop
            )
            return Outcome(await self._server.calls.run(replace(call, context=context)))
        except Exception as exc:  # boundary: one call's failure is its own
            return self._failed(call.name, exc)

    def _failed(self, name: str, error: Exception) -> Outcome:
        """The outcome of a call that failed; the log has what its sender does not get."""
        ref = random_id(self._server.runtime.random, 10)
        if is_unforeseen(error):
            _log.error(
                "%s failed (ref %s)",
                name,
                ref,
                exc_info=error,
                extra={"connection": self.connection_id},
            )
        return self.failure(error, ref)

    def _expiry_timer(self) -> asyncio.TimerHandle | None:
        if self._expires_at is None:
            return None
        left_s = (self._expires_at - self._server.runtime.wall_ms()) / 1000
        return self._loop.call_later(max(0.0, left_s), self.close, SIGNED_OUT, "sign-in expired")


def _named(params: Sequence[Json]) -> set[str]:
    """The documents that a call is about."""
    first = params[0] if params else None
    return {
        name for name in (first if isinstance(first, list) else [first]) if isinstance(name, str)
    }


def _going_away() -> StatusError:
    return UnavailableError("the server is going away", {"reason": "CLOSING"})


def _too_fast(wait_s: float) -> StatusError:
    return TooManyRequestsError("too many requests", retry_after_ms=max(1, round(wait_s * 1000)))
