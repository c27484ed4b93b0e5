"""One document's worker: a step at a time, its failures kept to itself, until it is stopped."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from patches.documents.document import Document
from patches.errors import ChangeRefusedError, NetworkError, StatusError, StorageError
from patches.model.change import Change, QuarantinedChange, Snapshot
from patches.net.connection import CommitAnswer, PatchesConnection
from patches.options import DocOptions
from patches.sync.document import transitions
from patches.sync.document.plan import Committed, DocSync
from patches.sync.document.steps import DocSteps
from patches.sync.document.worker import DocWorker
from patches.sync.link import Link
from patches.testing.fake_connection import Call, FakeConnection
from tests.support.small_algorithm import Record, SmallAlgorithm

DOC = "d"


def pending(change_id: str, rev: int = 1) -> Change:
    ops = [{"op": "replace", "path": f"/{change_id}", "value": rev}]
    return Change(id=change_id, ops=ops, base_rev=0, rev=rev, created_at=1)


def committed(rev: int) -> Change:
    return pending(f"s{rev}", rev).replace(base_rev=rev - 1, committed_at=1)


class Coordinator:
    """The `Host` of a worker: notes what it is told."""

    def __init__(self) -> None:
        self.fake = FakeConnection()
        self.connection: PatchesConnection = self.fake
        self.algorithm = SmallAlgorithm()
        self.algorithm.records[DOC] = Record(state={})
        self.told: list[tuple[str, Any]] = []
        self.max_commit: int | None = None
        self.rest = asyncio.Event()

    def algorithm_of(self, doc_id: str) -> SmallAlgorithm:
        return self.algorithm

    def open_doc(self, doc_id: str) -> Document | None:
        return None

    def show_snapshot(self, doc_id: str, snapshot: Snapshot) -> None: ...

    def options_of(self, doc: DocSync) -> DocOptions:
        return DocOptions(max_payload_bytes=self.max_commit)

    async def take_algorithm(self, doc_id: str, name: str) -> bool:
        self.told.append(("algorithm", name))
        return False

    def learn_max_commit(self, size: int) -> None:
        self.max_commit = size

    def jitter(self) -> float:
        return 0.0

    def doc_changed(self, steps: DocSteps, before: DocSync) -> None:
        self.rest.set()

    def report(self, error: Exception, doc_id: str | None, change_id: str | None = None) -> None:
        self.told.append(("error", error))

    def refused(self, doc_id: str, error: Exception) -> None:
        self.told.append(("refused", str(error)))

    def server_committed(self, doc_id: str, changes: Sequence[Change]) -> None:
        self.told.append(("committed", [change.id for change in changes]))

    def quarantined(self, doc_id: str, entry: QuarantinedChange) -> None:
        self.told.append(("quarantined", entry.change_id))

    def deleted_remotely(self, doc_id: str) -> None:
        self.told.append(("deleted", doc_id))
        self.rest.set()

    def heard(self, kind: str) -> list[Any]:
        return [what for name, what in self.told if name == kind]


class Scene:
    """A worker that runs, over a connection that is there."""

    def __init__(self, *, rev: int = 0) -> None:
        self.host = Coordinator()
        self.record = self.host.algorithm.records[DOC]
        self.record.rev = rev
        self.connection = self.host.fake
        self.worker = DocWorker(DOC, self.host)
        self.link = Link()
        self.task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self.connection.restore()
        self.worker.set_state(transitions.connected(self.worker.doc, self.link))
        self.task = asyncio.create_task(self.worker.run())

    def edit(self, *changes: Change) -> None:
        self.record.pending += changes
        self.worker.set_state(transitions.edited(self.worker.doc))

    async def until(self, condition: Any) -> None:
        async with asyncio.timeout(5):
            while not condition():
                self.host.rest.clear()
                await self.host.rest.wait()

    async def synced(self) -> None:
        await self.until(lambda: not self.worker.doc.has_work and not self.worker.doc.busy)

    async def end(self) -> None:
        self.worker.stop()
        if self.task is not None:
            self.task.cancel()
            await asyncio.wait([self.task])


@pytest.fixture
async def scenes() -> AsyncIterator[Any]:
    made: list[Scene] = []

    def scene(**options: Any) -> Scene:
        made.append(Scene(**options))
        return made[-1]

    yield scene
    for each in made:
        await each.end()


async def test_a_document_at_0_is_loaded_and_one_above_pulls(scenes: Any) -> None:
    new, known = scenes(), scenes(rev=2)
    new.start()
    known.start()
    (await new.connection.next_call("getDoc")).answer(Snapshot(state={"a": 1}, rev=3))
    pull = await known.connection.next_call("getChangesSince")
    assert pull.args[:2] == (DOC, 2)
    pull.answer([committed(3)])
    for scene in (new, known):
        await scene.synced()
        assert scene.record.rev == 3
    assert known.host.heard("committed") == [["s3"]]


async def test_the_next_batch_is_asked_for_after_each_answer(scenes: Any) -> None:
    scene = scenes(rev=1)
    scene.edit(pending("a"))
    scene.start()
    push = await scene.connection.next_call("commitChanges")
    assert [change.id for change in push.changes] == ["a"]
    scene.edit(pending("b", 2))  # while the answer is awaited
    push.commit(2)
    push = await scene.connection.next_call("commitChanges")
    assert [change.id for change in push.changes] == ["b"]
    push.commit(3)
    await scene.synced()
    assert (scene.record.rev, scene.record.pending) == (3, [])


async def test_frames_that_came_together_are_applied_in_one_step(scenes: Any) -> None:
    scene = scenes(rev=1)
    scene.start()
    (await scene.connection.next_call("getChangesSince")).answer([])
    await scene.synced()
    doc = scene.worker.doc
    for rev in (2, 3):
        doc = transitions.framed(doc, Committed([committed(rev)]))
    scene.worker.set_state(doc)
    await scene.until(lambda: scene.record.rev == 3)
    assert scene.connection.count("getChangesSince") == 1
    assert [each for ids in scene.host.heard("committed") for each in ids] == ["s2", "s3"]


async def test_a_gap_is_filled_by_a_pull(scenes: Any) -> None:
    scene = scenes(rev=1)
    scene.start()
    (await scene.connection.next_call("getChangesSince")).answer([])
    await scene.synced()
    scene.worker.set_state(transitions.framed(scene.worker.doc, Committed([committed(5)])))
    pull = await scene.connection.next_call("getChangesSince")
    assert pull.args[1] == 1
    pull.answer([committed(rev) for rev in range(2, 6)])
    await scene.until(lambda: scene.record.rev == 5)


async def test_a_failure_of_the_store_is_told_and_stays_this_documents(scenes: Any) -> None:
    scene = scenes(rev=1)
    scene.host.algorithm.fail("apply_server_changes", StorageError("locked"))
    scene.start()
    (await scene.connection.next_call("getChangesSince")).answer([committed(2)])
    await scene.until(lambda: scene.worker.doc.failure is not None)
    assert scene.record.rev == 1
    assert scene.task is not None
    assert not scene.task.done()


async def test_a_change_that_the_server_names_is_set_aside_and_the_others_go_on(
    scenes: Any,
) -> None:
    scene = scenes(rev=1)
    scene.edit(pending("good"), pending("bad", 2))
    scene.start()
    push = await scene.connection.next_call("commitChanges")
    push.fail(ChangeRefusedError("bad", "against the rules", final=True))
    again = await scene.connection.next_call("commitChanges")
    assert [change.id for change in again.changes] == ["good"]
    again.commit(2)
    await scene.synced()
    assert scene.host.heard("quarantined") == ["bad"]
    assert len(scene.host.heard("refused")) == 1


async def test_a_refusal_that_names_nobody_is_searched_by_halving(scenes: Any) -> None:
    scene = scenes(rev=1)
    sent: list[list[str]] = []

    def reply(call: Call) -> CommitAnswer | StatusError:
        sent.append([change.id for change in call.changes])
        if "c" in sent[-1]:
            return StatusError(400, "no", {"scope": "change"})
        rev = scene.record.rev
        return CommitAnswer(
            [
                change.replace(base_rev=rev + place, rev=rev + place + 1, committed_at=1)
                for place, change in enumerate(call.changes)
            ]
        )

    scene.connection.replies.update(commitChanges=reply, getChangesSince=[])
    scene.edit(*(pending(name, rev) for rev, name in enumerate("abcd", 1)))
    scene.start()
    await scene.until(lambda: not scene.record.pending)
    assert scene.host.heard("quarantined") == ["c"]
    assert sent == [["a", "b", "c", "d"], ["a", "b"], ["c", "d"], ["c"], ["d"]]
    assert scene.record.rev == 4


async def test_a_commit_too_large_is_sent_again_smaller(scenes: Any) -> None:
    scene = scenes(rev=1)
    large = [{"op": "replace", "path": "/text", "value": "x" * 50_000}]
    scene.edit(*(pending(f"c{rev}", rev).replace(ops=large) for rev in range(1, 5)))
    scene.start()
    push = await scene.connection.next_call("commitChanges")
    assert len(push.changes) == 4
    push.fail(StatusError(413, "too large", {"limit": "max_commit_bytes"}))
    again = await scene.connection.next_call("commitChanges")
    assert scene.host.max_commit is not None
    assert len(again.changes) < 4
    assert scene.host.heard("quarantined") == []


async def test_what_a_lost_connection_interrupts_is_begun_anew_on_the_next(scenes: Any) -> None:
    scene = scenes(rev=1)
    scene.edit(pending("a"))
    scene.start()
    push = await scene.connection.next_call("commitChanges")
    scene.link.end(was_lost=True)
    scene.worker.set_state(transitions.disconnected(scene.worker.doc))
    push.fail(NetworkError("lost"))
    await scene.until(lambda: not scene.worker.doc.busy)
    scene.link = Link()
    scene.worker.set_state(transitions.connected(scene.worker.doc, scene.link))
    again = await scene.connection.next_call("commitChanges")
    assert [change.id for change in again.changes] == ["a"]
    again.commit(2)
    await scene.synced()


async def test_quarantine_is_announced_once_before_the_first_request(scenes: Any) -> None:
    scene = scenes(rev=1)
    entry = QuarantinedChange(
        doc_id=DOC, change_id="old", change=pending("old"), reason="why", quarantined_at=1
    )
    scene.host.algorithm.quarantine.append(entry)
    scene.start()
    (await scene.connection.next_call("getChangesSince")).answer([])
    await scene.synced()
    scene.worker.set_state(transitions.pull_requested(scene.worker.doc))
    (await scene.connection.next_call("getChangesSince")).answer([])
    await scene.synced()
    assert scene.host.heard("quarantined") == ["old"]


async def test_a_deletion_by_the_server_is_handed_to_the_coordinator(scenes: Any) -> None:
    scene = scenes(rev=1)
    scene.start()
    (await scene.connection.next_call("getChangesSince")).answer([])
    await scene.synced()
    scene.worker.set_state(transitions.deleted(scene.worker.doc))
    await scene.until(lambda: scene.host.heard("deleted"))
    assert scene.record.rev == 1, "untracking it is the coordinator's"


async def test_a_worker_that_is_stopped_ends_and_takes_no_answer(scenes: Any) -> None:
    scene = scenes(rev=1)
    scene.start()
    pull = await scene.connection.next_call("getChangesSince")
    scene.worker.stop()
    assert scene.task is not None
    await asyncio.wait([scene.task])
    assert pull.result.cancelled() or not pull.result.done()
    assert scene.record.rev == 1
