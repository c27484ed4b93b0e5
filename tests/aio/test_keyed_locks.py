"""One lock per key, first come, first served, kept only while it is used."""

from __future__ import annotations

import asyncio
import contextlib

from patches.aio.keyed_locks import KeyedLocks
from patches.testing.virtual_time import idle, virtual_time


@virtual_time
async def test_holders_of_one_key_take_turns_in_order_and_others_do_not_wait() -> None:
    locks = KeyedLocks()
    order: list[str] = []

    async def hold(key: str, name: str) -> None:
        async with locks(key):
            await asyncio.sleep(1)
            order.append(name)

    start = asyncio.get_running_loop().time()
    async with asyncio.TaskGroup() as tasks:
        for name in ("a1", "a2", "b1", "a3"):
            tasks.create_task(hold(name[0], name))
        await idle()
        assert len(locks) == 2
    assert order == ["a1", "b1", "a2", "a3"]
    assert asyncio.get_running_loop().time() - start == 3
    assert len(locks) == 0


@virtual_time
async def test_a_holder_that_raises_or_is_cancelled_lets_the_next_in() -> None:
    locks = KeyedLocks()
    with contextlib.suppress(LookupError):
        async with locks("a"):
            raise LookupError

    async def hold() -> None:
        async with locks("a"):
            await asyncio.sleep(100)

    holder, waiter, last = (asyncio.create_task(hold()) for _ in range(3))
    await idle()
    waiter.cancel()
    holder.cancel()
    await idle()
    assert len(locks) == 1
    last.cancel()
    await asyncio.wait([holder, waiter, last])
    assert len(locks) == 0


@virtual_time
async def test_one_that_is_cancelled_as_it_gets_its_turn_passes_it_on() -> None:
    locks = KeyedLocks()
    got: list[str] = []
    release = asyncio.Event()

    async def hold(name: str) -> None:
        async with locks("a"):
            got.append(name)
            await release.wait()

    first, second, third = (asyncio.create_task(hold(name)) for name in ("1", "2", "3"))
    await idle()
    release.set()
    await asyncio.sleep(0)  # the first has handed the key to the second, which has not had its turn
    second.cancel()
    await asyncio.wait([first, second, third])
    assert got == ["1", "3"]
    assert len(locks) == 0
