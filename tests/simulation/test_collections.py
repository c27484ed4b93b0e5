"""Collections in the simulation: honest runs pass, and bugs planted one at a time are found."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

import pytest

from patches.algorithms.collections import transactions
from patches.algorithms.collections.doc import CollectionsDoc
from patches.algorithms.collections.overlay import Overlay
from patches.algorithms.collections.queries import Queries
from patches.algorithms.collections.subsets import Interest
from patches.model.change import Change
from patches.testing.sim import draw, run
from patches_server.collections.engines import sqlite, sqlite_tables
from patches_server.collections.engines.sqlite_transaction import SqliteTransaction
from patches_server.collections.interests import Interests
from patches_server.collections.parts import NOTHING, Part, Window
from patches_server.collections.streams import Streams
from tests.simulation.planting import Planted, require_found


@pytest.mark.parametrize("start", range(0, 60, 10))
def test_all_copies_are_the_tables(start: int) -> None:
    for seed in range(start, start + 10):
        outcome = run(draw(seed, "light", "collections"))
        assert outcome.failure is None, outcome.report()


def test_a_seed_is_the_same_run_again() -> None:
    config = draw(7, "light", "collections")
    assert run(config).digest == run(config).digest


# ---- planted in the server -----------------------------------------------------------------------


def deletions_of_other_programs_that_are_not_captured(patch: pytest.MonkeyPatch) -> None:
    set_up = sqlite_tables.set_up

    def without(conn: Any, tables: Any) -> None:
        set_up(conn, tables)
        found = conn.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall()
        for (name,) in found:
            if name.endswith("delete"):
                conn.execute(f'DROP TRIGGER "{name}"')

    patch.setattr(sqlite, "set_up", without)


def a_view_that_follows_on_any_revision(patch: pytest.MonkeyPatch) -> None:
    view = Interests._view

    def without_base(self: Interests, held: Any, *rest: Any) -> Any:
        sent_rev, held.sent_rev = held.sent_rev, 0  # a client that has missed one does not notice
        try:
            return view(self, held, *rest)
        finally:
            held.sent_rev = sent_rev

    patch.setattr(Interests, "_view", without_base)


def a_window_that_drifts(patch: pytest.MonkeyPatch) -> None:
    absorb = Window._absorb

    def own_rows_only(self: Window, tx: Any, rows: Any) -> Any:
        if not any(key in self._held for key in rows):
            return NOTHING
        return absorb(self, tx, rows)

    patch.setattr(Window, "_absorb", own_rows_only)


def a_partial_that_stays(patch: pytest.MonkeyPatch) -> None:
    def remove(self: Streams, writing: Any) -> None:
        self._open.get(writing.doc_id, {}).pop((writing.table.name, writing.key), None)

    patch.setattr(Streams, "remove", remove)


def a_visible_rule_that_forgets_removals(patch: pytest.MonkeyPatch) -> None:
    absorb = Part.absorb

    def without(self: Part, tx: Any, touched: Any) -> Any:
        change = absorb(self, tx, touched)
        rows = touched.rows[self.table]
        change.removes = {key for key in change.removes if rows.get(key) is None}
        return change

    patch.setattr(Part, "absorb", without)


def a_retry_that_is_executed_twice(patch: pytest.MonkeyPatch) -> None:
    def forget(self: SqliteTransaction, change_ids: Collection[str]) -> dict[str, Any]:
        return {}

    def put(self: SqliteTransaction, commit: Any, now: int) -> None:
        self._conn.execute(
            "INSERT OR REPLACE INTO _patches_commits VALUES (?, ?, ?, ?)",
            (commit.change_id, commit.rev, commit.author, now),
        )

    patch.setattr(SqliteTransaction, "commits", forget)
    patch.setattr(SqliteTransaction, "put_commit", put)


def a_refused_change_that_is_kept_in_part(patch: pytest.MonkeyPatch) -> None:
    def attempt(self: SqliteTransaction, work: Callable[[], Any]) -> Any:
        return work()  # without a savepoint

    patch.setattr(SqliteTransaction, "attempt", attempt)


def a_cursor_past_what_was_missed(patch: pytest.MonkeyPatch) -> None:
    changed = SqliteTransaction.changed

    def later(self: SqliteTransaction, after: int, upto: int, *, limit: int) -> Any:
        return changed(self, min(after + 1, upto), upto, limit=limit)

    patch.setattr(SqliteTransaction, "changed", later)


# ---- planted in the client -----------------------------------------------------------------------


def a_gap_that_is_applied(patch: pytest.MonkeyPatch) -> None:
    def following(changes: Sequence[Change], cursor: int) -> list[Change]:
        return [change for change in changes if change.rev > cursor]

    patch.setattr(transactions, "following", following)


def a_refused_write_that_stays_shown(patch: pytest.MonkeyPatch) -> None:
    def rejected(self: CollectionsDoc, write_id: str, reason: str, step: Any) -> None:
        self.version = step.after
        self._book.rejected(write_id, reason)

    step = Overlay.step

    def keeping(self: Overlay, ops: Any = (), **more: Any) -> Any:
        if not list(ops) and not more.get("partials") and not more.get("review"):
            more["remove"] = ()
        return step(self, ops, **more)

    patch.setattr(CollectionsDoc, "rejected", rejected)
    patch.setattr(Overlay, "step", keeping)


def a_refusal_that_takes_what_follows(patch: pytest.MonkeyPatch) -> None:
    eject = transactions.eject

    def more(tables: Any, doc_id: str, change_id: str, *rest: Any) -> Any:
        ejected = eject(tables, doc_id, change_id, *rest)
        if ejected is not None:
            tables.remove_pending([change.id for change in tables.pending()])
        return ejected

    patch.setattr(transactions, "eject", more)


def loaded_subsets_that_are_not_stated_again(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Interest, "stated", lambda self: [])


def partials_that_outlive_their_connection(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(CollectionsDoc, "drop_partials", lambda self: None)


def subsets_that_are_not_loaded_again(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Queries, "load_again", lambda self: None)


BUGS = [
    Planted(deletions_of_other_programs_that_are_not_captured, "collections", 0, "C1 C3"),
    Planted(a_view_that_follows_on_any_revision, "collections", 27, "C1 C3"),
    Planted(a_window_that_drifts, "collections", 0, "C3 I9"),
    Planted(a_partial_that_stays, "collections", 0, "C4 I9"),
    Planted(a_visible_rule_that_forgets_removals, "collections", 0, "C1"),
    Planted(a_retry_that_is_executed_twice, "collections", 0, "C2"),
    Planted(a_refused_change_that_is_kept_in_part, "collections", 0, "C1 C2"),
    Planted(a_cursor_past_what_was_missed, "collections", 0, "C1 C3 I9"),
    Planted(a_gap_that_is_applied, "collections", 27, "C1 C3"),
    Planted(a_refused_write_that_stays_shown, "collections", 0, "C1 I9"),
    Planted(a_refusal_that_takes_what_follows, "collections", 0, "C2 I9"),
    Planted(loaded_subsets_that_are_not_stated_again, "collections", 0, "C3 I9"),
    Planted(partials_that_outlive_their_connection, "collections", 16, "C4"),
    Planted(subsets_that_are_not_loaded_again, "collections", 0, "C3 I9"),
]


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.plant.__name__)
def test_a_planted_bug_is_found(bug: Planted, monkeypatch: pytest.MonkeyPatch) -> None:
    require_found(bug, monkeypatch)
