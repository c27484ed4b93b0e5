"""The original's client against this server, and beside this client, on one document.

Each test ends with every replica equal to what the server says, and nothing lost or doubled.
`kinds` says who takes part: two clients of the original's kind, or one of each.
"""

from __future__ import annotations

import asyncio

import pytest

from patches.errors import StatusError
from patches.text import text_of
from tests.interop.edits import DOC, LWW, append, put, root, start_text, typed
from tests.interop.peers import OriginalPeer, Peer
from tests.interop.world import World


@pytest.fixture(params=["original", "ours beside original", "original beside ours"])
def kinds(request: pytest.FixtureRequest) -> list[str]:
    """The kinds of two clients."""
    return {
        "original": ["original", "original"],
        "ours beside original": ["ours", "original"],
        "original beside ours": ["original", "ours"],
    }[str(request.param)]


async def pair(world: World, kinds: list[str]) -> tuple[Peer, Peer]:
    ann, bob = [await (world.original() if kind == "original" else world.ours()) for kind in kinds]
    return ann, bob


async def test_two_writers_of_text_and_arrays(world: World, kinds: list[str]) -> None:
    ann, bob = await pair(world, kinds)
    await world.all_open(DOC, [root(text=start_text("middle"), items=["x"])], ann, bob)
    for number in range(8):
        ann.change(DOC, typed({"insert": f"a{number} "}))
        bob.change(DOC, append("/items", f"b{number}"))
        ann.change(DOC, {"op": "add", "path": "/items/0", "value": f"a{number}"})
        bob.change(DOC, typed({"retain": 3}, {"insert": f"é{number}😀"}))
        if number % 3 == 0:
            await asyncio.sleep(0)
    state = await world.converged(DOC)
    expected = ["x", *(f"{who}{number}" for who in "ab" for number in range(8))]
    assert sorted(state["items"]) == sorted(expected)
    text = text_of(state["text"])
    assert all(text.count(f"é{number}😀") == 1 for number in range(8))
    assert all(text.count(f"a{number} ") == 1 for number in range(8))


async def test_removals_beside_insertions_of_the_same_list(world: World, kinds: list[str]) -> None:
    ann, bob = await pair(world, kinds)
    await world.all_open(DOC, [root(items=list(range(10)))], ann, bob)
    for number in range(4):
        ann.change(DOC, {"op": "remove", "path": f"/items/{3 - number}"})
        bob.change(DOC, {"op": "add", "path": "/items/5", "value": f"b{number}"})
    items = (await world.converged(DOC))["items"]
    assert [item for item in items if isinstance(item, int)] == list(range(4, 10))
    assert sorted(item for item in items if isinstance(item, str)) == ["b0", "b1", "b2", "b3"]


async def test_counters_of_an_lww_document_add_up(world: World, kinds: list[str]) -> None:
    ann, bob = await pair(world, kinds)
    await world.all_open(LWW, [put("/n", 0)], ann, bob)
    for number in range(10):
        ann.change(LWW, {"op": "@inc", "path": "/n", "value": 1})
        bob.change(LWW, {"op": "@inc", "path": "/n", "value": 100})
        bob.change(LWW, {"op": "@max", "path": "/most", "value": number})
        if number % 4 == 0:
            await asyncio.sleep(0)
    assert await world.converged(LWW, "lww") == {"n": 1010, "most": 9}


async def test_parents_and_children_of_an_lww_document(world: World, kinds: list[str]) -> None:
    ann, bob = await pair(world, kinds)
    await world.all_open(LWW, [put("/o", {"a": 1})], ann, bob)
    for number in range(6):
        ann.change(LWW, put("/o/a", number))
        bob.change(LWW, put("/o", {"b": number}))
        ann.change(LWW, put("/o/c", {"d": number}))
    state = await world.converged(LWW, "lww")
    assert state["o"]["b"] == 5


async def test_edits_made_offline_arrive_once(world: World, kinds: list[str]) -> None:
    ann, bob = await pair(world, kinds)
    await world.all_open(DOC, [root(items=[], n=0)], ann, bob)
    await world.all_open(LWW, [put("/n", 0)], ann, bob)
    bob.go_offline()
    for number in range(5):
        bob.change(DOC, append("/items", f"b{number}"))
        bob.change(LWW, {"op": "@inc", "path": "/n", "value": 1})
        ann.change(DOC, {"op": "add", "path": "/items/0", "value": f"a{number}"})
        ann.change(LWW, {"op": "@inc", "path": "/n", "value": 10})
    bob.go_online()
    items = (await world.converged(DOC))["items"]
    assert items == [*(f"a{n}" for n in reversed(range(5))), *(f"b{n}" for n in range(5))]
    assert await world.converged(LWW, "lww") == {"n": 55}


@pytest.mark.parametrize("base", ["a new document", "a document with history"])
async def test_a_change_over_a_megabyte_goes_in_batches(
    world: World, kinds: list[str], base: str
) -> None:
    ann, bob = await pair(world, kinds)
    text = "0123456789" * 120_000
    await ann.open(DOC)
    if base == "a new document":
        ann.change(DOC, root(items=[]), typed({"insert": text}))
        await bob.open(DOC)
    else:
        await world.all_open(DOC, [root(text=start_text(), items=[])], ann, bob)
        ann.change(DOC, typed({"insert": text}))
        bob.change(DOC, append("/items", "b"))
    ann.change(DOC, append("/items", "a"))
    await world.settle(DOC)
    state = await world.converged(DOC)
    assert text_of(state["text"]) == f"{text}\n"
    assert sorted(state["items"]) == (["a"] if base == "a new document" else ["a", "b"])


async def test_a_value_with_a_text_over_a_megabyte_is_the_same_for_all(
    world: World, kinds: list[str]
) -> None:
    ann, bob = await pair(world, kinds)
    await world.all_open(DOC, [root(items=[])], ann, bob)
    text = "0123456789" * 120_000
    ann.change(DOC, put("/text", start_text(text)))
    state = await world.converged(DOC)
    # The original sends it in pieces that go before the line end which every text has already.
    line_ends = "\n" if kinds[0] == "ours" else "\n\n"
    assert text_of(state["text"]) == f"{text}{line_ends}"


@pytest.mark.parametrize("base", ["a new document", "a document with history"])
async def test_a_large_upload_that_is_cut_goes_on(
    world: World, kinds: list[str], base: str
) -> None:
    ann, bob = await pair(world, kinds)
    text = "0123456789" * 120_000
    await ann.open(DOC)
    await world.raw.call("subscribe", DOC)
    if base == "a new document":
        lose_answers(ann)
        ann.change(DOC, root(items=[]), typed({"insert": text}))
    else:
        await world.all_open(DOC, [root(text=start_text(), items=[])], ann, bob)
        lose_answers(ann)
        ann.change(DOC, typed({"insert": text}))
    known = len(world.raw.notifications)
    await world.until(lambda: len(world.raw.notifications) > known)  # its first batch is stored
    ann.drop()
    ann.change(DOC, append("/items", "a"))
    await bob.open(DOC)
    state = await world.converged(DOC)
    assert text_of(state["text"]) == f"{text}\n"
    assert state["items"] == ["a"]


async def test_a_deletion_reaches_who_is_there_and_who_was_away(world: World) -> None:
    ann, bob, eve = await world.original(), await world.original(), await world.original()
    ours = await world.ours()
    await world.all_open(DOC, [root(n=0)], ann, bob, eve, ours)
    eve.go_offline()
    eve.change(DOC, put("/n", 1))
    await world.until(lambda: eve.client.has_pending(DOC) and not eve.client.can_send)
    ann.client.delete(DOC)
    await world.until(lambda: not bob.has(DOC) and not ours.has(DOC))
    assert bob.client.deleted == [(DOC, [])]
    eve.go_online()
    await world.until(lambda: not eve.has(DOC))
    assert eve.client.deleted[0] == (DOC, [[put("/n", 1)]])
    with pytest.raises(StatusError) as refused:
        await world.raw.call("getDoc", DOC)
    assert refused.value.code == 410
    await world.until(lambda: not ann.client.tombstones)
    assert await world.raw.call("undeleteDoc", DOC) is True
    assert await world.raw.call("getDoc", DOC) == {"state": None, "rev": 0, "changes": []}
    await world.all_open(DOC, [root(n=7)], ann, bob)
    assert await world.converged(DOC) == {"n": 7}


async def test_a_deletion_made_offline_reaches_the_server(world: World, kinds: list[str]) -> None:
    ann = await world.original()
    bob = await (world.original() if kinds[1] == "original" else world.ours())
    await world.all_open(LWW, [put("/n", 0)], ann, bob)
    ann.go_offline()
    ann.client.delete(LWW)
    ann.go_online()
    await world.until(lambda: not bob.has(LWW))
    with pytest.raises(StatusError, match="was deleted"):
        await world.raw.call("getChangesSince", LWW, 0)


async def test_who_joins_late_gets_the_whole(world: World, kinds: list[str]) -> None:
    ann, bob = await pair(world, kinds)
    await ann.open(DOC)
    await ann.open(LWW, "lww")
    ann.change(DOC, root(items=[]))
    for number in range(5):
        ann.change(DOC, append("/items", number))
        ann.change(LWW, put(f"/f{number % 2}", number))
    await world.settle(DOC)
    await world.raw.call("createVersion", DOC, {"name": "a version below the snapshot"})
    ann.change(DOC, append("/items", "after"))
    await bob.open(DOC)
    await bob.open(LWW, "lww")
    bob.change(LWW, put("/late", True))
    assert (await world.converged(DOC))["items"] == [0, 1, 2, 3, 4, "after"]
    assert await world.converged(LWW, "lww") == {"f0": 4, "f1": 3, "late": True}


async def test_an_edit_made_before_the_first_load_goes_behind_what_is_there(
    world: World, kinds: list[str]
) -> None:
    ann, bob = await pair(world, kinds)
    await ann.open(DOC)
    ann.change(DOC, root(items=["a"]))
    await world.settle(DOC)
    bob.go_offline()
    await bob.open(DOC)
    bob.change(DOC, put("/early", 1))
    bob.go_online()
    assert await world.converged(DOC) == {"items": ["a"], "early": 1}


async def test_versions_and_branches_are_merged_with_both_online(
    world: World, kinds: list[str]
) -> None:
    ann, bob = await pair(world, kinds)
    await world.all_open(DOC, [root(items=["x"])], ann, bob)
    call = world.raw.call
    version = await call("createVersion", DOC, {"name": "first"})
    assert [v["id"] for v in await call("listVersions", DOC)] == [version]
    assert await call("getVersionState", DOC, version) == {"items": ["x"]}
    assert len(await call("getVersionChanges", DOC, version)) == 1
    branch = await call("createBranch", DOC, 1, {"name": "draft"})
    assert [b["id"] for b in await call("listBranches", DOC)] == [branch]
    await ann.open(branch)
    await bob.open(branch)
    await world.converged(branch)
    ann.change(branch, append("/items", "branch a"))
    bob.change(branch, {"op": "add", "path": "/items/0", "value": "branch b"})
    ann.change(DOC, append("/items", "main"))
    await world.converged(branch)
    await world.settle(DOC)
    merged = await call("mergeBranch", branch)
    assert merged
    state = await world.converged(DOC)
    assert sorted(state["items"]) == ["branch a", "branch b", "main", "x"]
    assert await call("mergeBranch", branch) == []


async def test_malformed_frames_hurt_nobody(world: World, kinds: list[str]) -> None:
    ann, bob = await pair(world, kinds)
    await world.all_open(DOC, [root(n=0)], ann, bob)
    bad = await world.raw_peer()
    frames = [
        "{",
        "[]",
        "7",
        "null",
        '"text"',
        "{}",
        '{"id":1}',
        '{"jsonrpc":"2.0","id":2,"method":"nothing"}',
        '{"jsonrpc":"2.0","id":3,"method":"getDoc","params":{"docId":"plan"}}',
        '{"jsonrpc":"2.0","id":4,"method":"commitChanges","params":["plan","no list"]}',
        '{"jsonrpc":"2.0","id":5,"method":"commitChanges","params":["plan",[{"id":"x"}]]}',
        '{"jsonrpc":"2.0","id":null,"method":"getDoc","params":[""]}',
        "[" * 2_000,
    ]
    for frame in frames:
        await bad.socket.send_str(frame)
    assert await bad.call("getChangesSince", DOC, 1) == []  # answered, over the same socket
    ann.change(DOC, put("/n", 1))
    assert await world.converged(DOC) == {"n": 1}


def lose_answers(peer: Peer) -> None:
    """What is sent to an original client from now on is lost, until its socket is too."""
    if isinstance(peer, OriginalPeer):
        peer.client.socket.deaf = True


async def lose_the_answer(world: World, loser: OriginalPeer, doc_id: str) -> None:
    """Once the change that was just made is stored, cut the socket that its answer came over."""
    known = len(world.raw.notifications)
    lose_answers(loser)
    await world.until(lambda: len(world.raw.notifications) > known)
    assert loser.client.has_pending(doc_id)


@pytest.mark.parametrize("kind", ["original", "ours"])
async def test_an_answer_lost_with_its_socket_does_no_damage(world: World, kind: str) -> None:
    """Sent again over a new connection id with more edits behind it.

    The rules: `docs/internals/sync.md` 12.4.
    """
    ann = await world.original()
    bob = await (world.original() if kind == "original" else world.ours())
    start = root(list=["0", "1", "2", "3", "4", "5"], text=start_text("0123456789"))
    await world.all_open(DOC, [start], ann, bob)
    await world.raw.call("subscribe", DOC)
    ann.change(DOC, {"op": "remove", "path": "/list/0"})
    ann.change(DOC, typed({"insert": "abc"}))
    await lose_the_answer(world, ann, DOC)
    ann.change(DOC, {"op": "remove", "path": "/list/4"})
    ann.change(DOC, typed({"retain": 8}, {"insert": "X"}))
    bob.change(DOC, append("/list", "bob"))
    ann.drop()
    state = await world.converged(DOC)
    assert state["list"] == ["1", "2", "3", "4", "bob"]
    assert text_of(state["text"]) == "abc01234X56789\n"


async def test_an_lww_answer_lost_with_its_socket_counts_once(world: World) -> None:
    ann, bob = await world.original(), await world.original()
    await world.all_open(LWW, [put("/n", 0)], ann, bob)
    await world.raw.call("subscribe", LWW)
    ann.change(LWW, {"op": "@inc", "path": "/n", "value": 1})
    await lose_the_answer(world, ann, LWW)
    ann.change(LWW, {"op": "@inc", "path": "/n", "value": 10})
    bob.change(LWW, {"op": "@inc", "path": "/n", "value": 100})
    ann.drop()
    assert await world.converged(LWW, "lww") == {"n": 111}


async def test_the_command_serves_the_original(command: World) -> None:
    ann, bob, ours = await command.original(), await command.original(), await command.ours()
    await command.all_open(DOC, [root(items=[], text=start_text())], ann, bob, ours)
    await command.all_open(LWW, [put("/n", 0)], ann, bob, ours)
    for number in range(10):
        for peer in (ann, bob, ours):
            peer.change(DOC, append("/items", f"{peer.name} {number}"))
            peer.change(DOC, typed({"insert": f"<{peer.name} {number}>"}))
            peer.change(LWW, {"op": "@inc", "path": "/n", "value": 1})
        if number == 5:
            ann.drop()
            ours.drop()
    state = await command.converged(DOC)
    assert len(set(state["items"])) == len(state["items"]) == 30
    assert sorted(text_of(state["text"]).strip()[1:-1].split("><")) == sorted(state["items"])
    assert (await command.converged(LWW, "lww"))["n"] == 30
