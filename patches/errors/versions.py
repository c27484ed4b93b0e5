"""Errors of versions and branches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from patches.errors.base import PatchesError


class BranchError(PatchesError):
    """A branch call that cannot be carried out."""


class MergePartialProgressError(BranchError):
    """A merge failed after it had begun. What it committed stays; merging again resumes it."""

    code: str = "MERGE_PARTIAL_PROGRESS"

    def __init__(
        self,
        branch_id: str,
        *,
        committed_changes: Sequence[Any],
        merged_through_rev: int,
        cause: Exception,
    ) -> None:
        self.branch_id: str = branch_id
        self.merged_through_rev: int = merged_through_rev
        self.committed_changes: Sequence[Any] = committed_changes
        self.cause: Exception = cause
        super().__init__(
            f"Merge of branch {branch_id} failed after committing {len(committed_changes)} changes "
            f"(merged through branch rev {merged_through_rev}). The committed prefix is permanent; "
            f"retrying the merge resumes and completes it. Cause: {cause}"
        )


class MergeFrameAlignmentError(BranchError):
    """The branch's log no longer has changes that a merge must pass: it can not be resumed."""

    code: str = "MERGE_FRAME_ALIGNMENT"

    def __init__(
        self, branch_id: str, *, log_rev: int, frame_rev: int, missing_ids: Sequence[str]
    ) -> None:
        self.branch_id: str = branch_id
        self.missing_ids: tuple[str, ...] = tuple(missing_ids)
        super().__init__(
            f"Merge frame alignment failed for branch {branch_id}: the branch log resumes at rev "
            f"{log_rev}, past the frame's position ({frame_rev}). Retrying cannot succeed; the "
            f"branch's raw change log no longer contains changes its committed merge rows "
            f"reference (ids: {', '.join(missing_ids)})."
        )


class MergeContentDuplicationError(BranchError):
    """A merge would double text that the source document has already. Nothing was written."""

    code: str = "MERGE_CONTENT_DUPLICATION"

    def __init__(self, source_doc_id: str, *, path: str, duplicated_chars: int) -> None:
        self.source_doc_id: str = source_doc_id
        self.path: str = path
        self.duplicated_chars = duplicated_chars
        super().__init__(
            f"Merge aborted: committing this batch would duplicate {duplicated_chars} chars of "
            f'existing content at "{path}" of {source_doc_id} (content-doubling signature \u2014 '
            f"the merge floor likely undercounts the branch's seed; refusing to corrupt the "
            f"document)."
        )


class HistoryUnavailableError(PatchesError):
    """The server keeps no history that it would show, such as that of @dabble/patches."""

    def __init__(self, doc_id: str) -> None:
        self.doc_id = doc_id
        super().__init__(f"document {doc_id!r}: the server has no history to show; use versions")


class VersionError(PatchesError):
    """A version call that cannot be carried out."""
