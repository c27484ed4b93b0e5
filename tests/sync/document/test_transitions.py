"""What each event makes of what is known of a document."""

from __future__ import annotations

from dataclasses import replace

import pytest

from patches.errors import NetworkError, StatusError
from patches.sync.document import transitions as folds
from patches.sync.document.failure import Trouble
from patches.sync.document.failures import Attempt, Kind
from patches.sync.document.plan import INBOX_FRAMES, Committed, DocSync, NeedsReload, Pull, Push
from patches.testing.fake_connection import committed

DOC = DocSync(doc_id="d", known=True, committed_rev=5, link=1, asked=1)
FRAME = Committed([committed(6)])
LADDER = Trouble(error=None, failed_at=10, until=12, attempt=1)
PROBE = Trouble(error=None, failed_at=10, until=310, used_up=True)
ATTEMPT = Attempt(step="Push")


def failed(doc: DocSync, error: Exception, kind: Kind, *, link: int = 1) -> DocSync:
    return folds.failed(doc, error, kind, ATTEMPT, link=link, now=100.0, chance=0.0)[0]


def test_a_reason_to_look_that_comes_while_looking_is_not_lost() -> None:
    step = Pull(5, looks=1)
    looking = folds.asked(folds.begun(DOC, step))
    done = folds.worked(looking, step, rev=7, has_pending=False, edits=0)
    assert not done.caught_up
    assert folds.worked(done, Pull(7, looks=2), rev=7, has_pending=False, edits=0).caught_up


def test_what_the_store_said_before_an_edit_does_not_hide_it() -> None:
    edited = folds.edited(DOC)
    asked_before = folds.worked(edited, Push(1), rev=5, has_pending=False, edits=0)
    asked_after = folds.worked(edited, Push(1), rev=5, has_pending=False, edits=1)
    assert (asked_before.has_pending, asked_after.has_pending) == (True, False)


def test_learning_counts_once_and_does_not_hide_what_happened_meanwhile() -> None:
    new = DocSync(doc_id="d")
    learned = folds.learned(folds.edited(new), committed_rev=3, has_pending=False, edits=0)
    assert (learned.committed_rev, learned.has_pending, learned.rested) == (3, True, "synced")
    assert folds.learned(learned, committed_rev=9, has_pending=False, edits=9) is learned


def test_a_connection_starts_waits_and_marks_over() -> None:
    doc = replace(DOC, trouble=PROBE, reported=True, stalled_at=0, sent=("c",), reloads=2)
    assert folds.connected(doc, 2) == replace(DOC, link=2, asked=2)


@pytest.mark.parametrize(
    ("rev", "pending", "rested"),
    [(0, False, "unsynced"), (0, True, "synced"), (3, False, "synced")],
)
def test_a_lost_connection_ends_a_pass_as_if_it_had_not_been(
    rev: int, pending: bool, rested: str
) -> None:
    doc = folds.disconnected(replace(DOC, committed_rev=rev, has_pending=pending, busy=True))
    assert (doc.link, doc.status, doc.error) == (0, rested, None)


def test_a_lost_connection_leaves_an_error_shown() -> None:
    error = StatusError(403, "no")
    doc = folds.disconnected(replace(DOC, trouble=replace(PROBE, error=error)))
    assert (doc.status, doc.error) == ("error", error)


def test_a_full_inbox_is_dropped_and_fetched_instead() -> None:
    full = replace(DOC, looked=1, inbox=(FRAME,) * INBOX_FRAMES)
    doc = folds.framed(full, FRAME)
    assert doc.inbox == ()
    assert not doc.caught_up


def test_an_edit_brings_a_probe_forward_and_leaves_the_ladder() -> None:
    assert folds.hastened(LADDER) is LADDER
    assert folds.hastened(PROBE) == replace(PROBE, until=11)
    assert folds.hastened(replace(PROBE, until=None, least_wait=20)) == replace(
        PROBE, until=30, least_wait=20
    )
    assert folds.hastened(None) is None


def test_an_interruption_of_an_older_connection_changes_nothing() -> None:
    doc = replace(DOC, link=2)
    assert failed(doc, NetworkError("lost"), Kind.INTERRUPTED, link=1) is doc


@pytest.mark.parametrize(("kind", "told"), [(Kind.TERMINAL, True), (Kind.RETRY, False)])
def test_of_what_ends_without_a_connection_only_the_terminal_is_told(
    kind: Kind, told: bool
) -> None:
    doc = replace(DOC, link=0, trouble=replace(LADDER, attempt=9))
    _, report = folds.failed(doc, StatusError(403, "x"), kind, ATTEMPT, link=1, now=0, chance=0)
    assert (report is not None) is told


def test_a_failure_ends_the_pass_and_a_success_the_trouble() -> None:
    doc = failed(replace(DOC, busy=True), StatusError(500, "x"), Kind.RETRY)
    assert doc.trouble is not None
    assert (doc.status, doc.trouble.until, doc.settled_link) == ("error", 101.0, 1)
    again = failed(replace(doc, busy=True), StatusError(500, "x"), Kind.RETRY)
    assert again.trouble is not None
    assert again.trouble.until == 102.0
    good = folds.worked(again, Pull(5, 1), rev=5, has_pending=False, edits=0)
    assert folds.rested(replace(good, busy=True)).status == "synced"


def test_a_reload_keeps_what_is_known_to_be_committed() -> None:
    one, two = committed(6), committed(7)
    doc = folds.must_reload(folds.must_reload(DOC, [one]), [two])
    assert doc.reload == NeedsReload((one, two))
    assert doc.reloads == 2


def test_a_snapshot_may_go_back_behind_what_was_known() -> None:
    doc = folds.installed(DOC, Pull(5, 1), head=2, has_pending=False, edits=0)
    assert (doc.committed_rev, doc.reload, doc.caught_up) == (2, None, True)


def test_work_that_cannot_be_sent_waits_for_an_edit() -> None:
    doc = folds.nothing_to_send(replace(DOC, has_pending=True), has_pending=True, edits=0)
    assert not doc.sendable
    assert folds.edited(doc).sendable
    assert not folds.nothing_to_send(doc, has_pending=False, edits=0).has_pending


def test_budgets_shrink_with_failures_and_are_given_back_by_a_commit() -> None:
    attempt = Attempt(step="Push", batch_changes=2, batch_bytes=8_000, storage_budget=300_000)
    error = StatusError(413, "x")
    doc = DOC
    for kind in (Kind.SMALLER_CHANGES, Kind.SMALLER_BATCHES):
        doc, report = folds.failed(doc, error, kind, attempt, link=1, now=0, chance=0)
        assert report is None
    assert (doc.storage_budget, doc.payload_budget) == (150_000, 4_000)
    doc = folds.committed(doc, ("c",))
    assert (doc.storage_budget, doc.payload_budget, doc.sent) == (None, None, ("c",))
