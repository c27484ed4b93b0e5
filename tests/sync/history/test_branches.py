"""Branches, online and offline, from the real server."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TypeVar

import pytest

from patches.client.patches import Patches
from patches.errors import BranchError, NetworkError, StatusError
from patches.model.records import Branch
from patches.options import DocOptions
from patches.runtime import Runtime
from patches.stores.branch_records import MemoryBranchStore, SqliteBranchStore
from patches.sync import PatchesSync
from patches.sync.history.branch_seed import seed_edits
from patches.sync.history.branch_store import BranchStore, merged_with_server
from patches.sync.history.branches import PatchesBranchClient
from patches.testing.fake_connection import Call, FakeConnection
from patches.testing.local_server import LocalServer
from patches.testing.virtual_time import idle, virtual_time
from tests.support.sync_scene import sync_scene

T = TypeVar("T")
DAY_MS = 86_400_000
ALGORITHMS = pytest.mark.parametrize("algorithm", ["ot", "lww"])


@asynccontextmanager
async def client(
    server: LocalServer,
    branch_store: BranchStore | None = None,
    doc_options: DocOptions | None = None,
) -> AsyncIterator[tuple[Patches, PatchesSync]]:
    runtime = Runtime(random=random.Random(3), wall_ms=server.runtime.wall_ms)
    async with (
        Patches(runtime=runtime, doc_options=doc_options) as patches,
        PatchesSync(patches, server.connection(), branch_store=branch_store) as sync,
    ):
        yield patches, sync


async def _inline(fn: Callable[[], T], /) -> T:
    """Virtual time knows nothing of threads."""
    await asyncio.sleep(0)
    return fn()


def a_server(algorithm: str = "ot") -> LocalServer:
    clock = iter(range(1_000_000, 9_000_000))
    runtime = Runtime(wall_ms=lambda: next(clock), random=random.Random(9), run_blocking=_inline)
    return LocalServer(routes={"*": algorithm}, runtime=runtime)


@ALGORITHMS
def test_a_branch_is_made_edited_and_merged_online(algorithm: str) -> None:
    @virtual_time
    async def run() -> None:
        async with a_server(algorithm) as server, client(server) as (patches, sync):
            doc = await patches.open_doc("d", algorithm=algorithm)
            doc.apply([{"op": "replace", "path": "/a", "value": 1}])
            await sync.settled(5)
            branches = PatchesBranchClient("d", sync)
            branch_id = await branches.create_branch(doc.committed_rev, {"name": "try"})
            (branch,) = branches.branches
            assert (branch.id, branch.doc_id, branch.name) == (branch_id, "d", "try")
            copy = await patches.open_doc(branch_id, algorithm=algorithm)
            await sync.settled(5)
            assert copy.state == {"a": 1}
            copy.apply([{"op": "replace", "path": "/b", "value": 2}])
            doc.apply([{"op": "replace", "path": "/c", "value": 3}])
            await sync.settled(5)
            assert len(await branches.merge_branch(branch_id)) >= 1
            await idle()
            assert doc.state == {"a": 1, "b": 2, "c": 3}
            await branches.update_branch(branch_id, {"name": "done"})
            assert branches.branches[0].name == "done"
            await branches.delete_branch_with_doc(branch_id)
            assert branches.branches == ()
            assert branch_id not in patches.tracked_docs

    run()


@ALGORITHMS
def test_a_branch_made_offline_is_told_and_merged_later(algorithm: str) -> None:
    @virtual_time
    async def run() -> None:
        store = MemoryBranchStore()
        async with a_server(algorithm) as server, client(server, store) as (patches, sync):
            doc = await patches.open_doc("d", algorithm=algorithm)
            doc.apply([{"op": "replace", "path": "/a", "value": 1}])
            await sync.settled(5)
            told: list[str] = []
            sync.on_branches_synced(lambda: told.append("told"))
            sync.set_online(False)
            branches = PatchesBranchClient("d", sync)
            await branches.create_branch(
                doc.committed_rev, {"id": "mine", "name": "try"}, initial_state=doc.state
            )
            copy = await patches.open_doc("mine")
            copy.apply([{"op": "replace", "path": "/b", "value": 2}])
            await copy.flush()
            assert copy.state == {"a": 1, "b": 2}
            assert [branch.pending_op for branch in branches.branches] == ["create"]
            with pytest.raises(NetworkError):
                await branches.merge_branch("mine")
            sync.set_online(True)
            await idle()
            await sync.settled(5)
            assert told == ["told"]
            (branch,) = await branches.refresh()
            assert branch.pending_op is None
            assert branch.content_start_rev == 2
            merged = await branches.merge_branch("mine")
            await idle()
            assert doc.state == {"a": 1, "b": 2}
            paths = [op["path"] for change in merged for op in change.ops]
            assert "" not in paths  # the first state is not part of what is merged

    run()


@virtual_time
async def test_a_large_first_state_counts_the_revisions_it_took() -> None:
    store = MemoryBranchStore()
    options = DocOptions(max_payload_bytes=5_000)
    async with a_server() as server, client(server, store, options) as (patches, sync):
        await patches.open_doc("d")
        sync.set_online(False)
        branches = PatchesBranchClient("d", sync)
        state = {f"k{number}": "x" * 900 for number in range(20)}
        await branches.create_branch(0, {"id": "big"}, initial_state=state)
        copy = await patches.open_doc("big")
        assert copy.state == state
        (branch,) = branches.branches
        assert branch.content_start_rev is not None
        assert branch.content_start_rev > 3
        sync.set_online(True)
        await idle()
        await sync.settled(5)
        assert copy.committed_rev == branch.content_start_rev - 1


@ALGORITHMS
@pytest.mark.parametrize("kept", [True, False], ids=["store", "no store"])
def test_a_branch_made_again_keeps_its_edits(algorithm: str, kept: bool) -> None:
    @virtual_time
    async def run() -> None:
        store = MemoryBranchStore() if kept else None
        async with a_server(algorithm) as server, client(server, store) as (patches, sync):
            for doc_id in ("d", "e"):
                doc = await patches.open_doc(doc_id, algorithm=algorithm)
                doc.change(lambda draft: draft.update(a=1))
            await sync.settled(5)
            branches = PatchesBranchClient("d", sync, algorithm=algorithm)
            await branches.create_branch(1, {"id": "b"}, initial_state={"a": 1})
            copy = await patches.open_doc("b", algorithm=algorithm)
            copy.change(lambda draft: draft.update(mine=2))
            await sync.settled(5)
            assert await branches.create_branch(1, {"id": "b"}, initial_state={"a": 9}) == "b"
            await sync.settled(5)
            assert copy.state == {"a": 1, "mine": 2}
            others = PatchesBranchClient("e", sync, algorithm=algorithm)
            with pytest.raises(BranchError, match="already exists"):
                await others.create_branch(1, {"id": "b"}, initial_state={"a": 9})
            with pytest.raises(BranchError, match="already exists"):
                await branches.create_branch(1, {"id": "e"}, initial_state={"a": 9})
            await sync.settled(5)
            assert copy.state == {"a": 1, "mine": 2}
            assert [branch.id for branch in await branches.list_branches()] == ["b"]

        async with a_server(algorithm) as server, client(server, store) as (patches, sync):
            assert store is None or [branch.id for branch in await store.list("d")] == ["b"]

    run()


@ALGORITHMS
def test_a_document_that_is_not_tracked_here_is_not_written_over(algorithm: str) -> None:
    @virtual_time
    async def run() -> None:
        async with a_server(algorithm) as server:
            async with client(server) as (patches, sync):
                doc = await patches.open_doc("e", algorithm=algorithm)
                doc.change(lambda draft: draft.update(a=1))
                await sync.settled(5)
            async with client(server, MemoryBranchStore()) as (patches, sync):
                branches = PatchesBranchClient("d", sync, algorithm=algorithm)
                with pytest.raises(BranchError, match="already exists"):
                    await branches.create_branch(0, {"id": "e"}, initial_state={"a": 9})
                assert "e" not in patches.tracked_docs
                again = await patches.open_doc("e", algorithm=algorithm)
                await sync.settled(5)
                assert again.state == {"a": 1}

    run()


@ALGORITHMS
def test_a_branch_cut_before_its_record_is_made_with_the_same_seed(algorithm: str) -> None:
    @virtual_time
    async def run() -> None:
        store = MemoryBranchStore()
        options = DocOptions(max_payload_bytes=5_000)
        async with a_server(algorithm) as server, client(server, store, options) as (patches, sync):
            sync.set_online(False)
            branches = PatchesBranchClient("d", sync, algorithm=algorithm)
            state = {f"k{number}": "x" * 900 for number in range(20)}
            await branches.create_branch(0, {"id": "b"}, initial_state=state)
            (made,) = branches.branches
            await store.remove(["b"])  # as if the process had ended just before it was saved
            await branches.create_branch(0, {"id": "b"}, initial_state=state)
            (again,) = branches.branches
            assert again.content_start_rev == made.content_start_rev
            sync.set_online(True)
            await idle()
            await sync.settled(5)
            assert (await patches.open_doc("b")).state == state

    run()


@pytest.mark.parametrize("most", [None, 100_000, 3_000, 1_500])
def test_seed_edits_make_the_state_and_fit(most: int | None) -> None:
    from patches.json_patch import apply_patch
    from patches.model.codec import json_size

    state = {"a": {"b/c": "x" * 200, "d": {str(n): "y" * 90 for n in range(20)}}, "e": [1, 2]}
    edits = seed_edits(state, most)
    made = None
    for ops in edits:
        made = apply_patch(made, ops, strict=True)
        assert most is None or json_size(ops) <= most
    assert made == state
    assert edits[0][0]["path"] == ""


def test_a_value_that_cannot_be_divided_is_refused_by_its_path() -> None:
    with pytest.raises(BranchError, match="'/a/b'"):
        seed_edits({"a": {"b": ["x" * 900] * 10}}, 3_000)


@virtual_time
async def test_bad_input_is_refused_and_leaves_nothing() -> None:
    store = MemoryBranchStore()
    async with sync_scene(branch_store=store, connect=False) as scene:
        branches = PatchesBranchClient("d", scene.sync, algorithm="small")
        with pytest.raises(BranchError, match="id"):
            await branches.create_branch(1, initial_state={})
        with pytest.raises(BranchError, match="docId"):
            await branches.create_branch(1, {"docId": "x"})
        await branches.create_branch(1, {"id": "one"})
        await branches.create_branch(1, {"id": "one"})  # the same again: no change
        with pytest.raises(BranchError, match="different document"):
            await PatchesBranchClient("e", scene.sync).create_branch(1, {"id": "one"})
        with pytest.raises(BranchError, match="another branch"):
            await PatchesBranchClient("one", scene.sync, algorithm="small").create_branch(
                1, {"id": "two"}, initial_state={"a": 1}
            )
        with pytest.raises(BranchError, match="pendingOp"):
            await branches.update_branch("one", {"pendingOp": "x"})
        with pytest.raises(BranchError, match="nobody not found"):
            await branches.update_branch("nobody", {})
        with pytest.raises(BranchError, match="nobody not found"):
            await branches.delete_branch("nobody")
        scene.algorithm.fail("handle_doc_change", *[StatusError(403, "no")])
        with pytest.raises(StatusError):
            await branches.create_branch(1, {"id": "three"}, initial_state={"a": 1})
        assert "three" not in scene.patches.tracked_docs
        assert [branch.id for branch in branches.branches] == ["one"]


@virtual_time
async def test_records_are_told_creations_first_then_changes_then_deletions() -> None:
    store = MemoryBranchStore()
    for branch in (
        Branch(id="deleted", doc_id="d", created_at=1, deleted=True, pending_op="delete"),
        Branch(id="changed", doc_id="d", created_at=2, name="n", pending_op="update"),
        Branch(id="new", doc_id="d", created_at=3, branched_at_rev=5, pending_op="create"),
    ):
        await store.save([branch])
    connection = FakeConnection(createBranch="new", updateBranch=None, deleteBranch=None)
    async with sync_scene(connection, branch_store=store) as scene:
        assert connection.methods == ["createBranch", "updateBranch", "deleteBranch"]
        assert connection.calls[0].args == ("d", 5, {"id": "new"})
        assert connection.calls[1].args == ("changed", {"name": "n"})
        assert await store.list_pending() == []
        assert await store.load("deleted") is None
        assert scene.errors == []


@virtual_time
async def test_a_failure_ends_its_group_is_reported_and_waits_for_the_next_time() -> None:
    store = MemoryBranchStore()
    for number in range(3):
        await store.save(
            [Branch(id=f"b{number}", doc_id="d", created_at=number, pending_op="create")]
        )

    def refuse_the_second(call: Call) -> object:
        return StatusError(403, "no") if call.args[2]["id"] == "b1" else call.args[2]["id"]

    connection = FakeConnection(createBranch=refuse_the_second)
    async with sync_scene(connection, branch_store=store) as scene:
        assert connection.count("createBranch") == 2
        assert [str(error) for error, _ in scene.errors] == ["no"]
        assert [branch.id for branch in await store.list_pending()] == ["b1", "b2"]
        connection.replies["createBranch"] = "ok"
        connection.drop()
        connection.restore()
        await idle()
        assert await store.list_pending() == []


@virtual_time
async def test_a_lost_connection_ends_all_groups_and_the_next_one_begins_anew() -> None:
    store = MemoryBranchStore()
    await store.save(
        [
            Branch(id="new", doc_id="d", created_at=1, pending_op="create"),
            Branch(id="changed", doc_id="d", created_at=2, name="n", pending_op="update"),
        ]
    )
    connection = FakeConnection(updateBranch=None)
    async with sync_scene(connection, branch_store=store, connect=False) as scene:
        told: list[str] = []
        scene.sync.on_branches_synced(lambda: told.append("told"))
        await scene.sync.connect()
        await connection.next_call("createBranch")
        asked = asyncio.ensure_future(scene.sync.send_branch_records())  # by the application
        await idle()
        connection.drop()
        connection.restore()
        (await connection.next_call("createBranch")).answer("new")
        await asked
        await idle()
        assert connection.methods == ["createBranch", "createBranch", "updateBranch"]
        assert told == ["told"]
        assert scene.errors == []


@virtual_time
async def test_a_connection_that_is_lost_while_the_application_sends_stops_it() -> None:
    store = MemoryBranchStore()
    connection = FakeConnection(updateBranch=None)
    async with sync_scene(connection, branch_store=store) as scene:
        await store.save(
            [
                Branch(id="new", doc_id="d", created_at=1, pending_op="create"),
                Branch(id="changed", doc_id="d", created_at=2, name="n", pending_op="update"),
            ]
        )
        asked = asyncio.ensure_future(scene.sync.send_branch_records())
        await connection.next_call("createBranch")
        connection.drop()
        await asked
        assert connection.methods == ["createBranch"]
        assert scene.errors == []


@virtual_time
async def test_without_a_store_of_branches_nothing_is_asked_for() -> None:
    async with sync_scene() as scene:
        await scene.sync.send_branch_records()
        await scene.opened_at(1)
        assert scene.connection.methods == ["subscribe", "getDoc"]


@virtual_time
async def test_what_is_done_here_while_a_record_is_being_told_is_told_next() -> None:
    store = MemoryBranchStore()
    connection = FakeConnection(updateBranch=None, deleteBranch=None)
    async with sync_scene(connection, branch_store=store, connect=False) as scene:
        branches = PatchesBranchClient("d", scene.sync)
        await branches.create_branch(1, {"id": "changed"})
        await scene.sync.connect()
        create = await connection.next_call("createBranch")
        await store.save([Branch(id="changed", doc_id="d", name="new", pending_op="create")])
        create.answer("changed")
        await idle()
        (branch,) = await store.list("d")
        assert (branch.name, branch.pending_op) == ("new", "update")


def test_the_server_s_records_do_not_overwrite_what_it_was_not_told() -> None:
    known = {
        "mine": Branch(id="mine", doc_id="d", name="mine", pending_op="update"),
        "merged": Branch(id="merged", doc_id="d", last_merged_rev=9),
        "gone": Branch(id="gone", doc_id="d"),
        "missing": Branch(id="missing", doc_id="d"),
        "made": Branch(id="made", doc_id="d", pending_op="create"),
    }
    received = [
        Branch(id="mine", doc_id="d", name="theirs"),
        Branch(id="merged", doc_id="d", last_merged_rev=4, name="n"),
        Branch(id="gone", doc_id="d", deleted=True),
        Branch(id="new", doc_id="d"),
        Branch(id="deleted here", doc_id="d"),
    ]
    mark = Branch(id="deleted here", doc_id="d", deleted=True, pending_op="delete")
    saved, removed = merged_with_server([*known.values(), mark], known, received)
    assert [(branch.id, branch.last_merged_rev) for branch in saved] == [
        ("merged", 9),
        ("new", None),
    ]
    assert removed == ["gone", "missing"]


@virtual_time
async def test_what_others_did_is_seen_with_a_clock_that_is_ahead_of_the_server_s() -> None:
    store = MemoryBranchStore()
    async with a_server() as server, client(server) as (_, bob), AsyncExitStack() as stack:
        ahead = Runtime(random=random.Random(5), wall_ms=lambda: server.runtime.wall_ms() + DAY_MS)
        anns = await stack.enter_async_context(Patches(runtime=ahead))
        ann = await stack.enter_async_context(
            PatchesSync(anns, server.connection(), branch_store=store)
        )
        doc = await anns.open_doc("d")
        doc.apply([{"op": "replace", "path": "/a", "value": 1}])
        await ann.settled(5)
        mine, theirs = PatchesBranchClient("d", ann), PatchesBranchClient("d", bob)
        await mine.create_branch(1, {"id": "anns"})
        assert await store.list_pending() == []
        await theirs.create_branch(1, {"id": "bobs"})
        assert [branch.id for branch in await mine.refresh()] == ["anns", "bobs"]
        await theirs.delete_branch("anns")
        assert [branch.id for branch in await mine.refresh()] == ["bobs"]


@virtual_time
async def test_what_is_done_here_while_the_server_s_records_are_fetched_stays() -> None:
    store = MemoryBranchStore()
    old, other = ({"id": name, "docId": "d", "modifiedAt": 5} for name in ("old", "other"))
    async with sync_scene(FakeConnection(), branch_store=store) as scene:
        await store.save([Branch.from_wire(old), Branch.from_wire(other)])
        branches = PatchesBranchClient("d", scene.sync)
        refresh = asyncio.ensure_future(branches.refresh())
        fetch = await scene.connection.next_call("listBranches")
        await store.save([Branch(id="old", doc_id="d", name="mine", pending_op="update")])
        await store.save([Branch(id="new", doc_id="d", name="told meanwhile")])
        fetch.answer([old])
        assert {branch.id: branch.name for branch in await refresh} == {
            "old": "mine",
            "new": "told meanwhile",
        }


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
async def test_every_store_keeps_records(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "branches.db"
    store: BranchStore = MemoryBranchStore() if kind == "memory" else SqliteBranchStore(path)
    later = Branch(id="b", doc_id="d", created_at=2, metadata={"color": "red"})
    first = Branch(id="a", doc_id="d", created_at=1, pending_op="create", name="x")
    await store.save([later, first])
    await store.save([Branch(id="c", doc_id="other", pending_op="delete", deleted=True)])
    assert await store.list("d") == [first, later]
    assert [branch.id for branch in await store.list_pending()] == ["c", "a"]
    assert await store.load("nobody") is None
    if isinstance(store, SqliteBranchStore):
        await store.close()
        store = SqliteBranchStore(path)
    assert await store.load("b") == later
    await store.remove(["a", "nobody"])
    assert await store.load("a") is None
    if isinstance(store, SqliteBranchStore):
        await store.close()
