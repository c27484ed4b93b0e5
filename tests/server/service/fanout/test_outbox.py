"""The bounded queue of one peer."""

from __future__ import annotations

import asyncio

import pytest

from patches.limits import Limits
from patches_server.service.fanout.outbox import Close, Event, Mark, Outbox


def render(event: Event) -> bytes:
    return event.params


def _event(params: bytes) -> Event:
    return Event("m", params)


async def test_frames_leave_in_order() -> None:
    outbox = Outbox(Limits(), render)
    for frame in (b"a", b"b"):
        outbox.put(_event(frame))
    assert [await outbox.get(), await outbox.get()] == [b"a", b"b"]
    assert outbox.get_nowait() is None


async def test_get_waits_for_a_frame() -> None:
    outbox = Outbox(Limits(), render)
    waiting = asyncio.ensure_future(outbox.get())
    await asyncio.sleep(0)
    assert not waiting.done()
    outbox.put(_event(b"a"))
    assert await waiting == b"a"


async def test_one_frame_of_any_size_fits_an_empty_outbox_and_the_next_ends_it() -> None:
    outbox = Outbox(Limits(max_response_buffer_bytes=10), render)
    outbox.put(_event(b"x" * 1000))
    assert len(outbox) == 1
    outbox.put(_event(b"y"))
    assert outbox.closing == Close(1013, "reads too slowly")
    assert (len(outbox), outbox.queued_bytes) == (0, 0)
    assert await outbox.get() is None


async def test_too_many_frames_end_it() -> None:
    outbox = Outbox(Limits(max_response_buffer_msgs=2), render)
    for _ in range(2):
        outbox.put(_event(b""))
    assert len(outbox) == 2
    outbox.put(_event(b""))
    assert outbox.closing == Close(1013, "reads too slowly")


async def test_what_was_queued_is_written_before_a_close() -> None:
    outbox = Outbox(Limits(), render)
    outbox.put(_event(b"a"))
    outbox.close(1001, "bye")
    outbox.put(_event(b"too late"))
    outbox.close(4401, "the first reason counts")
    assert await outbox.get() == b"a"
    assert await outbox.get() is None
    assert outbox.closing == Close(1001, "bye")


async def test_a_limit_of_none_is_off() -> None:
    outbox = Outbox(Limits(max_response_buffer_bytes=None, max_response_buffer_msgs=None), render)
    for _ in range(20_000):
        outbox.put(_event(b"x" * 1000))
    assert len(outbox) == 20_000


async def test_a_mark_keeps_its_place_for_a_transport_that_keeps_marks() -> None:
    outbox = Outbox(Limits(), render)
    called: list[int] = []
    outbox.put(_event(b"a"))
    outbox.when_taken(lambda: called.append(1))
    assert called == [1]  # nobody can tell
    outbox.keeps_marks = True
    outbox.when_taken(lambda: called.append(2))
    outbox.put(_event(b"b"))
    assert await outbox.get_any() == b"a"
    mark = await outbox.get_any()
    assert isinstance(mark, Mark)
    assert called == [1]
    mark.taken()
    assert called == [1, 2]
    assert outbox.get_any_nowait() == b"b"
    assert outbox.queued_bytes == 0


async def test_answers_are_never_dropped_and_room_comes_back_as_they_are_taken() -> None:
    outbox = Outbox(Limits(max_response_buffer_bytes=10), render)
    for _ in range(3):
        outbox.answer(b"x" * 6)
    outbox.put(_event(b"a broadcast has a bound of its own"))
    assert outbox.closing is None
    waiting = asyncio.ensure_future(outbox.has_room())
    for _ in range(2):
        await asyncio.sleep(0)
        assert not waiting.done()
        assert await outbox.get() == b"x" * 6
    await waiting


@pytest.mark.parametrize("is_closed", [True, False], ids=["closed", "the server is closing"])
async def test_whoever_waits_for_room_is_let_through_at_the_end(is_closed: bool) -> None:
    outbox = Outbox(Limits(max_response_buffer_msgs=1), render)
    outbox.answer(b"a")
    waiting = asyncio.ensure_future(outbox.has_room())
    await asyncio.sleep(0)
    assert not waiting.done()
    if is_closed:
        outbox.close(1001, "bye")
    else:
        outbox.stop_waiting()
    await waiting
    outbox.answer(b"b")
    await outbox.has_room()


async def test_what_is_offered_is_dropped_before_it_takes_room_from_broadcasts() -> None:
    outbox = Outbox(Limits(max_response_buffer_msgs=16), render)
    assert [outbox.offer(_event(b"x")) for _ in range(3)] == [True, True, False]
    for _ in range(14):
        outbox.put(_event(b"y"))
    assert outbox.closing is None
    assert outbox.broadcast_bytes == 16
    outbox.close(1001, "bye")
    assert not outbox.offer(_event(b"x"))


async def test_the_newest_of_each_that_is_offered_follows_when_little_waits() -> None:
    outbox = Outbox(Limits(max_response_buffer_msgs=16), render)
    for name in (b"1", b"2"):
        assert outbox.offer(_event(name), about=("bob", "d"))
    for about, name in (
        (("ann", "d"), b"an old state"),
        (("eve", "d"), b"has left"),
        (("ann", "d"), b"ann"),
        (("ann", "e"), b"ann elsewhere"),
    ):
        kept = outbox.offer(_event(name), about=about)
        assert kept == (about != ("ann", "e")), "only so many are kept"
    outbox.withdraw(sender="eve")
    got = [outbox.get_nowait() for _ in range(4)]
    assert got == [b"1", b"2", b"ann", None]


async def test_what_was_offered_in_a_room_is_dropped_with_it() -> None:
    outbox = Outbox(Limits(max_response_buffer_msgs=16), render)
    for name in (b"1", b"2", b"3"):
        outbox.offer(_event(name), about=("ann", "d"))
    outbox.withdraw(room="e")
    outbox.withdraw(room="d")
    assert [outbox.get_nowait() for _ in range(3)] == [b"1", b"2", None]


async def test_what_is_offered_now_comes_instead_of_what_was_kept() -> None:
    outbox = Outbox(Limits(max_response_buffer_msgs=16), render)
    for name in (b"1", b"2", b"old"):
        outbox.offer(_event(name), about=("ann", "d"))
    outbox.get_nowait()
    outbox.get_nowait()
    assert outbox.get_nowait() == b"old"
    for name in (b"1", b"2", b"old"):
        outbox.offer(_event(name), about=("ann", "d"))
    outbox.offer(_event(b"new"), about=("ann", "d"))
    assert [outbox.get_nowait() for _ in range(4)] == [b"1", b"2", b"new", None]


async def test_an_event_is_written_once_for_all_outboxes_of_a_door() -> None:
    written: list[Event] = []

    def counted(event: Event) -> bytes:
        written.append(event)
        return b"<" + event.params + b">"

    event = _event(b"x")
    outboxes = [Outbox(Limits(), counted) for _ in range(3)]
    for outbox in outboxes:
        outbox.put(event)
    frames = [outbox.get_nowait() for outbox in outboxes]
    assert frames[0] == b"<x>"
    assert frames[0] is frames[1] is frames[2]
    assert written == [event]
    other = Outbox(Limits(), render)
    other.put(event)
    assert other.get_nowait() == b"x"
