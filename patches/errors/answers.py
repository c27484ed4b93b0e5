"""Errors of the network, and answers with a code: servers raise them, clients get them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from patches.errors.base import PatchesError

#: Answers that no retry can change.
TERMINAL_CODES = frozenset({401, 402, 403, 404, 410})


class NetworkError(PatchesError):
    """No answer came: the socket is closed, was lost, or the peer was silent too long."""


class FrameTooLargeError(NetworkError):
    """The peer closed the socket over a frame of ours; the same frame would be refused again."""


class JSONRPCError(PatchesError):
    """The peer answered with an error that has no status code of its own."""

    def __init__(self, code: int, message: str, data: Mapping[str, Any] | None = None) -> None:
        self.code: int = code
        self.data: Mapping[str, Any] | None = data
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
    `code` is 403 where rights refuse it, 409 where what is stored does; `reason` is a word for
    which of it, such as `"ROW_EXISTS"`.
    """

    def __init__(
        self,
        change_id: str,
        message: str,
        *,
        code: int = 400,
        final: bool = False,
        limit: str | None = None,
        reason: str | None = None,
    ) -> None:
        data: dict[str, Any] = {"changeId": change_id, "scope": "change"}
        if reason is not None:
            data["code"] = reason
        if limit is not None:
            data["limit"] = limit
        if final:
            data["final"] = True
        super().__init__(code, message, data)


class UnauthorizedError(_FixedStatusError):
    """401: not signed in."""

    status = 401


class SignInRefusedError(NetworkError, UnauthorizedError):
    """401 instead of a websocket: the server does not take the token or cookie."""


class ForbiddenError(_FixedStatusError):
    """403: signed in, and not allowed."""

    status = 403


class DeniedError(ForbiddenError):
    """403: a rule of the application does not let this user write this row."""


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
        self.doc_id: str = doc_id
        self.deleted_at: int = deleted_at
        self.last_rev: int = last_rev
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
