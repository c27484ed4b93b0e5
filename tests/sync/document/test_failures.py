"""What a failure means: the rows of `spec/sync.md` 7, in their order."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from patches.errors import (
    AlgorithmMismatchError,
    ApplyChangesError,
    ChangeRefusedError,
    DocDeletedError,
    FrameTooLargeError,
    InvalidRequestError,
    JSONRPCError,
    JSONRPCParseError,
    MissingChangesError,
    NetworkError,
    StaleSubmissionError,
    StatusError,
    StorageError,
    StorageTimeoutError,
    TooManyRequestsError,
    UnsplittableChangeError,
)
from patches.sync.document.failures import (
    Attempt,
    Kind,
    classify,
    halved,
    ladder_wait,
    least_wait,
    uncorroborated,
)

PUSH = Attempt(step="Push", batch_changes=2, batch_bytes=5000, batch_head="c1")
PULL = Attempt(step="Pull")
RECEIVE = Attempt(step="Receive")
RELOAD = Attempt(step="Reload")
ONE = replace(PUSH, batch_changes=1)
APPLY = ApplyChangesError("c", rev=3, index=0, cause=ValueError("x"))
GAP = MissingChangesError(expected_rev=3, got_rev=5, since_rev=2)
UNSPLITTABLE = UnsplittableChangeError("add", "/a", size=9, limit=3, doc_id="d", change_id="c")
MISMATCH = AlgorithmMismatchError("d", expected="ot", got="lww")
REFUSED = ChangeRefusedError("c1", "no")
TOO_LARGE = ChangeRefusedError("c1", "large", code=413)

CASES: dict[str, tuple[BaseException, Attempt, Kind]] = {
    "410 anywhere": (DocDeletedError("d", deleted_at=1, last_rev=2), PULL, Kind.DELETED),
    "410 while reloading": (StatusError(410, "gone"), RELOAD, Kind.DELETED),
    "unappliable": (APPLY, RECEIVE, Kind.RECOVER),
    "unappliable in a catch-up": (APPLY, PULL, Kind.RECOVER),
    "unappliable after a reload": (APPLY, RELOAD, Kind.RETRY),
    "unappliable after many reloads": (APPLY, replace(PULL, reloads=3), Kind.RETRY),
    "gap in a broadcast": (GAP, RECEIVE, Kind.LOOK),
    "gap in a catch-up": (GAP, PULL, Kind.RELOAD),
    "409 of a commit": (StaleSubmissionError("ahead"), PUSH, Kind.RELOAD),
    "409 of a catch-up": (StatusError(409, "token", {"scope": "doc"}), PULL, Kind.RELOAD),
    "409 of a reload": (StaleSubmissionError("ahead"), RELOAD, Kind.RETRY),
    "409 again and again": (StaleSubmissionError("a"), replace(PUSH, reloads=3), Kind.RETRY),
    "409 without a scope": (StatusError(409, "busy"), PUSH, Kind.RETRY),
    "no answer": (NetworkError("lost"), PUSH, Kind.INTERRUPTED),
    "time-out": (TimeoutError(), PULL, Kind.INTERRUPTED),
    "cancelled": (asyncio.CancelledError(), PULL, Kind.INTERRUPTED),
    "cancelled storage": (StorageTimeoutError("slow"), RECEIVE, Kind.INTERRUPTED),
    "1009 with several changes": (FrameTooLargeError("1009"), PUSH, Kind.SMALLER_BATCHES),
    "1009 with one change": (FrameTooLargeError("1009"), ONE, Kind.TERMINAL),
    "1009 with one change that can be split": (
        FrameTooLargeError("1009"),
        replace(ONE, storage_budget=200_000),
        Kind.SMALLER_CHANGES,
    ),
    "1009 without a commit": (FrameTooLargeError("1009"), PULL, Kind.INTERRUPTED),
    "413 with a budget": (TOO_LARGE, replace(ONE, storage_budget=200_000), Kind.SMALLER_CHANGES),
    "413 at the floor": (TOO_LARGE, replace(ONE, storage_budget=100_000), Kind.QUARANTINE),
    "413 without a budget": (TOO_LARGE, ONE, Kind.QUARANTINE),
    "413 that names no change": (StatusError(413, "x", {"limit": 1}), ONE, Kind.RETRY),
    "a named change": (REFUSED, PUSH, Kind.QUARANTINE),
    "a named change after three ejections": (REFUSED, replace(PUSH, ejections=3), Kind.RETRY),
    "400 for the document": (InvalidRequestError("x", {"scope": "doc"}), PUSH, Kind.RETRY),
    "400 that names nothing": (InvalidRequestError("x", {"scope": "change"}), PUSH, Kind.RETRY),
    "401": (StatusError(401, "x"), PULL, Kind.TERMINAL),
    "402": (StatusError(402, "x"), PULL, Kind.TERMINAL),
    "403": (StatusError(403, "x"), PUSH, Kind.TERMINAL),
    "404": (StatusError(404, "x"), PULL, Kind.TERMINAL),
    "unsplittable": (UNSPLITTABLE, PUSH, Kind.TERMINAL),
    "another algorithm": (MISMATCH, PULL, Kind.TERMINAL),
    "429": (TooManyRequestsError("slow", retry_after_ms=5), PUSH, Kind.RETRY),
    "500": (StatusError(500, "x"), PUSH, Kind.RETRY),
    "-32000": (JSONRPCError(-32000, "x"), PUSH, Kind.RETRY),
    "not JSON": (JSONRPCParseError("{"), PUSH, Kind.RETRY),
    "storage": (StorageError("x"), PULL, Kind.RETRY),
    "a plain exception": (ValueError("x"), PULL, Kind.RETRY),
}  # fmt: skip


@pytest.mark.parametrize(("error", "attempt", "kind"), CASES.values(), ids=CASES.keys())
def test_classify(error: BaseException, attempt: Attempt, kind: Kind) -> None:
    assert classify(error, attempt) is kind


def test_a_refused_change_that_applies_here_is_an_ordinary_error() -> None:
    assert uncorroborated(REFUSED) is Kind.RETRY
    assert uncorroborated(TOO_LARGE) is Kind.TERMINAL


def test_the_ladder_doubles_up_to_thirty_seconds_and_ends_after_ten() -> None:
    error = StatusError(500, "x")
    waits = [ladder_wait(attempt, error, 0.0) for attempt in range(11)]
    assert waits == [1, 2, 4, 8, 16, 30, 30, 30, 30, 30, None]
    assert ladder_wait(0, error, 1.0) == 0.8


@pytest.mark.parametrize(
    ("data", "wait_s"),
    [(None, 0), ({"retryAfterMs": 5000}, 5), ({"retryAfterMs": "x"}, 0), ({"retryAfterMs": -1}, 0)],
    ids=str,
)
def test_the_server_may_ask_for_a_longer_wait(data: dict[str, int] | None, wait_s: float) -> None:
    error = StatusError(429, "x", data)
    assert least_wait(error) == wait_s
    assert ladder_wait(0, error, 0.0) == max(1, wait_s)


def test_budgets_are_halved_down_to_a_floor() -> None:
    assert halved(1_000_000, 100_000) == 500_000
    assert halved(150_000, 100_000) == 100_000
