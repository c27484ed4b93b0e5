"""`HostilePeer`: somebody who is let in and sends anything but what a client would.

It may do as it likes with documents of its own, and with nobody else's. What it sends are frames of
`patches.testing.hostile`, made from honest ones that were sent before.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from random import Random
from typing import Any, Final

from patches.errors import NetworkError
from patches.testing.hostile import hostile_frames
from patches.testing.sim.loop import Life
from patches.testing.sim.net import SimNet, SimStream
from patches.testing.sim.rights import HOSTILE

#: In one run: each costs as much as an honest request.
_MOST_FRAMES: Final = 500


class HostilePeer:
    """One peer, from `start` to `stop`. `heard` are honest requests, decoded; it may grow."""

    def __init__(self, net: SimNet, random: Random, heard: Sequence[Any]) -> None:
        self._net, self._random = net, random
        self._frames = hostile_frames(random.getrandbits(32), 2 * _MOST_FRAMES, heard)
        self._life: Life | None = None
        self.sent: int = 0

    def start(self) -> None:
        """Begin, and go on until `stop`."""
        self._life = Life(HOSTILE, 1)
        self._life.spawn(self._run(self._life), name=HOSTILE)

    def stop(self) -> None:
        """Go away."""
        if self._life is not None:
            self._life.end()
            for link in self._net.links_of(HOSTILE):
                link.cut()

    async def _run(self, life: Life) -> None:
        while self.sent < _MOST_FRAMES:
            try:
                stream = await self._net.dial(life)
                reads = self._random.random() < 0.7
                reader = life.spawn(_read(stream) if reads else _hang(), name="hostile reader")
                try:
                    await self._talk(stream)
                finally:
                    reader.cancel()
                    await stream.close()
            except NetworkError:
                pass
            await asyncio.sleep(self._random.uniform(0, 300))

    async def _talk(self, stream: SimStream) -> None:
        for _ in range(self._random.randint(1, 6)):
            for _ in range(self._random.randint(1, 30)):
                await stream.send(next(self._frames))
                self.sent += 1
            await asyncio.sleep(self._random.uniform(0, 30))


async def _read(stream: SimStream) -> None:
    try:
        while True:
            await stream.receive()
    except NetworkError:
        return


async def _hang() -> None:
    await asyncio.get_running_loop().create_future()
