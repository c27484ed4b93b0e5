"""Committed changes that cannot be applied, and when to go on without one (`spec/sync.md` 9).

A change that fails here may be fine: what it is applied to may be damaged, and a reload mends that.
So a change is *floored* (replaced by a copy without ops) only after it failed twice, at least once
on top of an authoritative snapshot. Failures before a reload count as one, however many they were.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Final

from patches.model.change import Change

MAX_RECORDS: Final = 50


@dataclass(frozen=True, slots=True)
class Strikes:
    """How often a change failed before the last reload (at most 1 counts) and after one."""

    before: int = 0
    after: int = 0
    reloaded: bool = False
    reported: bool = False

    @property
    def floored(self) -> bool:
        """Whether to go on without the change."""
        return self.after > 0 and self.before + self.after >= 2


@dataclass(frozen=True, slots=True)
class Poison:
    """What is known of one document's changes that failed, oldest record first."""

    records: Mapping[str, Strikes] = field(default_factory=lambda: MappingProxyType({}))

    def floored(self, change_id: str) -> bool:
        """Whether a change is to be skipped."""
        record = self.records.get(change_id)
        return record is not None and record.floored


def struck(poison: Poison, change_id: str) -> Poison:
    """A change failed to apply."""
    record = poison.records.get(change_id, Strikes())
    if record.reloaded:
        record = replace(record, after=record.after + 1)
    else:
        record = replace(record, before=1)
    return _with(poison, change_id, record)


def struck_in_snapshot(poison: Poison, change_id: str) -> Poison:
    """A change failed on the authoritative snapshot that it came with: there is no second way."""
    record = poison.records.get(change_id, Strikes())
    return _with(poison, change_id, replace(record, before=1, after=record.after + 1))


def reloaded(poison: Poison) -> Poison:
    """A snapshot was installed: what fails from now on fails on good ground."""
    if not poison.records:
        return poison
    return Poison(
        MappingProxyType(
            {change_id: replace(r, reloaded=True) for change_id, r in poison.records.items()}
        )
    )


def without_poison(poison: Poison, changes: Sequence[Change]) -> Sequence[Change]:
    """`changes`, those that are floored without their ops."""
    if not any(poison.floored(change.id) for change in changes):
        return changes
    return [change.replace(ops=[]) if poison.floored(change.id) else change for change in changes]


def unreported(poison: Poison, changes: Sequence[Change]) -> list[Change]:
    """Those of `changes` that were skipped and that nobody has been told of."""
    return [
        change
        for change in changes
        if poison.floored(change.id) and not poison.records[change.id].reported
    ]


def reported(poison: Poison, changes: Sequence[Change]) -> Poison:
    """Somebody has been told of these."""
    for change in changes:
        poison = _with(poison, change.id, replace(poison.records[change.id], reported=True))
    return poison


def _with(poison: Poison, change_id: str, record: Strikes) -> Poison:
    records = {**poison.records, change_id: record}
    if len(records) > MAX_RECORDS:
        undecided = (key for key, value in records.items() if not value.floored)
        del records[next(undecided, next(iter(records)))]
    return Poison(MappingProxyType(records))
