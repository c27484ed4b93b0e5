"""The bounded queue of one peer."""

from __future__ import annotations

import asyncio

from patches.limits import Limits
from patches_server.service.fanout.outbox import Close, Mark, Outbox


async def test_frames_leave_in_order() -> None:
    outbox = Outbox(Limits())
    for frame in (b"a", b"b"):
        outbox.put(frame)
    assert [await outbox.get(), await outbox.get()] == [b"a", b"b"]
    assert outbox.get_nowait() is None


async def test_get_waits_for_a_frame() -> None:
    outbox = Outbox(Limits())
    waiting = asyncio.ensure_future(outbox.get())
    await asyncio.sleep(0)
    assert not waiting.done()
    outbox.put(b"a")
    assert await waiting == b"a"


async def test_one_frame_of_any_size_fits_an_empty_outbox_and_the_next_ends_it() -> None:
    outbox = Outbox(Limits(max_response_buffer_bytes=10))
    outbox.put(b"x" * 1000)
    assert len(outbox) == 1
    outbox.put(b"y")
    assert outbox.closing == Close(1013, "reads too slowly")
    assert (len(outbox), outbox.queued_bytes) == (0, 0)
    assert await outbox.get() is None


async def test_too_many_frames_end_it() -> None:
    outbox = Outbox(Limits(max_response_buffer_msgs=2))
    for _ in range(2):
        outbox.put(b"")
    assert len(outbox) == 2
    outbox.put(b"")
    assert outbox.closing == Close(1013, "reads too slowly")


async def test_what_was_queued_is_written_before_a_close() -> None:
    outbox = Outbox(Limits())
    outbox.put(b"a")
    outbox.close(1001, "bye")
    outbox.put(b"too late")
    outbox.close(4401, "the first reason counts")
    assert await outbox.get() == b"a"
    assert await outbox.get() is None
    assert outbox.closing == Close(1001, "bye")


async def test_a_limit_of_none_is_off() -> None:
    outbox = Outbox(Limits(max_response_buffer_bytes=None, max_response_buffer_msgs=None))
    for _ in range(20_000):
        outbox.put(b"x" * 1000)
    assert len(outbox) == 20_000


async def test_a_mark_keeps_its_place_for_a_transport_that_keeps_marks() -> None:
    outbox = Outbox(Limits())
    called: list[int] = []
    outbox.put(b"a")
    outbox.when_taken(lambda: called.append(1))
    assert called == [1]  # nobody can tell
    outbox.keeps_marks = True
    outbox.when_taken(lambda: called.append(2))
    outbox.put(b"b")
    assert await outbox.get_any() == b"a"
    mark = await outbox.get_any()
    assert isinstance(mark, Mark)
    assert called == [1]
    mark.taken()
    assert called == [1, 2]
    assert outbox.get_any_nowait() == b"b"
    assert outbox.queued_bytes == 0
