"""What a failure means and when to try again: pure functions.

`classify` is the one place that decides what the coordinator does about an error, whatever call of
whatever server it comes from (`docs/sync.md` has the table):

- *gone* (410): the document was deleted on the server.
- *repaired here*: the local history does not fit (a gap, 409 for the document, a committed change
  that cannot be applied): fetch what is missing, or the whole document.
- *transient* (no answer, 408, 425, 429, 5xx, an error without a status): wait and try again.
- *final for a change* (any other 4xx that answers a commit): no retry can help. The change that
  the server names, or that a search by halving finds, is set aside; the rest goes on.
- *final for the document* (401, 402, 403, 404 without a change, any 4xx that answers another call,
  another algorithm, damaged data here): the document is in `"error"` at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from patches.errors import (
    AlgorithmMismatchError,
    ApplyChangesError,
    CorruptDataError,
    FrameTooLargeError,
    JSONRPCError,
    MissingChangesError,
    NetworkError,
    OutdatedAnswerError,
    PatchesError,
    StatusError,
    StorageTimeoutError,
    UnsplittableChangeError,
)
from patches.net.backoff import jittered

LADDER_FIRST_S: Final = 1.0
LADDER_MAX_S: Final = 30.0
LADDER_STEPS: Final = 10
REPROBE_S: Final = 300.0
REPROBE_FINAL_S: Final = 600.0
#: Storage and payload budgets are not halved below these.
LEAST_STORAGE_BYTES: Final = 100_000
LEAST_PAYLOAD_BYTES: Final = 1_000
#: Reloads in a row, without a commit or a pull that worked, after which one is a failure.
MAX_RELOADS: Final = 3
#: Changes refused in a row, without a commit or a pull that worked, after which the server is taken
#: to refuse the document.
MAX_REFUSALS: Final = 50
#: Connections lost in a row over one commit, after which it is taken to be too large.
MAX_RESETS: Final = 2
#: A commit that connections were lost over is too large only above this: smaller ones pass
#: everywhere, so the network is at fault. A single change is set aside for it, so it has to be
#: larger.
LEAST_SUSPECT_BYTES: Final = 65_536
LEAST_SUSPECT_CHANGE_BYTES: Final = 1_000_000

#: 4xx that waiting may cure.
_TRANSIENT: Final = frozenset({408, 425, 429})
#: Those that refuse the document to this user, unless they name a change.
_REFUSES_DOC: Final = frozenset({401, 402, 403, 404})
#: JSON-RPC: the server does not know the method or its parameters.
_UNKNOWN_CALL: Final = frozenset({-32600, -32601, -32602})
#: Limits in `data.limit` that a smaller commit keeps.
_COMMIT_LIMITS: Final = frozenset({None, "max_commit_bytes", "max_changes_per_commit"})


class Kind(Enum):
    """What to do about a failure."""

    DELETED = auto()  # the document is gone: forget it
    RECOVER = auto()  # a committed change does not apply: report, fetch the document whole
    NEW_HISTORY = auto()  # the server has another history: fetch the document whole, report
    RELOAD = auto()  # the local history is refused, or has a hole: fetch the document whole
    PULL = auto()  # something was missed: fetch what follows on
    OUTDATED = auto()  # the answer is about a copy that is not here any more: ask again
    INTERRUPTED = auto()  # nobody's fault: try again, silently
    SMALLER_CHANGES = auto()  # one change is too large: split smaller
    SMALLER_BATCHES = auto()  # the commit was too large: send less at a time from now on
    REFUSED = auto()  # a change is refused for good: find it, and set it aside
    FINAL = auto()  # the document is refused: show the error and report it at once
    RETRY = auto()  # try again, show the error, report it when it lasts


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """What was being done when it failed."""

    step: str  # the class name of the step
    batch: tuple[str, ...] = ()  # ids of the changes in the commit, if it was one
    batch_bytes: int = 0
    payload_budget: int | None = None  # bytes of one commit
    storage_budget: int | None = None  # bytes of one change, where configured
    reloads: int = 0
    refusals: int = 0
    resets: int = 0  # connections lost over this commit, this one too


def classify(error: BaseException, attempt: Attempt) -> Kind:
    """Which of the reactions a failure calls for."""
    if isinstance(error, OutdatedAnswerError):
        return Kind.OUTDATED
    status = error if isinstance(error, StatusError) else None
    if status is not None and status.code == 410:
        return Kind.DELETED
    if status is not None and _is_other_history(status) and attempt.reloads < MAX_RELOADS:
        return Kind.NEW_HISTORY
    if isinstance(error, MissingChangesError) and attempt.step == "Receive":
        return Kind.PULL
    if attempt.step != "Reload" and attempt.reloads < MAX_RELOADS:
        if isinstance(error, ApplyChangesError):
            return Kind.RECOVER
        if isinstance(error, MissingChangesError):
            return Kind.RELOAD
        if status is not None and status.code == 409 and status.scope == "doc":
            return Kind.RELOAD
    if attempt.batch and _is_too_large(error, attempt):
        return _smaller(error, attempt)
    if is_interruption(error):
        return Kind.INTERRUPTED
    if isinstance(error, AlgorithmMismatchError | CorruptDataError):
        return Kind.FINAL
    if isinstance(error, UnsplittableChangeError):
        return Kind.REFUSED if attempt.refusals < MAX_REFUSALS else Kind.FINAL
    if isinstance(error, JSONRPCError):
        return Kind.FINAL if error.code in _UNKNOWN_CALL else Kind.RETRY
    return _of_status(status, attempt) if status is not None else Kind.RETRY


def _is_other_history(error: StatusError) -> bool:
    reason = error.data.get("reason") if error.data is not None else None
    return error.code == 409 and error.scope == "doc" and reason == "HISTORY"


def named_change(error: BaseException, candidates: Collection[str]) -> str | None:
    """The change that an error is about, if it says so and it is one of those sent."""
    change_id = getattr(error, "change_id", None)
    return change_id if isinstance(change_id, str) and change_id in candidates else None


def refuses_for_good(error: StatusError) -> bool:
    """Whether the same call would be refused again, now and later, to this user."""
    may_pass = _TRANSIENT | {401, 402, 409}  # signing in, paying, and who was faster
    return 400 <= error.code < 500 and error.code not in may_pass


def is_interruption(error: BaseException) -> bool:
    """Whether nothing went wrong but the connection, or the patience of somebody."""
    return isinstance(
        error, NetworkError | TimeoutError | StorageTimeoutError | asyncio.CancelledError
    )


def ladder_wait(attempt: int, error: BaseException, jitter: float) -> float | None:
    """Seconds before retry number `attempt` (from 0); `None` when the ladder is used up."""
    if attempt >= LADDER_STEPS:
        return None
    wait_s = jittered(min(LADDER_FIRST_S * 2.0**attempt, LADDER_MAX_S), jitter)
    return max(wait_s, least_wait(error))


def least_wait(error: BaseException) -> float:
    """Seconds that the server asks for, at most as many as a re-probe waits."""
    data = error.data if isinstance(error, PatchesError) else None
    wait_ms = data.get("retryAfterMs") if data is not None else None
    if isinstance(wait_ms, bool) or not isinstance(wait_ms, int | float):
        return 0.0
    return max(0.0, min(wait_ms / 1000.0, REPROBE_FINAL_S))


def halved(budget: int, least: int) -> int:
    """The next smaller budget."""
    return max(budget // 2, least)


def _of_status(error: StatusError, attempt: Attempt) -> Kind:
    if not 400 <= error.code < 500 or error.code in _TRANSIENT:
        return Kind.RETRY
    is_named = named_change(error, attempt.batch) is not None
    if error.code == 409 and not is_named:
        return Kind.RETRY  # somebody else was faster
    if not attempt.batch or error.scope == "doc":
        return Kind.FINAL
    if error.code in _REFUSES_DOC and not is_named:
        return Kind.FINAL
    return Kind.REFUSED if attempt.refusals < MAX_REFUSALS else Kind.FINAL


def _is_too_large(error: BaseException, attempt: Attempt) -> bool:
    if isinstance(error, FrameTooLargeError):
        return True
    if isinstance(error, NetworkError) and attempt.resets >= MAX_RESETS:
        least = LEAST_SUSPECT_BYTES if len(attempt.batch) > 1 else LEAST_SUSPECT_CHANGE_BYTES
        return attempt.batch_bytes > least
    if not isinstance(error, StatusError) or error.code != 413:
        return False
    data = error.data or {}
    if error.scope is not None:
        return error.scope == "change" and data.get("final") is not True and _can_split(attempt)
    return data.get("limit") in _COMMIT_LIMITS


def _smaller(error: BaseException, attempt: Attempt) -> Kind:
    """The reaction to a commit that is too large: a smaller one, if there is any."""
    is_divisible = len(attempt.batch) > 1 or (
        # A single change is divided as far as the budget asks, if it can be.
        attempt.payload_budget is not None and attempt.batch_bytes <= attempt.payload_budget
    )
    is_scoped = isinstance(error, StatusError) and error.scope is not None
    if not is_scoped and is_divisible and attempt.batch_bytes > LEAST_PAYLOAD_BYTES:
        return Kind.SMALLER_BATCHES
    if _can_split(attempt):
        return Kind.SMALLER_CHANGES
    return Kind.REFUSED if attempt.refusals < MAX_REFUSALS else Kind.FINAL


def _can_split(attempt: Attempt) -> bool:
    return attempt.storage_budget is not None and attempt.storage_budget > LEAST_STORAGE_BYTES
