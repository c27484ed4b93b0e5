"""LWW answers that the original's client applies late (`docs/internals/sync.md` 12.2).

It takes an answer for newer than any broadcast that it has applied. Where the answer stored
something that does no harm, however late it is applied: no broadcast of a later revision follows on
from what the client has, and it asks. How late is the client's affair; here the test says.
"""

from __future__ import annotations

from typing import Any

from patches.model.json_values import Op
from tests.interop.peers import OriginalPeer
from tests.interop.world import World

DOC = "lww/plan"


def put(path: str, value: Any) -> Op:
    return {"op": "replace", "path": path, "value": value}


START = [put("/n", 1), put("/most", 9), put("/o", {"a": 1}), put("/text", "t")]


async def everybody(world: World, late: OriginalPeer) -> OriginalPeer:
    """The late one has the document, and somebody else too."""
    other = await world.original("other")
    await late.open(DOC, "lww")
    late.change(DOC, *START)
    await world.settle(DOC)
    await other.open(DOC, "lww")
    await world.converged(DOC, "lww")
    return other


async def test_an_answer_that_stored_something_may_be_applied_late(world: World) -> None:
    late = await world.original("late")
    other = await everybody(world, late)
    turns = late.client.turns
    turns.hold_answers()
    late.change(DOC, put("/n", 5))
    await world.until(lambda: turns.holds)
    other.change(DOC, put("/n", 6))
    other.change(DOC, put("/most", 10))
    await world.until(lambda: other.is_settled(DOC) and _is_told(late, other))
    turns.apply_answers()
    state = await world.converged(DOC, "lww")
    assert (state["n"], state["most"]) == (6, 10)


def _is_told(late: OriginalPeer, other: OriginalPeer) -> bool:
    """Whether the broadcast of the newest revision has arrived."""
    rev = other.committed_rev(DOC)
    return any(
        change["rev"] >= rev
        for method, params in late.client.told
        if method == "changesCommitted"
        for change in params["changes"]
    )
