"""Edits on their way to the store: their order, their ids, and what happens when storing fails."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from patches import Patches
from patches.client.change_queue import failure_kind
from patches.documents.document import Document
from patches.errors import (
    DocDeletedError,
    DocNotTrackedError,
    ForbiddenError,
    InvalidJsonError,
    OpsRefusedError,
    PatchError,
    QueueFullError,
    StorageError,
    StorageFullError,
    TooManyRequestsError,
    UnsplittableChangeError,
)
from patches.testing.virtual_time import idle, virtual_time
from tests.support.small_algorithm import SmallAlgorithm

UNSPLITTABLE = UnsplittableChangeError("replace", "/a", size=9, limit=1, doc_id="a", change_id="c")


class Opened:
    """A client with one open document, and what failed."""

    def __init__(self, patches: Patches, algorithm: SmallAlgorithm, doc: Document) -> None:
        self.patches, self.algorithm, self.doc = patches, algorithm, doc
        self.failures: list[tuple[Any, ...]] = []
        self.saved: list[str] = []
        patches.on_error(self._note)
        patches.on_change(self.saved.append)

    def _note(self, error: Exception, context: Any) -> None:
        assert context.doc_id == "a"
        self.failures.append(
            (
                type(error),
                context.kind,
                context.attempt,
                context.will_retry,
                context.latched,
            )
        )

    def set(self, **members: Any) -> None:
        self.doc.change(lambda draft: draft.update(members))

    @property
    def stored(self) -> list[Any]:
        return [change.ops[0]["value"] for change in self.algorithm.records["a"].pending]


@asynccontextmanager
async def opened(**options: Any) -> AsyncIterator[Opened]:
    algorithm = SmallAlgorithm()
    async with Patches(algorithms=[algorithm], default_algorithm="small", **options) as patches:
        yield Opened(patches, algorithm, await patches.open_doc("a", metadata={"user": "me"}))


# ---- order ---------------------------------------------------------------------------------------


@virtual_time
async def test_edits_are_stored_one_by_one_in_the_order_they_were_made() -> None:
    async with opened(metadata={"app": "x"}) as world:
        world.algorithm.gate.clear()
        for n in range(5):
            world.set(n=n)
        assert world.doc.state == {"n": 4}
        assert len(world.doc.unsaved) == 5
        world.algorithm.gate.set()
        await world.doc.flush()
        assert world.stored == [0, 1, 2, 3, 4]
        assert not world.doc.unsaved
        assert world.saved == ["a"] * 5
        assert world.algorithm.metadata == [{"app": "x", "user": "me"}] * 5
        assert len({*world.algorithm.attempts}) == 5
        assert all(len(change_id) == 12 for change_id in world.algorithm.attempts)


@virtual_time
async def test_documents_do_not_wait_for_each_other() -> None:
    async with opened() as world:
        other = await world.patches.open_doc("b")
        world.algorithm.fail("handle_doc_change", StorageError("busy"))
        world.set(n=1)
        await idle()
        other.change(lambda draft: draft.update(n=2))
        await other.flush()
        assert not world.stored, "the first one waits a second"
        await world.doc.flush()
        assert world.stored == [1]


@virtual_time
async def test_a_flush_of_nothing_returns_at_once_and_a_loose_document_has_nothing_to_flush() -> (
    None
):
    async with opened() as world:
        await world.doc.flush()
        loose = world.algorithm.create_doc("loose")
        loose.change(lambda draft: draft.update(n=1))
        await loose.flush()
        assert loose.unsaved


@virtual_time
async def test_an_edit_that_was_rebased_away_is_skipped() -> None:
    async with opened() as world:
        world.algorithm.gate.clear()
        world.set(n=1)
        world.set(n=2)
        world.doc.unsaved.popleft().clear()
        world.algorithm.gate.set()
        await world.doc.flush()
        assert world.stored == [2]


@virtual_time
async def test_a_closed_document_is_stored_before_it_opens_again() -> None:
    async with opened() as world:
        world.algorithm.gate.clear()
        world.set(n=1)
        closing = asyncio.create_task(world.patches.close_doc("a"))
        await idle()
        reopening = asyncio.create_task(world.patches.open_doc("a"))
        await idle()
        assert not closing.done()
        assert not reopening.done()
        world.algorithm.gate.set()
        await closing
        assert (await reopening).state == {"n": 1}


# ---- submitting without a draft ------------------------------------------------------------------


@virtual_time
async def test_submitted_operations_join_the_queue_of_an_open_document() -> None:
    async with opened() as world:
        world.algorithm.gate.clear()
        world.set(n=1)
        submitted = asyncio.create_task(
            world.patches.submit_doc_change(
                "a", [{"op": "replace", "path": "/n", "value": 2}], {"by": "job"}
            )
        )
        await idle()
        assert world.doc.state == {"n": 2}
        world.algorithm.gate.set()
        (change,) = await submitted
        assert change.ops == [{"op": "replace", "path": "/n", "value": 2}]
        assert world.stored == [1, 2]
        assert world.algorithm.metadata == [{"user": "me"}, {"by": "job"}]
        assert await world.patches.submit_doc_change("a", []) == []


@virtual_time
async def test_operations_can_be_submitted_to_a_document_that_is_not_open() -> None:
    async with opened() as world:
        await world.patches.track_docs(["b"])
        ops = [{"op": "replace", "path": "/n", "value": 2}]
        (change,) = await world.patches.submit_doc_change("b", ops)
        assert change.ops == ops
        with pytest.raises(DocNotTrackedError):
            await world.patches.submit_doc_change("c", ops)
        with pytest.raises(OpsRefusedError):
            await world.patches.submit_doc_change("b", [{"op": "zap", "path": ""}])
        with pytest.raises(OpsRefusedError):
            await world.patches.submit_doc_change("a", [{"op": "zap", "path": ""}])


@virtual_time
async def test_who_submits_hears_why_it_could_not_be_stored() -> None:
    async with opened() as world:
        ops = [{"op": "replace", "path": "/n", "value": 2}]
        world.algorithm.fail("handle_doc_change", UNSPLITTABLE)
        with pytest.raises(UnsplittableChangeError):
            await world.patches.submit_doc_change("a", ops)
        world.algorithm.fail("handle_doc_change", *(StorageError(str(n)) for n in range(3)))
        latched = asyncio.create_task(world.patches.submit_doc_change("a", ops))
        await asyncio.sleep(10)
        assert not latched.done()
        await world.patches.retry_saving_changes()
        assert len(await latched) == 1


# ---- failures ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ForbiddenError("no"), "rejection"),
        (DocDeletedError("a", deleted_at=0, last_rev=1), "rejection"),
        (UNSPLITTABLE, "defective"),
        (PatchError("bad"), "defective"),
        (InvalidJsonError("bad"), "defective"),
        (StorageFullError("full"), "environment"),
        (TooManyRequestsError("slow", retry_after_ms=1), "environment"),
        (QueueFullError("full"), "environment"),
        (OSError("io"), "environment"),
    ],
)
def test_whose_fault_a_failure_is(error: Exception, kind: str) -> None:
    assert failure_kind(error) == kind


@pytest.mark.parametrize(
    ("error", "kind"), [(ForbiddenError("no"), "rejection"), (UNSPLITTABLE, "defective")]
)
def test_an_edit_that_can_never_be_stored_is_taken_back_with_those_on_top_of_it(
    error: Exception, kind: str
) -> None:
    @virtual_time
    async def run() -> None:
        async with opened() as world:
            world.set(n=0)
            await world.doc.flush()
            world.algorithm.fail("handle_doc_change", error)
            shown: list[Any] = []
            for n in range(1, 4):
                world.set(n=n)
            world.doc.subscribe(shown.append)
            with pytest.raises(type(error)):
                await world.doc.flush()
            assert world.doc.state == {"n": 0}
            assert shown == [{"n": 3}, {"n": 0}]
            assert len(world.algorithm.attempts) == 2, "the later ones were not tried"
            assert world.failures == [(type(error), kind, 1, False, False)]
            world.set(n=9)
            await world.doc.flush()
            assert world.stored == [0, 9]

    run()


@virtual_time
async def test_a_store_that_is_busy_is_tried_again_under_the_same_id() -> None:
    async with opened() as world:
        world.algorithm.fail("handle_doc_change", *[StorageError("busy"), StorageError("busy")])
        world.set(n=1)
        world.set(n=2)
        start = asyncio.get_running_loop().time()
        await world.doc.flush()
        assert asyncio.get_running_loop().time() - start == pytest.approx(3.0)
        first, second = world.algorithm.attempts[0], world.algorithm.attempts[3]
        assert world.algorithm.attempts == [first, first, first, second]
        assert world.stored == [1, 2]
        assert world.failures == [
            (StorageError, "environment", 1, True, False),
            (StorageError, "environment", 2, True, False),
        ]


@virtual_time
async def test_after_the_third_failure_edits_stay_unsaved_until_they_are_retried() -> None:
    async with opened() as world:
        world.algorithm.fail("handle_doc_change", *(StorageFullError(str(n)) for n in range(3)))
        world.set(n=1)
        world.set(n=2)
        with pytest.raises(StorageFullError):
            await world.doc.flush()
        world.set(n=3)
        with pytest.raises(StorageFullError):
            await world.doc.flush()
        assert world.doc.state == {"n": 3}
        assert world.stored == []
        assert world.patches.is_write_latched("a")
        assert world.patches.write_latched_docs == ["a"]
        assert world.failures[2:] == [
            (StorageFullError, "environment", 3, False, False),
            (StorageFullError, "environment", 1, False, True),
            (StorageFullError, "environment", 1, False, True),
        ]

        await world.patches.retry_saving_changes("a")
        assert not world.patches.is_write_latched("a")
        assert world.stored == [1, 2, 3]
        assert world.algorithm.attempts[2] == world.algorithm.attempts[3], "the same id"
        await world.doc.flush()


@virtual_time
async def test_a_retry_that_fails_again_latches_again() -> None:
    async with opened() as world:
        world.algorithm.fail("handle_doc_change", *(StorageError(str(n)) for n in range(6)))
        world.set(n=1)
        with pytest.raises(StorageError, match="2"):
            await world.doc.flush()
        await world.patches.retry_saving_changes()
        assert world.patches.is_write_latched("a")
        await world.patches.retry_saving_changes("a")
        assert world.stored == [1]
        await world.patches.retry_saving_changes("never opened")


@virtual_time
async def test_a_retry_leaves_out_what_needs_no_storing_any_more() -> None:
    async with opened() as world:
        world.algorithm.fail("handle_doc_change", *(StorageError(str(n)) for n in range(3)))
        world.set(n=1)
        world.set(n=2)
        with pytest.raises(StorageError):
            await world.doc.flush()
        world.doc.unsaved.popleft().clear()
        await world.patches.retry_saving_changes("a")
        assert world.stored == [2]


@virtual_time
async def test_a_wait_ends_when_the_edit_was_confirmed_by_other_means() -> None:
    async with opened() as world:
        world.algorithm.fail("handle_doc_change", StorageError("busy"))
        world.set(n=1)
        await idle()
        world.doc.unsaved.clear()
        await world.doc.flush()
        assert len(world.algorithm.attempts) == 1


@virtual_time
async def test_closing_the_client_waits_for_no_retry_but_makes_one() -> None:
    async with opened() as world:
        world.algorithm.fail("handle_doc_change", StorageError("busy"))
        world.set(n=1)
        await idle()
        start = asyncio.get_running_loop().time()
        await world.patches.close()
        assert asyncio.get_running_loop().time() == start
        assert world.stored == [1]


@virtual_time
async def test_closing_the_client_with_a_broken_store_ends() -> None:
    async with opened() as world:
        world.algorithm.fail("handle_doc_change", *(StorageError(str(n)) for n in range(9)))
        world.set(n=1)
        world.set(n=2)
        submitted = asyncio.create_task(
            world.patches.submit_doc_change("a", [{"op": "replace", "path": "/n", "value": 3}])
        )
        await idle()
        await world.patches.close()
        with pytest.raises(StorageError):
            await submitted
        assert world.stored == []


@virtual_time
async def test_closing_a_latched_document_ends_the_latch() -> None:
    async with opened() as world:
        world.algorithm.fail("handle_doc_change", *(StorageError(str(n)) for n in range(3)))
        world.set(n=1)
        with pytest.raises(StorageError):
            await world.doc.flush()
        await world.patches.close_doc("a")
        assert not world.patches.write_latched_docs
        doc = await world.patches.open_doc("a")
        doc.change(lambda draft: draft.update(n=5))
        await doc.flush()
        assert world.stored == [5]


@virtual_time
async def test_storing_many_edits_lets_others_run(monkeypatch: pytest.MonkeyPatch) -> None:
    async with opened() as world:
        ticks = iter(range(10**6))
        loop = asyncio.get_running_loop()
        monkeypatch.setattr(loop, "time", lambda: next(ticks) * 0.001)
        for n in range(100):
            world.set(n=n)
        others = 0
        while len(world.stored) < 100:
            others += 1
            await asyncio.sleep(0)
        assert others > 5
        monkeypatch.undo()
