"""Three clients vote in one LWW document at once: increments add up, and the newest write wins.

python examples/counter_lww.py
"""

from __future__ import annotations

import asyncio
import random
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from aiohttp import web

from patches import Document, Patches, PatchesSync
from patches_server import allow_all, create_app

VOTERS = ("Ann", "Bob", "Carol")
VOTES_EACH = 200


@asynccontextmanager
async def server() -> AsyncIterator[str]:
    """A server that keeps everything in memory; its websocket address."""
    runner = web.AppRunner(create_app(auth=allow_all, routes={"poll/*": "lww"}))
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"ws://127.0.0.1:{runner.addresses[0][1]}/ws"
    finally:
        await runner.cleanup()


async def vote(name: str, poll: Document) -> None:
    """Vote many times, a little later each time, and say who was the last."""
    chance = random.Random(name)
    for number in range(VOTES_EACH):
        with poll.edit() as draft:
            draft.setdefault("votes", {})
            draft["votes"].increment(chance.choice(("tea", "coffee")))
            draft.set_max("longest_name", len(name))
            draft["last_voter"] = name
        if number % 10 == 0:
            await asyncio.sleep(0)


async def main() -> int:
    """Run the example; the exit status."""
    async with server() as url, AsyncExitStack() as stack:
        polls: list[Document] = []
        syncs: list[PatchesSync] = []
        for _ in VOTERS:
            patches = await stack.enter_async_context(Patches())
            syncs.append(await stack.enter_async_context(PatchesSync(patches, url)))
            polls.append(await patches.open_doc("poll/drinks", algorithm="lww"))
        await asyncio.gather(*(vote(*each) for each in zip(VOTERS, polls, strict=True)))
        for sync in syncs:
            await sync.settled(30)
        head = (await syncs[0].connection.get_doc("poll/drinks")).head
        async with asyncio.timeout(30):
            for poll in polls:
                async for _ in poll:
                    if poll.committed_rev >= head:
                        break
        for name, poll in zip(VOTERS, polls, strict=True):
            print(f"{name} sees {poll.state}")
        counted = sum(polls[0].state["votes"].values())
        cast = len(VOTERS) * VOTES_EACH
        equal = all(poll.state == polls[0].state for poll in polls)
        print(f"{counted} votes counted of {cast}, {'equal' if equal else 'DIFFERENT'}")
        return 0 if equal and counted == cast else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
