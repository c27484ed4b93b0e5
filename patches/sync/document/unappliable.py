"""Committed changes that cannot be applied, and when to go on without one.

A change that fails here may be fine: what it is applied to may be damaged, and a reload mends that.
So a change is *skipped* (replaced by a copy without ops) only after it failed twice, at least once
on top of an authoritative snapshot. Failures before a reload count as one, however many they were.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Final

from patches.model.change import Change

MAX_RECORDS: Final = 1_000


@dataclass(frozen=True, slots=True)
class FailureRecord:
    """How often a change failed before the last reload (at most 1 counts) and after one."""

    before: int = 0
    after: int = 0
    reloaded: bool = False
    reported: bool = False

    @property
    def is_skipped(self) -> bool:
        """Whether to go on without the change."""
        return self.after > 0 and self.before + self.after >= 2


@dataclass(frozen=True, slots=True)
class Unappliable:
    """What is known of one document's changes that failed, oldest record first."""

    records: Mapping[str, FailureRecord] = field(default_factory=lambda: MappingProxyType({}))

    def is_skipped(self, change_id: str) -> bool:
        """Whether a change is to be skipped."""
        record = self.records.get(change_id)
        return record is not None and record.is_skipped


def record_failure(unappliable: Unappliable, change_id: str) -> Unappliable:
    """A change failed to apply."""
    record = unappliable.records.get(change_id, FailureRecord())
    if record.reloaded:
        record = replace(record, after=record.after + 1)
    else:
        record = replace(record, before=1)
    return _with(unappliable, change_id, record)


def record_snapshot_failure(unappliable: Unappliable, change_id: str) -> Unappliable:
    """A change failed on the authoritative snapshot that it came with: there is no second way."""
    record = unappliable.records.get(change_id, FailureRecord())
    return _with(unappliable, change_id, replace(record, before=1, after=record.after + 1))


def reloaded(unappliable: Unappliable) -> Unappliable:
    """A snapshot was installed: what fails from now on fails on good ground."""
    if not unappliable.records:
        return unappliable
    return Unappliable(
        MappingProxyType(
            {change_id: replace(r, reloaded=True) for change_id, r in unappliable.records.items()}
        )
    )


def without_skipped(unappliable: Unappliable, changes: Sequence[Change]) -> Sequence[Change]:
    """`changes`, those that are skipped without their ops."""
    if not unappliable.records:
        return changes
    return [
        change.replace(ops=[]) if unappliable.is_skipped(change.id) else change
        for change in changes
    ]


def unreported(unappliable: Unappliable, changes: Sequence[Change]) -> list[Change]:
    """Those of `changes` that were skipped and not reported yet."""
    return [
        change
        for change in changes
        if unappliable.is_skipped(change.id) and not unappliable.records[change.id].reported
    ]


def reported(unappliable: Unappliable, changes: Sequence[Change]) -> Unappliable:
    """These have been reported."""
    for change in changes:
        unappliable = _with(
            unappliable, change.id, replace(unappliable.records[change.id], reported=True)
        )
    return unappliable


def _with(unappliable: Unappliable, change_id: str, record: FailureRecord) -> Unappliable:
    records = {**unappliable.records, change_id: record}
    if len(records) > MAX_RECORDS:
        undecided = (key for key, value in records.items() if not value.is_skipped)
        del records[next(undecided, next(iter(records)))]
    return Unappliable(MappingProxyType(records))
