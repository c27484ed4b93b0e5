"""Notes on two devices: written offline, kept in files, merged when there is a server.

    python examples/offline_notes.py

Both devices are in this program, each with its own file. They write while there is no server, are
closed and opened again, and agree once there is one: texts and lists are merged, not overwritten.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from aiohttp import web

from patches import Document, Patches, PatchesSync
from patches_server import allow_all, create_app

#: Nobody listens here: what a laptop on a train sees.
NOWHERE = "ws://127.0.0.1:9/ws"


@asynccontextmanager
async def server(folder: Path) -> AsyncIterator[str]:
    """A server on a file; its websocket address."""
    runner = web.AppRunner(create_app(folder / "server.db", auth=allow_all))
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"ws://127.0.0.1:{runner.addresses[0][1]}/ws"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def device(file: Path, url: str) -> AsyncIterator[tuple[Document, PatchesSync]]:
    """The notes on one device. It does not wait for the server: `background`."""
    async with Patches(store=file) as patches:
        sync = PatchesSync(patches, url)
        # The first attempt that fails is reported here, once; it goes on trying.
        sync.on_error(lambda error, _context: print(f"{file.stem}: {error}"))
        await sync.connect(background=True)
        try:
            yield await patches.open_doc("notes"), sync
        finally:
            await sync.disconnect()


def write(text: str) -> Any:
    """An edit: a new note at the end of the list, and a line in the diary."""

    def edit(draft: Any) -> None:
        draft.setdefault("list", []).append(text)
        draft.text("diary").append(f"{text}\n")

    return edit


async def main(folder: Path) -> int:
    """Run the example; the exit status."""
    for name, text in (("laptop", "Buy a present"), ("phone", "Call Ann")):
        async with device(folder / f"{name}.db", NOWHERE) as (notes, sync):
            notes.change(write(text))
            print(f"{name}, offline: {notes.state['list']}, connected: {sync.state.connected}")

    async with (
        server(folder) as url,
        device(folder / "laptop.db", url) as (laptop, laptop_sync),
        device(folder / "phone.db", url) as (phone, phone_sync),
    ):
        print(f"opened again: {laptop.state['list']} and {phone.state['list']}")
        await laptop_sync.settled(30)
        await phone_sync.settled(30)
        async with asyncio.timeout(30):
            async for _ in laptop:
                if laptop.committed_rev == phone.committed_rev:
                    break
        print(f"laptop, in sync: {laptop.state['list']}")
        print(f"phone, in sync: {phone.state['list']}")
        print("equal" if laptop.state == phone.state else "DIFFERENT")
        return 0 if laptop.state == phone.state else 1


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        sys.exit(asyncio.run(main(Path(temporary))))
