"""`RpcPeer`: JSON-RPC 2.0 calls and notifications over frames (`docs/protocol.md`).

Parameters are positional. Answers may come in any order and are matched by id alone. Ids go on
after a reconnect, so a late answer never meets a new call.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Final

from patches.aio.signals import Signal
from patches.errors import (
    ALGORITHM_REASON,
    AlgorithmMismatchError,
    ForbiddenError,
    FrameTooLargeError,
    InvalidJsonError,
    InvalidRequestError,
    JSONRPCError,
    JSONRPCParseError,
    NetworkError,
    NotFoundError,
    PatchesError,
    StatusError,
    UnauthorizedError,
    UnavailableError,
)
from patches.model import codec
from patches.model.json_values import Json

_log = logging.getLogger("patches.net")

REQUEST_TIMEOUT_S: Final = 30.0
#: Calls that wait for an answer at one time; the next ones wait for their turn. A server stops
#: reading a connection at as many.
MAX_IN_FLIGHT: Final = 64


class RpcPeer:
    """The calls of one client. Owns no task: `receive` and `reject_all` are called by the owner of
    the transport.
    """

    def __init__(
        self,
        send: Callable[[bytes], None],
        *,
        timeout_s: float | None = REQUEST_TIMEOUT_S,
        max_in_flight: int = MAX_IN_FLIGHT,
    ) -> None:
        self._send = send
        self._timeout_s = timeout_s
        self._max_in_flight = max_in_flight
        self._last_id = 0
        self._in_flight: dict[int, _Call] = {}
        self._waiting: deque[_Call] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._answered_at = 0.0
        #: `(method, params)` of a notification.
        self.on_notification: Signal[[str, Any]] = Signal("on_notification")
        #: An answer to a call came.
        self.on_answer: Signal[[]] = Signal("on_answer")

    async def call(self, method: str, *params: Any) -> Json:
        """Call a method of the peer; its result, `None` if it gives none.

        Trailing `None` parameters are left out. Raises `StatusError` or `JSONRPCError` as the peer
        answers, `NetworkError` when no answer comes: sent while there is no connection, lost with
        it, or 30 s of silence.
        """
        self._last_id += 1
        call = _Call(self._last_id, method, _request(self._last_id, method, params))
        try:
            if len(self._in_flight) < self._max_in_flight:
                self._start(call)
            else:
                self._waiting.append(call)
            return await call.answer
        finally:
            self._finish(call)

    def notify(self, method: str, *params: Any) -> None:
        """Send a notification. Raises `NetworkError` while there is no connection."""
        self._send(_request(None, method, params))

    def receive(self, frame: bytes | str) -> None:
        """Take a frame from the peer."""
        try:
            message = codec.decode(frame)
        except InvalidJsonError:
            text = frame if isinstance(frame, str) else frame.decode("utf-8", "replace")
            self.reject_all(JSONRPCParseError(text))
            return
        if not isinstance(message, dict):
            _log.warning("ignored a frame that is no JSON-RPC message")
        elif "id" in message:
            self._answered(message)
        elif isinstance(message.get("method"), str):
            self.on_notification.emit(message["method"], message.get("params"))
        else:
            _log.warning("ignored a frame with neither a method nor an id")

    def reject_all(self, error: PatchesError) -> None:
        """Fail every call that waits: the connection was lost, or what came is not readable.

        A `FrameTooLargeError` is about one frame, the largest; the others are merely lost.
        """
        calls = [*self._in_flight.values(), *self._waiting]
        self._waiting.clear()
        largest = max(self._in_flight.values(), key=lambda call: len(call.frame), default=None)
        for call in calls:
            if isinstance(error, FrameTooLargeError) and call is not largest:
                call.fail(NetworkError(f"{call.method}: lost with the connection: {error}"))
            else:
                call.fail(error)

    # ---- private ---------------------------------------------------------------------------------

    def _start(self, call: _Call) -> None:
        self._in_flight[call.id] = call
        try:
            self._send(call.frame)
        except NetworkError as exc:
            call.fail(exc)
        else:
            if self._timeout_s is not None:
                call.sent_at = asyncio.get_running_loop().time()
                if self._timer is None:
                    self._set_timer(call.sent_at + self._timeout_s)

    def _finish(self, call: _Call) -> None:
        """Forget a call however it ended, and let the next one go."""
        if self._in_flight.pop(call.id, None) is None:
            if call in self._waiting:
                self._waiting.remove(call)
            return
        while self._waiting and len(self._in_flight) < self._max_in_flight:
            self._start(self._waiting.popleft())

    # One timer for all calls: it is set for the first one that may be overdue, and looks then.

    def _set_timer(self, at: float) -> None:
        self._timer = asyncio.get_running_loop().call_at(at, self._fail_overdue)

    def _fail_overdue(self) -> None:
        assert self._timeout_s is not None
        self._timer, now = None, asyncio.get_running_loop().time()
        deadlines = []
        for call in self._in_flight.values():
            deadline = self._deadline(call, self._timeout_s)
            if deadline <= now:
                call.fail(NetworkError(f"no answer to {call.method} in {self._timeout_s:g} s"))
            else:
                deadlines.append(deadline)
        if deadlines:
            self._set_timer(min(deadlines))

    def _deadline(self, call: _Call, timeout_s: float) -> float:
        """Silence is counted from the last answer to any call: over a slow line large answers come
        one after another. No call waits longer than four times the timeout."""
        silent_since = max(call.sent_at, self._answered_at)
        return min(silent_since + timeout_s, call.sent_at + 4 * timeout_s)

    def _answered(self, message: Mapping[str, Any]) -> None:
        # `True` is an `int`, and equal to 1
        call = self._in_flight.get(message["id"]) if type(message["id"]) is int else None
        if call is None:
            _log.warning("ignored an answer to an unknown call %.80r", message["id"])
        elif "error" in message:
            call.fail(error_from_wire(message["error"]))
            self._record_answer()
        else:
            if not call.answer.done():
                call.answer.set_result(message.get("result"))
            self._record_answer()

    def _record_answer(self) -> None:
        self._answered_at = asyncio.get_running_loop().time()
        self.on_answer.emit()


class _Call:
    __slots__ = ("answer", "frame", "id", "method", "sent_at")

    def __init__(self, id: int, method: str, frame: bytes) -> None:
        self.id, self.method, self.frame = id, method, frame
        self.sent_at = 0.0
        self.answer: asyncio.Future[Json] = asyncio.get_running_loop().create_future()

    def fail(self, error: PatchesError) -> None:
        if not self.answer.done():
            self.answer.set_exception(error)
            self.answer.exception()  # the caller may have gone


_STATUS_CLASSES: Final[Mapping[int, type[StatusError]]] = {
    400: InvalidRequestError,
    401: UnauthorizedError,
    403: ForbiddenError,
    404: NotFoundError,
    503: UnavailableError,
}


#: What the wire has for a right that its sender does not have.
_REFUSED_RIGHT: Final = re.compile(r"(READ|WRITE)_FORBIDDEN:(.*)", re.DOTALL)


def error_from_wire(error: Any) -> PatchesError:
    """The exception of an answer's `error`: a `StatusError` if the code is positive."""
    fields = error if isinstance(error, Mapping) else {}
    code, message, data = fields.get("code"), fields.get("message"), fields.get("data")
    text = message if isinstance(message, str) and message else "Unknown error"
    facts = data if isinstance(data, Mapping) else None
    if isinstance(code, bool) or not isinstance(code, int):
        return JSONRPCError(-32000, text, facts)
    if code <= 0:
        return JSONRPCError(code or -32000, text, facts)
    if code == 403 and (refused := _REFUSED_RIGHT.fullmatch(text)):
        doing = "reading" if refused[1] == "READ" else "writing to"
        text = f"the server does not allow {doing} document {refused[2]!r} ({text[:200]})"
    if facts is not None and facts.get("reason") == ALGORITHM_REASON:
        names = [facts.get(name) for name in ("docId", "expected", "got")]
        if all(isinstance(name, str) for name in names):
            doc_id, expected, got = map(str, names)
            return AlgorithmMismatchError(doc_id, expected=expected, got=got, on_server=True)
    if known := _STATUS_CLASSES.get(code):
        return known(text, facts)  # type: ignore[arg-type]  # all five take these two
    return StatusError(code, text, facts)


def _request(id: int | None, method: str, params: tuple[Any, ...]) -> bytes:
    given = list(params)
    while given and given[-1] is None:
        given.pop()
    frame: dict[str, Any] = {"jsonrpc": "2.0"}
    if id is not None:
        frame["id"] = id
    frame["method"] = method
    if given:
        frame["params"] = given
    return codec.encode(frame)
