"""When a committed change that cannot be applied is skipped."""

from __future__ import annotations

from patches.sync.document.unappliable import (
    MAX_RECORDS,
    Unappliable,
    record_failure,
    record_snapshot_failure,
    reloaded,
    reported,
    unreported,
    without_skipped,
)
from patches.testing.fake_connection import committed


def test_a_first_failure_is_not_enough() -> None:
    assert not record_failure(Unappliable(), "a").is_skipped("a")


def test_two_strikes_before_the_reload_do_not_count_as_two() -> None:
    unappliable = Unappliable()
    for _ in range(5):
        unappliable = record_failure(unappliable, "a")
    assert not unappliable.is_skipped("a")
    assert not reloaded(unappliable).is_skipped("a")


def test_a_failure_after_a_reload_makes_two() -> None:
    unappliable = record_failure(reloaded(record_failure(Unappliable(), "a")), "a")
    assert unappliable.is_skipped("a")
    assert not unappliable.is_skipped("b")


def test_a_first_failure_after_another_change_s_reload_is_a_first_failure() -> None:
    unappliable = record_failure(reloaded(record_failure(Unappliable(), "a")), "b")
    assert not unappliable.is_skipped("b")


def test_a_failure_on_the_snapshot_it_came_with_is_enough() -> None:
    assert record_snapshot_failure(Unappliable(), "a").is_skipped("a")


def test_floored_changes_lose_their_ops_and_keep_revision_and_id() -> None:
    unappliable = record_snapshot_failure(Unappliable(), "other3")
    changes = [committed(2), committed(3), committed(4)]
    usable = without_skipped(unappliable, changes)
    assert [(change.id, change.rev) for change in usable] == [
        (change.id, change.rev) for change in changes
    ]
    assert [bool(change.ops) for change in usable] == [True, False, True]
    assert without_skipped(Unappliable(), changes) is changes


def test_a_skipped_change_is_reported_once() -> None:
    unappliable = record_snapshot_failure(Unappliable(), "other3")
    changes = [committed(2), committed(3)]
    skipped = unreported(unappliable, changes)
    assert [change.id for change in skipped] == ["other3"]
    assert unreported(reported(unappliable, skipped), changes) == []


def test_undecided_records_are_evicted_first() -> None:
    unappliable = record_snapshot_failure(Unappliable(), "decided")
    for number in range(MAX_RECORDS + 10):
        unappliable = record_failure(unappliable, f"undecided{number}")
    assert len(unappliable.records) == MAX_RECORDS
    assert unappliable.is_skipped("decided")


def test_decided_records_are_bounded_too() -> None:
    unappliable = Unappliable()
    for number in range(MAX_RECORDS + 10):
        unappliable = record_snapshot_failure(unappliable, f"decided{number}")
    assert len(unappliable.records) == MAX_RECORDS
    assert unappliable.is_skipped(f"decided{MAX_RECORDS + 9}")
