"""The map of documents that is shown."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from patches.aio.signals import Signal
from patches.sync.published import Published
from patches.sync.state import SyncedDoc

ENTRY = SyncedDoc(1, False, "synced")


def published() -> tuple[Published, list[Mapping[str, SyncedDoc]]]:
    signal: Signal[[Mapping[str, SyncedDoc]]] = Signal("on_synced_change")
    told: list[Mapping[str, SyncedDoc]] = []
    signal(told.append)
    return Published(signal), told


def test_a_change_makes_a_new_map_and_leaves_the_old_one() -> None:
    shown, told = published()
    before = shown.map
    assert shown.put("d", ENTRY)
    assert before == {}
    assert shown.map == {"d": ENTRY}
    assert told == [{"d": ENTRY}]
    assert told[0] is shown.map


def test_no_change_tells_nothing() -> None:
    shown, told = published()
    shown.put("d", ENTRY)
    before = shown.map
    assert not shown.put("d", SyncedDoc(1, False, "synced"))
    shown.remove(["other"])
    with shown.one_change():
        pass
    assert shown.map is before
    assert len(told) == 1


def put_two_and_fail(shown: Published) -> None:
    with shown.one_change():
        shown.put("a", ENTRY)
        with shown.one_change():
            shown.put("b", ENTRY)
        raise ValueError("x")


def test_several_changes_are_told_as_one_also_when_one_raises() -> None:
    shown, told = published()
    with pytest.raises(ValueError, match="x"):
        put_two_and_fail(shown)
    shown.remove(["a", "b", "c"])
    assert [set(entries) for entries in told] == [{"a", "b"}, set()]
