"""The random histories of `test_stream.py` find bugs that are planted in the client.

Each bug is one line that somebody could write. A check that finds none of them checks nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import pytest

from patches.algorithms.collections import subsets, transactions
from patches.algorithms.collections.overlay import Overlay
from patches.algorithms.collections.result import Result
from patches.algorithms.collections.subsets import Interest
from patches.algorithms.collections.writes import WriteBook
from patches.model.change import Change
from patches.testing.virtual_time import VirtualTimeLoop
from tests.collections.test_stream import random_world

SEEDS = 60

Plant = Callable[[pytest.MonkeyPatch], None]
PLANTED: dict[str, Plant] = {}


def planted(plant: Plant) -> Plant:
    """Register a bug under the name of its function."""
    PLANTED[plant.__name__] = plant
    return plant


@planted
def a_gap_is_applied(patch: pytest.MonkeyPatch) -> None:
    def following(changes: list[Change], cursor: int) -> list[Change]:
        return [change for change in changes if change.rev > cursor]

    patch.setattr(transactions, "following", following)


@planted
def known_changes_are_applied_again(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(transactions, "following", lambda changes, cursor: list(changes))


@planted
def a_refused_write_stays_visible(patch: pytest.MonkeyPatch) -> None:
    step = Overlay.step

    def keeping(self: Overlay, ops: Any = (), **more: Any) -> Any:
        if not list(ops) and not more.get("partials") and not more.get("review"):
            more["remove"] = ()
        return step(self, ops, **more)

    patch.setattr(Overlay, "step", keeping)


@planted
def a_window_keeps_its_first_keys(patch: pytest.MonkeyPatch) -> None:
    set_keys = Interest._set_keys

    def first_only(self: Interest, subset: Any, keys: Any, rev: int) -> list[Any]:
        return [] if subset.keys else set_keys(self, subset, keys, rev)

    patch.setattr(Interest, "_set_keys", first_only)


@planted
def a_row_that_left_its_subset_stays(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Interest, "keeps", lambda *_: True)
    taken = subsets.Interest.taken

    def without_removals(self: Interest, change: Change, held: Any) -> Any:
        ops, review = taken(self, change, held)
        return [op for op in ops if op.kind != "remove" or op.table == "tasks"], review

    patch.setattr(Interest, "taken", without_removals)


@planted
def a_result_drifts(patch: pytest.MonkeyPatch) -> None:
    update = Result.update

    def only_what_is_shown(self: Result, key: str, row: Any) -> bool:
        if row is not None and key not in self.keys and len(self.keys) == self.limit:
            return False
        return update(self, key, row)

    patch.setattr(Result, "update", only_what_is_shown)


@planted
def loaded_subsets_are_not_stated_again(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Interest, "stated", lambda self: [])


@planted
def a_confirmed_write_is_never_told(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(WriteBook, "confirmed", lambda self, write_id: None)


@planted
def a_write_has_another_id_each_time_it_is_sent(patch: pytest.MonkeyPatch) -> None:
    sendable = transactions.sendable
    count = iter(range(10**9))

    def renamed(tables: Any) -> list[Change]:
        return [change.replace(id=f"{change.id}-{next(count)}") for change in sendable(tables)]

    patch.setattr(transactions, "sendable", renamed)


def seed_that_finds_it() -> int | None:
    """The first seed whose history ends in a failure."""
    for seed in range(SEEDS):
        try:
            with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
                runner.run(asyncio.wait_for(random_world(seed), 5_000))
        except (Exception, asyncio.CancelledError):
            return seed
    return None


def test_nothing_is_found_where_nothing_is_planted() -> None:
    assert seed_that_finds_it() is None


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_bug_is_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    logging.disable(logging.CRITICAL)
    try:
        PLANTED[name](monkeypatch)
        assert seed_that_finds_it() is not None
    finally:
        logging.disable(logging.NOTSET)
