"""Token buckets."""

from __future__ import annotations

import pytest

from patches_server.rpc.rates import TokenBucket


def test_a_burst_is_served_and_then_the_wait_is_told() -> None:
    bucket = TokenBucket(2.0, 4, now=0.0)
    assert [bucket.take(1, now=0.0) for _ in range(4)] == [0.0] * 4
    assert bucket.take(1, now=0.0) == pytest.approx(0.5)
    assert bucket.take(1, now=0.5) == 0.0


def test_it_never_holds_more_than_the_burst() -> None:
    bucket = TokenBucket(1.0, 2, now=0.0)
    assert bucket.take(2, now=1_000.0) == 0.0
    assert bucket.take(1, now=1_000.0) == 1.0


def test_more_than_the_burst_passes_when_it_is_full_and_is_paid_for_later() -> None:
    bucket = TokenBucket(1.0, 2, now=0.0)
    assert bucket.take(10, now=0.0) == 0.0
    assert bucket.take(1, now=0.0) == pytest.approx(9.0)


def test_no_rate_is_no_limit() -> None:
    bucket = TokenBucket(None, 0, now=0.0)
    assert all(bucket.take(1e9, now=0.0) == 0.0 for _ in range(100))
