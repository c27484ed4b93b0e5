"""Branches and merges, beside the recorded traces."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest

from patches.errors import (
    BranchError,
    DocDeletedError,
    MergeContentDuplicationError,
    MergePartialProgressError,
    NotFoundError,
    StorageError,
)
from patches.model.json_values import Op
from patches_server.documents.context import CallContext, call_context
from patches_server.ot import ContentDuplicationGuard, OTBranchManager
from patches_server.ot.stores.factory import OT_STORES


def managed(world: Any, **options: Any) -> OTBranchManager:
    return OTBranchManager(world.backend, world.server, runtime=world.runtime, **options)


def insert(text: str, at: int = 0) -> list[Op]:
    parts: list[Op] = [{"retain": at}] if at else []
    return [{"op": "@txt", "path": "/body", "value": [*parts, {"insert": text}]}]


def add(value: object, at: int = 0) -> list[Op]:
    return [{"op": "add", "path": f"/list/{at}", "value": value}]


async def branched(world: Any, state: Any, **options: Any) -> tuple[OTBranchManager, str]:
    """A document `d` and a branch of its first revision."""
    manager = managed(world, **options)
    await world.create(state)
    return manager, await manager.create_branch("d", 1)


async def edit_branch(world: Any, branch_id: str, *edits: list[Op], prefix: str = "b") -> None:
    for ops in edits:
        rev = (await world.backend.open_store(OT_STORES).get_head(branch_id)).rev
        change = world.change(f"{prefix}{rev}", ops, base_rev=rev)
        await world.commit(change, doc_id=branch_id, client="u2")


async def test_a_branch_starts_with_its_sources_state(world: Any) -> None:
    manager = managed(world)
    await world.create({"a": 1})
    await world.commit(world.change("x", base_rev=1))
    early, late = [await manager.create_branch("d", rev, {"name": "N"}) for rev in (1, 2)]
    assert await world.state(early) == {"a": 1}
    assert await world.state(late) == {"a": 1, "x": "x"}
    assert len(early) == 22
    (record, _) = await manager.list_branches("d")
    assert (record.doc_id, record.branched_at_rev, record.content_start_rev) == ("d", 1, 2)
    assert record.metadata == {"name": "N"}
    assert await manager.get_source_doc_id(early) == "d"


async def test_a_merge_is_told_to_everybody_its_caller_too(world: Any) -> None:
    manager, branch_id = await branched(world, {})
    await edit_branch(world, branch_id, [{"op": "replace", "path": "/x", "value": 1}])
    with call_context(CallContext(client_id="u2", connection_id="s2")):
        (change,) = await manager.merge_branch(branch_id)
    assert world.told[-1] == ("d", [change.id], None)
    assert (change.batch_id, change.client_id) == (branch_id, "u2"), "the author stays"


async def test_many_merges_with_edits_on_both_sides_lose_and_double_nothing(world: Any) -> None:
    """Whatever the interleaving, each inserted character is there once."""
    for seed in range(8):
        rng = random.Random(seed)
        doc = f"d{seed}"
        manager = managed(world, max_changes_per_merge=rng.choice([1, 2, 5]))
        start = {"body": {"ops": [{"insert": "....\n"}]}, "list": []}
        await world.create(start, doc_id=doc)
        branch_id = await manager.create_branch(doc, 1)
        words: list[str] = []
        for n in range(30):
            target = rng.choice([doc, branch_id])
            if rng.random() < 0.2:
                await manager.merge_branch(branch_id)
                continue
            rev = (await world.backend.open_store(OT_STORES).get_head(target)).rev
            base = rng.randint(max(1, rev - 2), rev)
            word = chr(0x4E00 + n)
            words.append(word)
            ops = insert(word, rng.randint(0, 2)) + add(word)
            change = world.change(f"{seed}-{n}", ops, base_rev=base)
            await world.commit(change, doc_id=target, client=rng.choice(["u1", "u2"]))
        await manager.merge_branch(branch_id)
        assert await manager.merge_branch(branch_id) == []
        state = await world.state(doc)
        text = "".join(part["insert"] for part in state["body"]["ops"])
        assert sorted(state["list"]) == sorted(words)
        assert all(text.count(word) == 1 for word in words), (seed, text)


async def test_a_merge_without_its_record_starts_again_from_the_log(world: Any) -> None:
    """Watermark and frame are a shortcut: losing them changes nothing."""
    results = []
    for lose in (False, True):
        doc = f"d{lose}"
        manager = managed(world, max_changes_per_merge=2)
        await world.create({"list": []}, doc_id=doc)
        branch_id = await manager.create_branch(doc, 1, {"id": f"br{lose}"})
        for turn in range(3):
            await edit_branch(
                world, branch_id, *(add(f"b{turn}{n}") for n in range(3)), prefix=f"{lose}{turn}b"
            )
            rev = (await world.backend.open_store(OT_STORES).get_head(doc)).rev
            await world.commit(
                world.change(f"{lose}s{turn}", add(f"s{turn}", turn), base_rev=rev), doc_id=doc
            )
            await manager.merge_branch(branch_id)
            if lose:
                await world.backend.branches.update_branch(
                    branch_id, {"last_merged_rev": None, "merge_frame": None}
                )
        results.append((await world.state(doc))["list"])
    assert len(results[0]) == 12
    assert results[0] == results[1]


async def test_a_merge_that_fails_says_what_is_done_and_goes_on(world: Any) -> None:
    manager, branch_id = await branched(world, {"list": []}, max_changes_per_merge=1)
    await edit_branch(world, branch_id, add("a"), add("b"), add("c"))
    save = world.backend.open_store(OT_STORES).save_changes
    saved = 0

    async def failing(*args: Any, **options: Any) -> None:
        nonlocal saved
        saved += 1
        if saved == 2:
            raise StorageError("disk full")
        await save(*args, **options)

    world.backend.open_store(OT_STORES).save_changes = failing
    with pytest.raises(MergePartialProgressError, match="Cause: Merge failed: disk full") as raised:
        await manager.merge_branch(branch_id)
    assert [c.id for c in raised.value.committed_changes] == ["b1"]
    assert raised.value.merged_through_rev == 2
    assert [c.id for c in await manager.merge_branch(branch_id)] == ["b2", "b3"]
    assert (await world.state())["list"] == ["c", "b", "a"]


async def test_two_merges_at_once_commit_everything_once(sqlite_world: Any) -> None:
    world = sqlite_world
    manager, branch_id = await branched(world, {"list": []}, max_changes_per_merge=2)
    other = OTBranchManager(
        world.backend, world.another(), max_changes_per_merge=3, runtime=world.runtime
    )
    await edit_branch(world, branch_id, *(add(n) for n in range(9)))
    merges = (manager, other, manager)
    async with asyncio.timeout(20):
        results = await asyncio.gather(
            *(each.merge_branch(branch_id) for each in merges), return_exceptions=True
        )
    for result in results:
        assert isinstance(result, list), result
    assert (await world.state())["list"] == list(reversed(range(9)))
    assert await manager.merge_branch(branch_id) == []
    record = await world.backend.branches.load_branch(branch_id)
    assert record.last_merged_rev == 10


async def test_a_foreign_edit_between_reading_and_committing_is_folded_in(world: Any) -> None:
    manager, branch_id = await branched(world, {"list": ["x"]}, max_changes_per_merge=1)
    await edit_branch(world, branch_id, add("b0", 1), add("b1", 2), add("b2", 3))
    store = world.backend.open_store(OT_STORES)
    save = store.save_changes
    racers = {"b1": "f0", "b2": "f1"}

    async def racing(doc_id: str, changes: Any, **options: Any) -> None:
        racer = racers.pop(changes[0].id, None)
        if racer is not None:
            store.save_changes = save
            rev = (await store.get_head("d")).rev
            await world.commit(
                world.change(racer, add(racer), base_rev=rev),
                client="u3",
                server=world.another(),
            )
            store.save_changes = racing
        await save(doc_id, changes, **options)

    store.save_changes = racing
    merged = await manager.merge_branch(branch_id)
    assert [c.id for c in merged] == ["f0", "b1", "f1", "b2", "b3"]
    assert (await world.state())["list"] == ["f1", "f0", "x", "b0", "b1", "b2"]
    await edit_branch(world, branch_id, [{"op": "replace", "path": "/list/0", "value": "X"}])
    await manager.merge_branch(branch_id)
    assert (await world.state())["list"] == ["f1", "f0", "X", "b0", "b1", "b2"]


async def test_concurrent_watermarks_only_go_up(world: Any) -> None:
    manager, branch_id = await branched(world, {"list": []})
    await edit_branch(world, branch_id, add("a"), add("b"))
    branches = world.backend.branches
    update_if = branches.update_branch_if

    async def beaten(branch: str, fields: Any, expected: Any) -> bool:
        branches.update_branch_if = update_if
        await branches.update_branch(branch, {"last_merged_rev": 99})
        return bool(await update_if(branch, fields, expected))

    branches.update_branch_if = beaten
    await manager.merge_branch(branch_id)
    assert (await branches.load_branch(branch_id)).last_merged_rev == 99


async def test_a_watermark_that_cannot_be_written_is_told(world: Any) -> None:
    manager, branch_id = await branched(world, {"list": []})
    await edit_branch(world, branch_id, add("a"))

    async def never(*_args: Any) -> bool:
        return False

    world.backend.branches.update_branch_if = never
    with pytest.raises(MergePartialProgressError, match="Failed to advance merge watermark"):
        await manager.merge_branch(branch_id)
    assert (await world.state())["list"] == ["a"]


async def test_a_large_frame_is_left_out_and_found_again(
    world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("patches_server.ot.branches.merge_frame._MAX_PROGRAMS_BYTES", 10)
    manager, branch_id = await branched(world, {"list": ["x"]})
    for turn in range(3):
        await world.commit(world.change(f"s{turn}", add(f"s{turn}"), base_rev=1 + 2 * turn))
        await edit_branch(world, branch_id, add(f"b{turn}", turn + 1))
        await manager.merge_branch(branch_id)
        record = await world.backend.branches.load_branch(branch_id)
        assert record.merge_frame is None
        assert record.last_merged_rev == turn + 2
    assert (await world.state())["list"] == ["s2", "s1", "s0", "x", "b0", "b1", "b2"]


async def test_windows_are_bounded_in_bytes(world: Any) -> None:
    manager, branch_id = await branched(world, {"list": []}, max_bytes_per_merge_window=1_000)
    await edit_branch(world, branch_id, *(add("x" * 300) for _ in range(6)))
    before = len(world.told)
    assert len(await manager.merge_branch(branch_id)) == 6
    assert [len(ids) for _, ids, _ in world.told[before:]] == [2, 2, 2]


async def test_changes_that_were_pruned_are_not_left_out_of_a_merge(world: Any) -> None:
    manager, branch_id = await branched(world, {"list": []})
    await edit_branch(world, branch_id, add("a"), add("b"))
    await world.backend.open_store(OT_STORES).prune_changes(branch_id, through_rev=2)
    with pytest.raises(BranchError, match="no longer has revision 2"):
        await manager.merge_branch(branch_id)
    assert await world.ids() == ["root"]


async def test_a_deleted_source_takes_no_merge(world: Any) -> None:
    manager, branch_id = await branched(world, {})
    await edit_branch(world, branch_id, [{"op": "replace", "path": "/x", "value": 1}])
    await world.server.delete_doc("d")
    with pytest.raises(DocDeletedError):
        await manager.merge_branch(branch_id)
    with pytest.raises(DocDeletedError):
        await manager.create_branch("d", 1)


async def test_merges_compare_and_set(world: Any) -> None:
    plain = world.backend.open_store(OT_STORES)
    manager = OTBranchManager(plain, world.server, runtime=world.runtime)
    await world.create({"list": []})
    branch_id = await manager.create_branch("d", 1)
    await edit_branch(world, branch_id, add("long " * 100), add("b"))
    expected: list[Any] = []
    update_if = plain.branches.update_branch_if

    async def noted(branch: str, fields: Any, condition: Any) -> bool:
        expected.append(condition)
        return bool(await update_if(branch, fields, condition))

    plain.branches.update_branch_if = noted
    assert len(await manager.merge_branch(branch_id)) == 2
    assert expected == [{"last_merged_rev": None}]


async def test_a_clients_metadata_sets_no_merge_fields(world: Any) -> None:
    manager = managed(world)
    await world.create({})
    forged = {"id": "b", "mergeFrame": {"x": 1}, "lastMergedRev": 9, "docId": "e", "deleted": True}
    await manager.create_branch("d", 1, {**forged, "name": "N"})
    record = await world.backend.branches.load_branch("b")
    assert (record.doc_id, record.deleted, record.last_merged_rev) == ("d", False, None)
    assert record.metadata == {"name": "N"}
    await manager.update_branch("b", {"mergeBaseRev": 9, "color": "red"})
    record = await world.backend.branches.load_branch("b")
    assert record.merge_base_rev is None
    assert record.metadata == {"name": "N", "color": "red"}


async def test_branches_that_cannot_be(world: Any) -> None:
    manager, branch_id = await branched(world, {})
    await world.create({}, doc_id="e")
    with pytest.raises(BranchError, match="already exists for a different document"):
        await manager.create_branch("e", 1, {"id": branch_id})
    with pytest.raises(BranchError, match="from another branch"):
        await manager.create_branch(branch_id, 1)
    with pytest.raises(BranchError, match="Cannot modify branch field deleted"):
        await manager.update_branch(branch_id, {"deleted": True})
    with pytest.raises(BranchError, match="Document e already exists"):
        await manager.create_branch("d", 1, {"id": "e"})
    with pytest.raises(BranchError, match="a branch of itself"):
        await manager.create_branch("d", 0, {"id": "d", "contentStartRev": 1})
    assert await world.state("e") == {}
    await manager.delete_branch(branch_id)
    with pytest.raises(NotFoundError):
        await manager.get_source_doc_id(branch_id)
    with pytest.raises(BranchError, match="has been deleted"):
        await manager.merge_branch(branch_id)


@pytest.mark.parametrize("cut", ["create_version", "create_branch"])
async def test_a_branch_that_was_made_half_way_can_be_made_again(
    world: Any, monkeypatch: pytest.MonkeyPatch, cut: str
) -> None:
    manager = managed(world, max_payload_bytes=200)
    await world.create({"a": "x" * 300, "b": 1})

    async def crash(*_: object, **__: object) -> None:
        raise ConnectionError("cut")

    owner = world.server.history if cut == "create_version" else world.backend.branches
    with monkeypatch.context() as patched:
        patched.setattr(owner, cut, crash)
        with pytest.raises(ConnectionError):
            await manager.create_branch("d", 1, {"id": "b"})
    await world.commit(world.change("later", base_rev=1))
    assert await manager.create_branch("d", 1, {"id": "b"}) == "b"
    assert await world.state("b") == {"a": "x" * 300, "b": 1}
    assert len(await world.backend.versions.list_versions("b")) == 1
    await edit_branch(world, "b", [{"op": "replace", "path": "/b", "value": 2}])
    assert await manager.create_branch("d", 1, {"id": "b"}) == "b"
    await manager.merge_branch("b")
    assert (await world.state())["b"] == 2


TEXT = "A paragraph that is long enough to be noticed when it is there twice.\n"


@pytest.mark.parametrize("action", ["refuse", "warn"])
async def test_a_seed_that_counts_as_content_is_noticed(
    world: Any, action: Any, caplog: pytest.LogCaptureFixture
) -> None:
    guard = ContentDuplicationGuard(action=action, min_length=32)
    manager, branch_id = await branched(
        world, {"body": {"ops": [{"insert": TEXT}]}}, content_duplication_guard=guard
    )
    await edit_branch(world, branch_id, insert(TEXT[:-1]))
    if action == "refuse":
        with pytest.raises(MergeContentDuplicationError) as raised:
            await manager.merge_branch(branch_id)
        assert (raised.value.path, raised.value.duplicated_chars) == ("/body", len(TEXT) - 1)
        assert await world.ids() == ["root"]
        assert await manager.merge_branch(branch_id, content_duplication_guard="off")
    else:
        assert await manager.merge_branch(branch_id)
        assert "would duplicate" in caplog.text
    assert await manager.merge_branch(branch_id) == []
