from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from patches.testing.clock import NEW_YEAR, FakeClock
from patches.testing.virtual_time import NothingWillHappenError


@pytest.fixture
def clock() -> Iterator[FakeClock]:
    clock = FakeClock()
    yield clock
    clock.uninstall()


async def test_timers_fire_in_order_and_at_their_times(clock: FakeClock) -> None:
    clock.install()
    fired = []

    async def after(seconds: float) -> None:
        await asyncio.sleep(seconds)
        fired.append((seconds, round(clock.elapsed_s, 3)))

    waiting = asyncio.gather(after(7200), after(1), after(60))
    await clock.advance(3600)
    assert fired == [(1, 1), (60, 60)]
    await clock.advance(3600)
    await waiting
    assert fired[2] == (7200, 7200)


async def test_it_stands_still_until_it_is_moved(clock: FakeClock) -> None:
    clock.install()
    for _ in range(100):
        await asyncio.sleep(0)
    assert clock.elapsed_s == 0
    assert clock.wall_ms == NEW_YEAR


async def test_the_wall_clock_of_the_runtime_agrees(clock: FakeClock) -> None:
    await clock.advance(1.5)
    assert clock.runtime.wall_ms() == NEW_YEAR + 1500


async def test_while_running_it_jumps_from_timer_to_timer(clock: FakeClock) -> None:
    with clock.running():
        await asyncio.sleep(100_000)
    assert clock.elapsed_s == pytest.approx(100_000)


async def test_a_time_out_passes_at_once(clock: FakeClock) -> None:
    with clock.running(), pytest.raises(TimeoutError):
        async with asyncio.timeout(30):
            await asyncio.Event().wait()


async def test_it_waits_for_a_thread_of_its_runtime(clock: FakeClock) -> None:
    clock.install()
    with clock.running():
        async with asyncio.timeout(1):
            assert await clock.runtime.run_blocking(lambda: sum(range(1_000_000))) > 0
    assert clock.elapsed_s < 1


def test_waiting_for_a_clock_that_stands_still_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("patches.testing.clock.PATIENCE_S", 0.0)
    clock = FakeClock()

    async def wait() -> None:
        clock.install()
        await asyncio.sleep(1)

    with pytest.raises(NothingWillHappenError, match="advance"):
        asyncio.run(wait())


async def test_the_loop_gets_its_own_clock_back() -> None:
    loop = asyncio.get_running_loop()
    before = loop.time()
    clock = FakeClock()
    await clock.advance(3600)
    assert loop.time() >= before + 3600
    clock.uninstall()
    assert before <= loop.time() < before + 3600
    await asyncio.sleep(0.001)


async def test_a_clock_belongs_to_one_loop_at_a_time(clock: FakeClock) -> None:
    clock.install()
    clock.install()

    def in_another_loop() -> None:
        async def install() -> None:
            clock.install()

        asyncio.run(install())

    with pytest.raises(RuntimeError, match="another"):
        await asyncio.to_thread(in_another_loop)
