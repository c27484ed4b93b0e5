"""`LWWBranchManager`: copies with a history of their own, merged back by time."""

from __future__ import annotations

from typing import Any

import pytest

from patches.errors import BranchError, DocDeletedError, NotFoundError
from patches.model import codec
from patches.model.change import ChangeInput
from patches.model.json_values import Json, Op
from patches_server.documents.context import CallContext, call_context
from patches_server.lww import LWWBranchManager, LWWServer
from patches_server.lww.stores.memory import LWWMemoryServerStore


@pytest.fixture
def branches(server: LWWServer, clock: Any) -> LWWBranchManager:
    return LWWBranchManager(server, runtime=clock.runtime())


def put(path: str, value: Json) -> Op:
    return {"op": "replace", "path": path, "value": value}


async def write(server: LWWServer, clock: Any, doc_id: str, *ops: Op) -> None:
    clock.now += 1
    change = ChangeInput(id=f"c{clock.now}", ops=list(ops))
    await server.commit_changes(doc_id, [change])


async def state_of(server: LWWServer, doc_id: str) -> Json:
    version_id = await server.capture_current_version(doc_id)
    assert server.store.versions is not None
    assert version_id is not None
    state = await server.store.versions.load_version_state(doc_id, version_id)
    return codec.decode(state or b"null")


async def test_a_branch_starts_as_a_copy_and_goes_its_own_way(
    server: LWWServer, branches: LWWBranchManager, clock: Any
) -> None:
    await write(server, clock, "d", put("/a", {"x": 1, "y": 2}), put("/n", 1))
    await write(server, clock, "d", {"op": "remove", "path": "/a/x"})
    await write(server, clock, "d", put("/a/x/z", 3))
    branch_id = await branches.create_branch("d", 3)
    assert await state_of(server, branch_id) == {"a": {"x": {"z": 3}, "y": 2}, "n": 1}
    await write(server, clock, branch_id, put("/n", 2))
    await write(server, clock, "d", put("/m", 9))
    assert (await state_of(server, branch_id))["n"] == 2
    assert (await state_of(server, "d"))["n"] == 1


async def test_a_merge_brings_what_the_branch_wrote_and_the_newer_write_wins(
    server: LWWServer, branches: LWWBranchManager, clock: Any
) -> None:
    await write(server, clock, "d", put("/a", 1), put("/b", 1), put("/gone", 1))
    branch_id = await branches.create_branch("d", 1, {"name": "Draft"})
    await write(server, clock, branch_id, put("/a", "branch"), put("/b", "branch"))
    await write(server, clock, branch_id, {"op": "remove", "path": "/gone"})
    await write(server, clock, "d", put("/b", "newer"))
    told: list[Any] = []
    server.on_changes_committed(lambda doc_id, changes, options, origin: told.append(origin))
    with call_context(CallContext(connection_id="socket")):
        assert await branches.merge_branch(branch_id)
    assert told == [None]  # the caller hears of it too
    assert await state_of(server, "d") == {"a": "branch", "b": "newer"}
    assert await branches.merge_branch(branch_id) == []
    await write(server, clock, branch_id, put("/c", 1))
    await branches.merge_branch(branch_id)
    assert (await state_of(server, "d"))["c"] == 1


async def test_old_removals_on_a_branch_are_kept_for_its_merge(
    server: LWWServer, branches: LWWBranchManager, clock: Any
) -> None:
    await write(server, clock, "d", put("/a", 1))
    branch_id = await branches.create_branch("d", 1)
    await write(server, clock, branch_id, {"op": "remove", "path": "/a"})
    clock.now += 90 * 86_400_000
    for number in range(256):
        await write(server, clock, branch_id, put("/n", number))
    await branches.merge_branch(branch_id)
    assert await state_of(server, "d") == {"n": 255}


async def test_a_chosen_id_is_made_once(
    server: LWWServer, branches: LWWBranchManager, clock: Any
) -> None:
    await write(server, clock, "d", put("/a", 1))
    assert await branches.create_branch("d", 1, {"id": "b"}) == "b"
    await write(server, clock, "b", put("/a", 2))
    assert await branches.create_branch("d", 1, {"id": "b"}) == "b"
    assert await state_of(server, "b") == {"a": 2}
    with pytest.raises(BranchError, match="different document"):
        await branches.create_branch("e", 1, {"id": "b"})
    with pytest.raises(BranchError, match="another branch"):
        await branches.create_branch("b", 1)


async def test_a_branch_does_not_take_the_place_of_a_document(
    server: LWWServer, branches: LWWBranchManager, clock: Any
) -> None:
    await write(server, clock, "d", put("/a", 1))
    await write(server, clock, "other", put("/secret", 1))
    with pytest.raises(BranchError, match="already exists"):
        await branches.create_branch("d", 1, {"id": "other"})
    assert await state_of(server, "other") == {"secret": 1}
    assert await branches.list_branches("d") == []


async def test_a_branch_that_was_made_half_way_can_be_made_again(
    server: LWWServer, branches: LWWBranchManager, clock: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    await write(server, clock, "d", put("/a", 1))
    assert server.store.branches is not None

    async def crash(branch: object) -> None:
        raise ConnectionError("cut")

    with monkeypatch.context() as patched:
        patched.setattr(server.store.branches, "create_branch", crash)
        with pytest.raises(ConnectionError):
            await branches.create_branch("d", 1, {"id": "b"})
    await write(server, clock, "d", put("/a", 2))
    assert await branches.create_branch("d", 1, {"id": "b"}) == "b"
    assert await state_of(server, "b") == {"a": 2}
    await write(server, clock, "b", put("/a", 3))
    assert await branches.create_branch("d", 1, {"id": "b"}) == "b"
    assert await state_of(server, "b") == {"a": 3}


async def test_a_document_is_no_branch_of_itself(
    server: LWWServer, branches: LWWBranchManager, clock: Any
) -> None:
    await write(server, clock, "d", put("/a", 1))
    with pytest.raises(BranchError, match="a branch of itself"):
        await branches.create_branch("d", 0, {"id": "d", "contentStartRev": 1})


async def test_records_are_listed_changed_and_deleted(
    server: LWWServer, branches: LWWBranchManager, clock: Any
) -> None:
    await write(server, clock, "d", put("/a", 1))
    branch_id = await branches.create_branch("d", 1, {"name": "Draft", "lastMergedRev": 9})
    (branch,) = await branches.list_branches("d")
    assert (branch.metadata, branch.last_merged_rev) == ({"name": "Draft"}, None)
    clock.now += 1
    await branches.update_branch(branch_id, {"name": "Final", "mergeBaseRev": 1})
    (branch,) = await branches.list_branches("d", since=branch.modified_at)
    assert (branch.metadata, branch.merge_base_rev) == ({"name": "Final"}, None)
    with pytest.raises(BranchError, match="Cannot modify branch field docId"):
        await branches.update_branch(branch_id, {"docId": "e"})
    assert await branches.get_source_doc_id(branch_id) == "d"
    await branches.delete_branch(branch_id)
    assert await branches.list_branches("d") == []
    with pytest.raises(NotFoundError):
        await branches.get_source_doc_id(branch_id)
    with pytest.raises(BranchError, match="has been deleted"):
        await branches.merge_branch(branch_id)
    with pytest.raises(BranchError, match="not found"):
        await branches.merge_branch("none")


async def test_nothing_is_merged_into_a_deleted_document(
    server: LWWServer, branches: LWWBranchManager, clock: Any
) -> None:
    await write(server, clock, "d", put("/a", 1))
    branch_id = await branches.create_branch("d", 1)
    await write(server, clock, branch_id, put("/a", 2))
    await server.delete_doc("d")
    with pytest.raises(DocDeletedError):
        await branches.merge_branch(branch_id)
    branch = await branches._branches.load_branch(branch_id)
    assert branch is not None
    assert branch.last_merged_rev is None


async def test_content_that_the_caller_sends_is_not_copied(
    server: LWWServer, branches: LWWBranchManager, clock: Any
) -> None:
    await write(server, clock, "d", put("/a", 1))
    branch_id = await branches.create_branch("d", 1, {"id": "b", "contentStartRev": 2})
    await write(server, clock, branch_id, put("/a", 1))  # the caller's own seed
    assert await branches.merge_branch(branch_id) == []
    await write(server, clock, branch_id, put("/z", 1))
    await branches.merge_branch(branch_id)
    assert await state_of(server, "d") == {"a": 1, "z": 1}


def test_branches_need_a_store_that_keeps_them() -> None:
    store = LWWMemoryServerStore()
    store.branches = None  # type: ignore[assignment]  # one of another kind may have none
    with pytest.raises(BranchError):
        LWWBranchManager(LWWServer(store))
