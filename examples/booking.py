"""A course with 20 seats, booked on three devices that are offline. It is never overbooked.

    python examples/booking.py

Each device gives out the seats that it still sees. Once there is a server, the bookings are run
again in the order of the time, the rule written in the action holds as before, and each person
finds out what has become of the booking.
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

from patches import Patches, PatchesSync
from patches.algorithms.replay import Actions, ReplayAlgorithm, ReplayDoc, Tx
from patches.rows import Schema
from patches_server import allow_all, create_app
from patches_server.replay.algorithm import replay

SEATS = 20
DEVICES = ("desk", "phone", "website")

schema = Schema("course")
actions = Actions(schema)


@schema.table("seats", identity=("person",))
class Seat:
    """A seat that is taken."""

    id: str
    person: str
    device: str


class FullyBookedError(Exception):
    """There is no seat left."""


@actions.define("book")
def book(tx: Tx, *, person: str, device: str) -> str:
    """Take a seat."""
    if tx.seats.count() >= SEATS:
        raise FullyBookedError("the course is full")
    return tx.seats.insert(person=person, device=device)


@asynccontextmanager
async def server(folder: Path) -> AsyncIterator[str]:
    """A server on a file, which runs the actions; its websocket address."""
    app = create_app(
        folder / "server.db",
        auth=allow_all,
        algorithms=[replay(actions)],
        routes={"courses/*": "replay"},
    )
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"ws://127.0.0.1:{runner.addresses[0][1]}/ws"
    finally:
        await runner.cleanup()


class Device:
    """One device with its file, and what has become of the bookings made on it."""

    def __init__(self, name: str, file: Path) -> None:
        self.name, self.file = name, file
        self.most_seats = 0
        self.booked: dict[str, str] = {}
        self.refused: dict[str, str] = {}

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Patches]:
        """Open the course, offline."""
        async with Patches(self.file, algorithms=[ReplayAlgorithm(actions)]) as patches:
            doc = await patches.open_doc("courses/python", algorithm="replay")
            assert isinstance(doc, ReplayDoc)
            self.doc = doc
            doc.subscribe(self._look)
            doc.on_action_failed(self._failed)
            yield patches

    def book(self, person: str) -> None:
        """Book here and now; it may come out otherwise."""
        seat = self.doc.run(book, person=person, device=self.name)
        self.booked[seat] = person

    async def reached(self, rev: int) -> None:
        """Wait until all that was committed up to a revision is here."""
        async with asyncio.timeout(30):
            async for _ in self.doc:
                if self.doc.committed_rev >= rev:
                    return

    def _look(self, state: Any) -> None:
        self.most_seats = max(self.most_seats, len(state["seats"]))

    def _failed(self, change_id: str, _name: str, message: str) -> None:
        self.refused[change_id] = message

    def report(self) -> tuple[list[str], list[str]]:
        """Who of those that booked here has a seat, and who has none."""
        seats = self.doc.state["seats"]
        return (
            [person for seat, person in self.booked.items() if seat in seats],
            [person for seat, person in self.booked.items() if seat not in seats],
        )


async def main(folder: Path) -> int:
    """Run the example; the exit status."""
    devices = [Device(name, folder / f"{name}.db") for name in DEVICES]
    async with devices[0].open() as one, devices[1].open() as two, devices[2].open() as three:
        for number in range(10):  # all are offline; each sees 10 of 20 seats taken at the end
            for device in devices:
                device.book(f"{device.name} guest {number}")
                await asyncio.sleep(0.002)
        for device in devices:
            print(f"{device.name}, offline: {len(device.doc.state['seats'])} of {SEATS} seats")
        async with server(folder) as url:
            async with (
                PatchesSync(one, url) as first,
                PatchesSync(two, url) as second,
                PatchesSync(three, url) as third,
            ):
                for sync in (first, second, third):
                    await sync.settled(30)
                for device in devices:
                    await device.reached(max(each.doc.committed_rev for each in devices))
                return report(devices)


def report(devices: list[Device]) -> int:
    """Print who has a seat; the exit status."""
    states = [device.doc.state for device in devices]
    for device in devices:
        seated, without = device.report()
        print(f"{device.name}: {len(seated)} have a seat, {len(without)} have none")
        if without:
            reasons = ", ".join(sorted(set(device.refused.values())))
            print(f"  {device.name} knows why {len(device.refused)} came to nothing: {reasons}")
    taken = len(states[0]["seats"])
    most = max(device.most_seats for device in devices)
    is_right = (
        all(state == states[0] for state in states)
        and taken == SEATS >= most
        and all(len(device.report()[1]) == len(device.refused) for device in devices)
    )
    print(f"{taken} of {SEATS} seats are taken; no device ever showed more")
    print("equal" if is_right else "DIFFERENT")
    return 0 if is_right else 1


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        sys.exit(asyncio.run(main(Path(temporary))))
