"""An agent streams a summary into a text while two people type before, inside and behind it.

    python examples/stream_while_typing.py

Its text stays together: what is typed behind it stays behind. One undo takes all of it back.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from aiohttp import web

from patches import Document, Patches, PatchesSync, UndoManager
from patches_server import allow_all, create_app

TOKENS = "Everybody agreed to meet again on Monday and to bring cake . ".split(" ")


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


def text_of(doc: Document) -> str:
    return "".join(op["insert"] for op in doc.state["body"]["ops"])


async def tokens() -> AsyncIterator[str]:
    """What a model would say."""
    for token in TOKENS:
        await asyncio.sleep(0.03)
        yield f"{token} "


async def summarise(doc: Document) -> None:
    """The agent."""
    at = doc.anchor("/body", text_of(doc).index("Regards"))
    async with doc.stream_text("/body", at=at, label="Summary") as out:
        async for token in tokens():
            await out.write(token)


async def type_at(doc: Document, word: str, before: str) -> None:
    """A person, who types a letter at a time before a word of the text."""
    cursor = doc.anchor("/body", text_of(doc).index(before), stick="right")
    for letter in word:
        index = cursor.index
        if index is not None:
            with doc.edit() as draft:
                draft.text("body").insert(index, letter)
        await asyncio.sleep(0.05)


async def main() -> int:
    async with AsyncExitStack() as stack:
        url = await stack.enter_async_context(server())
        docs, syncs = [], []
        for _ in range(3):
            patches = await stack.enter_async_context(Patches())
            syncs.append(await stack.enter_async_context(PatchesSync(patches, url)))
            docs.append(await patches.open_doc("minutes"))
        agent, ann, bob = docs
        ann.change(lambda draft: draft.text("body").append("Minutes. Regards, Ann"))
        for sync in (*syncs, *syncs):
            await sync.settled(30)
        undo = UndoManager(agent)
        await asyncio.gather(
            summarise(agent),
            type_at(ann, " of Friday", "."),
            type_at(bob, "Best ", "Regards"),
        )
        for sync in (*syncs, *syncs):
            await sync.settled(30)
        print(text_of(agent).strip())
        print("all equal:", text_of(agent) == text_of(ann) == text_of(bob))
        undo.undo()
        print(text_of(agent).strip())
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
