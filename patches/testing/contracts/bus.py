"""The contract of a `HintBus`. Hints may be lost, so each test sends again until one arrives."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from patches_server.bus.bus import HintBus
from patches_server.bus.hints import Hint


class Listener:
    """A started bus, and what it received."""

    def __init__(self, name: str, bus: HintBus) -> None:
        self.name: str = name
        self.bus: HintBus = bus
        self.hints: list[Hint] = []
        self.gaps: int = 0

    def _gap(self) -> None:
        self.gaps += 1

    async def start(self) -> None:
        """Begin to listen; returns when hints arrive."""
        await self.bus.start(self.name, self.hints.append, self._gap)
        await until(lambda: self.bus.healthy)

    def of(self, kind: str) -> list[Hint]:
        """The hints of a kind."""
        return [hint for hint in self.hints if hint.kind == kind]


async def until(is_so: Callable[[], bool], within_s: float = 10.0) -> None:
    """Wait for something that comes of messages of others."""
    async with asyncio.timeout(within_s):
        while not is_so():  # noqa: ASYNC110 -- what is waited for is somebody else's
            await asyncio.sleep(0.01)


@asynccontextmanager
async def listening(buses: Sequence[HintBus]) -> AsyncIterator[list[Listener]]:
    """Start buses, and close them at the end."""
    listeners = [Listener(f"p{place}", bus) for place, bus in enumerate(buses)]
    try:
        for listener in listeners:
            await listener.start()
        yield listeners
    finally:
        for listener in listeners:
            await listener.bus.close()


class HintBusContract:
    """Every bus passes these. Give a `buses` fixture: two that are not started and reach each
    other."""

    async def test_a_hint_of_a_commit_arrives_as_it_was_sent(
        self, buses: Sequence[HintBus]
    ) -> None:
        async with listening(buses) as (first, second):
            await second.bus.follow("d/é")
            sent = Hint(
                kind="c",
                process="p0",
                doc_id="d/é",
                token="e.7",
                base=3,
                rev=5,
                options={"forceCommit": True},
                changes=(b'{"id":"a","ops":[]}', '{"id":"\u00e9\\ud83d"}'.encode()),
            )
            first.bus.publish(sent)
            await until(lambda: bool(second.of("c")))
            assert second.of("c") == [sent]

    async def test_other_hints_reach_everybody(self, buses: Sequence[HintBus]) -> None:
        async with listening(buses) as (first, second):
            first.bus.publish(Hint(kind="r", process="p0", doc_id="d", data={"principal": 7}))
            await until(lambda: bool(second.of("r")) and bool(first.of("r")))
            assert second.of("r")[0].data == {"principal": 7}

    async def test_many_hints_arrive_in_order(self, buses: Sequence[HintBus]) -> None:
        async with listening(buses) as (first, second):
            await second.bus.follow("d")
            for rev in range(1, 301):
                change = b'{"text":"%s"}' % (b"x" * 200)
                hint = Hint(
                    kind="c", process="p0", doc_id="d", base=rev - 1, rev=rev, changes=(change,)
                )
                first.bus.publish(hint)
            await until(lambda: len(second.of("c")) == 300)
            assert [hint.rev for hint in second.of("c")] == list(range(1, 301))

    async def test_what_is_too_large_arrives_without_its_changes(
        self, buses: Sequence[HintBus]
    ) -> None:
        async with listening(buses) as (first, second):
            await second.bus.follow("d")
            large = b'"%s"' % (b"x" * 200_000)
            hint = Hint(kind="c", process="p0", doc_id="d", base=1, rev=2, changes=(large,))
            first.bus.publish(hint)
            await until(lambda: bool(second.of("c")))
            (found,) = second.of("c")
            assert (found.doc_id, found.rev, found.changes) in (("d", 2, ()), ("d", 2, (large,)))

    async def test_flush_sends_what_was_published(self, buses: Sequence[HintBus]) -> None:
        async with listening(buses) as (first, second):
            await second.bus.follow("d")
            first.bus.publish(Hint(kind="d", process="p0", doc_id="d"))
            await first.bus.flush()
            await first.bus.close()
            await until(lambda: bool(second.of("d")))
