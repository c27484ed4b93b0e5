"""What each event makes of what is known of a document."""

from __future__ import annotations

from dataclasses import replace

import pytest

from patches.errors import NetworkError, OutdatedAnswerError, StatusError
from patches.sync.document import setbacks, transitions
from patches.sync.document.failure import Failure
from patches.sync.document.failures import Attempt, Kind
from patches.sync.document.plan import (
    INBOX_FRAMES,
    Committed,
    DocSync,
    NeedsReload,
    Notice,
    Pull,
    Push,
)
from patches.testing.fake_connection import committed

LINK, LATER_LINK = object(), object()
DOC = DocSync(doc_id="d", known=True, committed_rev=5, link=LINK, pulls_requested=1)
FRAME = Committed([committed(6)])
LADDER = Failure(error=None, failed_at=10, until=12, attempt=1)
PROBE = Failure(error=None, failed_at=10, until=310, used_up=True)
ATTEMPT = Attempt(step="Push")


def failed(doc: DocSync, error: Exception, kind: Kind, *, link: object = LINK) -> DocSync:
    return setbacks.failed(doc, error, kind, ATTEMPT, link=link, now=100.0, jitter=0.0)[0]


def test_a_reason_to_look_that_comes_while_looking_is_not_lost() -> None:
    step = Pull(5, pulls=1)
    looking = transitions.pull_requested(transitions.pass_begun(DOC))
    done = transitions.worked(looking, step, rev=7, has_pending=False, edits=0)
    assert not done.caught_up
    assert transitions.worked(done, Pull(7, pulls=2), rev=7, has_pending=False, edits=0).caught_up


def test_what_the_store_said_before_an_edit_does_not_hide_it() -> None:
    edited = transitions.edited(DOC)
    asked_before = transitions.worked(edited, Push(1), rev=5, has_pending=False, edits=0)
    asked_after = transitions.worked(edited, Push(1), rev=5, has_pending=False, edits=1)
    assert (asked_before.has_pending, asked_after.has_pending) == (True, False)


def test_learning_counts_once_and_does_not_hide_what_happened_meanwhile() -> None:
    new = DocSync(doc_id="d")
    learned = transitions.learned(
        transitions.edited(new), committed_rev=3, has_pending=False, edits=0
    )
    assert (learned.committed_rev, learned.has_pending, learned.idle_status) == (3, True, "synced")
    assert transitions.learned(learned, committed_rev=9, has_pending=False, edits=9) is learned


def test_a_connection_starts_waits_and_marks_over() -> None:
    doc = replace(DOC, failure=PROBE, is_reported=True, stalled_at=0, sent=("c",), reloads=2)
    assert transitions.connected(doc, LATER_LINK) == replace(
        DOC, link=LATER_LINK, pulls_requested=2, is_checked=False
    )


@pytest.mark.parametrize(
    ("rev", "pending", "rested"),
    [(0, False, "unsynced"), (0, True, "synced"), (3, False, "synced")],
)
def test_a_lost_connection_ends_a_pass_as_if_it_had_not_been(
    rev: int, pending: bool, rested: str
) -> None:
    doc = transitions.disconnected(replace(DOC, committed_rev=rev, has_pending=pending, busy=True))
    assert (doc.link, doc.shown) == (None, (rested, None))


def test_a_lost_connection_takes_its_notices_along() -> None:
    notice = Notice("changesPartial", {})
    for link in (DOC.link, None):
        doc = transitions.disconnected(replace(DOC, link=link, inbox=(FRAME, notice, FRAME)))
        assert doc.inbox == (FRAME, FRAME)


def test_a_lost_connection_leaves_an_error_shown() -> None:
    error = StatusError(403, "no")
    doc = transitions.disconnected(replace(DOC, failure=replace(PROBE, error=error)))
    assert doc.shown == ("error", error)


def test_a_full_inbox_is_dropped_and_fetched_instead() -> None:
    full = replace(DOC, pulls_done=1, inbox=(FRAME,) * INBOX_FRAMES)
    doc = transitions.framed(full, FRAME)
    assert doc.inbox == ()
    assert not doc.caught_up


def test_an_edit_brings_a_probe_forward_and_leaves_the_ladder() -> None:
    assert transitions.hastened(LADDER) is LADDER
    assert transitions.hastened(PROBE) == replace(PROBE, until=11)
    assert transitions.hastened(replace(PROBE, until=None, least_wait=20)) == replace(
        PROBE, until=30, least_wait=20
    )
    assert transitions.hastened(None) is None


def test_an_interruption_of_an_older_connection_changes_nothing() -> None:
    doc = replace(DOC, link=LATER_LINK)
    assert failed(doc, NetworkError("lost"), Kind.INTERRUPTED, link=LINK) is doc


@pytest.mark.parametrize(("kind", "told"), [(Kind.FINAL, True), (Kind.RETRY, False)])
def test_of_what_ends_without_a_connection_only_the_final_is_reported(
    kind: Kind, told: bool
) -> None:
    doc = replace(DOC, link=None, failure=replace(LADDER, attempt=9))
    _, report = setbacks.failed(
        doc, StatusError(403, "x"), kind, ATTEMPT, link=LINK, now=0, jitter=0
    )
    assert (report is not None) is told


def test_a_failure_ends_the_pass_and_a_success_the_failure() -> None:
    doc = failed(replace(DOC, busy=True), StatusError(500, "x"), Kind.RETRY)
    assert doc.failure is not None
    assert (doc.shown[0], doc.failure.until, doc.passed_link) == ("error", 101.0, LINK)
    again = failed(replace(doc, busy=True), StatusError(500, "x"), Kind.RETRY)
    assert again.failure is not None
    assert again.failure.until == 102.0
    good = transitions.worked(again, Pull(5, 1), rev=5, has_pending=False, edits=0)
    assert transitions.pass_ended(replace(good, busy=True)).shown[0] == "synced"


def test_a_reload_keeps_what_is_known_to_be_committed() -> None:
    one, two = committed(6), committed(7)
    doc = transitions.must_reload(transitions.must_reload(DOC, [one]), [two])
    assert doc.reload == NeedsReload((one, two))
    assert doc.reloads == 2


def test_a_snapshot_may_go_back_behind_what_was_known() -> None:
    doc = transitions.installed(DOC, Pull(5, 1), head=2, has_pending=False, edits=0)
    assert (doc.committed_rev, doc.reload, doc.caught_up) == (2, None, True)


def test_work_that_cannot_be_sent_waits_for_an_edit() -> None:
    pending = replace(DOC, has_pending=True)
    doc = transitions.nothing_to_send(pending, rev=6, has_pending=True, edits=0)
    assert doc.committed_rev == 6  # a step that seemed to fail has stored it
    assert doc.sendable  # of another process that shares the store: it came after the question
    doc = transitions.stalled(doc, 0)
    assert not doc.sendable
    assert transitions.edited(doc).sendable
    assert not transitions.nothing_to_send(doc, rev=6, has_pending=False, edits=0).has_pending


def test_what_stalled_says_nothing_of_work_that_appears_once_there_was_none() -> None:
    stalled = transitions.stalled(replace(DOC, has_pending=True), 0)
    none = transitions.worked(stalled, Pull(5, 1), rev=5, has_pending=False, edits=0)
    for found in (
        transitions.received(none, 6, has_pending=True),
        transitions.worked(none, Pull(5, 1), rev=6, has_pending=True, edits=0),
        transitions.installed(none, Pull(5, 1), head=6, has_pending=True, edits=0),
    ):
        assert found.sendable
    still = transitions.worked(stalled, Pull(5, 1), rev=5, has_pending=True, edits=0)
    assert not still.sendable


def test_the_size_of_changes_shrinks_with_failures_and_is_given_back_by_a_commit() -> None:
    attempt = Attempt(step="Push", batch=("c",), batch_bytes=8_000, storage_budget=300_000)
    doc, report = setbacks.failed(
        DOC, StatusError(413, "x"), Kind.SMALLER_CHANGES, attempt, link=LINK, now=0, jitter=0
    )
    assert (report, doc.storage_budget) == (None, 150_000)
    doc = transitions.committed(doc, ("c",))
    assert (doc.storage_budget, doc.sent) == (None, ("c",))


def test_a_search_goes_on_while_work_is_left_and_ends_with_the_refused_change() -> None:
    doc = transitions.narrowed(replace(DOC, has_pending=True), 4)
    assert transitions.committed(doc, ("c",)).commit_limit == 4
    assert transitions.committed(replace(doc, has_pending=False), ("c",)).commit_limit is None
    found = transitions.refused(doc, has_pending=True, edits=0)
    assert (found.commit_limit, found.refusals, found.has_pending) == (None, 1, True)


def test_refusals_are_counted_in_a_row_without_progress() -> None:
    doc = transitions.refused(replace(DOC, refusals=7), has_pending=True, edits=0)
    assert doc.refusals == 8
    for step in (Push(1), Pull(5, 1)):
        worked = transitions.worked(doc, step, rev=6, has_pending=True, edits=0)
        assert worked.refusals == 0
    assert failed(doc, StatusError(400, "x"), Kind.FINAL).refusals == 0


def test_connections_lost_over_one_commit_are_counted_in_a_row() -> None:
    doc = transitions.lost(transitions.lost(DOC, ("a", "b")), ("a", "b"))
    assert transitions.resets_over(doc, ("a", "b")) == 2
    assert transitions.resets_over(doc, ("a",)) == 0
    assert transitions.resets_over(transitions.lost(doc, ("a",)), ("a", "b")) == 0
    assert transitions.committed(doc, ("a", "b")).resets == ((), 0)


def test_work_that_was_set_aside_takes_its_failure_along() -> None:
    failure = Failure(error=StatusError(400, "x"), failed_at=0, until=None, is_final=True)
    doc = transitions.work_set_aside(replace(DOC, failure=failure, is_reported=True))
    assert (doc.failure, doc.is_reported, doc.sendable) == (None, False, True)


def test_a_copy_that_another_process_replaced_is_at_its_own_revision_and_is_asked_about() -> None:
    frame = Committed([committed(6)])
    reload = NeedsReload((committed(5),))
    doc = replace(DOC, pulls_done=1, reload=reload, inbox=(frame,), sent=("c",), stalled_at=0)
    replaced = transitions.replaced(doc, 2)
    assert (replaced.committed_rev, replaced.reload, replaced.inbox) == (2, None, ())
    assert (replaced.sent, replaced.stalled_at) == ((), -1)
    assert (replaced.caught_up, replaced.is_checked) == (False, False)


@pytest.mark.parametrize(("is_replaced", "reload"), [(True, None), (False, NeedsReload())])
def test_an_answer_about_another_copy_is_asked_for_again(
    is_replaced: bool, reload: NeedsReload | None
) -> None:
    doc = replace(DOC, pulls_done=1, reload=NeedsReload())
    error = OutdatedAnswerError("d", rev=2, is_replaced=is_replaced)
    again = failed(doc, error, Kind.OUTDATED)
    assert (again.committed_rev, again.reload, again.failure) == (2, reload, None)
    assert not again.caught_up


def test_the_revision_is_the_copys_though_it_is_lower_than_before() -> None:
    assert transitions.received(DOC, 3).committed_rev == 3
    done = transitions.worked(DOC, Pull(5, pulls=1), rev=3, has_pending=False, edits=0)
    assert done.committed_rev == 3


def test_another_history_drops_what_waits_and_what_is_known_to_be_committed() -> None:
    frame = Committed([committed(6)])
    doc = replace(DOC, reload=NeedsReload((committed(5),)), inbox=(frame,), sent=("c",))
    other = transitions.other_history(doc)
    assert other.reload == NeedsReload(is_new_history=True)
    assert (other.inbox, other.sent, other.reloads) == ((), (), doc.reloads + 1)
    reloaded = transitions.must_reload(other, [committed(5)])
    assert reloaded.reload == NeedsReload(is_new_history=True)
