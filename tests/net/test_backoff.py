"""Waits between attempts."""

from __future__ import annotations

import pytest

from patches.net.backoff import jittered, reconnect_wait


@pytest.mark.parametrize(
    ("attempt", "wait_s"), [(0, 1.0), (1, 1.5), (2, 2.25), (8, 25.62890625), (9, 30.0), (999, 30.0)]
)
def test_waits_grow_by_half_up_to_thirty_seconds(attempt: int, wait_s: float) -> None:
    assert reconnect_wait(attempt, 0.0) == wait_s


def test_a_wait_is_shortened_by_at_most_a_fifth() -> None:
    assert jittered(10.0, 0.0) == 10.0
    assert jittered(10.0, 0.5) == 9.0
    assert jittered(10.0, 1.0) == 8.0
