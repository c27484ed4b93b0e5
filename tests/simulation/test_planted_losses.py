"""Planted bugs that leave copies wrong, or documents stuck, without an error anywhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from patches.algorithms.base import Algorithm
from patches.algorithms.lww import consolidate as consolidate_module
from patches.algorithms.lww.split import split_change
from patches.algorithms.ot import batching, walk
from patches.algorithms.ot.algorithm import OTAlgorithm
from patches.algorithms.ot.splitting import break_changes
from patches.algorithms.ot.unsaved import UnsavedEdits
from patches.client.tracking import Tracking
from patches.json_patch.transform.relations import Context
from patches.model.change import Change
from patches.model.json_values import Op, json_equal
from patches.net.streams import StreamTransport
from patches.sync.document.failures import Attempt, Kind, classify
from patches.sync.full_sync import FullSync
from patches_server.ot.recent import RecentLogs
from patches_server.service.fanout import hub
from patches_server.service.fanout.subscriber import Subscriber
from tests.simulation.planting import Planted, first_failure, require_found


def ties_reversed(patch: pytest.MonkeyPatch) -> None:
    consolidate = consolidate_module.consolidate_field_op

    def first_wins(existing: Op, incoming: Op) -> Op | None:
        is_write = incoming["op"] in ("replace", "remove") and not incoming.get("soft")
        if is_write and "ts" in incoming and incoming["ts"] == existing.get("ts"):
            return None
        return consolidate(existing, incoming)

    patch.setattr(consolidate_module, "consolidate_field_op", first_wins)


def an_increment_lost_on_a_split(patch: pytest.MonkeyPatch) -> None:
    def without_increments(*args: Any, **options: Any) -> list[Change]:
        first, *rest = split_change(*args, **options)
        return [first, *(piece.replace(ops=_without_increments(piece.ops)) for piece in rest)]

    patch.setattr("patches.algorithms.lww.sending.split_change", without_increments)


def an_increment_lost_on_an_ot_split(patch: pytest.MonkeyPatch) -> None:
    def without_increments(changes: Sequence[Change], *args: Any, **options: Any) -> list[Change]:
        pieces = break_changes(changes, *args, **options)
        if len(pieces) == len(changes):
            return pieces
        return [piece.replace(ops=_without_increments(piece.ops)) for piece in pieces]

    patch.setattr("patches.algorithms.ot.batching.break_changes", without_increments)


def deletions_forgotten_at_the_first_sync(patch: pytest.MonkeyPatch) -> None:
    read = FullSync._read_docs

    async def forgetful(self: FullSync) -> Mapping[str, Algorithm]:
        deleted = await read(self)
        return {} if self._is_first else deleted

    patch.setattr(FullSync, "_read_docs", forgetful)


def a_batch_id_lost_over_a_cut_upload(patch: pytest.MonkeyPatch) -> None:
    cut = batching._cut_to_payload

    def renamed(changes: Sequence[Change], *rest: Any) -> list[Change]:
        return cut([change.replace(batch_id=None) for change in changes], *rest)

    patch.setattr(batching, "_cut_to_payload", renamed)


def pending_changes_returned_as_committed(patch: pytest.MonkeyPatch) -> None:
    apply = OTAlgorithm._apply_server_changes

    async def with_pending(self: OTAlgorithm, doc_id: str, *rest: Any) -> list[Change]:
        new = await apply(self, doc_id, *rest)
        return [*new, *(await self.store.load_queue(doc_id)).pending]

    patch.setattr(OTAlgorithm, "_apply_server_changes", with_pending)


def a_tie_in_the_wrong_frame(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(walk, "edit_of", lambda *_args: None)  # no fast way around the slow one
    init = Context.__init__

    def same_side(self: Context, *args: Any, **options: Any) -> None:
        init(self, *args, **options)
        self.older_inserts_first = False

    patch.setattr(Context, "__init__", same_side)


def keys_shifted_like_indexes(patch: pytest.MonkeyPatch) -> None:
    target = "patches.algorithms.ot.preparing.mark_object_keys"
    patch.setattr(target, lambda _state, ops: ops)


def an_edit_known_by_equal_operations(patch: pytest.MonkeyPatch) -> None:
    def among(
        self: UnsavedEdits, changes: Sequence[Change], *, clear: bool = False
    ) -> list[list[Op]]:
        stored = [change.ops for change in changes]
        found = [ops for ops in self._edits if any(json_equal(ops, each) for each in stored)]
        for ops in found if clear else ():
            ops.clear()
        return found

    patch.setattr(UnsavedEdits, "stored_among", among)


def a_deletion_forgotten_when_the_document_is_opened(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Tracking, "check_not_deleted", lambda *_args: None)


def a_token_that_is_ignored(patch: pytest.MonkeyPatch) -> None:
    for module in ("lww", "ot"):
        target = f"patches_server.{module}.committer.require_same_history"
        patch.setattr(target, lambda *_args, **_options: None)
    patch.setattr("patches_server.ot.committer.require_same_change", lambda *_args: None)


def a_stream_that_raises_and_is_not_dialled_again(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(StreamTransport, "_why", lambda _self, part: part.result())


def a_write_older_than_what_its_author_saw(patch: pytest.MonkeyPatch) -> None:
    patch.setattr("patches.algorithms.lww.transactions._newest", lambda *_args: 0)


def an_end_of_a_subscription_that_is_not_told(patch: pytest.MonkeyPatch) -> None:
    def removed(self: hub.Hub, doc_id: str, subscriber: Subscriber) -> None:
        self._remove(subscriber, doc_id)

    patch.setattr(hub.Hub, "_start_recheck", removed)


def a_final_refusal_taken_for_transient(patch: pytest.MonkeyPatch) -> None:
    def hopeful(error: BaseException, attempt: Attempt) -> Kind:
        kind = classify(error, attempt)
        return Kind.RETRY if kind is Kind.REFUSED else kind

    patch.setattr("patches.sync.document.worker.classify", hopeful)


def a_log_at_hand_that_is_not_forgotten(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(RecentLogs, "forget", lambda *_args: None)


def _without_increments(ops: Sequence[Op]) -> list[Op]:
    return [op for op in ops if op["op"] != "@inc"]


BUGS = [
    Planted(ties_reversed, "lww", 0, "I11"),
    Planted(an_increment_lost_on_a_split, "lww", 2, "I9 I11"),
    Planted(an_increment_lost_on_an_ot_split, "ot", 5, "I11"),
    Planted(deletions_forgotten_at_the_first_sync, "mixed", 27, "I9 I10", frozenset({"rebirth"})),
    Planted(a_batch_id_lost_over_a_cut_upload, "ot", 0, "I11"),
    Planted(pending_changes_returned_as_committed, "ot", 0, "I13"),
    Planted(a_tie_in_the_wrong_frame, "ot", 14, "I10 I11"),
    Planted(keys_shifted_like_indexes, "ot", 4, "I11"),
    Planted(an_edit_known_by_equal_operations, "ot", 5, "I10 I11", frozenset({"shared_file"})),
    Planted(a_deletion_forgotten_when_the_document_is_opened, "mixed", 10, "I9 I10"),
    Planted(a_token_that_is_ignored, "mixed", 2, "I9 I10 I11 I13"),
    Planted(a_stream_that_raises_and_is_not_dialled_again, "ot", 16, "I9"),
    Planted(a_write_older_than_what_its_author_saw, "lww", 15, "I11", frozenset({"clock"})),
    Planted(an_end_of_a_subscription_that_is_not_told, "mixed", 0, "I9"),
    Planted(a_final_refusal_taken_for_transient, "mixed", 3, "I9"),
]


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.plant.__name__)
def test_a_planted_loss_is_found(bug: Planted, monkeypatch: pytest.MonkeyPatch) -> None:
    require_found(bug, monkeypatch)


def test_a_log_at_hand_that_is_not_forgotten_changes_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The store checks the head that a commit was decided on, so such a commit is decided again."""
    bug = Planted(a_log_at_hand_that_is_not_forgotten, "ot", 0, "", frozenset({"servers"}))
    bug.plant(monkeypatch)
    assert first_failure(bug, 0, 8) is None
