"""`JsonRpcPeer`: one peer that speaks JSON-RPC 2.0, as clients of @dabble/patches 0.28.1 do.

It parses the peer's frames, begins its calls with a session, and writes what they come to. It knows
nothing of sockets: a transport gives it the frames that arrive, one after another, and writes what
its outbox holds. So the same code serves aiohttp, an in-memory transport and the simulation.
"""

from __future__ import annotations

from collections.abc import Collection
from functools import partial
from typing import Final

from patches.errors import StatusError
from patches.model import codec
from patches.model.json_values import Json
from patches_server.documents.context import CallContext
from patches_server.service.fanout.outbox import Event, Outbox
from patches_server.service.memory_budget import NO_SHARE
from patches_server.service.methods import SIGNAL, unknown_method
from patches_server.service.session import ServerSession
from patches_server.service.session_host import Outcome
from patches_server.wire.frames import (
    Malformed,
    Notification,
    Request,
    error_frame,
    find_id,
    memory_needed,
    parse_frame,
    result_frame,
)


def render(event: Event) -> bytes:
    """An event as a notification."""
    method = event.method.encode()
    return b'{"jsonrpc":"2.0","method":"' + method + b'","params":' + event.params + b"}"


class JsonRpcPeer:
    """A peer whose frames are JSON-RPC. A transport owns it, and calls `end` when it is gone."""

    def __init__(self, session: ServerSession, *, refused: Collection[str] = ()) -> None:
        """`refused`: methods that the door cannot carry, which are answered with 400."""
        self.session: Final = session
        self._refused = refused

    @property
    def outbox(self) -> Outbox:
        """The frames that are to be written."""
        return self.session.outbox

    @property
    def connection_id(self) -> str:
        """What others know the peer by."""
        return self.session.connection_id

    @property
    def context(self) -> CallContext:
        """Who the peer is."""
        return self.session.context

    @property
    def subscriptions(self) -> dict[str, None]:
        """The documents that it is subscribed to."""
        return self.session.subscriptions

    async def receive(self, frame: bytes | str) -> bool:
        """Take one frame. Returns when the next may come, which is before the answer; whether
        there will be one.
        """
        session, size = self.session, len(frame)
        outbox = session.outbox
        if outbox.closing is not None:
            return False
        try:
            share = await session.admit(size, lambda: memory_needed(frame))
        except StatusError as exc:
            self._answer(find_id(frame), session.failure(exc))
            return True
        try:
            max_depth = session.limits.max_depth
            if share is NO_SHARE:  # too small for a thread
                parsed = parse_frame(frame, max_depth)
            else:
                parsed = await session.offload(size, lambda: parse_frame(frame, max_depth))
        except BaseException:
            share.give_back()
            raise
        if session.outbox.closing is not None:  # signed out or cut off meanwhile
            share.give_back()
            return False
        if isinstance(parsed, Request):
            if parsed.method in self._refused:
                share.give_back()
                needed = f"{parsed.method} needs a websocket or an event stream"
                self._answer(parsed.id, session.failure(StatusError(400, needed)))
                return True
            if parsed.method == SIGNAL and parsed.jsonrpc != "2.0":  # as 0.28.1 has it
                share.give_back()
                self._answer(parsed.id, session.failure(unknown_method(parsed.method)))
                return True
            reply = partial(self._reply, parsed)
            await session.begin(parsed.method, parsed.params, reply, size=size, share=share)
            return True
        share.give_back()
        self._take(parsed, size)
        return isinstance(parsed, Malformed)

    def close(self, code: int, reason: str) -> None:
        """Ask the transport to close the connection, once what is queued is written."""
        self.session.close(code, reason)

    def end(self) -> None:
        """The transport is gone: no more frames either way, all subscriptions end."""
        self.session.end()

    def _take(self, frame: Malformed | Notification, size: int) -> None:
        """Take a frame that begins no call."""
        if isinstance(frame, Malformed):
            self.outbox.answer(frame.answer)
        elif frame.method != SIGNAL or frame.jsonrpc == "2.0":
            self.session.notify(frame.method, frame.params, size)

    def _reply(self, request: Request, outcome: Outcome) -> None:
        if outcome.error is not None:
            self._answer(request.id, outcome)
        elif request.method == SIGNAL:
            # The order of keys that 0.28.1 has here, which differs from that of all other answers.
            head = b'{"jsonrpc":"2.0","result":"ok","id":'
            self.session.outbox.answer(head + codec.encode(request.id) + b"}")
        else:
            self.session.outbox.answer(result_frame(request.id, outcome.result))

    def _answer(self, request_id: Json, outcome: Outcome) -> None:
        if outcome.error is not None:
            self.outbox.answer(error_frame(request_id, outcome.error))
        else:
            self.outbox.answer(result_frame(request_id, outcome.result))
