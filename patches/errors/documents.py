"""Errors of documents, their edits and their unsent work."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from patches.errors.base import PatchesError

#: `data.reason` of an `AlgorithmMismatchError`.
ALGORITHM_REASON = "ALGORITHM"


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
        self.change_id: str = change_id
        self.rev: int = rev
        self.index: int = index
        self.cause: Exception = cause
        super().__init__(
            f"Failed to apply change {change_id} (rev {rev}, index {index} of batch): {cause}"
        )


class MissingChangesError(PatchesError):
    """Server changes do not follow on from the local revision: one or more were lost."""

    def __init__(self, *, expected_rev: int, got_rev: int, since_rev: int) -> None:
        self.expected_rev: int = expected_rev
        self.got_rev: int = got_rev
        self.since_rev: int = since_rev
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
        self.doc_id: str = doc_id
        self.old_rev: int = old_rev
        self.new_rev: int = new_rev
        self.old_state = old_state
        super().__init__(
            f"document {doc_id!r}: the server has another history than before; revision {old_rev} "
            f"was replaced by its revision {new_rev}, unsent changes were kept"
        )


class DocumentClosedError(PatchesError):
    """An edit, an undo or a redo of a document that was closed. Open it again."""


class OutdatedAnswerError(PatchesError):
    """An answer of the server is about another copy of the document than the one here now.

    Since the server was asked, the copy has been replaced by another process that shares the store
    (`is_replaced`), or has received more than the answer holds. It is at `rev` now. Nothing was
    changed; the request has to be repeated.
    """

    def __init__(self, doc_id: str, *, rev: int, is_replaced: bool) -> None:
        self.doc_id: str = doc_id
        self.rev: int = rev
        self.is_replaced: bool = is_replaced
        what = "was replaced" if is_replaced else "has moved on"
        super().__init__(
            f"document {doc_id!r} {what} since the request was sent; it is at revision {rev} now"
        )


class AlgorithmMismatchError(PatchesError):
    """400: a document keeps the algorithm it was made with: `expected`. It was used with `got`."""

    code: int = 400

    def __init__(self, doc_id: str, *, expected: str, got: str, on_server: bool = False) -> None:
        """`on_server`: it is a server that keeps the document so, and this client that used it."""
        self.doc_id: str = doc_id
        self.expected: str = expected
        self.got: str = got
        self.data: Mapping[str, Any] = {
            "scope": "doc",
            "reason": ALGORITHM_REASON,
            "docId": doc_id,
            "expected": expected,
            "got": got,
        }
        if on_server:
            message = f"document {doc_id!r} is {expected} on the server; open it with "
            message += f"algorithm={expected!r}"
            if (expected, got) == ("ot", "lww"):
                message += f", choose an id like 'lww/{doc_id}', or serve it with --route "
                message += f"'{doc_id}=lww'"
        else:
            message = f"document {doc_id!r} is kept with the algorithm {expected!r} and cannot be "
            message += f"used as {got!r}; close_doc({doc_id!r}, untrack=True), then open it with "
            message += f"algorithm={expected!r}"
        super().__init__(message)


class UnsupportedOperationError(PatchError):
    """The document's algorithm does not support this operation. The message says what does."""


class StateReadOnlyError(PatchesError, TypeError):
    """A write to `doc.state`, which is read-only. Noticed in debug mode alone."""


class StateTypeError(PatchesError, TypeError):
    """A value does not fit the type that the document was opened with.

    `path`: the JSON Pointer of its place; `expected`, `found`: what belongs there and what is
    there.
    """

    def __init__(self, path: str, expected: str, found: str, *, message: str | None = None) -> None:
        self.path: str = path
        self.expected: str = expected
        self.found: str = found
        super().__init__(message or f"{path or 'the state'}: expected {expected}, found {found}")


class ShapeTooNewError(PatchesError):
    """A document was migrated to a shape that this program does not know. Update the program."""

    def __init__(self, doc_id: str, *, shape: int, known: int) -> None:
        self.doc_id: str = doc_id
        self.shape: int = shape
        self.known: int = known
        super().__init__(
            f"document {doc_id!r} has shape {shape}, this program knows {known}; update it"
        )


class AnchorExpiredError(PatchesError):
    """An anchor that was shared is too old: the changes since then cannot be had any more."""

    def __init__(self, doc_id: str, *, rev: int, committed_rev: int) -> None:
        self.doc_id: str = doc_id
        self.rev: int = rev
        self.committed_rev: int = committed_rev
        super().__init__(
            f"document {doc_id!r}: an anchor of revision {rev} cannot be followed to revision "
            f"{committed_rev}; for places that have to last, use a mark"
        )


class StreamTargetGoneError(PatchesError):
    """The text that is being streamed into a document was deleted by others."""


class ReadOnlyError(PatchesError):
    """An edit of a document that its user may only read."""

    def __init__(self, doc_id: str) -> None:
        self.doc_id = doc_id
        super().__init__(f"document {doc_id!r}: you may read it, but not edit it")


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
        self.op: str = op
        self.path: str = path
        self.size: int = size
        self.limit: int = limit
        self.doc_id: str | None = doc_id
        self.change_id: str = change_id
        super().__init__(
            f'Operation {op} at "{path}" is {size} bytes, cannot be split, and exceeds the '
            f"{limit}-byte limit"
        )


class UnstoredPendingError(PatchesError):
    """Pending changes that the open document holds and its store has lost; they cannot be sent."""

    def __init__(self, doc_id: str, change_ids: Sequence[str]) -> None:
        self.doc_id: str = doc_id
        self.change_ids: tuple[str, ...] = tuple(change_ids)
        super().__init__(
            f"{len(self.change_ids)} pending change(s) for {doc_id} are in the open doc but not "
            f"the store, so they cannot be sent: {', '.join(self.change_ids)}"
        )


class CommittedPoisonSkippedError(PatchesError):
    """A committed change that no replica here can apply was replaced by an empty one."""

    def __init__(self, doc_id: str, change_id: str, rev: int) -> None:
        self.doc_id: str = doc_id
        self.change_id: str = change_id
        self.rev: int = rev
        super().__init__(
            f"document {doc_id!r}: committed change {change_id} (rev {rev}) cannot be applied and "
            f"was skipped"
        )


class PendingChangeError(PatchesError):
    """A pending or quarantined change cannot be ejected, discarded or retried."""
