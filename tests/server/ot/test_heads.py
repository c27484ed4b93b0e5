"""Who opens a document gets its state as it is now, and few changes."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from patches.algorithms.ot import apply_changes
from patches.errors import DocDeletedError
from patches.model.change import Snapshot
from patches_server.ot.heads import MAX_BEHIND, HeadStates


@pytest.fixture(params=["memory", "sqlite"])
def place(request: pytest.FixtureRequest) -> Any:
    return request.getfixturevalue("world" if request.param == "memory" else "sqlite_world")


async def write(world: Any, first: int, number: int, server: Any = None) -> None:
    for rev in range(first, first + number):
        ops = [{"op": "@inc", "path": "/n", "value": 1}]
        await world.commit(world.change(f"c{rev}", ops, base_rev=rev), server=server)


def shown(snapshot: Snapshot) -> Any:
    return apply_changes(snapshot.state, snapshot.changes)


async def test_a_long_history_is_answered_by_the_state_at_its_end(place: Any) -> None:
    await place.create()
    await write(place, 1, MAX_BEHIND - 1)
    few = await place.server.get_doc("d")
    assert (few.rev, len(few.changes)) == (0, MAX_BEHIND)
    await write(place, MAX_BEHIND, 1)
    head = await place.server.get_doc("d")
    assert (head.rev, len(head.changes)) == (MAX_BEHIND + 1, 0)
    assert head.state == shown(few) | {"n": MAX_BEHIND}
    await write(place, MAX_BEHIND + 1, 3)
    later = await place.server.get_doc("d")
    assert later.encoded_state is head.encoded_state, "the same bytes"
    assert [change.rev for change in later.changes] == [MAX_BEHIND + at for at in (2, 3, 4)]
    assert shown(later)["n"] == MAX_BEHIND + 3


async def test_the_state_moves_on_with_the_log(place: Any) -> None:
    await place.create()
    for start in range(1, 400, 40):
        await write(place, start, 40)
        snapshot = await place.server.get_doc("d")
        assert len(snapshot.changes) <= MAX_BEHIND
        assert shown(snapshot)["n"] == start + 39


async def test_a_document_that_was_made_anew_shows_nothing_of_the_one_before(place: Any) -> None:
    await place.create()
    await write(place, 1, 150)
    await place.server.get_doc("d")
    await place.server.delete_doc("d")
    with pytest.raises(DocDeletedError):
        await place.server.get_doc("d")
    await place.server.undelete_doc("d")
    await place.create()
    snapshot = await place.server.get_doc("d")
    assert (snapshot.rev, len(snapshot.changes)) == (0, 1)


async def test_what_another_process_does_is_seen(place: Any) -> None:
    await place.create()
    await write(place, 1, 150)
    await place.server.get_doc("d")
    other = place.another()
    await write(place, 151, 2, server=other)
    assert shown(await place.server.get_doc("d"))["n"] == 152
    await other.delete_doc("d", skip_tombstone=True)
    await place.create()
    for rev in range(1, 152):  # as long as the one before, with changes of other ids
        ops = [{"op": "@inc", "path": "/n", "value": 2}]
        await place.commit(place.change(f"other{rev}", ops, base_rev=rev), server=other)
    assert shown(await place.server.get_doc("d"))["n"] == 302


async def test_many_who_ask_at_once_have_it_built_once(
    place: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    await place.create()
    await write(place, 1, 150)
    built: list[str] = []
    really = place.server.history.built

    async def counted(doc_id: str, *arguments: Any) -> bytes:
        built.append(doc_id)
        await asyncio.sleep(0.01)
        state: bytes = await really(doc_id, *arguments)
        return state

    monkeypatch.setattr(place.server.history, "built", counted)
    opened = await asyncio.gather(*(place.server.get_doc("d") for _ in range(20)))
    assert {(each.rev, len(each.changes)) for each in opened} == {(151, 0)}
    assert len({id(each) for each in opened}) == 20, "each is its caller's own"
    assert built == ["d"]


async def test_a_document_that_comes_to_rest_is_ready_for_its_first_reader(
    world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("patches_server.ot.heads._REST_S", 0.02)
    await world.create()
    await write(world, 1, 150)
    heads: HeadStates = world.server._heads
    assert heads.size == 0
    async with asyncio.timeout(5):
        while not heads.size:  # noqa: ASYNC110  # a timer of its own
            await asyncio.sleep(0.01)
    monkeypatch.setattr(world.server.history, "built", None)
    assert (await world.server.get_doc("d")).rev == 151
    assert heads._timer is None, "nothing is left to look at"


async def test_a_state_at_a_revision_is_answered_as_ever(world: Any) -> None:
    await world.create()
    await write(world, 1, 150)
    await world.server.get_doc("d")
    past = await world.server.get_doc("d", rev=20)
    assert past.head == 20
    assert shown(past)["n"] == 19
