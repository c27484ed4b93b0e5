"""Versions of OT documents, and the states they stand for, beside the recorded traces."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest

from patches.errors import (
    DocDeletedError,
    NotFoundError,
    StaleSubmissionError,
    StorageError,
    UnavailableError,
    VersionError,
)
from patches.model import codec
from patches.model.change import Change
from patches.runtime import Runtime
from patches_server.documents.records import ListVersionsOptions
from patches_server.lww import LWWServer
from patches_server.ot import NO_DOC, PatchesHistoryManager
from patches_server.ot.history import sessions
from patches_server.ot.stores.factory import OT_STORES

MINUTE = 60_000


async def edit(world: Any, count: int, **options: Any) -> None:
    """Commit `count` edits, one after another."""
    for _ in range(count):
        rev = (await world.backend.open_store(OT_STORES).get_head("d")).rev
        await world.commit(world.change(f"e{rev}", base_rev=rev, **options))


async def ends(world: Any, **options: Any) -> list[tuple[int, int]]:
    """The revisions of the versions."""
    found = await world.backend.open_store(OT_STORES).versions.list_versions(
        "d", ListVersionsOptions(**options)
    )
    return [(version.start_rev, version.end_rev) for version in found]


async def test_every_version_is_the_replay_of_the_log(world: Any) -> None:
    world.serve(max_changes_per_version=3)
    await world.create({"list": []})
    for n in range(14):
        if n in (5, 9):
            world.now += 31 * MINUTE
        ops = [{"op": "add", "path": "/list/0", "value": n}]
        await world.commit(world.change(f"c{n}", ops, base_rev=n + 1))
    store = world.backend.open_store(OT_STORES)
    versions = await store.versions.list_versions("d")
    assert [version.end_rev for version in versions] == [3, 6, 9, 10, 13]
    changes = await store.list_changes("d")
    for version in versions:
        state = codec.decode(await store.versions.load_version_state("d", version.id))
        expected = [n for n in reversed(range(14)) if n + 2 <= version.end_rev]
        assert state == {"list": expected}
        assert version.ended_at == changes[version.end_rev - 1].created_at
    assert [v.parent_id for v in versions] == [None, *(v.id for v in versions[:-1])]


async def test_a_document_opens_from_its_newest_version_and_a_bounded_tail(world: Any) -> None:
    world.serve(max_changes_per_version=50)
    await world.create({})
    for start in range(1, 1_001, 100):
        changes = [world.change(f"c{start + n}", base_rev=start) for n in range(100)]
        await world.commit(*changes)
    snapshot = await world.server.get_doc("d")
    assert snapshot.head == 1_001
    assert len(snapshot.changes) <= 150
    assert len(await world.state()) == 1_000


async def test_large_states_are_built_in_a_thread(world: Any) -> None:
    threaded = 0

    async def run_blocking(fn: Any) -> Any:
        nonlocal threaded
        threaded += 1
        return fn()

    world.runtime = Runtime(
        wall_ms=lambda: world.now, random=random.Random(1), run_blocking=run_blocking
    )
    world.serve()
    await world.create({"text": "x" * 100_000})
    assert await world.server.capture_current_version("d")
    assert threaded == 1
    await edit(world, 1)
    assert threaded == 1


async def test_a_committed_change_that_cannot_be_applied_is_left_out_and_told(
    world: Any, caplog: pytest.LogCaptureFixture
) -> None:
    await world.create({"list": [1]})
    poison = [
        {"op": "add", "path": "/list/0", "value": 0},
        {"op": "remove", "path": "/list/9"},
    ]
    await world.commit(world.change("poison", poison, base_rev=1))
    await edit(world, 1)
    version_id = await world.server.capture_current_version("d")
    assert "poison" in caplog.text
    state = codec.decode(
        await world.backend.open_store(OT_STORES).versions.load_version_state("d", version_id)
    )
    assert state == {"list": [1], "e2": "e2"}, "the whole change is left out"
    told: list[tuple[str, str]] = []
    manager = PatchesHistoryManager(
        world.server, on_skipped_change=lambda doc_id, skip: told.append((doc_id, skip.change.id))
    )
    await edit(world, 1)
    newest = await manager.create_version("d")
    assert newest
    assert await manager.get_state_before_version("d", newest)
    assert told == [], "the version before has its state"


async def test_the_state_at_any_revision(world: Any) -> None:
    await world.create({})
    await edit(world, 4)
    await world.server.capture_current_version("d")
    await edit(world, 2)
    history = world.server.history
    for rev, members in ((0, None), (1, 0), (3, 2), (5, 4), (6, 5), (7, 6), (99, 6)):
        state, at = await history.state_at("d", rev)
        assert at == min(rev, 7)
        assert (None if state is None else len(state)) == members
    assert (await history.state_at("d"))[1] == 7


async def test_a_missing_state_is_never_an_empty_document(world: Any) -> None:
    await world.create({"a": 1})
    version_id = await world.server.capture_current_version("d")
    versions = world.backend.open_store(OT_STORES).versions
    version, _ = versions._versions["d"][version_id]
    for lost in (None, b""):
        versions._versions["d"][version_id] = (version, lost)
        with pytest.raises(UnavailableError) as raised:
            await world.server.get_doc("d")
        assert raised.value.data == {"docId": "d", "versionId": version_id}
        with pytest.raises(UnavailableError):
            await world.server.history.state_at("d")
        with pytest.raises(UnavailableError):
            await PatchesHistoryManager(world.server).get_version_state("d", version_id)


async def test_a_version_is_built_although_an_older_state_is_missing(world: Any) -> None:
    await world.create({})
    await edit(world, 1)
    lost = await world.server.capture_current_version("d")
    versions = world.backend.open_store(OT_STORES).versions
    version, _ = versions._versions["d"][lost]
    versions._versions["d"][lost] = (version, None)
    await edit(world, 1)
    newest = await world.server.capture_current_version("d")
    state = codec.decode(await versions.load_version_state("d", newest))
    assert state == {"e1": "e1", "e2": "e2"}


async def test_a_session_that_cannot_be_versioned_does_not_fail_its_commit(
    world: Any, caplog: pytest.LogCaptureFixture
) -> None:
    await world.create({})

    async def fail(*_args: Any, **_options: Any) -> None:
        raise StorageError("no room")

    world.backend.open_store(OT_STORES).versions.create_version = fail
    result = await world.commit(world.change("a", base_rev=1, batch_id="b"))
    assert [(c.id, c.rev) for c in result.changes] == [("a", 2)]
    assert world.told[-1][1] == ["a"]
    assert "no version was made" in caplog.text
    with pytest.raises(StorageError):
        await world.server.capture_current_version("d")


async def test_two_captures_at_once_make_one_version(world: Any) -> None:
    await world.create({})
    ids = await asyncio.gather(*(world.server.capture_current_version("d") for _ in range(3)))
    assert sum(version_id is not None for version_id in ids) == 1


async def test_protected_fields_are_refused_before_anything_is_made(world: Any) -> None:
    await world.create({})
    manager = PatchesHistoryManager(world.server)
    for call in (
        lambda: world.server.capture_current_version("d", {"endRev": 5}),
        lambda: manager.create_version("d", {"endRev": 5}),
        lambda: manager.update_version("d", "v", {"endRev": 5}),
    ):
        with pytest.raises(VersionError, match="Cannot modify version field endRev"):
            await call()
    assert await ends(world) == []


async def test_the_history_manager_reads_versions(world: Any) -> None:
    await world.create({"a": 1})
    manager = PatchesHistoryManager(world.server)
    version_id = await manager.create_version("d", {"name": "First"})
    assert version_id
    await manager.update_version("d", version_id, {"name": "One", "color": "red"})
    (version,) = await manager.list_versions("d")
    assert version.metadata == {"name": "One", "color": "red"}
    assert await manager.get_version_state("d", version_id) == b'{"a":1}'
    assert [c.id for c in await manager.get_version_changes("d", version_id)] == ["root"]
    assert await manager.get_state_before_version("d", version_id) == b"null"
    assert await manager.get_version_changes("d", "nope") == []
    for call in (manager.get_version_state, manager.get_state_before_version):
        with pytest.raises(NotFoundError, match="Version nope not found for doc d"):
            await call("d", "nope")


async def test_a_failing_store_is_explained(world: Any) -> None:
    await world.create({"a": 1})
    manager = PatchesHistoryManager(world.server)
    version_id = await manager.create_version("d")
    assert version_id
    versions = world.backend.open_store(OT_STORES).versions

    async def fail(*_args: Any) -> None:
        raise VersionError("secret path")

    async def busy(*_args: Any) -> None:
        raise StorageError("later")

    versions.load_version_state = fail
    with pytest.raises(VersionError, match=f"Could not load state for version {version_id}"):
        await manager.get_version_state("d", version_id)
    versions.load_version_state = busy
    with pytest.raises(StorageError):
        await manager.get_version_state("d", version_id)
    versions.load_version = fail
    with pytest.raises(VersionError, match=f"Could not load version {version_id}"):
        await manager.get_state_before_version("d", version_id)
    with pytest.raises(VersionError, match=f"Could not load changes for version {version_id}"):
        await manager.get_version_changes("d", version_id)


async def test_other_document_servers_have_versions_too(world: Any) -> None:
    lww = LWWServer(world.backend, runtime=world.runtime)
    op = {"op": "replace", "path": "/a", "value": 1, "ts": 1}
    await lww.commit_changes("l", [world.change("a", [op])])
    manager = PatchesHistoryManager(lww)
    version_id = await manager.create_version("l", {"name": "One"})
    assert version_id
    assert codec.decode(await manager.get_version_state("l", version_id)) == {"a": 1}
    assert await manager.get_version_changes("l", version_id) == []
    with pytest.raises(VersionError, match="only supported for OT"):
        await manager.get_state_before_version("l", version_id)


async def test_a_history_manager_can_be_had_for_a_store_alone(world: Any) -> None:
    await world.create({"a": 1})
    for store in (world.backend, world.backend.open_store(OT_STORES)):
        manager = PatchesHistoryManager(store)
        await manager.create_version("d")
        (version,) = await manager.list_versions("d")
        assert await manager.get_version_state("d", version.id) == b'{"a":1}'


async def test_a_deleted_documents_versions_are_gone(world: Any) -> None:
    await world.create({})
    await world.server.capture_current_version("d")
    await world.server.delete_doc("d")
    assert await ends(world) == []
    with pytest.raises(DocDeletedError):
        await world.server.history.state_at("d")


async def test_a_pruned_log_still_opens(world: Any) -> None:
    await world.create({})
    await edit(world, 3)
    await world.server.capture_current_version("d")
    await edit(world, 2)
    await world.backend.open_store(OT_STORES).prune_changes("d", through_rev=4)
    assert await world.state() == {f"e{n}": f"e{n}" for n in range(1, 6)}
    result = await world.commit(world.change("e2", base_rev=4), server=world.another())
    assert "e2" not in [c.id for c in result.changes], "known, though its row is gone"
    assert (await world.backend.open_store(OT_STORES).get_head("d")).rev == 6
    with pytest.raises(StaleSubmissionError, match="no longer has the changes after revision 1"):
        await world.commit(world.change("late", base_rev=1), server=world.another())


def test_changes_are_told_apart_by_pauses(world: Any) -> None:
    changes = [
        Change(id=str(at), ops=[], base_rev=0, rev=n, created_at=at)
        for n, at in enumerate((1, 5, 16, 17, 40), start=1)
    ]
    runs = [[change.created_at for change in run] for run in sessions(changes, 10)]
    assert runs == [[1, 5], [16, 17], [40]]
    assert list(sessions([], 10)) == []


async def test_an_unknown_document_is_null(world: Any) -> None:
    snapshot = await world.server.get_doc("nope")
    assert (snapshot.state, snapshot.rev, list(snapshot.changes)) == (None, 0, [])
    assert await world.server.get_changes_since("nope", 0) == []
    assert await world.server.capture_current_version("nope") is None
    assert await world.backend.open_store(OT_STORES).get_head("nope") == NO_DOC
