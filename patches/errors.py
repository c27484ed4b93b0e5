"""Every error of the toolkit, clients' and servers' and stores', in one tree.

    PatchesError
    ├── PatchError (ValueError)          operations cannot be applied, transformed or inverted
    │   ├── OpsRefusedError              operations that are malformed, or beyond a limit
    │   ├── InvalidValueError            a value is not JSON, or some replica could not hold it
    │   ├── UnsupportedOperationError    an operation that the algorithm does not support
    │   ├── NotARowOperationError        an operation on tables that is no change of rows
    │   └── InvalidRowError              a row or a value that its table does not take
    ├── InvalidConditionError (ValueError)   a condition over columns that cannot be tried
    ├── ActionsOnlyError                 a document of actions is edited in another way
    ├── ActionRefusedError               an action goes beyond a limit
    ├── ImpureActionError                an action does something else when it runs again
    ├── DuplicateIdentityError           an action inserts two rows of one identity
    ├── WritesRefusedError               SQL that reads or writes what it may not
    ├── AudienceDeniedError              an action writes a row that its author may not see
    ├── SchemaError                      a declaration of tables that is wrong
    ├── SchemaTooOldError                a table or column of the server's that is not declared here
    ├── InvalidJsonError (ValueError)    bytes that are not JSON
    ├── ApplyChangesError                a change does not apply to the state it was made for
    ├── MissingChangesError              server changes do not follow on from the local revision
    ├── HistoryChangedError              the server has another history of a document than before
    ├── AlgorithmMismatchError           a document is used with another algorithm than its own
    ├── StateReadOnlyError (TypeError)   a write to `doc.state`, noticed in debug mode
    ├── WrongThreadError                 a document is used from another thread than its own
    ├── WrongLoopError                   a client is used from another event loop than its own
    ├── DocNotTrackedError               the call needs a tracked document
    ├── DeletionPendingError             a document whose deletion has not reached the server
    ├── QueueFullError                   too much unsent work on one document
    ├── UnsplittableChangeError          an operation too large to send, and not divisible
    ├── UnstoredPendingError             unsent work that the store has lost
    ├── CommittedPoisonSkippedError      a committed change that cannot be applied was skipped
    ├── PendingChangeError               a pending change cannot be ejected or retried
    ├── StorageError                     a store failed
    │   ├── StorageTimeoutError, StorageFullError, CorruptDataError, WrongFileError
    ├── RevConflictError                 a store write rested on a revision that has moved
    ├── DuplicateChangeIdsError          a store write holds ids that are committed already
    ├── ConvergenceError                 a read-decide-write loop lost too often to another writer
    ├── BranchError, VersionError        a branch or version call that cannot be carried out
    │   └── MergePartialProgressError, MergeFrameAlignmentError, MergeContentDuplicationError
    ├── NetworkError                     no answer came: a dead socket, a time-out
    │   └── FrameTooLargeError           the peer closed the socket over a frame of ours
    ├── JSONRPCError                     the peer answered with an error without a status
    │   └── JSONRPCParseError            the peer sent something that is not JSON
    └── StatusError                      an answer with a status code
        ├── 400 InvalidRequestError, 400/413 ChangeRefusedError, 401 UnauthorizedError,
        └── 403 ForbiddenError, 404 NotFoundError, 409 StaleSubmissionError,
            409 OtherHistoryError, 410 DocDeletedError, 429 TooManyRequestsError,
            503 UnavailableError

A class carries its wire `code` and `data`, where it has them; a `PatchesError` without a code goes
over the wire as -32000 with its message and no data (`docs/decisions.md`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, TypeAlias

#: `data.reason` of an `AlgorithmMismatchError`.
ALGORITHM_REASON = "ALGORITHM"

#: Answers that no retry can change.
TERMINAL_CODES = frozenset({401, 402, 403, 404, 410})


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorContext:
    """What an error on `on_error` is about, of `Patches`, `PatchesSync` and an algorithm alike."""

    doc_id: str | None = None
    #: The change that was refused or skipped, if the error is about one.
    change_id: str | None = None
    #: Why an edit could not be stored: `"rejection"` and `"defective"` edits were taken back,
    #: `"environment"` is the disk.
    kind: Literal["rejection", "defective", "environment"] | None = None
    #: Whether storing the edit is tried again, and how many tries have failed.
    will_retry: bool = False
    attempt: int = 1
    #: Whether storing failed too often: edits wait for `Patches.retry_saving_changes`.
    latched: bool = False


class PatchesError(Exception):
    """Base of all errors of this toolkit. `code` and `data` are what the wire carries."""

    code: int | str | None = None
    data: Mapping[str, Any] | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        # By its facts: an `__init__` that makes the message of them cannot be given the message.
        return _rebuilt, (type(self), self.args, self.__dict__.copy())


def _rebuilt(cls: type[PatchesError], args: tuple[Any, ...], facts: dict[str, Any]) -> PatchesError:
    error = cls.__new__(cls, *args)
    error.__dict__.update(facts)
    return error


class PatchError(PatchesError, ValueError):
    """An operation list cannot be applied, transformed, composed or inverted."""


class InvalidValueError(PatchError):
    """A value that is not JSON, or that some replica could not hold. `path` is where it stands."""

    def __init__(self, message: str, *, path: str) -> None:
        self.path = path
        super().__init__(message)


class OpsRefusedError(PatchError):
    """Operations that are refused before any work: malformed (400) or beyond a limit (413)."""

    def __init__(self, message: str, *, code: int = 400) -> None:
        self.code: int = code
        super().__init__(message)


class InvalidJsonError(PatchesError, ValueError):
    """Bytes or a string that is not JSON."""


class ApplyChangesError(PatchesError):
    """A change does not apply cleanly to the state it should follow."""

    def __init__(self, change_id: str, *, rev: int, index: int, cause: Exception) -> None:
        self.change_id, self.rev, self.index, self.cause = change_id, rev, index, cause
        super().__init__(
            f"Failed to apply change {change_id} (rev {rev}, index {index} of batch): {cause}"
        )


class MissingChangesError(PatchesError):
    """Server changes do not follow on from the local revision: one or more were lost."""

    def __init__(self, *, expected_rev: int, got_rev: int, since_rev: int) -> None:
        self.expected_rev, self.got_rev, self.since_rev = expected_rev, got_rev, since_rev
        super().__init__(
            f"Missing changes from the server. Expected rev {expected_rev}, got {got_rev}. "
            f"Request changes since {since_rev}."
        )


class HistoryChangedError(PatchesError):
    """The server has another history of a document than the one this copy was made from.

    Its storage was replaced or set back, or the document was deleted and made again. The copy has
    been fetched anew, with the unsent work on top. `old_state` is what was shown before, unsent
    work included.
    """

    def __init__(self, doc_id: str, *, old_rev: int, new_rev: int, old_state: Any) -> None:
        self.doc_id, self.old_rev, self.new_rev = doc_id, old_rev, new_rev
        self.old_state = old_state
        super().__init__(
            f"document {doc_id!r}: the server has another history than before; revision {old_rev} "
            f"was replaced by its revision {new_rev}, unsent changes were kept"
        )


class AlgorithmMismatchError(PatchesError):
    """400: a document keeps the algorithm it was made with: `expected`. It was used with `got`."""

    code = 400

    def __init__(self, doc_id: str, *, expected: str, got: str) -> None:
        self.doc_id, self.expected, self.got = doc_id, expected, got
        self.data: Mapping[str, Any] = {
            "scope": "doc",
            "reason": ALGORITHM_REASON,
            "docId": doc_id,
            "expected": expected,
            "got": got,
        }
        super().__init__(
            f"document {doc_id!r} is kept with the algorithm {expected!r} and cannot be used as "
            f"{got!r}; close_doc({doc_id!r}, untrack=True), then open it with "
            f"algorithm={expected!r}"
        )


class UnsupportedOperationError(PatchError):
    """The document's algorithm does not support this operation. The message says what does."""


class NotARowOperationError(PatchError):
    """An operation that is no change of rows: the document's state is tables."""

    def __init__(self, index: int, op: object, path: object) -> None:
        self.index, self.op, self.path = index, op, path
        super().__init__(
            f"operation {index} ({op!r} at {path!r}) is no change of rows: expected add "
            f"or remove at /table/key, or replace at /table/key/column"
        )


class InvalidRowError(PatchError):
    """A row, or a value of a column, that its table does not take. Nothing was written."""

    code = 400

    def __init__(self, table: str, column: str | None, problem: str) -> None:
        self.table, self.column, self.problem = table, column, problem
        place = table if column is None else f"{table}.{column}"
        super().__init__(f"{place}: {problem}")


class InvalidConditionError(PatchesError, ValueError):
    """A condition that is malformed, too large, or about a column that is not there."""

    code = 400


class ActionsOnlyError(PatchesError):
    """The document is changed by actions alone: `doc.run(action, ...)`."""

    def __init__(self, doc_id: str) -> None:
        self.doc_id = doc_id
        super().__init__(f"document {doc_id!r} is changed by actions alone; use doc.run(action)")


class ActionRefusedError(PatchesError):
    """An action that writes too much or runs for too long. Nothing of it is left."""


class ImpureActionError(PatchesError):
    """An action that does something else when it is run a second time on the same rows."""

    def __init__(self, action: str, *, table: str, key: str, columns: Sequence[str]) -> None:
        self.action, self.table, self.key, self.columns = action, table, key, tuple(columns)
        super().__init__(
            f"action {action!r} is not deterministic: run twice, it gives another row "
            f"{table}/{key} ({', '.join(columns)}); use tx.now, tx.random() and tx.id() instead"
        )


class DuplicateIdentityError(PatchesError):
    """An action inserts two rows whose identity columns are equal: they would be one row."""

    def __init__(self, table: str, columns: Sequence[str]) -> None:
        self.table, self.columns = table, tuple(columns)
        super().__init__(
            f"two rows of {table!r} with one identity ({', '.join(columns)}) in one action"
        )


class WritesRefusedError(PatchesError):
    """SQL that writes outside of an action, or uses what gives another result elsewhere."""


class AudienceDeniedError(PatchesError):
    """An action writes a row whose audience its author does not belong to."""

    code = 403

    def __init__(self, table: str, audience: str) -> None:
        self.table, self.audience = table, audience
        super().__init__(f"{table}: the author may not write rows of the audience {audience!r}")


class SchemaError(PatchesError):
    """A declaration of tables that is wrong. Raised when it is made."""


class SchemaTooOldError(PatchesError):
    """The server has a table or column that is not declared here. Unsent work is kept; update."""

    def __init__(self, doc_id: str, table: str, column: str | None) -> None:
        self.doc_id, self.table, self.column = doc_id, table, column
        what = f"table {table!r}" if column is None else f"column {table}.{column}"
        super().__init__(
            f"document {doc_id!r}: the server has the {what}, which is not in the schema here; "
            f"update the application"
        )


class StateReadOnlyError(PatchesError, TypeError):
    """A write to `doc.state`, which is read-only. Noticed in debug mode alone."""


class WrongThreadError(PatchesError):
    """An edit from another thread than the one whose event loop owns the document."""


class WrongLoopError(PatchesError):
    """A call from another event loop than the one that owns the client, or from none."""


class DocNotTrackedError(PatchesError):
    """The call needs a document that is tracked here."""

    def __init__(self, doc_id: str) -> None:
        self.doc_id = doc_id
        super().__init__(f"document {doc_id!r} is not tracked; open or track it first")


class DeletionPendingError(PatchesError):
    """The document was deleted here, and the server does not know it yet. Connect first."""

    def __init__(self, doc_id: str) -> None:
        self.doc_id = doc_id
        super().__init__(
            f"document {doc_id!r} was deleted here, and the deletion was not sent to the server "
            f"yet; it can be opened again after that"
        )


class QueueFullError(PatchesError):
    """A document holds as much unsent work as `Limits` allow; it is unchanged."""


class UnsplittableChangeError(PatchesError):
    """One operation is larger than a change may be and cannot be divided."""

    def __init__(
        self, op: str, path: str, *, size: int, limit: int, doc_id: str | None, change_id: str
    ) -> None:
        self.op, self.path, self.size, self.limit = op, path, size, limit
        self.doc_id, self.change_id = doc_id, change_id
        super().__init__(
            f'Operation {op} at "{path}" is {size} bytes, cannot be split, and exceeds the '
            f"{limit}-byte limit"
        )


class UnstoredPendingError(PatchesError):
    """Pending changes that the open document holds and its store has lost; they cannot be sent."""

    def __init__(self, doc_id: str, change_ids: Sequence[str]) -> None:
        self.doc_id, self.change_ids = doc_id, tuple(change_ids)
        super().__init__(
            f"{len(self.change_ids)} pending change(s) for {doc_id} are in the open doc but not "
            f"the store, so they cannot be sent: {', '.join(self.change_ids)}"
        )


class CommittedPoisonSkippedError(PatchesError):
    """A committed change that no replica here can apply was replaced by an empty one."""

    def __init__(self, doc_id: str, change_id: str, rev: int) -> None:
        self.doc_id, self.change_id, self.rev = doc_id, change_id, rev
        super().__init__(
            f"document {doc_id!r}: committed change {change_id} (rev {rev}) cannot be applied and "
            f"was skipped"
        )


class PendingChangeError(PatchesError):
    """A pending or quarantined change cannot be ejected, discarded or retried."""


class StorageError(PatchesError):
    """A store could not read or write."""

    code = 503
    data: Mapping[str, Any] | None = {"reason": "STORAGE"}


class StorageTimeoutError(StorageError):
    """A store did not answer in time."""


class StorageFullError(StorageError):
    """The disk, or the room a store may use, is full."""


class WrongFileError(StorageError):
    """A file is not of the expected kind, or of a newer version. Nothing was written to it."""


DamagedPart: TypeAlias = Literal["committed", "pending", "record", "quarantine"]


class CorruptDataError(StorageError):
    """A stored row does not match its checksum, or is missing.

    `doc_id` and `part` say whose and which, where that is known: what the server has too
    (`"committed"`), unsent work (`"pending"`), the record of a document or of the file, quarantine.
    """

    data: Mapping[str, Any] | None = {"reason": "CORRUPT"}

    def __init__(
        self, message: str, *, doc_id: str | None = None, part: DamagedPart | None = None
    ) -> None:
        self.doc_id, self.part = doc_id, part
        super().__init__(message)


class RevConflictError(PatchesError):
    """Another commit wrote to the revision that this one rested on. Nothing was stored."""

    def __init__(
        self, message: str = "Revision conflict: another commit wrote to the same revision"
    ) -> None:
        super().__init__(message)


class DuplicateChangeIdsError(PatchesError):
    """Some change ids are committed to the document already. Nothing was stored."""

    def __init__(self, doc_id: str, change_ids: Iterable[str]) -> None:
        self.doc_id, self.change_ids = doc_id, tuple(change_ids)
        super().__init__(
            f"Change id(s) already committed for doc {doc_id}: {', '.join(self.change_ids)}"
        )


class ConvergenceError(PatchesError):
    """A read-decide-write loop lost to another writer too often."""

    def __init__(self, method: str, doc_id: str, attempts: int) -> None:
        self.doc_id = doc_id
        super().__init__(f"{method} for {doc_id} did not converge after {attempts} attempts")


class BranchError(PatchesError):
    """A branch call that cannot be carried out as asked."""


class MergePartialProgressError(BranchError):
    """A merge failed after it had begun. What it committed stays; merging again resumes it."""

    code = "MERGE_PARTIAL_PROGRESS"

    def __init__(
        self,
        branch_id: str,
        *,
        committed_changes: Sequence[Any],
        merged_through_rev: int,
        cause: Exception,
    ) -> None:
        self.branch_id, self.merged_through_rev = branch_id, merged_through_rev
        self.committed_changes, self.cause = committed_changes, cause
        super().__init__(
            f"Merge of branch {branch_id} failed after committing {len(committed_changes)} changes "
            f"(merged through branch rev {merged_through_rev}). The committed prefix is permanent; "
            f"retrying the merge resumes and completes it. Cause: {cause}"
        )


class MergeFrameAlignmentError(BranchError):
    """The branch's log no longer has changes that a merge must pass: it can not be resumed."""

    code = "MERGE_FRAME_ALIGNMENT"

    def __init__(
        self, branch_id: str, *, log_rev: int, frame_rev: int, missing_ids: Sequence[str]
    ) -> None:
        self.branch_id, self.missing_ids = branch_id, tuple(missing_ids)
        super().__init__(
            f"Merge frame alignment failed for branch {branch_id}: the branch log resumes at rev "
            f"{log_rev}, past the frame's position ({frame_rev}). Retrying cannot succeed; the "
            f"branch's raw change log no longer contains changes its committed merge rows "
            f"reference (ids: {', '.join(missing_ids)})."
        )


class MergeContentDuplicationError(BranchError):
    """A merge would double text that the source document has already. Nothing was written."""

    code = "MERGE_CONTENT_DUPLICATION"

    def __init__(self, source_doc_id: str, *, path: str, duplicated_chars: int) -> None:
        self.source_doc_id, self.path = source_doc_id, path
        self.duplicated_chars = duplicated_chars
        super().__init__(
            f"Merge aborted: committing this batch would duplicate {duplicated_chars} chars of "
            f'existing content at "{path}" of {source_doc_id} (content-doubling signature \u2014 '
            f"the merge floor likely undercounts the branch's seed; refusing to corrupt the "
            f"document)."
        )


class VersionError(PatchesError):
    """A version call that cannot be carried out as asked."""


class NetworkError(PatchesError):
    """No answer came: the socket is closed, was lost, or the peer was silent too long."""


class FrameTooLargeError(NetworkError):
    """The peer closed the socket over a frame of ours; the same frame would be refused again."""


class JSONRPCError(PatchesError):
    """The peer answered with an error that has no status code of its own."""

    def __init__(self, code: int, message: str, data: Mapping[str, Any] | None = None) -> None:
        self.code, self.data = code, data
        super().__init__(message)


class JSONRPCParseError(JSONRPCError):
    """The peer sent a frame that is not JSON. `raw` is the frame."""

    def __init__(self, raw: str) -> None:
        self.raw = raw
        super().__init__(-32700, f"Failed to parse a frame: {raw[:200]}")


class StatusError(PatchesError):
    """An answer with a status code. Servers raise it, clients get it."""

    def __init__(self, code: int, message: str, data: Mapping[str, Any] | None = None) -> None:
        self.code: int = code
        self.data = data
        super().__init__(message)

    @property
    def scope(self) -> Literal["change", "doc"] | None:
        """Whose fault it is: one change, the document's history, or neither."""
        scope = self.data.get("scope") if isinstance(self.data, Mapping) else None
        return scope if scope in ("change", "doc") else None

    @property
    def change_id(self) -> str | None:
        """The change that the server named, if it did."""
        change_id = self.data.get("changeId") if isinstance(self.data, Mapping) else None
        return change_id if isinstance(change_id, str) else None


class _FixedStatusError(StatusError):
    status: ClassVar[int] = 500

    def __init__(self, message: str, data: Mapping[str, Any] | None = None) -> None:
        super().__init__(self.status, message, data)


class InvalidRequestError(_FixedStatusError):
    """400: the request is not one that the method takes."""

    status = 400


class ChangeRefusedError(StatusError):
    """400 or 413: one change that any replica would refuse. Named, so that it can be set aside.

    `final`: it is against the server's own rules, so that its author's client sets it aside though
    it can be applied. `limit` is the field of `Limits` that the document would pass with it.
    """

    def __init__(
        self,
        change_id: str,
        message: str,
        *,
        code: int = 400,
        final: bool = False,
        limit: str | None = None,
    ) -> None:
        data: dict[str, Any] = {"changeId": change_id, "scope": "change"}
        if limit is not None:
            data["limit"] = limit
        if final:
            data["final"] = True
        super().__init__(code, message, data)


class UnauthorizedError(_FixedStatusError):
    """401: not signed in."""

    status = 401


class ForbiddenError(_FixedStatusError):
    """403: signed in, and not allowed."""

    status = 403


class NotFoundError(_FixedStatusError):
    """404: no such version or branch."""

    status = 404


class StaleSubmissionError(_FixedStatusError):
    """409: the submission cannot be used on this history; reload the document."""

    status = 409

    def __init__(self, message: str) -> None:
        super().__init__(message, {"scope": "doc"})


class OtherHistoryError(_FixedStatusError):
    """409: the caller's copy is of another history of the document; reload it, without a tail."""

    status = 409

    def __init__(self, doc_id: str) -> None:
        self.doc_id = doc_id
        super().__init__(
            f"Document {doc_id} has another history than this copy. Reload the document.",
            {"scope": "doc", "reason": "HISTORY"},
        )


class DocDeletedError(_FixedStatusError):
    """410: a tombstone stands in the document's place."""

    status = 410

    def __init__(self, doc_id: str, *, deleted_at: int, last_rev: int) -> None:
        self.doc_id, self.deleted_at, self.last_rev = doc_id, deleted_at, last_rev
        super().__init__(
            f"Document {doc_id} was deleted", {"deletedAt": deleted_at, "lastRev": last_rev}
        )


class TooManyRequestsError(_FixedStatusError):
    """429: slower, please. `retry_after_ms` is the least wait."""

    status = 429

    def __init__(self, message: str, *, retry_after_ms: int) -> None:
        super().__init__(message, {"retryAfterMs": retry_after_ms})


class UnavailableError(_FixedStatusError):
    """503: not now. The same request may succeed later."""

    status = 503
