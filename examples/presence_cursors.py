"""Who is here, and where their cursors are: two people at one text, and one of them types.

python examples/presence_cursors.py
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

from patches import Document, Patches, PatchesSync
from patches.sync import Room
from patches_server import allow_all, create_app


@asynccontextmanager
async def server() -> AsyncIterator[str]:
    """A server that keeps everything in memory; its websocket address."""
    runner = web.AppRunner(create_app(auth=allow_all))
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"ws://127.0.0.1:{runner.addresses[0][1]}/ws"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def person(url: str, name: str) -> AsyncIterator[tuple[Document, Room]]:
    """Somebody with the letter open, at its beginning."""
    async with Patches() as patches, PatchesSync(patches, url) as sync:
        letter = await patches.open_doc("letter")
        await sync.settled(30)
        state = {"name": name, "cursor": 0}
        async with sync.presence("letter", state, text="/body") as room:
            yield letter, room


async def until(
    room: Room, seen: Callable[[Mapping[str, Any]], bool]
) -> Mapping[str, Mapping[str, Any]]:
    """Wait until somebody in the room is seen as asked; everybody there."""
    changed = asyncio.Event()
    unsubscribe = room.on_change(lambda _others: changed.set())
    try:
        async with asyncio.timeout(30):
            while not any(seen(state) for state in room.others.values()):
                changed.clear()
                await changed.wait()
            return room.others
    finally:
        unsubscribe()


def type_in(doc: Document, position: int, text: str) -> None:
    """Type into the body."""
    doc.change(lambda draft: draft.text("body").insert(position, text))


async def main() -> int:
    """Run the example; the exit status."""
    async with server() as url, person(url, "Ann") as (anns, ann):
        type_in(anns, 0, "the end")
        async with person(url, "Bob") as (bobs, bob):
            ann.update(cursor=4)
            others = await until(bob, lambda state: state.get("cursor") == 4)
            for each in others.values():
                print(f"Bob sees {each['name']} at {each['cursor']}")
            type_in(bobs, 0, "This is ")
            others = await until(bob, lambda state: state.get("cursor") == 12)
            for each in others.values():
                print(f"Bob types, and {each['name']}'s cursor moves to {each['cursor']}")
            await until(ann, lambda state: state["name"] == "Bob")
            print(f"Ann sees {[state['name'] for state in ann.others.values()]}")
        changed = asyncio.Event()
        ann.on_change(lambda _others: changed.set())
        async with asyncio.timeout(30):
            while ann.others:
                changed.clear()
                await changed.wait()
        print("Bob has left")
        return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
