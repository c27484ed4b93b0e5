"""The server's clock never runs backwards."""

from __future__ import annotations

from patches.runtime import Millis, Runtime
from patches_server.documents.clock import ServerClock


class Remembers:
    """A store whose latest write had this time."""

    def __init__(self, last: Millis) -> None:
        self.last = last

    async def last_server_time(self) -> Millis:
        return self.last


async def test_it_starts_where_the_store_left_off() -> None:
    clock = ServerClock(Remembers(5_000), Runtime(wall_ms=lambda: 4_000))
    assert await clock.now() == 5_000


async def test_it_follows_the_wall_and_stays_when_that_is_set_back() -> None:
    wall = iter([1_000, 2_000, 500, 3_000])
    clock = ServerClock(Remembers(0), Runtime(wall_ms=lambda: next(wall)))
    assert [await clock.now() for _ in range(4)] == [1_000, 2_000, 2_000, 3_000]


async def test_a_leap_of_the_wall_clock_is_counted() -> None:
    wall = iter([0, 500_000, 1_200_000])
    clock = ServerClock(Remembers(0), Runtime(wall_ms=lambda: next(wall)))
    for _ in range(3):
        await clock.now()
    assert clock.jumps == 1
