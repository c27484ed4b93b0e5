"""Bugs planted one at a time: the simulation finds each of them (see `planting.py`)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from patches.algorithms.lww import consolidate as consolidate_module
from patches.algorithms.lww.stores.memory import LWWMemoryStore
from patches.algorithms.lww.tables import DocTables
from patches.algorithms.ot.algorithm import OTAlgorithm
from patches.algorithms.ot.receiving import plan_reception
from patches.algorithms.ot.store import Conflict, QueuePosition
from patches.algorithms.ot.stores.memory import OTMemoryStore
from patches.model.change import Change
from patches.model.json_values import Op
from patches_server.documents.tombstones import MemoryDocuments, require_algorithm
from patches_server.ot import commit
from patches_server.ot.committer import Committer
from patches_server.ot.stores import memory as ot_memory
from patches_server.service.fanout.hub import Hub
from patches_server.service.fanout.outbox import Event, Outbox
from patches_server.service.fanout.relay import AwarenessRelay
from patches_server.service.fanout.subscriber import Subscriber
from patches_server.service.json_rpc import JsonRpcPeer
from patches_server.service.session_host import Outcome
from patches_server.wire.frames import result_frame
from tests.simulation.planting import Planted, require_found


def ack_before_the_commit(patch: pytest.MonkeyPatch) -> None:
    save = Committer._save
    late: set[asyncio.Task[Any]] = set()

    def forget(task: asyncio.Task[Any]) -> None:
        late.discard(task)
        if not task.cancelled():
            task.exception()  # nobody waits for it

    async def save_later(self: Committer, *args: Any) -> None:
        task = asyncio.get_running_loop().create_task(save(self, *args))
        late.add(task)
        task.add_done_callback(forget)

    patch.setattr(Committer, "_save", save_later)


def a_lost_rebase_on_the_server(patch: pytest.MonkeyPatch) -> None:
    def untransformed(
        queue: list[Change], committed: Any, current_rev: int, **_options: Any
    ) -> list[Change]:
        return [
            change.replace(base_rev=current_rev, rev=rev)
            for rev, change in enumerate(queue, start=current_rev + 1)
        ]

    patch.setattr(commit, "transform_incoming_changes", untransformed)


def a_lost_rebase_on_the_client(patch: pytest.MonkeyPatch) -> None:
    def unmoved(queue: Any, changes: Any, *rest: Any) -> Any:
        reception = plan_reception(queue, changes, *rest)
        before = {change.id: change.ops for change in queue.pending}
        kept = [change.replace(ops=before[change.id]) for change in reception.pending]
        return replace(reception, pending=kept)

    patch.setattr("patches.algorithms.ot.algorithm.plan_reception", unmoved)


def a_change_id_accepted_twice(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(commit._Rows, "_tell_own", lambda *_args: False)
    patch.setattr(ot_memory, "check_ids_new", lambda *_args: None)


def an_echo_that_is_not_recognised(patch: pytest.MonkeyPatch) -> None:
    def forgetful(queue: Any, changes: Any, *rest: Any) -> Any:
        foreign = [change.replace(id=f"{change.id}?") for change in changes]
        reception = plan_reception(queue, foreign, *rest)
        return replace(reception, new=[c for c in changes if c.rev in _revs(reception.new)])

    patch.setattr("patches.algorithms.ot.algorithm.plan_reception", forgetful)


def an_older_write_that_wins(patch: pytest.MonkeyPatch) -> None:
    consolidate = consolidate_module.consolidate_field_op

    def latest_wins(existing: Op, incoming: Op) -> Op | None:
        if incoming["op"] == "replace" and not incoming.get("soft"):
            return incoming
        return consolidate(existing, incoming)

    patch.setattr(consolidate_module, "consolidate_field_op", latest_wins)


def broadcasts_that_reach_nobody(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Hub, "publish", lambda *_args: None)


def pending_changes_lost_in_a_crash(patch: pytest.MonkeyPatch) -> None:
    open_store = OTAlgorithm.open_store

    def emptied(self: OTAlgorithm, backend: Any) -> None:
        open_store(self, backend)
        store: Any = self.store
        for doc in store._inner._docs.values():
            doc.replace_pending([])

    patch.setattr(OTAlgorithm, "open_store", emptied)


def a_retried_change_that_counts_twice(patch: pytest.MonkeyPatch) -> None:
    def all_of_them(changes: Iterable[Any], _seen: Any) -> list[Any]:
        return list(changes)

    patch.setattr("patches_server.lww.decided.fresh_changes", all_of_them)


def a_tombstone_that_is_ignored(patch: pytest.MonkeyPatch) -> None:
    def of_this_algorithm(self: MemoryDocuments, doc_id: str, algorithm: str) -> None:
        require_algorithm(doc_id, self.algorithm_of(doc_id), algorithm)

    patch.setattr(MemoryDocuments, "check_not_deleted", lambda *_args: None)
    patch.setattr(MemoryDocuments, "check_writable", of_this_algorithm)


def a_gap_that_is_not_noticed(patch: pytest.MonkeyPatch) -> None:
    patch.setattr("patches.algorithms.ot.receiving.find_gap", lambda *_args: None)


def a_sending_slot_that_is_lost(patch: pytest.MonkeyPatch) -> None:
    change = LWWMemoryStore.change

    async def without_slot(
        self: LWWMemoryStore, doc_id: str, fn: Callable[[DocTables], Any]
    ) -> Any:
        result = await change(self, doc_id, fn)
        tables = self._docs.get(doc_id)
        if tables is not None:
            tables.put_sending([])  # the slot of what is under way
        return result

    patch.setattr(LWWMemoryStore, "change", without_slot)


def a_broadcast_without_asking_the_right(patch: pytest.MonkeyPatch) -> None:
    def put(self: Hub, doc_id: str, subscriber: Subscriber, event: Event) -> None:
        if self.is_subscribed(subscriber, doc_id):
            subscriber.outbox.put(event)

    patch.setattr(Hub, "deliver_one", put)


def a_revocation_that_is_forgotten(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Hub, "revoke", lambda *_args, **_options: None)


def a_refusal_that_is_not_sent(patch: pytest.MonkeyPatch) -> None:
    def answer(self: JsonRpcPeer, request_id: Any, outcome: Outcome) -> None:
        if outcome.error is None:
            self.outbox.answer(result_frame(request_id, outcome.result))

    patch.setattr(JsonRpcPeer, "_answer", answer)


def an_outbox_without_bound(patch: pytest.MonkeyPatch) -> None:
    def put(self: Outbox, event: Event, *, at_once: bool = True) -> None:
        if self.closing is None:
            self._queue(event)

    patch.setattr(Outbox, "put", put)


def a_commit_on_a_head_that_has_moved(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(ot_memory, "check_follows", lambda *_args, **_options: None)


def a_room_that_is_not_left(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(AwarenessRelay, "leave", lambda *_args: None)


def a_change_put_back_under_a_new_id(patch: pytest.MonkeyPatch) -> None:
    requeue = OTMemoryStore.requeue_quarantined_change

    async def renamed(
        self: OTMemoryStore,
        doc_id: str,
        change_id: str,
        changes: Sequence[Change],
        read: QueuePosition,
    ) -> list[Change] | Conflict | None:
        first = changes[0].replace(id=f"{change_id}-again")
        return await requeue(self, doc_id, change_id, [first, *changes[1:]], read)

    patch.setattr(OTMemoryStore, "requeue_quarantined_change", renamed)


def _revs(changes: Sequence[Change]) -> set[int]:
    return {change.rev for change in changes}


BUGS = [
    Planted(ack_before_the_commit, "ot", 1, "I3 I7"),
    Planted(a_lost_rebase_on_the_server, "ot", 0, "I11"),
    Planted(a_lost_rebase_on_the_client, "ot", 0, "I11"),
    Planted(a_change_id_accepted_twice, "ot", 0, "I2"),
    Planted(an_echo_that_is_not_recognised, "ot", 0, "I11"),
    Planted(an_older_write_that_wins, "lww", 0, "I11"),
    Planted(broadcasts_that_reach_nobody, "ot", 0, "I9"),
    Planted(pending_changes_lost_in_a_crash, "ot", 0, "I10"),
    Planted(a_retried_change_that_counts_twice, "lww", 0, "I2"),
    Planted(a_tombstone_that_is_ignored, "mixed", 19, "I6"),
    Planted(a_gap_that_is_not_noticed, "ot", 4, "I7 I9"),
    Planted(a_sending_slot_that_is_lost, "lww", 0, "I9"),
    Planted(a_broadcast_without_asking_the_right, "ot", 0, "I5", frozenset({"rights"})),
    Planted(a_revocation_that_is_forgotten, "ot", 5, "I5"),
    Planted(a_refusal_that_is_not_sent, "ot", 0, "I8"),
    Planted(
        an_outbox_without_bound, "ot", 0, "I4", faults=frozenset({"busy", "slow_reader", "wide"})
    ),
    Planted(a_commit_on_a_head_that_has_moved, "ot", 4, "I1"),
    Planted(a_room_that_is_not_left, "ot", 0, "I12"),
    Planted(a_change_put_back_under_a_new_id, "ot", 9, "I11"),
]


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.plant.__name__)
def test_a_planted_bug_is_found(bug: Planted, monkeypatch: pytest.MonkeyPatch) -> None:
    require_found(bug, monkeypatch)
