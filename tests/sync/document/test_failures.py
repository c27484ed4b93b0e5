"""What a failure means."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from patches.errors import (
    AlgorithmMismatchError,
    ApplyChangesError,
    ChangeRefusedError,
    CorruptDataError,
    DocDeletedError,
    FrameTooLargeError,
    InvalidRequestError,
    JSONRPCError,
    JSONRPCParseError,
    MissingChangesError,
    NetworkError,
    OutdatedAnswerError,
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
)

PUSH = Attempt(step="Push", batch=("c1", "c2"), batch_bytes=5_000, payload_budget=1_000_000)
PULL = Attempt(step="Pull")
RECEIVE = Attempt(step="Receive")
RELOAD = Attempt(step="Reload")
ONE = replace(PUSH, batch=("c1",))
OVER = replace(ONE, batch_bytes=2_000_000)  # one change that cannot be divided
LARGE = replace(PUSH, batch_bytes=2_000_000)
APPLY = ApplyChangesError("c", rev=3, index=0, cause=ValueError("x"))
OUTDATED = OutdatedAnswerError("d", rev=1, is_replaced=True)
GAP = MissingChangesError(expected_rev=3, got_rev=5, since_rev=2)
UNSPLITTABLE = UnsplittableChangeError("add", "/a", size=9, limit=3, doc_id="d", change_id="c")
MISMATCH = AlgorithmMismatchError("d", expected="ot", got="lww")
REFUSED = ChangeRefusedError("c1", "no")
TOO_LARGE = ChangeRefusedError("c1", "large", code=413)
LOST = NetworkError("lost")
FRAME = FrameTooLargeError("1009")

CASES: dict[str, tuple[BaseException, Attempt, Kind]] = {
    "410 anywhere": (DocDeletedError("d", deleted_at=1, last_rev=2), PULL, Kind.DELETED),
    "410 while reloading": (StatusError(410, "gone"), RELOAD, Kind.DELETED),
    "about another copy": (OUTDATED, RELOAD, Kind.OUTDATED),
    "unappliable": (APPLY, RECEIVE, Kind.RECOVER),
    "unappliable in a catch-up": (APPLY, PULL, Kind.RECOVER),
    "unappliable after a reload": (APPLY, RELOAD, Kind.RETRY),
    "unappliable after many reloads": (APPLY, replace(PULL, reloads=3), Kind.RETRY),
    "gap in a broadcast": (GAP, RECEIVE, Kind.PULL),
    "gap in a catch-up": (GAP, PULL, Kind.RELOAD),
    "409 of a commit": (StaleSubmissionError("ahead"), PUSH, Kind.RELOAD),
    "409 of a catch-up": (StatusError(409, "token", {"scope": "doc"}), PULL, Kind.RELOAD),
    "409 of a reload": (StaleSubmissionError("ahead"), RELOAD, Kind.RETRY),
    "409 again and again": (StaleSubmissionError("a"), replace(PUSH, reloads=3), Kind.RETRY),
    "409 without a scope": (StatusError(409, "busy"), PUSH, Kind.RETRY),
    "409 for a change": (ChangeRefusedError("c1", "no", code=409), PUSH, Kind.REFUSED),
    "no answer": (LOST, PUSH, Kind.INTERRUPTED),
    "no answer to one commit, once": (LOST, replace(LARGE, resets=1), Kind.INTERRUPTED),
    "no answer to one commit, twice": (LOST, replace(LARGE, resets=2), Kind.SMALLER_BATCHES),
    "no answer to a small commit": (LOST, replace(PUSH, resets=9), Kind.INTERRUPTED),
    "no answer to a small change": (
        LOST,
        replace(ONE, batch_bytes=500_000, resets=9),
        Kind.INTERRUPTED,
    ),
    "no answer to a large change": (LOST, replace(OVER, resets=2), Kind.REFUSED),
    "time-out": (TimeoutError(), PULL, Kind.INTERRUPTED),
    "cancelled": (asyncio.CancelledError(), PULL, Kind.INTERRUPTED),
    "cancelled storage": (StorageTimeoutError("slow"), RECEIVE, Kind.INTERRUPTED),
    "1009 with several changes": (FRAME, PUSH, Kind.SMALLER_BATCHES),
    "1009 with one change that may be divided": (FRAME, ONE, Kind.SMALLER_BATCHES),
    "1009 with one change": (FRAME, OVER, Kind.REFUSED),
    "1009 with one change that can be split": (
        FRAME,
        replace(OVER, storage_budget=200_000),
        Kind.SMALLER_CHANGES,
    ),
    "1009 without a commit": (FRAME, PULL, Kind.INTERRUPTED),
    "413 with a budget": (TOO_LARGE, replace(ONE, storage_budget=200_000), Kind.SMALLER_CHANGES),
    "413 for what the change makes of the document": (
        ChangeRefusedError("c1", "large", code=413, final=True),
        replace(ONE, storage_budget=200_000),
        Kind.REFUSED,
    ),
    "413 at the floor": (TOO_LARGE, replace(ONE, storage_budget=100_000), Kind.REFUSED),
    "413 without a budget": (TOO_LARGE, ONE, Kind.REFUSED),
    "413 for the commit": (StatusError(413, "x"), PUSH, Kind.SMALLER_BATCHES),
    "413 for the commit of one change": (StatusError(413, "x"), OVER, Kind.REFUSED),
    "413 for the document": (
        StatusError(413, "x", {"limit": "max_doc_bytes"}),
        PUSH,
        Kind.REFUSED,
    ),
    "413 without a commit": (StatusError(413, "x"), PULL, Kind.FINAL),
    "a named change": (REFUSED, PUSH, Kind.REFUSED),
    "a named change after many": (REFUSED, replace(PUSH, refusals=50), Kind.FINAL),
    "a named change that was not sent": (ChangeRefusedError("c9", "no"), PUSH, Kind.REFUSED),
    "400 for the document": (InvalidRequestError("x", {"scope": "doc"}), PUSH, Kind.FINAL),
    "400 that names nothing": (InvalidRequestError("x", {"scope": "change"}), PUSH, Kind.REFUSED),
    "400 without a commit": (InvalidRequestError("x"), PULL, Kind.FINAL),
    "422": (StatusError(422, "x"), ONE, Kind.REFUSED),
    "401": (StatusError(401, "x"), PULL, Kind.FINAL),
    "402": (StatusError(402, "x"), PULL, Kind.FINAL),
    "403": (StatusError(403, "x"), PUSH, Kind.FINAL),
    "403 for a change": (ChangeRefusedError("c1", "no", code=403), PUSH, Kind.REFUSED),
    "404": (StatusError(404, "x"), PULL, Kind.FINAL),
    "unsplittable": (UNSPLITTABLE, Attempt(step="Push"), Kind.REFUSED),
    "another algorithm": (MISMATCH, PULL, Kind.FINAL),
    "damaged unsent work": (CorruptDataError("damaged", doc_id="d"), PUSH, Kind.FINAL),
    "408": (StatusError(408, "x"), PUSH, Kind.RETRY),
    "429": (TooManyRequestsError("slow", retry_after_ms=5), PUSH, Kind.RETRY),
    "500": (StatusError(500, "x"), PUSH, Kind.RETRY),
    "-32000": (JSONRPCError(-32000, "x"), PUSH, Kind.RETRY),
    "-32601": (JSONRPCError(-32601, "x"), PUSH, Kind.FINAL),
    "not JSON": (JSONRPCParseError("{"), PUSH, Kind.RETRY),
    "storage": (StorageError("x"), PULL, Kind.RETRY),
    "a plain exception": (ValueError("x"), PULL, Kind.RETRY),
}  # fmt: skip


@pytest.mark.parametrize(("error", "attempt", "kind"), CASES.values(), ids=CASES.keys())
def test_classify(error: BaseException, attempt: Attempt, kind: Kind) -> None:
    assert classify(error, attempt) is kind


def test_the_ladder_doubles_up_to_thirty_seconds_and_ends_after_ten() -> None:
    error = StatusError(500, "x")
    waits = [ladder_wait(attempt, error, 0.0) for attempt in range(11)]
    assert waits == [1, 2, 4, 8, 16, 30, 30, 30, 30, 30, None]
    assert ladder_wait(0, error, 1.0) == 0.8


@pytest.mark.parametrize(
    ("data", "wait_s"),
    [
        (None, 0),
        ({"retryAfterMs": 5000}, 5),
        ({"retryAfterMs": "x"}, 0),
        ({"retryAfterMs": True}, 0),
        ({"retryAfterMs": -1}, 0),
        ({"retryAfterMs": 600_000}, 600),
        ({"retryAfterMs": 86_400_000}, 600),
    ],
    ids=str,
)
def test_the_server_may_ask_for_a_longer_wait(
    data: dict[str, object] | None, wait_s: float
) -> None:
    error = StatusError(429, "x", data)
    assert least_wait(error) == wait_s
    assert ladder_wait(0, error, 0.0) == max(1, wait_s)


def test_budgets_are_halved_down_to_a_floor() -> None:
    assert halved(1_000_000, 100_000) == 500_000
    assert halved(150_000, 100_000) == 100_000
