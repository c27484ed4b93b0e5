"""What the original's server does otherwise than ours, put in front of ours.

A relay between each client and a connection of its own to our server, which restores, as
`docs/protocol.md` has them:

- answers that come late and in any order, so that broadcasts overtake them; a broadcast that comes
  twice, or after the next one;
- `"result":null` where there is no result, now and then; stack text as the `data` of errors without
  a code;
- no 410: a deleted document is one that does not exist, at revision 0;
- own changes told by the connection's id alone (`docs/internals/sync.md` 12.4), with
`original_identity`.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from patches.model.change import Change
from tests.interop.serving import in_process

_STACK = "Error: {}\n    at OTServer.commitChanges (file:///app/server.js:1:1)"
_QUIRK = "quirk"


class OriginalServer:
    """The relay. `url` is where clients connect."""

    def __init__(self, inner: str, seed: int) -> None:
        self._inner, self._random = inner, random.Random(seed)
        self.url = ""
        #: The next answer to a commit is lost, and its socket with it.
        self.loses_an_answer = False
        self.lost = asyncio.Event()

    async def serve(self, request: web.Request) -> web.WebSocketResponse:
        """Relay one client until either side ends."""
        outer = web.WebSocketResponse(max_msg_size=2**28)
        await outer.prepare(request)
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(self._inner, max_msg_size=2**28) as inner,
            asyncio.TaskGroup() as tasks,
        ):
            line = _Line(self, outer, inner, tasks)
            tasks.create_task(line.answers(), name="answers")
            await line.requests()
            await inner.close()
        return outer

    def wait_s(self) -> float:
        """How long an answer takes longer."""
        return self._random.choice((0.0, 0.0, 0.002, 0.006))

    def happens(self, chance: float) -> bool:
        """Whether something that happens now and then does."""
        return self._random.random() < chance


class _Line:
    def __init__(
        self,
        server: OriginalServer,
        outer: web.WebSocketResponse,
        inner: aiohttp.ClientWebSocketResponse,
        tasks: asyncio.TaskGroup,
    ) -> None:
        self._server, self._outer, self._inner = server, outer, inner
        self._tasks = tasks
        self._methods: dict[Any, str] = {}

    async def requests(self) -> None:
        async for message in self._outer:
            if message.type is not aiohttp.WSMsgType.TEXT:
                continue
            await self._inner.send_str(message.data)
            frame = _object(message.data)
            self._methods[str(frame.get("id"))] = str(frame.get("method"))
            if frame.get("method") == "deleteDoc":  # no tombstone stays
                undelete = {"id": _QUIRK, "method": "undeleteDoc", "params": frame["params"][:1]}
                await self._inner.send_str(json.dumps(undelete))

    async def answers(self) -> None:
        async for message in self._inner:
            if message.type is not aiohttp.WSMsgType.TEXT:
                continue
            frame = _object(message.data)
            if frame.get("id") == _QUIRK:
                continue
            if "id" not in frame:
                await self._tell(frame)
            elif not await self._loses(frame):
                self._tasks.create_task(
                    self._later(_as_the_original(frame, self._server)), name="answer"
                )
        await self._outer.close()

    async def _tell(self, frame: dict[str, Any]) -> None:
        if self._server.happens(0.1):
            self._tasks.create_task(self._later(frame), name="again")
        if self._server.happens(0.1):
            self._tasks.create_task(self._later(frame), name="late")
        else:
            await self._send(frame)

    async def _later(self, frame: dict[str, Any]) -> None:
        await asyncio.sleep(self._server.wait_s())
        await self._send(frame)

    async def _send(self, frame: dict[str, Any]) -> None:
        if not self._outer.closed:
            try:
                await self._outer.send_str(json.dumps(frame, separators=(",", ":")))
            except ConnectionError:
                pass  # the client has left

    async def _loses(self, frame: dict[str, Any]) -> bool:
        server = self._server
        is_commit = self._methods.pop(str(frame["id"]), "") == "commitChanges"
        if not (server.loses_an_answer and is_commit):
            return False
        server.loses_an_answer = False
        server.lost.set()
        await self._outer.close()
        return True


def _object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _as_the_original(frame: dict[str, Any], server: OriginalServer) -> dict[str, Any]:
    error = frame.get("error")
    if error is not None and error["code"] == -32000:
        return {**frame, "error": {**error, "data": _STACK.format(error["message"])}}
    if error is None and "result" not in frame and server.happens(0.5):
        return {**frame, "result": None}
    return frame


@asynccontextmanager
async def original_server(seed: int = 1) -> AsyncIterator[OriginalServer]:
    """The relay, in front of a server in this process."""
    async with in_process(relay=False) as inner:
        server = OriginalServer(inner, seed)
        app = web.Application()
        app.router.add_get("/ws", server.serve)
        async with TestServer(app) as outside:
            server.url = str(outside.make_url("/ws"))
            yield server


def original_identity(patch: pytest.MonkeyPatch) -> None:
    """Tell own changes as the original does: only what came over the same connection is own."""

    def tell_own(rows: Any, row: Change) -> bool:
        submission, sender, batch_id = rows._submission, rows._sender, rows._batch_id
        same_origin = sender is None or not row.client_id or row.client_id == sender
        resumed = submission.resumes_upload and row.rev <= submission.initial_rev
        named = row.id in submission.sent_at or (batch_id is not None and row.batch_id == batch_id)
        return bool((same_origin or resumed) and named)

    patch.setattr("patches_server.ot.commit._Rows._tell_own", tell_own)
