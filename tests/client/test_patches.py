"""`Patches`: opening, closing, tracking, deleting; who shares what, and what is told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict
from typing import Any, TypeVar

import pytest

from patches import Patches, Snapshot
from patches.errors import (
    AlgorithmMismatchError,
    DocNotTrackedError,
    ErrorContext,
    InvalidValueError,
    PatchError,
    PatchesError,
    PendingChangeError,
    StorageError,
)
from patches.model.change import Change
from patches.stores.backend import StoreFactory
from patches.testing.virtual_time import idle, virtual_time
from tests.support.small_algorithm import Record, SmallAlgorithm


class World:
    """A client of small documents, and what its signals reported."""

    def __init__(self, **options: Any) -> None:
        self.algorithm = SmallAlgorithm()
        self.patches = Patches(
            object.__new__(_NoStore),
            algorithms=[self.algorithm],
            **{"default_algorithm": "small", **options},
        )
        self.told: list[tuple[Any, ...]] = []
        for name in (
            "on_change",
            "on_track_docs",
            "on_untrack_docs",
            "on_delete_doc",
            "on_change_quarantined",
            "on_pending_dropped",
        ):
            getattr(self.patches, name)(self._noting(name))
        self.errors: list[dict[str, Any]] = []
        self.patches.on_error(
            lambda error, context: self.errors.append({**asdict(context), "error": error})
        )

    def _noting(self, name: str) -> Any:
        return lambda *arguments: self.told.append((name, *arguments))


class _NoStore:
    """A backend that has a store for nobody: OT and LWW are here, but not used."""

    def open_store(self, factory: StoreFactory[T]) -> T:
        raise AssertionError(factory.name)

    async def close(self) -> None:
        raise AssertionError("the client closes only what it has opened")


T = TypeVar("T")


@pytest.fixture(autouse=True)
def quiet_builtin_algorithms(monkeypatch: pytest.MonkeyPatch) -> None:
    """OT and LWW are not what is tested here."""
    monkeypatch.setattr("patches.client.patches.default_algorithms", lambda **options: ())


@asynccontextmanager
async def a_world(**options: Any) -> AsyncIterator[World]:
    world = World(**options)
    async with world.patches:
        yield world


def change_of(doc_id: str, ops: list[Any], rev: int) -> Change:
    return Change(id=f"{doc_id}-{rev}", ops=ops, base_rev=rev - 1, rev=rev, created_at=0)


# ---- opening and closing -------------------------------------------------------------------------


@virtual_time
async def test_a_document_is_tracked_once_and_shared_by_all_who_open_it() -> None:
    async with a_world() as world:
        first = await world.patches.open_doc("a")
        second = await world.patches.open_doc("a")
        assert first is second is world.patches.get_open_doc("a")
        assert world.patches.tracked_docs == {"a"}
        assert world.told == [("on_track_docs", ["a"], "small")]
        await world.patches.close_doc("a")
        assert world.patches.get_open_doc("a") is first
        await world.patches.close_doc("a")
        assert world.patches.get_open_doc("a") is None
        assert world.patches.tracked_docs == {"a"}
        with pytest.raises(PatchesError, match="closed"):
            first.change(lambda draft: draft.update(a=1))
        assert await world.patches.open_doc("a") is not first


@virtual_time
async def test_concurrent_opens_share_one_load() -> None:
    async with a_world() as world:
        world.algorithm.gate.clear()
        async with asyncio.TaskGroup() as tasks:
            opens = [tasks.create_task(world.patches.open_doc("a")) for _ in range(3)]
            await idle()
            world.algorithm.gate.set()
        docs = {task.result() for task in opens}
        assert len(docs) == 1
        for _ in range(2):
            await world.patches.close_doc("a")
        assert world.patches.get_open_doc("a") in docs
        await world.patches.close_doc("a")
        assert world.patches.get_open_doc("a") is None


@virtual_time
async def test_two_clients_open_one_document_at_once() -> None:
    async with a_world() as anns, a_world() as bobs:
        anns.algorithm.gate.clear()
        bobs.algorithm.gate.clear()
        async with asyncio.TaskGroup() as tasks:
            opens = [
                tasks.create_task(world.patches.open_doc("a")) for world in (anns, bobs)
            ]  # the original kept what is being opened per class (`docs/internals/ot.md` 20.2)
            await idle()
            bobs.algorithm.gate.set()
            anns.algorithm.gate.set()
        anns_doc, bobs_doc = (task.result() for task in opens)
        assert anns_doc is not bobs_doc
        assert anns.patches.get_open_doc("a") is anns_doc
        assert bobs.patches.get_open_doc("a") is bobs_doc


@pytest.mark.parametrize("when", ["loading", "loaded"])
def test_a_cancelled_open_takes_no_reference_and_leaves_the_others(when: str) -> None:
    @virtual_time
    async def run() -> None:
        async with a_world() as world:
            world.algorithm.gate.clear()
            cancelled = asyncio.create_task(world.patches.open_doc("a"))
            other = asyncio.create_task(world.patches.open_doc("a"))
            await idle()
            if when == "loading":
                cancelled.cancel()
                await idle()
                world.algorithm.gate.set()
            else:
                world.algorithm.gate.set()
                for _ in range(50):
                    if world.patches.get_open_doc("a") is not None:
                        break
                    await asyncio.sleep(0)
                cancelled.cancel()
            doc = await other
            await idle()
            assert cancelled.cancelled() or not cancelled.cancel()
            if not cancelled.cancelled():
                await world.patches.close_doc("a")
            assert world.patches.get_open_doc("a") is doc
            await world.patches.close_doc("a")
            assert world.patches.get_open_doc("a") is None

    run()


@virtual_time
async def test_a_document_that_nobody_waits_for_any_more_is_closed_again() -> None:
    async with a_world() as world:
        world.algorithm.gate.clear()
        opening = asyncio.create_task(world.patches.open_doc("a"))
        await idle()
        opening.cancel()
        await idle()
        world.algorithm.gate.set()
        await idle()
        assert world.patches.get_open_doc("a") is None


@virtual_time
async def test_a_document_keeps_its_algorithm() -> None:
    other = SmallAlgorithm()
    other.name = "other"  # type: ignore[misc]  # a second algorithm of the same class
    async with a_world() as world:
        await world.patches.open_doc("a", algorithm="small")
        with pytest.raises(PatchesError, match="no algorithm 'nope'"):
            await world.patches.open_doc("a", algorithm="nope")
    both = Patches(_NoStore(), algorithms=[world.algorithm, other], default_algorithm="other")
    async with both as patches:
        for _ in range(2):  # recorded, then open
            with pytest.raises(AlgorithmMismatchError) as caught:
                await patches.open_doc("a", algorithm="other")
            assert (caught.value.expected, caught.value.got) == ("small", "other")
            await patches.open_doc("a")
        assert patches.algorithm_of("a") is world.algorithm
        await patches.close_doc("a")
        await patches.close_doc("a")
        assert patches.get_open_doc("a") is None, "the refused call took no reference"
        await patches.open_doc("b")
        assert patches.algorithm_of("b") is other


@virtual_time
async def test_opens_that_ask_for_different_algorithms_at_once_get_one() -> None:
    async with a_world(default_algorithm="small") as world:
        world.algorithm.gate.clear()
        async with asyncio.TaskGroup() as tasks:
            plain = tasks.create_task(world.patches.open_doc("a", algorithm="small"))
            await idle()
            any_other = tasks.create_task(world.patches.open_doc("a"))
            await idle()
            world.algorithm.gate.set()
        assert plain.result() is any_other.result()


@virtual_time
async def test_a_load_that_fails_leaves_nothing_behind() -> None:
    async with a_world() as world:
        await world.patches.track_docs(["known"])
        for doc_id in ("known", "new"):
            world.algorithm.fail("load_doc", StorageError("broken"))
            if doc_id == "new":  # the first failure is in tracking it
                world.algorithm.fail("load_doc", StorageError("broken"))
            with pytest.raises(StorageError):
                await world.patches.open_doc(doc_id)
            world.algorithm.failures.clear()
            assert world.patches.get_open_doc(doc_id) is None
        assert world.patches.tracked_docs == {"known"}
        assert (await world.patches.open_doc("new")).state == {}


@virtual_time
async def test_a_snapshot_that_arrives_while_loading_is_shown_if_it_is_newer() -> None:
    async with a_world() as world:
        world.algorithm.gate.clear()
        opening = asyncio.create_task(world.patches.open_doc("a"))
        await idle()
        for rev in (2, 5, 3):
            world.patches.apply_snapshot("a", Snapshot(state={"rev": rev}, rev=rev))
        world.algorithm.gate.set()
        doc = await opening
        assert (doc.state, doc.committed_rev) == ({"rev": 5}, 5)
        world.patches.apply_snapshot("a", Snapshot(state={"rev": 5, "again": True}, rev=5))
        assert doc.state == {"rev": 5}
        world.patches.apply_snapshot("a", Snapshot(state={"rev": 6}, rev=6))
        assert doc.state == {"rev": 6}
        world.patches.apply_snapshot("not open", Snapshot(state={}, rev=1))


@pytest.mark.parametrize("doc_id", ["", None, 5, "x" * 513, "é" * 257])
def test_an_id_that_no_server_takes_is_refused(doc_id: Any) -> None:
    @virtual_time
    async def run() -> None:
        async with a_world() as world:
            for call in (world.patches.open_doc, world.patches.delete_doc):
                with pytest.raises(PatchError):
                    await call(doc_id)
            with pytest.raises(PatchError):
                await world.patches.track_docs([doc_id])
            with pytest.raises(PatchError):
                await world.patches.track_docs("one id")
            assert not world.patches.tracked_docs

    run()


@virtual_time
async def test_dropped_pending_changes_are_told() -> None:
    async with a_world() as world:
        dropped = [change_of("a", [], 1)]
        create = world.algorithm.create_doc

        def create_with_dropped(doc_id: str, snapshot: Snapshot | None = None) -> Any:
            doc = create(doc_id, snapshot)
            doc.dropped_pending_changes = dropped
            return doc

        world.algorithm.create_doc = create_with_dropped  # type: ignore[method-assign]  # arranged
        await world.patches.open_doc("a")
        assert world.told[-1] == ("on_pending_dropped", "a", dropped)


# ---- tracking and deleting -----------------------------------------------------------------------


@virtual_time
async def test_tracking_tells_only_what_really_changes() -> None:
    async with a_world() as world:
        await world.patches.track_docs(["a", "b", "a"])
        await world.patches.track_docs(["b", "c"])
        await world.patches.untrack_docs(["a", "nope"])
        await world.patches.untrack_docs(["nope"])
        assert world.told == [
            ("on_track_docs", ["a", "b"], "small"),
            ("on_track_docs", ["c"], "small"),
            ("on_untrack_docs", ["a"]),
        ]
        assert world.patches.tracked_docs == world.algorithm.live == {"b", "c"}
        with pytest.raises(DocNotTrackedError):
            world.patches.algorithm_of("a")


@virtual_time
async def test_what_was_tracked_is_known_again_after_a_restart() -> None:
    async with a_world() as world:
        await world.patches.track_docs(["a"])
    async with Patches(
        _NoStore(), algorithms=[world.algorithm], default_algorithm="small"
    ) as again:
        assert again.tracked_docs == {"a"}


@virtual_time
async def test_tracking_that_cannot_be_stored_is_not_told() -> None:
    async with a_world() as world:
        world.algorithm.fail("track_docs", StorageError("full"))
        with pytest.raises(StorageError):
            await world.patches.track_docs(["a"])
        assert not world.patches.tracked_docs
        assert not world.told


@virtual_time
async def test_closing_with_untrack_forgets_the_data_once_nobody_has_it_open() -> None:
    async with a_world() as world:
        await world.patches.open_doc("a")
        await world.patches.open_doc("a")
        await world.patches.close_doc("a", untrack=True)
        assert world.patches.tracked_docs == {"a"}
        await world.patches.close_doc("a", untrack=True)
        assert not world.patches.tracked_docs
        assert not world.algorithm.live
        await world.patches.close_doc("never open")


@virtual_time
async def test_untracking_takes_one_reference_of_an_open_document() -> None:
    async with a_world() as world:
        await world.patches.open_doc("a")
        await world.patches.untrack_docs(["a"])
        assert world.patches.get_open_doc("a") is None


@virtual_time
async def test_deleting_closes_whoever_has_it_open_and_waits_for_the_subscribers() -> None:
    async with a_world() as world:
        doc = await world.patches.open_doc("a")
        await world.patches.open_doc("a")
        finished: list[str] = []

        @world.patches.on_delete_doc
        async def slowly(doc_id: str) -> None:
            await asyncio.sleep(10)
            finished.append(doc_id)

        await world.patches.delete_doc("a")
        assert finished == ["a"]
        assert doc.is_closed
        assert world.patches.get_open_doc("a") is None
        assert not world.patches.tracked_docs
        assert world.algorithm.tombstones == {"a"}
        assert [told[0] for told in world.told[1:]] == ["on_untrack_docs", "on_delete_doc"]


@virtual_time
async def test_deleting_waits_for_an_open_that_is_under_way() -> None:
    async with a_world() as world:
        world.algorithm.gate.clear()
        opening = asyncio.create_task(world.patches.open_doc("a"))
        await idle()
        deleting = asyncio.create_task(world.patches.delete_doc("a"))
        await idle()
        assert not deleting.done()
        world.algorithm.gate.set()
        await deleting
        assert (await opening).is_closed
        assert world.algorithm.tombstones == {"a"}


@pytest.mark.parametrize("end", ["delete_doc", "untrack_docs"])
def test_an_open_that_comes_while_a_document_goes_begins_anew_after_it(end: str) -> None:
    @virtual_time
    async def run() -> None:
        async with a_world() as world:
            doc = await world.patches.open_doc("a")
            doc.change(lambda draft: draft.update(n=1))
            await doc.flush()
            world.algorithm.gate.clear()
            doc.change(lambda draft: draft.update(n=2))
            call = getattr(world.patches, end)
            going = asyncio.create_task(call("a" if end == "delete_doc" else ["a"]))
            await idle()
            opening = asyncio.create_task(world.patches.open_doc("a"))
            await idle()
            assert not opening.done()
            world.algorithm.gate.set()
            await going
            assert (await opening).state == {}
            assert world.patches.tracked_docs == {"a"} == world.algorithm.live

    run()


@virtual_time
async def test_deleting_waits_for_what_was_submitted_without_opening() -> None:
    async with a_world() as world:
        await world.patches.track_docs(["a"])
        world.algorithm.gate.clear()
        ops = [{"op": "replace", "path": "/n", "value": 1}]
        submitting = asyncio.create_task(world.patches.submit_doc_change("a", ops))
        await idle()
        deleting = asyncio.create_task(world.patches.delete_doc("a"))
        await idle()
        world.algorithm.gate.set()
        await deleting
        assert len(await submitting) == 1
        assert world.algorithm.tombstones == {"a"}
        assert not world.patches._queues


@virtual_time
async def test_a_tombstone_is_renewed_by_the_algorithm_that_has_it() -> None:
    other = SmallAlgorithm()
    other.name = "other"  # type: ignore[misc]  # a second algorithm of the same class
    other.records["dead"] = Record(deleted=True)
    async with a_world() as world:
        pass
    async with Patches(
        _NoStore(), algorithms=[world.algorithm, other], default_algorithm="small"
    ) as patches:
        await patches.delete_doc("dead")
        await patches.delete_doc("never seen")
    assert other.tombstones == {"dead"}
    assert world.algorithm.tombstones == {"never seen"}


# ---- quarantine ----------------------------------------------------------------------------------


@virtual_time
async def test_a_change_goes_into_quarantine_and_out_again() -> None:
    async with a_world() as world:
        doc = await world.patches.open_doc("a")
        doc.change(lambda draft: draft.update(n=1))
        await doc.flush()
        change_id = world.algorithm.attempts[0]
        assert await world.patches.eject_pending_change("a", "nope") is None
        entry = await world.patches.eject_pending_change("a", change_id)
        assert entry is not None
        assert entry.reason == "app-requested"
        assert doc.state == {}
        assert world.told[-2:] == [("on_change_quarantined", "a", entry), ("on_change", "a")]
        assert await world.patches.list_quarantined_changes() == [entry]
        assert await world.patches.list_quarantined_changes("b") == []
        with pytest.raises(PendingChangeError):
            await world.patches.retry_quarantined_change("a", "nope")

        retried = await world.patches.retry_quarantined_change("a", change_id)
        assert retried[0].id == change_id
        assert doc.state == {"n": 1}
        assert await world.patches.list_quarantined_changes() == []

        await world.patches.eject_pending_change("a", retried[0].id, "bad")
        await world.patches.discard_quarantined_change("a", retried[0].id)
        await world.patches.discard_quarantined_change("a", "nope")
        assert await world.patches.list_quarantined_changes("a") == []
        with pytest.raises(DocNotTrackedError):
            await world.patches.eject_pending_change("unknown", "x")


# ---- life ----------------------------------------------------------------------------------------


@virtual_time
async def test_nothing_starts_before_the_first_use_and_everything_ends_with_close() -> None:
    world = World()
    assert len(asyncio.all_tasks()) == 1
    doc = await world.patches.open_doc("a")
    doc.change(lambda draft: draft.update(n=1))
    await world.patches.close()
    assert len(world.algorithm.attempts) == 1, "what was unsaved is stored"
    assert len(asyncio.all_tasks()) == 1
    assert world.algorithm.is_closed
    assert doc.is_closed
    await world.patches.close()
    with pytest.raises(PatchesError, match="this Patches is closed"):
        await world.patches.open_doc("a")


@virtual_time
async def test_entering_a_client_whose_store_is_broken_raises_and_leaves_nothing_running() -> None:
    world = World()

    async def broken(include_deleted: bool = False) -> Any:
        raise StorageError("broken")

    world.algorithm.list_docs = broken  # type: ignore[method-assign]  # arranged
    with pytest.raises(StorageError):
        async with world.patches:
            raise AssertionError("entered")
    assert world.algorithm.is_closed
    assert len(asyncio.all_tasks()) == 1


@virtual_time
async def test_a_first_use_that_fails_can_be_tried_again() -> None:
    world = World()
    list_docs, failures = world.algorithm.list_docs, [StorageError("busy")]

    async def flaky(include_deleted: bool = False) -> Any:
        if failures:
            raise failures.pop()
        return await list_docs(include_deleted)

    world.algorithm.list_docs = flaky  # type: ignore[method-assign]  # arranged
    with pytest.raises(StorageError):
        await world.patches.track_docs(["a"])
    await world.patches.track_docs(["a"])
    assert world.patches.tracked_docs == {"a"}
    await world.patches.close()


@virtual_time
async def test_closing_waits_for_opens_under_way() -> None:
    world = World()
    await world.patches.track_docs([])
    world.algorithm.gate.clear()
    opening = asyncio.create_task(world.patches.open_doc("a"))
    await idle()
    closing = asyncio.create_task(world.patches.close())
    await idle()
    world.algorithm.gate.set()
    await closing
    assert (await opening).is_closed


@virtual_time
async def test_an_error_of_the_algorithm_is_passed_on() -> None:
    async with a_world() as world:
        error = PatchesError("trouble")
        world.algorithm.on_error.emit(error, ErrorContext(doc_id="a"))
        assert world.errors == [{**asdict(ErrorContext(doc_id="a")), "error": error}]


@virtual_time
async def test_an_error_that_nobody_listens_to_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    async with Patches(
        _NoStore(), algorithms=[algorithm := SmallAlgorithm()], default_algorithm="small"
    ):
        algorithm.on_error.emit(PatchesError("disk"), ErrorContext(doc_id="a"))
        assert "disk" in caplog.text


def test_a_client_without_its_default_algorithm_is_refused() -> None:
    with pytest.raises(PatchesError, match="no algorithm 'nope'"):
        Patches(algorithms=[SmallAlgorithm()], default_algorithm="nope")


def test_metadata_that_is_not_json_is_refused() -> None:
    with pytest.raises(InvalidValueError, match="/metadata/user"):
        Patches(
            algorithms=[SmallAlgorithm()], default_algorithm="small", metadata={"user": _NoStore()}
        )
