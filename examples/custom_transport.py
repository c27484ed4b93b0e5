"""Another way to carry frames: lines of JSON over a plain TCP connection, both sides of it.

    python examples/custom_transport.py

The client needs a stream class and a function that opens one; connecting again after a loss, with
waits between, is `StreamTransport`'s. The server gives each connection a session, which takes
frames and fills an outbox. Frames are JSON in one line, so a newline divides them.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from patches import Patches, PatchesSync
from patches.errors import NetworkError
from patches.limits import Limits
from patches.net import RpcConnection, StreamTransport
from patches_server import MemoryBackend, OTServer, PatchesServer, Services, allow_all

MOST = Limits().max_frame_bytes


class LineStream:
    """The client's end of one TCP connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    async def send(self, frame: bytes) -> None:
        """Send a frame as a line."""
        try:
            self._writer.write(frame + b"\n")
            await self._writer.drain()
        except OSError as exc:
            raise NetworkError(f"the line is broken: {exc}") from exc

    async def receive(self) -> bytes:
        """The next line."""
        try:
            return (await self._reader.readuntil(b"\n"))[:-1]
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError) as exc:
            raise NetworkError(f"the line has ended: {exc}") from exc

    async def close(self) -> None:
        """Hang up."""
        self._writer.close()
        with suppress(OSError):
            await self._writer.wait_closed()


def connection_to(host: str, port: int) -> RpcConnection:
    """A connection for `PatchesSync`."""

    async def dial() -> LineStream:
        try:
            return LineStream(*await asyncio.open_connection(host, port, limit=MOST))
        except OSError as exc:
            raise NetworkError(f"cannot connect to {host}:{port}: {exc}") from exc

    return RpcConnection(StreamTransport(dial, name="lines"), url=f"tcp://{host}:{port}")


class LineServer:
    """Serves a `PatchesServer` to TCP connections."""

    def __init__(self, server: PatchesServer) -> None:
        self._server = server
        self.writers: set[asyncio.StreamWriter] = set()
        self._one_has_gone = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one peer until it hangs up."""
        session = self._server.connect()
        self.writers.add(writer)

        async def write() -> None:
            try:
                while (frame := await session.outbox.get()) is not None:
                    writer.write(frame + b"\n")
                    await writer.drain()
            except OSError:  # it is gone: the session must not wait for room any more
                session.outbox.close(1006, "the connection was lost", discard=True)

        writing = asyncio.create_task(write(), name="line writer")
        try:
            while line := await reader.readline():
                await session.receive(line[:-1])
        except OSError:
            pass  # it is gone
        finally:
            session.end()
            writing.cancel()
            await asyncio.wait([writing])
            writer.close()
            self.writers.discard(writer)
            self._one_has_gone.set()

    async def close(self) -> None:
        """Hang up on everybody, and wait until that is done."""
        for writer in self.writers:
            writer.close()
        while self.writers:
            self._one_has_gone.clear()
            await self._one_has_gone.wait()


@asynccontextmanager
async def line_server() -> AsyncIterator[tuple[LineServer, str, int]]:
    """A running server, its host and port."""
    async with PatchesServer({"ot": Services(OTServer(MemoryBackend()))}, auth=allow_all) as core:
        lines = LineServer(core)
        listener = await asyncio.start_server(lines.serve, "127.0.0.1", 0, limit=MOST)
        host, port = listener.sockets[0].getsockname()[:2]
        try:
            yield lines, host, port
        finally:
            listener.close()
            await lines.close()
            await listener.wait_closed()


async def main() -> int:
    """Run the example; the exit status."""
    async with line_server() as (lines, host, port), Patches() as anns, Patches() as bobs:
        async with (
            PatchesSync(anns, connection_to(host, port)) as ann,
            PatchesSync(bobs, connection_to(host, port)) as bob,
        ):
            note = await anns.open_doc("note")
            copy = await bobs.open_doc("note")
            note.set({"text": "over a plain line"})
            await ann.settled(30)
            print("cutting every line")
            for writer in list(lines.writers):
                writer.transport.abort()
            note.set({"text": "over a new line"})
            await ann.settled(30)
            await bob.settled(30)
            async with asyncio.timeout(30):
                async for state in copy:
                    if state == note.state:
                        break
            print(f"{ann.url} carried {copy.state}")
            return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
