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

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from patches.algorithms.ot import transform_incoming_changes
from patches.errors import ChangeRefusedError, InvalidRequestError, StaleSubmissionError
from patches.json_patch.text_values import without_empty_text_parts
from patches.model.change import Change, ChangeInput
from patches.runtime import Millis
from patches_server.documents.records import CommitOptions

_DEFAULTS: Final = CommitOptions()

#: A transform of a `move` or `copy` takes about as many steps as this, measured against `remove`.
_MOVE_STEPS: Final = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """A client's changes as the server takes them: revisions and times filled in and clamped."""

    doc_id: str
    changes: list[Change]
    sent_at: dict[str, Millis]  # by id, what the client said; 0 if it did not
    base_rev: int
    initial_rev: int  # the head when it was admitted
    now: Millis
    options: CommitOptions
    resumes_upload: bool  # a creation that the same upload began
    reload_required: bool  # put onto the head untransformed: the client must load the document

    @property
    def batch_id(self) -> str | None:
        """The upload that these changes are a part of."""
        return self.changes[0].batch_id or None

    @property
    def claimed_tip(self) -> int:
        """The head after this submission, as its sender expects it, or more."""
        return max(self.initial_rev + len(self.changes), self.changes[-1].rev)


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What to store, and what to answer before it."""

    catch_up: list[Change]
    to_store: list[Change]
    #: The versions to make of what was stored: none for an ordinary live commit.
    session_origin: str | None = None


def needs_first_change(
    changes: Sequence[Change | ChangeInput], options: CommitOptions | None, initial_rev: int
) -> bool:
    """Whether `admit` has to know the oldest change of the log."""
    if not initial_rev:
        return False
    if changes[0].base_rev == 0:
        return True
    return not (options or _DEFAULTS).allow_root_replace and _root_op_in(changes) is not None


def admit(
    doc_id: str,
    changes: Sequence[Change | ChangeInput],
    options: CommitOptions | None,
    *,
    initial_rev: int,
    first_change: Change | None,
    client_id: str | None,
    now: Millis,
) -> Submission:
    """Check and normalise a submission that is not empty (`docs/internals/ot.md` 14.3 and 14.5).

    `first_change` is the oldest of the log, where `needs_first_change` asks for it. Raises
    `ChangeRefusedError` for a root write to a document that exists, `InvalidRequestError` for mixed
    base revisions and for operations of another algorithm, `StaleSubmissionError` for changes that
    this history cannot take.
    """
    options = options or _DEFAULTS
    _refuse_timestamps(doc_id, changes)
    resumes = reload_required = False
    if initial_rev:
        own_upload = first_change is not None and _created_by(changes, first_change)
        if not options.allow_root_replace and not own_upload:
            _refuse_root_writes(doc_id, changes, initial_rev)
        if changes[0].base_rev == 0:
            _refuse_continuation(doc_id, changes[0], options, initial_rev, own_upload=own_upload)
            resumes, reload_required = own_upload, not own_upload
    base_rev = changes[0].base_rev
    if base_rev is None or reload_required:
        base_rev = initial_rev
    normalised = _normalised(
        doc_id,
        changes,
        options,
        base_rev=base_rev,
        relabel=reload_required,
        client_id=client_id,
        now=now,
    )
    if base_rev > initial_rev:
        raise StaleSubmissionError(
            f"Client baseRev ({base_rev}) is ahead of server revision ({initial_rev}) for doc "
            f"{doc_id}. Client needs to reload the document."
        )
    return Submission(
        doc_id=doc_id,
        changes=normalised,
        sent_at={change.id: change.created_at or 0 for change in reversed(changes)},
        base_rev=base_rev,
        initial_rev=initial_rev,
        now=now,
        options=options,
        resumes_upload=resumes,
        reload_required=reload_required,
    )


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
    rows = _Rows(submission, committed)
    incoming = [change for change in queue if change.id not in rows.own_ids]
    if not incoming:
        return Decision(catch_up=rows.catch_up, to_store=[])
    historical = submission.options.historical_import
    session = submission.batch_id is not None or (
        submission.now - incoming[0].created_at > session_timeout
    )
    if session and not rows.foreign:
        to_store = _numbered(incoming, current_rev, keep_claimed=historical)
        return Decision(catch_up=rows.catch_up, to_store=to_store, session_origin="main")
    to_store = _transformed(submission, queue, incoming, rows, current_rev, max_steps, checkpoint)
    origin = "main" if historical else "offline-branch"
    return Decision(
        catch_up=rows.catch_up, to_store=to_store, session_origin=origin if session else None
    )


def session_gap(created_at: Millis, submission: Submission, session_timeout: Millis) -> bool:
    """Whether the newest committed change, made at `created_at`, ended a session (14.7)."""
    historical = submission.options.historical_import
    compared = submission.changes[0].created_at if historical else submission.now
    return compared - created_at > session_timeout


def crosses_count(submission: Submission, step: int) -> bool:
    """Whether a submission takes the log over a multiple of `step` revisions (14.7)."""
    return step > 0 and submission.initial_rev // step < submission.claimed_tip // step


class _Rows:
    """The committed changes since the base, told apart by whose they are."""

    def __init__(self, submission: Submission, committed: Sequence[Change]) -> None:
        self._submission = submission
        self._batch_id = submission.batch_id
        self._sender = next((c.client_id for c in submission.changes if c.client_id), None)
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
        return _numbered([change for change in incoming if change.ops or force], current_rev)
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


def _refuse_long_transform(
    doc_id: str, queue: list[Change], foreign: list[Change], max_steps: int
) -> None:
    incoming_ops = sum(len(change.ops) for change in queue)
    incoming_steps = sum(map(_steps_of, queue))
    # By the number of rows first: they are not decoded for a transform that will not happen.
    if incoming_steps * len(foreign) <= max_steps:
        committed_steps = sum(map(_steps_of, foreign))
        if incoming_steps * committed_steps <= max_steps:
            return
    raise StaleSubmissionError(
        f"Document {doc_id} has moved on too far to transform {incoming_ops} operations over "
        f"{len(foreign)} changes. Reload the document and send them on the current revision."
    )


def _steps_of(change: Change) -> int:
    """The operations of a change; one with two ends is passed over, and passes others, twice."""
    return sum(_MOVE_STEPS if "from" in op else 1 for op in change.ops)


def _numbered(
    changes: list[Change], current_rev: int, *, keep_claimed: bool = False
) -> list[Change]:
    if not keep_claimed:
        return [
            change if change.rev == rev else change.replace(rev=rev)
            for rev, change in enumerate(changes, start=current_rev + 1)
        ]
    holes = [
        change.rev
        for change, before in zip(changes[1:], changes, strict=False)
        if change.rev != before.rev + 1
    ]
    if holes or changes[0].rev > current_rev + 1:  # at or below it the store tells of the conflict
        raise InvalidRequestError(
            f"the revisions of a historical import must follow on from {current_rev} without holes",
            {"scope": "doc"},
        )
    return changes


def _created_by(changes: Sequence[Change | ChangeInput], first_change: Change) -> bool:
    batch_id = changes[0].batch_id
    return bool(batch_id and first_change.batch_id == batch_id) or any(
        change.id == first_change.id for change in changes
    )


def _root_op_in(changes: Iterable[Change | ChangeInput]) -> Change | ChangeInput | None:
    return next((c for c in changes if any(op.get("path") == "" for op in c.ops)), None)


def _refuse_root_writes(
    doc_id: str, changes: Sequence[Change | ChangeInput], initial_rev: int
) -> None:
    change = _root_op_in(changes)
    if change is not None:
        raise ChangeRefusedError(
            change.id,
            f"Document {doc_id} already exists (rev {initial_rev}). Cannot apply root-level "
            f"replace (path: '') - this would overwrite the existing document. Load the existing "
            f"document first, or use nested paths instead of replacing at root.",
        )


def _refuse_continuation(
    doc_id: str,
    first: Change | ChangeInput,
    options: CommitOptions,
    initial_rev: int,
    *,
    own_upload: bool,
) -> None:
    continues = (first.rev or 0) > 1 and not options.historical_import
    if continues and not own_upload:
        raise StaleSubmissionError(
            f"Document {doc_id} already exists (rev {initial_rev}) and was not created by this "
            f"upload. Cannot continue a baseRev 0 upload onto it - these changes were made "
            f"against state the client has since reloaded. Reload the document and re-send them "
            f"on the current revision."
        )


def _refuse_timestamps(doc_id: str, changes: Sequence[Change | ChangeInput]) -> None:
    for change in changes:
        for op in change.ops:
            if op.get("ts") is not None:
                raise InvalidRequestError(
                    f"Document {doc_id} is kept with operational transformation; change "
                    f"{change.id} has operations with a timestamp, which are last-write-wins",
                    {"scope": "doc"},
                )


def _normalised(
    doc_id: str,
    changes: Sequence[Change | ChangeInput],
    options: CommitOptions,
    *,
    base_rev: int,
    relabel: bool,
    client_id: str | None,
    now: Millis,
) -> list[Change]:
    normalised: list[Change] = []
    next_rev = base_rev + 1
    for change in changes:
        own_base = base_rev if relabel or change.base_rev is None else change.base_rev
        if own_base != base_rev and not options.historical_import:
            raise InvalidRequestError(
                f"Client changes must have consistent baseRev in all changes for doc {doc_id}.",
                {"scope": "doc"},
            )
        rev = next_rev if change.rev is None else change.rev
        next_rev = rev + 1
        normalised.append(
            Change(
                id=change.id,
                ops=without_empty_text_parts(change.ops),
                base_rev=own_base,
                rev=rev,
                created_at=min(change.created_at or now, now),
                committed_at=(options.historical_import and change.committed_at) or now,
                batch_id=change.batch_id,
                client_id=client_id or change.client_id,
                metadata=change.metadata,
            )
        )
    return normalised


def _rev(change: Change) -> int:
    return change.rev
