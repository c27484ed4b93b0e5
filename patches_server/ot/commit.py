"""What a commit stores and answers, decided from the submission and the log alone.

A commit is read, decide, then one store transaction that checks what the decision rested on. This
module is the deciding: `admit` refuses or normalises what a client sent, `decide` says what to
store and what to answer (`docs/internals/ot.md` 14). No I/O, no clock.

Whose change is whose. The wire has no lasting identity, so a committed change counts as the
sender's own if its id is in the submission and either the client ids agree, or the two were made at
the same time: a change sent again over a new connection, after a lost answer, carries another
client id but the same `createdAt` (`docs/decisions.md`, Whose change is whose). What is the
sender's own is echoed and served as a frame; it is never transformed against.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Final

from patches.algorithms.ot import transform_incoming_changes
from patches.errors import InvalidRequestError, StaleSubmissionError
from patches.model.change import Change
from patches.runtime import Millis
from patches_server.ot.submission import Submission

#: A transform of a `move` or `copy` takes about as many steps as this, measured against `remove`.
_MOVE_STEPS: Final = 4


@dataclass(slots=True, kw_only=True)
class Decision:
    """What to store, and what to answer before it."""

    catch_up: list[Change]
    to_store: list[Change]
    #: The versions to make of what was stored: none for an ordinary live commit.
    session_origin: str | None = None


def decide(
    submission: Submission,
    committed: Sequence[Change],
    current_rev: int,
    *,
    stored_ids: Collection[str],
    session_timeout: Millis,
    max_steps: int | None = None,
    checkpoint: Callable[[], object] | None = None,
) -> Decision:
    """What to store and to answer (`docs/internals/ot.md` 14.6).

    `committed` is everything after the submission's base, up to `current_rev`. `stored_ids` are
    those that the store has refused as committed already. Raises `StaleSubmissionError` when the
    transform would take more than `max_steps`. `checkpoint` is called in the course of a long
    transform; what it raises ends it.
    """
    unique: dict[str, Change] = {}  # the first of each id
    for change in submission.changes:
        if change.id not in stored_ids:
            unique.setdefault(change.id, change)
    queue = list(unique.values())
    historical = submission.options.historical_import
    if not committed and not historical and not submission.is_session(queue, session_timeout):
        # Nothing to meet, which is how most commits are: the same as below, with less to ask.
        to_store = _numbered(_effective(submission, queue), current_rev)
        return Decision(catch_up=[], to_store=to_store)
    rows = _Rows(submission, committed)
    incoming = [change for change in queue if change.id not in rows.own_ids]
    if not incoming:
        return Decision(catch_up=rows.catch_up, to_store=[])
    session = submission.is_session(incoming, session_timeout)
    if session and not rows.foreign:
        to_store = _numbered(incoming, current_rev, keep_claimed=historical)
        return Decision(catch_up=rows.catch_up, to_store=to_store, session_origin="main")
    to_store = _transformed(submission, queue, incoming, rows, current_rev, max_steps, checkpoint)
    origin = "main" if historical else "offline-branch"
    return Decision(
        catch_up=rows.catch_up, to_store=to_store, session_origin=origin if session else None
    )


class _Rows:
    """The committed changes since the base: the sender's own, and those of others."""

    def __init__(self, submission: Submission, committed: Sequence[Change]) -> None:
        self._submission = submission
        self._batch_id = submission.batch_id
        self._sender: str | None = None
        for change in submission.changes:
            if change.client_id:
                self._sender = change.client_id
                break
        self.committed = committed
        self.foreign: list[Change] = []
        self.own_ids: set[str] = set()
        self._own_revs: set[int] = set()
        resent: list[Change] = []
        for row in committed:
            if not self._tell_own(row):
                self.foreign.append(row)
                continue
            self._own_revs.add(row.rev)
            if row.id in submission.sent_at:
                self.own_ids.add(row.id)
                resent.append(row)
        # The sender's own are echoed, those of earlier batches that were not sent again are not.
        self.catch_up = sorted([*self.foreign, *resent], key=_rev) if resent else self.foreign

    def is_own(self, row: Change) -> bool:
        """Whether a committed change is the sender's own."""
        return row.rev in self._own_revs

    def _tell_own(self, row: Change) -> bool:
        submission = self._submission
        same_origin = (
            self._sender is None or not row.client_id or row.client_id == self._sender
        ) or (submission.resumes_upload and row.rev <= submission.initial_rev)
        sent_at = submission.sent_at.get(row.id)
        if sent_at is not None:
            return same_origin or _made_at_the_same_time(row, sent_at)
        # An upload in batches is named for its first change. Its parts are one sender's, over
        # whatever connection each came: one that is not sent again with the rest is no less part
        # of what the rest was made after.
        return self._batch_id is not None and self._batch_id in (row.batch_id, row.id)


def _made_at_the_same_time(row: Change, sent_at: Millis) -> bool:
    # The server lowers a time that was ahead of its own clock.
    return not sent_at or not row.created_at or row.created_at == min(sent_at, row.committed_at)


def _transformed(
    submission: Submission,
    queue: list[Change],
    incoming: list[Change],
    rows: _Rows,
    current_rev: int,
    max_steps: int | None,
    checkpoint: Callable[[], object] | None,
) -> list[Change]:
    force = submission.options.force_commit
    if not rows.foreign:
        return _numbered(_effective(submission, incoming), current_rev)
    if max_steps is not None:
        _refuse_long_transform(submission.doc_id, queue, rows.foreign, max_steps)
    return transform_incoming_changes(
        queue,
        rows.committed,
        current_rev,
        force_commit=force,
        is_own_committed=rows.is_own,
        checkpoint=checkpoint,
    )


def _effective(submission: Submission, changes: list[Change]) -> list[Change]:
    """The changes that are stored: those without operations only if that is requested."""
    if submission.options.force_commit:
        return changes
    return [change for change in changes if change.ops]


def _refuse_long_transform(
    doc_id: str, queue: list[Change], foreign: list[Change], max_steps: int
) -> None:
    incoming_steps = sum(map(_steps_of, queue))
    # By the number of rows first: they are not decoded for a transform that will not happen.
    if incoming_steps * len(foreign) <= max_steps:
        committed_steps = sum(map(_steps_of, foreign))
        if incoming_steps * committed_steps <= max_steps:
            return
    incoming_ops = sum(len(change.ops) for change in queue)
    raise StaleSubmissionError(
        f"Document {doc_id} has moved on too far to transform {incoming_ops} operations over "
        f"{len(foreign)} changes. Reload the document and send them on the current revision."
    )


def _steps_of(change: Change) -> int:
    """The operations of a change; one with two ends is passed over, and passes others, twice."""
    steps = len(change.ops)
    for op in change.ops:
        if "from" in op:
            steps += _MOVE_STEPS - 1
    return steps


def _numbered(
    changes: list[Change], current_rev: int, *, keep_claimed: bool = False
) -> list[Change]:
    if not keep_claimed:
        numbered: list[Change] = []
        for rev, change in enumerate(changes, start=current_rev + 1):
            numbered.append(change if change.rev == rev else change.replace(rev=rev))
        return numbered
    holes = [
        change.rev
        for change, before in zip(changes[1:], changes, strict=False)
        if change.rev != before.rev + 1
    ]
    if holes or changes[0].rev > current_rev + 1:  # at or below it the store raises the conflict
        raise InvalidRequestError(
            f"the revisions of a historical import must follow on from {current_rev} without holes",
            {"scope": "doc"},
        )
    return changes


def _rev(change: Change) -> int:
    return change.rev
