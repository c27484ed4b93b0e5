"""A submission: what a client sends, checked, with revisions and times filled in. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from patches.errors import ChangeRefusedError, InvalidRequestError, StaleSubmissionError
from patches.json_patch.text_values import without_empty_text_parts
from patches.model.change import Change, ChangeInput
from patches.runtime import Millis
from patches_server.documents.records import CommitOptions

_DEFAULTS: Final = CommitOptions()


@dataclass(slots=True, kw_only=True)
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

    def is_session(self, changes: Sequence[Change], session_timeout: Millis) -> bool:
        """Whether changes were made offline: parts of an upload, or older than a session."""
        if not changes:
            return False
        is_part = bool(self.changes[0].batch_id)
        return is_part or self.now - changes[0].created_at > session_timeout


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


def session_gap(created_at: Millis, submission: Submission, session_timeout: Millis) -> bool:
    """Whether the newest committed change, made at `created_at`, ended a session (14.7)."""
    historical = submission.options.historical_import
    compared = submission.changes[0].created_at if historical else submission.now
    return compared - created_at > session_timeout


def crosses_count(submission: Submission, step: int) -> bool:
    """Whether a submission takes the log over a multiple of `step` revisions (14.7)."""
    if step <= 0:
        return False
    # The head after this submission, as its sender expects it, or more.
    changes, head = submission.changes, submission.initial_rev
    return head // step < max(head + len(changes), changes[-1].rev) // step


def _created_by(changes: Sequence[Change | ChangeInput], first_change: Change) -> bool:
    batch_id = changes[0].batch_id
    return bool(batch_id and first_change.batch_id == batch_id) or any(
        change.id == first_change.id for change in changes
    )


def _root_op_in(changes: Iterable[Change | ChangeInput]) -> Change | ChangeInput | None:
    for change in changes:
        for op in change.ops:
            if op.get("path") == "":
                return change
    return None


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
