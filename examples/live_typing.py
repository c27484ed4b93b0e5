"""Two authors type into one document, a third watches: real websockets, a server on SQLite.

    python examples/live_typing.py                        # two invented sessions
    python examples/live_typing.py --trace A --trace B    # two recordings (editing-traces format)

One typist types into the text `/code`, the other into `/post` of the same document. At the end the
server is started anew on the same file, and all three clients and the server must hold exactly the
end texts of the sessions.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import socket
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from patches import Patches, PatchesSync
from patches.documents.document import Document
from patches.errors import PatchesError
from patches.net.connection import RpcConnection
from patches.net.websocket import WebSocketTransport
from patches.testing.typing_sessions import TypingSession, invented_session, read_recording
from patches.text import text_of

DOC_ID = "examples/live-typing"
FIELDS = ("code", "post")
#: Keystrokes before the others get a turn, and how far a typist may run ahead of the server.
KEYS_A_TURN, KEYS_AHEAD = 8, 400


class MeteredSocket(WebSocketTransport):
    """A websocket that counts what goes over it, both ways."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.frames = self.bytes = 0
        self.on_frame(self._count)

    def send(self, frame: bytes) -> None:
        self._count(frame)
        super().send(frame)

    def _count(self, frame: bytes) -> None:
        self.frames += 1
        self.bytes += len(frame)


@dataclass
class Client:
    """One participant."""

    name: str
    doc: Document
    sync: PatchesSync
    socket: MeteredSocket


async def run(sessions: Sequence[TypingSession], store: str) -> bool:
    """Type, start the server anew, compare. Whether all hold the end texts."""
    ends = {field: session.end for field, session in zip(FIELDS, sessions, strict=True)}
    edits = sum(session.edits for session in sessions)
    async with AsyncExitStack() as stack:
        url = await stack.enter_async_context(server(store))
        clients = [
            await stack.enter_async_context(client(url, name))
            for name in ("first typist", "second typist", "watcher")
        ]
        print(f"{edits:,} edits into {DOC_ID!r} at {url}", flush=True)
        started = time.perf_counter()
        await asyncio.gather(
            *(type_session(clients[nth], FIELDS[nth], sessions[nth]) for nth in range(2)),
            watch(clients, ends, edits),
        )
        seconds = time.perf_counter() - started
        held = {each.name: texts(each.doc) for each in clients}
    async with server(store) as url, client(url, "newcomer") as newcomer:
        held["the server, started anew"] = texts(newcomer.doc)
    report(edits, seconds, clients)
    return compare(held, ends)


async def type_session(typist: Client, field: str, session: TypingSession) -> None:
    """Replay a session into one text of the document, as fast as everybody keeps up."""
    doc = typist.doc
    if session.start:
        doc.change(lambda draft: draft.text(field).insert(0, session.start))
    for number, edits in enumerate(session.transactions):
        with doc.edit() as draft:
            text = draft.text(field)
            for position, deleted, inserted in edits:
                text.replace(position, deleted, inserted)
        if number % KEYS_A_TURN == 0:
            await asyncio.sleep(0)
        if number % KEYS_AHEAD == 0:
            await typist.sync.settled()
    await typist.sync.settled()


async def watch(clients: Sequence[Client], ends: dict[str, str], edits: int) -> None:
    """Show how far the watcher sees, until every client holds the end texts."""
    watcher = clients[-1]
    seen = asyncio.get_running_loop().time()
    shown = -1
    while any(texts(each.doc) != ends for each in clients):
        await asyncio.sleep(0.05)
        now = asyncio.get_running_loop().time()
        if watcher.doc.committed_rev != shown:
            shown, seen = watcher.doc.committed_rev, now
            lengths = ", ".join(
                f"/{field} {len(text):,}" for field, text in texts(watcher.doc).items()
            )
            progress(f"  watching: revision {shown:,}, characters: {lengths}")
        elif now - seen > 60:
            return  # nothing has moved for a minute: the comparison will tell
    progress("")


@asynccontextmanager
async def client(url: str, name: str) -> AsyncIterator[Client]:
    """A client with the document open and in sync."""
    meter = MeteredSocket(url)
    async with Patches() as patches, PatchesSync(patches, RpcConnection(meter)) as sync:
        doc = await patches.open_doc(DOC_ID)
        await sync.settled()
        yield Client(name, doc, sync, meter)


@asynccontextmanager
async def server(store: str) -> AsyncIterator[str]:
    """`patches-server` as a process of its own; its websocket address."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "patches_server", "--port", str(port), "--store", store),
        stdout=asyncio.subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    try:
        async with asyncio.timeout(30):
            await listening(port, process)
        yield f"ws://127.0.0.1:{port}/ws"
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def listening(port: int, process: asyncio.subprocess.Process) -> None:
    """Wait until the server takes connections. Raises `PatchesError` when it has ended instead."""
    while process.returncode is None:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            await asyncio.sleep(0.05)
        else:
            writer.close()
            return await writer.wait_closed()
    raise PatchesError(f"the server ended at once, with status {process.returncode}")


def texts(doc: Document) -> dict[str, str]:
    """The texts of the document, without a rich text's final newline."""
    state: dict[str, Any] = doc.state
    return {
        field: text_of(state[field]).removesuffix("\n") if field in state else ""
        for field in FIELDS
    }


def report(edits: int, seconds: float, clients: Sequence[Client]) -> None:
    """Print the figures."""
    frames = sum(each.socket.frames for each in clients)
    size = sum(each.socket.bytes for each in clients)
    print(
        f"{edits:,} edits in {seconds:.1f} s: {edits / seconds:,.0f} edits/s; "
        f"{frames:,} frames, {size:,} bytes over three websockets"
    )


def compare(held: dict[str, dict[str, str]], ends: dict[str, str]) -> bool:
    """Say of each holder whether it has the end texts."""
    for name, got in held.items():
        wrong = [f"/{field}" for field in FIELDS if got[field] != ends[field]]
        print(f"  {name}: " + (f"DIFFERS in {', '.join(wrong)}" if wrong else "equal"))
    return all(got == ends for got in held.values())


def progress(line: str) -> None:
    """Write over the last progress line, on a terminal."""
    if sys.stdout.isatty():
        print(f"\r\x1b[K{line}", end="", flush=True)


def sessions_to_type(options: argparse.Namespace) -> list[TypingSession]:
    """What the typists type. Raises `PatchesError`."""
    if not options.trace:
        keys = options.keys or 10_000
        return [invented_session(options.seed + nth, keys) for nth in range(len(FIELDS))]
    recordings = [read_recording(path) for path in options.trace]
    return [each.first(options.keys) if options.keys else each for each in recordings]


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trace", type=Path, action="append", default=[], metavar="FILE",
                        help="a recording to type, given twice")  # fmt: skip
    parser.add_argument("--seed", type=int, default=1, help="of the invented sessions")
    parser.add_argument("--keys", type=int, help="type only so many transactions of each session")
    parser.add_argument("--store", help="the server's store (default: a temporary SQLite file)")
    options = parser.parse_args(arguments)
    if len(options.trace) not in (0, len(FIELDS)):
        parser.error("--trace is given twice or not at all")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the example; the exit status."""
    options = parsed(arguments)
    try:
        sessions = sessions_to_type(options)
        with tempfile.TemporaryDirectory() as folder:
            store = options.store or f"sqlite:///{folder}/server.db"
            return 0 if asyncio.run(run(sessions, store)) else 1
    except PatchesError as error:
        print(f"live_typing: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
