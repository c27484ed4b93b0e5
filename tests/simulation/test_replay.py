"""Replay documents in the simulation: honest runs pass, bugs planted one at a time are found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from patches.algorithms.replay import steps, timeline, working
from patches.algorithms.replay.algorithm import ReplayAlgorithm
from patches.algorithms.replay.clock import Time
from patches.algorithms.replay.timeline import Timeline
from patches.algorithms.replay.working import Working
from patches.model.change import Change
from patches.rows.held_rows import HeldRows
from patches.rows.row_ops import parse_row_ops
from patches.testing.sim import draw, run
from patches_server.replay.live import LiveDoc
from patches_server.replay.runner import ClientRunner
from patches_server.replay.server import ReplayServer
from tests.simulation.planting import Planted, require_found


@pytest.mark.parametrize("start", range(0, 60, 10))
def test_all_copies_are_the_history_and_no_rule_is_broken(start: int) -> None:
    for seed in range(start, start + 10):
        outcome = run(draw(seed, "light", "replay"))
        assert outcome.failure is None, outcome.report()


def test_a_seed_is_the_same_run_again() -> None:
    config = draw(7, "light", "replay")
    assert run(config).digest == run(config).digest


# ---- planted in what both sides have -------------------------------------------------------------


def inverses_in_the_wrong_order(patch: pytest.MonkeyPatch) -> None:
    def undo(self: Timeline, entries: Any) -> None:
        for entry in entries:
            self.copy.apply(parse_row_ops(entry.inverse))

    patch.setattr(Timeline, "_undo", undo)


def a_late_arrival_at_the_head(patch: pytest.MonkeyPatch) -> None:
    def at_the_head(entries: Any, _key: Any, **_more: Any) -> int:
        return len(entries)

    patch.setattr(timeline, "bisect_right", at_the_head)
    patch.setattr(Timeline, "_reach", lambda self, key: [])


def what_raises_leaves_its_rows(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(HeldRows, "undo", lambda self, journal: None)


def a_clock_that_goes_back(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Time, "tick", lambda self, now: Time(now, 0))
    patch.setattr(Time, "observe", lambda self, clock: self)


# ---- planted in the client -----------------------------------------------------------------------


def a_sync_change_apart_from_its_action(patch: pytest.MonkeyPatch) -> None:
    received = ReplayAlgorithm._receive

    async def one_by_one(self: Any, doc_id: str, changes: Any, sent: Any, doc: Any) -> list[Change]:
        new: list[Change] = []
        for change in changes:
            new += await received(self, doc_id, [change], sent, doc)
        return new or await received(self, doc_id, changes, sent, doc)

    patch.setattr(ReplayAlgorithm, "_receive", one_by_one)


def a_gap_that_is_applied(patch: pytest.MonkeyPatch) -> None:
    def following(changes: Sequence[Change], cursor: int) -> list[Change]:
        return [change for change in changes if change.rev > cursor]

    patch.setattr(steps, "_new", following)


def a_reload_that_drops_what_is_pending(patch: pytest.MonkeyPatch) -> None:
    install = steps.install

    def dropping(tables: Any, *given: Any) -> Any:
        tables.take_pending([change.id for change in tables.pending()])
        return install(tables, *given)

    patch.setattr(steps, "install", dropping)


def a_correction_that_is_not_sent(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(working, "_grouped", lambda changes, placed: changes)


def pending_actions_on_top_of_others(patch: pytest.MonkeyPatch) -> None:
    entry = Working._entry

    def last(self: Working, change: Change) -> Any:
        made = entry(self, change)
        if change.committed_at == 0:
            made.key = (made.key[0] + 10**9, *made.key[1:])
        return made

    patch.setattr(Working, "_entry", last)


# ---- planted in the server -----------------------------------------------------------------------


def a_gate_that_is_open(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(ClientRunner, "at_head_only", False)


def a_correction_that_is_not_committed(patch: pytest.MonkeyPatch) -> None:
    place = LiveDoc.place

    def without(self: LiveDoc, *given: Any) -> Any:
        made, slow = place(self, *given)
        kept = [entry for entry in made if entry.change.metadata["kind"] == "action"]
        del self.log[len(self.log) - (len(made) - len(kept)) :]
        return kept, slow

    patch.setattr(LiveDoc, "place", without)


def rights_of_all_in_a_re_run(patch: pytest.MonkeyPatch) -> None:
    entry = LiveDoc._entry

    def with_all(self: LiveDoc, submitted: Any) -> Any:
        made = entry(self, submitted)
        assert made.invocation is not None
        made.invocation = replace(made.invocation, rights=None)
        return made

    patch.setattr(LiveDoc, "_entry", with_all)


def an_answer_without_what_was_known(patch: pytest.MonkeyPatch) -> None:
    def only_new(self: Any, live: Any, changes: Any, base_rev: int) -> list[Change]:
        ids = {change.id for change in changes}
        return [change for change in live.since(base_rev) if change.id in ids]

    patch.setattr(ReplayServer, "_answer", only_new)


BUGS = [
    Planted(inverses_in_the_wrong_order, "replay", 1, "A1 A2 A4 I9"),
    Planted(a_late_arrival_at_the_head, "replay", 0, "A2 A4 I9"),
    Planted(what_raises_leaves_its_rows, "replay", 0, "A1 A2 A4 I9"),
    Planted(a_clock_that_goes_back, "replay", 3, "A4 A5"),
    Planted(a_sync_change_apart_from_its_action, "replay", 4, "A1 A2 A4"),
    Planted(a_gap_that_is_applied, "replay", 28, "A1"),
    Planted(a_reload_that_drops_what_is_pending, "replay", 2, "A3"),
    Planted(a_correction_that_is_not_sent, "replay", 1, "A2 A4"),
    Planted(pending_actions_on_top_of_others, "replay", 1, "A2 A4"),
    Planted(a_gate_that_is_open, "replay", 1, "A2 A4"),
    Planted(a_correction_that_is_not_committed, "replay", 3, "A1 A2 A4"),
    Planted(rights_of_all_in_a_re_run, "replay", 9, "A4"),
    Planted(an_answer_without_what_was_known, "replay", 0, "A1 I9"),
]


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.plant.__name__)
def test_a_planted_bug_is_found(bug: Planted, monkeypatch: pytest.MonkeyPatch) -> None:
    require_found(bug, monkeypatch)
