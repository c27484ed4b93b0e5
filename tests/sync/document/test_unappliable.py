"""When a committed change that cannot be applied is skipped."""

from __future__ import annotations

from patches.sync.document.unappliable import (
    MAX_RECORDS,
    Poison,
    reloaded,
    reported,
    struck,
    struck_in_snapshot,
    unreported,
    without_poison,
)
from patches.testing.fake_connection import committed


def test_a_first_failure_is_not_enough() -> None:
    assert not struck(Poison(), "a").floored("a")


def test_two_strikes_before_the_reload_do_not_count_as_two() -> None:
    poison = Poison()
    for _ in range(5):
        poison = struck(poison, "a")
    assert not poison.floored("a")
    assert not reloaded(poison).floored("a")


def test_a_failure_after_a_reload_makes_two() -> None:
    poison = struck(reloaded(struck(Poison(), "a")), "a")
    assert poison.floored("a")
    assert not poison.floored("b")


def test_a_first_failure_after_another_change_s_reload_is_a_first_failure() -> None:
    poison = struck(reloaded(struck(Poison(), "a")), "b")
    assert not poison.floored("b")


def test_a_failure_on_the_snapshot_it_came_with_is_enough() -> None:
    assert struck_in_snapshot(Poison(), "a").floored("a")


def test_floored_changes_lose_their_ops_and_keep_revision_and_id() -> None:
    poison = struck_in_snapshot(Poison(), "other3")
    changes = [committed(2), committed(3), committed(4)]
    usable = without_poison(poison, changes)
    assert [(change.id, change.rev) for change in usable] == [
        (change.id, change.rev) for change in changes
    ]
    assert [bool(change.ops) for change in usable] == [True, False, True]
    assert without_poison(Poison(), changes) is changes


def test_a_skipped_change_is_reported_once() -> None:
    poison = struck_in_snapshot(Poison(), "other3")
    changes = [committed(2), committed(3)]
    skipped = unreported(poison, changes)
    assert [change.id for change in skipped] == ["other3"]
    assert unreported(reported(poison, skipped), changes) == []


def test_undecided_records_are_evicted_first() -> None:
    poison = struck_in_snapshot(Poison(), "decided")
    for number in range(MAX_RECORDS + 10):
        poison = struck(poison, f"undecided{number}")
    assert len(poison.records) == MAX_RECORDS
    assert poison.floored("decided")


def test_decided_records_are_bounded_too() -> None:
    poison = Poison()
    for number in range(MAX_RECORDS + 10):
        poison = struck_in_snapshot(poison, f"decided{number}")
    assert len(poison.records) == MAX_RECORDS
    assert poison.floored(f"decided{MAX_RECORDS + 9}")
