"""`Live`: any function of the state, computed again when a table that it has read changes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, Generic, TypeVar

from patches.aio.signals import Signal, Unsubscribe
from patches.model.json_values import json_equal
from patches.rows.row_ops import Row

T = TypeVar("T")


class TrackedTables(Mapping[str, Mapping[str, Row]]):
    """The visible tables, which notes those that are read. Nothing is copied."""

    def __init__(self, tables: Mapping[str, Mapping[str, Row]]) -> None:
        self._tables = tables
        self.read: set[str] = set()

    def __getitem__(self, name: str) -> Mapping[str, Row]:
        rows = self._tables[name]
        self.read.add(name)
        return MappingProxyType(rows) if isinstance(rows, dict) else rows

    def __iter__(self) -> Iterator[str]:
        return iter(self._tables)

    def __len__(self) -> int:
        return len(self._tables)


class Live(Generic[T]):
    """What `doc.live(fn)` gives. Owned by the document until `close`."""

    def __init__(
        self,
        fn: Callable[[Mapping[str, Mapping[str, Row]]], T],
        tables: Mapping[str, Mapping[str, Row]],
        closed: Callable[[Live[T]], None],
    ) -> None:
        self._fn, self._tables, self._closed = fn, tables, closed
        self._read: set[str] = set()
        self._on_value: Signal[[T]] = Signal("on_value")
        self._value: T = self._computed()

    @property
    def value(self) -> T:
        """The value now."""
        return self._value

    def subscribe(self, subscriber: Callable[[T], object]) -> Unsubscribe:
        """Call `subscriber(value)` now and for each new value. Returns the unsubscriber."""
        unsubscribe = self._on_value(subscriber)
        self._on_value.notify(subscriber, self._value)
        return unsubscribe

    def close(self) -> None:
        """Compute it no more."""
        self._on_value.clear()
        self._closed(self)

    def update(self, tables: set[str]) -> None:
        """These tables have changed."""
        if self._read.isdisjoint(tables):
            return
        value = self._computed()
        if not _is_same(value, self._value):
            self._value = value
            self._on_value.emit(value)

    def _computed(self) -> T:
        tracked = TrackedTables(self._tables)
        value = self._fn(tracked)
        self._read = tracked.read
        return value


def _is_same(one: Any, other: Any) -> bool:
    """JSON is compared as JSON, other values as Python does."""
    if isinstance(one, dict | list | str | int | float | None):
        return json_equal(one, other)
    return bool(one == other)
