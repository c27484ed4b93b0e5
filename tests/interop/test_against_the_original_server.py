"""This client against a server with the original's ways (`original_server.py`)."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from patches.errors import StatusError
from patches.text import text_of
from tests.interop.edits import DOC, LWW, append, put, root, start_text, typed
from tests.interop.original_server import OriginalServer, original_identity, original_server
from tests.interop.soak import Setting, soak
from tests.interop.world import World


@pytest.fixture
async def served(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[OriginalServer]:
    original_identity(monkeypatch)
    async with original_server() as server:
        yield server


@pytest.fixture
async def world(served: OriginalServer) -> AsyncIterator[World]:
    async with World(served.url) as world:
        yield world


async def test_two_writers_of_text_and_arrays(world: World) -> None:
    ann, bob = await world.ours("a"), await world.ours("b")
    await world.all_open(DOC, [root(text=start_text(), items=[])], ann, bob)
    for number in range(12):
        for peer in (ann, bob):
            peer.change(DOC, typed({"insert": f"<{peer.name}{number}>"}))
            peer.change(DOC, {"op": "add", "path": "/items/0", "value": f"{peer.name}{number}"})
        if number % 4 == 0:
            await world.settle(DOC)
    state = await world.converged(DOC)
    expected = sorted(f"{name}{number}" for name in "ab" for number in range(12))
    assert sorted(state["items"]) == expected
    assert sorted(text_of(state["text"]).strip()[1:-1].split("><")) == expected


async def test_counters_of_an_lww_document_add_up(world: World) -> None:
    ann, bob = await world.ours(), await world.ours()
    await world.all_open(LWW, [put("/n", 0)], ann, bob)
    for number in range(12):
        ann.change(LWW, {"op": "@inc", "path": "/n", "value": 1})
        bob.change(LWW, {"op": "@inc", "path": "/n", "value": 100})
        ann.change(LWW, {"op": "@max", "path": "/most", "value": number % 3})
        if number % 4 == 0:
            await world.settle(LWW)
    assert await world.converged(LWW, "lww") == {"n": 1212, "most": 2}


async def test_edits_made_offline_arrive_once(world: World) -> None:
    ann, bob = await world.ours(), await world.ours()
    await world.all_open(DOC, [root(items=[])], ann, bob)
    bob.go_offline()
    for number in range(5):
        bob.change(DOC, append("/items", f"b{number}"))
        ann.change(DOC, {"op": "add", "path": "/items/0", "value": f"a{number}"})
    bob.go_online()
    items = (await world.converged(DOC))["items"]
    assert items == [*(f"a{n}" for n in reversed(range(5))), *(f"b{n}" for n in range(5))]


async def test_a_change_over_a_megabyte(world: World) -> None:
    ann, bob = await world.ours(), await world.ours()
    text = "0123456789" * 120_000
    await world.all_open(DOC, [root(text=start_text())], ann, bob)
    ann.change(DOC, typed({"insert": text}))
    bob.change(DOC, put("/n", 1))
    state = await world.converged(DOC)
    assert (text_of(state["text"]), state["n"]) == (f"{text}\n", 1)


async def test_a_deletion_reaches_the_others_and_the_document_starts_anew(world: World) -> None:
    ann, bob, raw = await world.ours(), await world.ours(), world.raw
    await world.all_open(DOC, [root(n=1)], ann, bob)
    await ann.patches.delete_doc(DOC)
    await world.until(lambda: not bob.has(DOC))
    assert await raw.call("getDoc", DOC) == {"state": None, "rev": 0, "changes": []}
    await world.all_open(DOC, [root(n=2)], ann, bob)
    assert await world.converged(DOC) == {"n": 2}


async def test_who_joins_late_gets_state_and_changes(world: World) -> None:
    ann, bob = await world.ours(), await world.ours()
    await world.all_open(DOC, [root(items=[1])], ann)
    await world.raw.call("createVersion", DOC, {"name": "a version"})
    ann.change(DOC, append("/items", 2))
    await bob.open(DOC)
    assert await world.converged(DOC) == {"items": [1, 2]}


async def test_versions_and_branches(world: World) -> None:
    ann, bob = await world.ours(), await world.ours()
    await world.all_open(DOC, [root(items=["x"])], ann, bob)
    branch = await world.raw.call("createBranch", DOC, 1, {"name": "draft"})
    await bob.open(branch)
    await world.converged(branch)
    bob.change(branch, append("/items", "branch"))
    ann.change(DOC, append("/items", "main"))
    await world.settle(branch)
    await world.settle(DOC)
    await world.raw.call("mergeBranch", branch)
    assert sorted((await world.converged(DOC))["items"]) == ["branch", "main", "x"]
    with pytest.raises(StatusError):
        await world.raw.call("getVersionState", DOC, "unknown")


async def test_a_lost_answer_alone_does_no_damage(world: World, served: OriginalServer) -> None:
    ann, bob = await world.ours(), await world.ours()
    await world.all_open(DOC, [root(items=["0", "1", "2"], n=0)], ann, bob)
    await world.all_open(LWW, [put("/n", 0)], ann, bob)
    for doc_id, op in (
        (DOC, {"op": "remove", "path": "/items/0"}),
        (LWW, {"op": "@inc", "path": "/n", "value": 1}),
    ):
        served.lost.clear()
        served.loses_an_answer = True
        ann.change(doc_id, op)
        await served.lost.wait()
        bob.change(DOC, {"op": "@inc", "path": "/n", "value": 1})
    assert await world.converged(DOC) == {"items": ["1", "2"], "n": 2}
    assert await world.converged(LWW, "lww") == {"n": 1}


async def test_behind_a_lost_answer_all_show_what_that_server_made_of_it(
    world: World, served: OriginalServer
) -> None:
    # 12.4: that server moves what is sent behind a change over that change itself, when it is sent
    # again over a new connection. Nothing is lost, and ours shows what everybody else is shown,
    # while the original's own client would go on showing what it has typed.
    ann, bob = await world.ours(), await world.ours()
    start = root(items=["0", "1", "2", "3", "4", "5"], text=start_text("0123456789"))
    await world.all_open(DOC, [start], ann, bob)
    served.loses_an_answer = True
    ann.change(DOC, {"op": "remove", "path": "/items/0"})
    ann.change(DOC, typed({"insert": "abc"}))
    await served.lost.wait()
    ann.change(DOC, append("/items", "ann"))
    ann.change(DOC, typed({"retain": 8}, {"insert": "X"}))
    bob.change(DOC, append("/items", "bob"))
    state = await world.converged(DOC)
    assert sorted(state["items"]) == ["1", "2", "3", "4", "5", "ann", "bob"]
    assert text_of(state["text"]).replace("X", "", 1) == "abc0123456789\n"


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("algorithm", ["ot", "lww"])
async def test_soak(world: World, algorithm: str, seed: int) -> None:
    # A cut can lose an answer, and behind a lost answer that server moves OT changes over their own
    # (the test above): at times to where they cannot be applied, and nobody shows them.
    setting = Setting(algorithm=algorithm, originals=0, ours=3, cuts=algorithm == "lww")
    doc_id = f"{'lww/' if algorithm == 'lww' else ''}soak"
    assert not await soak(world, doc_id, setting, seed)
