"""What a failure means and when to try again: pure functions (`spec/sync.md` 7, in its order)."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from patches.errors import (
    AlgorithmMismatchError,
    ApplyChangesError,
    FrameTooLargeError,
    MissingChangesError,
    NetworkError,
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
REPROBE_TERMINAL_S: Final = 600.0
#: Storage and payload budgets are not halved below these.
LEAST_STORAGE_BYTES: Final = 100_000
LEAST_PAYLOAD_BYTES: Final = 1_000
#: Reloads in a row, without a commit or a pull that worked, after which one is a failure.
MAX_RELOADS: Final = 3
MAX_EJECTIONS: Final = 3

_TERMINAL: Final = frozenset({401, 402, 403, 404})


class Kind(Enum):
    """What to do about a failure."""

    DELETED = auto()  # the document is gone: let go of it
    RECOVER = auto()  # a committed change does not apply: report, fetch the document whole
    RELOAD = auto()  # the local history is refused, or has a hole: fetch the document whole
    LOOK = auto()  # something was missed: fetch what follows on
    INTERRUPTED = auto()  # nobody's fault: try again, silently
    SMALLER_CHANGES = auto()  # one change is too large: split smaller
    SMALLER_BATCHES = auto()  # the frame was too large: send less at a time
    QUARANTINE = auto()  # the server names one change: set it aside if it fails here too
    TERMINAL = auto()  # no retry can help: report once, look again much later
    RETRY = auto()  # try again, show the error, report it when it lasts


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """What was being done when it failed."""

    step: str  # the class name of the step
    batch_changes: int = 0  # changes in the commit, 0 if it was none
    batch_bytes: int = 0
    batch_head: str | None = None  # id of its first change
    storage_budget: int | None = None  # bytes of one change, where configured
    reloads: int = 0
    ejections: int = 0


def classify(error: BaseException, attempt: Attempt) -> Kind:
    """Which of the reactions a failure calls for."""
    status = error if isinstance(error, StatusError) else None
    if status is not None and status.code == 410:
        return Kind.DELETED
    if isinstance(error, MissingChangesError) and attempt.step == "Receive":
        return Kind.LOOK
    if attempt.step != "Reload" and attempt.reloads < MAX_RELOADS:
        if isinstance(error, ApplyChangesError):
            return Kind.RECOVER
        if isinstance(error, MissingChangesError):
            return Kind.RELOAD
        if status is not None and status.code == 409 and status.scope == "doc":
            return Kind.RELOAD
    if isinstance(error, FrameTooLargeError) and attempt.batch_changes:
        return _too_large(attempt)
    if is_interruption(error):
        return Kind.INTERRUPTED
    if status is not None and status.scope == "change":
        if status.code == 413 and _can_split(attempt):
            return Kind.SMALLER_CHANGES
        if 400 <= status.code < 500 and status.change_id and attempt.ejections < MAX_EJECTIONS:
            return Kind.QUARANTINE
    return uncorroborated(error)


def uncorroborated(error: BaseException) -> Kind:
    """The reaction when the server's word against a change did not hold here."""
    if isinstance(error, StatusError) and (
        error.code in _TERMINAL or (error.code == 413 and error.scope == "change")
    ):
        return Kind.TERMINAL
    # The document's algorithm does not change by waiting.
    if isinstance(error, UnsplittableChangeError | AlgorithmMismatchError):
        return Kind.TERMINAL
    return Kind.RETRY


def is_interruption(error: BaseException) -> bool:
    """Whether nothing went wrong but the connection, or the patience of somebody."""
    return isinstance(
        error, NetworkError | TimeoutError | StorageTimeoutError | asyncio.CancelledError
    )


def ladder_wait(attempt: int, error: BaseException, chance: float) -> float | None:
    """Seconds before retry number `attempt` (from 0); `None` when the ladder is used up."""
    if attempt >= LADDER_STEPS:
        return None
    wait_s = jittered(min(LADDER_FIRST_S * 2.0**attempt, LADDER_MAX_S), chance)
    return max(wait_s, least_wait(error))


def least_wait(error: BaseException) -> float:
    """Seconds that the server asks for."""
    data = error.data if isinstance(error, PatchesError) else None
    wait_ms = data.get("retryAfterMs") if data is not None else None
    if isinstance(wait_ms, bool) or not isinstance(wait_ms, int | float):
        return 0.0
    return max(0.0, min(wait_ms / 1000.0, REPROBE_TERMINAL_S))


def halved(budget: int, least: int) -> int:
    """The next smaller budget."""
    return max(budget // 2, least)


def _too_large(attempt: Attempt) -> Kind:
    if attempt.batch_changes > 1 and attempt.batch_bytes > LEAST_PAYLOAD_BYTES:
        return Kind.SMALLER_BATCHES
    return Kind.SMALLER_CHANGES if _can_split(attempt) else Kind.TERMINAL


def _can_split(attempt: Attempt) -> bool:
    return attempt.storage_budget is not None and attempt.storage_budget > LEAST_STORAGE_BYTES
