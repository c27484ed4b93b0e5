"""A second door: plain lines of JSON over TCP, no JSON-RPC. All but the lines is the server's.

> {"token": "ann"}
< ["welcome", "CONNECTION ID"]
> ["1", "subscribe", ["plan"]]
< ["1", "ok", ["plan"]]
< ["changesCommitted", {...}]
< ["2", "error", 403, "READ_FORBIDDEN:secret"]
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Final

from patches.errors import InvalidJsonError, StatusError
from patches.model import codec
from patches.model.json_values import Json
from patches_server.service.admission import Arrival, Entrance
from patches_server.service.fanout.outbox import LOST, Event, Outbox
from patches_server.service.server import PatchesServer
from patches_server.service.session import Outcome, ServerSession
from patches_server.wire.frames import memory_needed


def render(event: Event) -> bytes:
    return b'["' + event.method.encode() + b'",' + event.params + b"]\n"


class PlainDoor:
    """Give `serve` to `asyncio.start_server`, with `limits.max_frame_bytes` as its limit."""

    def __init__(self, server: PatchesServer) -> None:
        self._server: Final = server
        self._entrance: Final = Entrance(server)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one peer until it hangs up or is cut off."""
        try:
            async with asyncio.timeout(self._server.limits.handshake_timeout_s):
                request = codec.decode(await reader.readline())
            address = writer.get_extra_info("peername")[0]
            arrival = Arrival(request=request, address=address)
            async with self._entrance.admitted(arrival) as principal:
                outbox = Outbox(self._server.limits, render)
                session = self._server.open_session(principal, outbox)
                outbox.answer(codec.encode(["welcome", session.connection_id]) + b"\n")
                await self._converse(session, reader, writer)
        except StatusError as exc:
            writer.write(codec.encode(["refused", exc.code, str(exc)]) + b"\n")
        except (InvalidJsonError, TimeoutError, OSError):
            pass  # no peer of ours, or gone
        finally:
            writer.close()

    async def _converse(
        self, session: ServerSession, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        outbox = session.outbox
        outbox.on_cut = writer.transport.abort  # cut off while a write is stuck
        writing = asyncio.create_task(self._write(outbox, writer), name="plain writer")
        try:
            while line := await reader.readline():
                await self._take(session, line)
        except (ValueError, OSError):  # a line beyond the limit, or a peer that is gone
            pass
        finally:
            session.end()
            await asyncio.wait([writing])

    async def _write(self, outbox: Outbox, writer: asyncio.StreamWriter) -> None:
        try:
            while (line := await outbox.get()) is not None:
                writer.write(line)
                await writer.drain()
            writer.close()
        except OSError:
            outbox.close(LOST, "the connection was lost", discard=True)

    async def _take(self, session: ServerSession, line: bytes) -> None:
        try:
            share = await session.admit(len(line), lambda: memory_needed(line))
            match await session.offload(len(line), lambda: codec.decode(line)):
                case [str() as id, str() as name, *params]:
                    reply = partial(self._reply, session.outbox, id)
                    await session.begin(name, params, reply, size=len(line), share=share)
                case _:
                    share.give_back()
                    session.close(1008, "a line is [ID, METHOD, PARAMETER, ...]")
        except (StatusError, InvalidJsonError) as exc:
            self._reply(session.outbox, None, session.failure(exc))

    def _reply(self, outbox: Outbox, id: Json, outcome: Outcome) -> None:
        if outcome.error is not None:
            line = codec.encode([id, "error", outcome.error["code"], outcome.error["message"]])
        else:
            line = b"[" + codec.encode(id) + b',"ok",' + (outcome.result or b"null") + b"]"
        outbox.answer(line + b"\n")
