"""The original's JSON-RPC client (`docs/protocol.md`): what it looks at, and what it does not.

Ids start at 1 and go on after a reconnect. A frame with a `method` and no `id` key is a
notification; any frame with an `id` key is a response, matched by the id alone; a response with an
`error` key, `null` even, is a failure. A call has no time limit.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

from patches.errors import JSONRPCError, JSONRPCParseError, StatusError
from patches.model import codec


class OriginalRpc:
    """Calls over whatever `send` writes to; `receive` takes what arrives."""

    def __init__(
        self, send: Callable[[str], None], on_notification: Callable[[str, Any], None]
    ) -> None:
        self.send = send
        self._on_notification = on_notification
        self._next_id = 1
        self._pending: dict[Any, asyncio.Future[Any]] = {}
        #: Frames that it logged and did nothing about.
        self.ignored: list[Any] = []

    async def call(self, method: str, *params: Any) -> Any:
        """The result; `None` if the answer has none. Raises as the answer, or the send, says."""
        request_id, self._next_id = self._next_id, self._next_id + 1
        frame: dict[str, Any] = {"jsonrpc": "2.0", "id": request_id, "method": method}
        if params:
            frame["params"] = list(params)
        answer = asyncio.get_running_loop().create_future()
        self._pending[request_id] = answer  # and there it stays if `send` raises (`sync.md` 12.7)
        self.send(codec.encode(frame).decode())
        return await answer

    def receive(self, text: str) -> None:
        """Take a frame."""
        try:
            message = json.loads(text)
        except ValueError:
            self.reject_all(JSONRPCParseError(text))
            return
        if not isinstance(message, dict):
            self.ignored.append(message)
        elif "method" in message and "id" not in message:
            self._on_notification(message["method"], message.get("params"))
        elif "id" in message:
            self._respond(message)
        else:
            self.ignored.append(message)

    def reject_all(self, error: Exception) -> None:
        """Fail every call in flight."""
        pending, self._pending = self._pending, {}
        for answer in pending.values():
            if not answer.done():
                answer.set_exception(error)
                answer.exception()  # a call whose send has raised is awaited by nobody

    def _respond(self, message: dict[str, Any]) -> None:
        answer = self._pending.pop(message["id"], None)
        if answer is None:
            self.ignored.append(message)
        elif answer.done():
            pass  # its caller has been cancelled
        elif "error" in message:
            answer.set_exception(_error(message["error"]))
        else:
            answer.set_result(message.get("result"))


def _error(error: Any) -> Exception:
    fields = error if isinstance(error, dict) else {}
    code, message, data = fields.get("code"), fields.get("message"), fields.get("data")
    if isinstance(code, int) and code > 0:
        return StatusError(code, str(message), data)
    return JSONRPCError(code or -32000, message or "Unknown error", data)
