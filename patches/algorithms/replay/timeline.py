"""`Timeline`: actions in the order of their clocks, over a working copy.

The working copy is always the state after the last entry. An action that arrives late is put where
its clock says: what lies after it is undone, the action is run, and what was undone is *run again*,
so that the rules written in the actions hold for the history as it is now.

Four properties are tested: removing what was placed gives the state before; placing the same
entries in any order gives the same state; `own` and then `sync` lead from the state before to the
state after; a run that raises leaves no trace.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from patches.algorithms.replay.clock import Key
from patches.algorithms.replay.running import Deadline, Invocation, Outcome, message_of, run
from patches.errors import ImpureActionError
from patches.model.json_values import Json, Op
from patches.rows.row_ops import RowOp, State, apply_row_ops, diff_rows, parse_row_ops, row_at
from patches.rows.working_copy import WorkingCopy


@dataclass(slots=True, kw_only=True)
class Entry:
    """One action, or a patch that is not run (`invocation` is `None`).

    `ops`, `inverse` and `error` are those of the last run.
    """

    id: str
    key: Key
    invocation: Invocation | None
    ops: list[Op] = field(default_factory=list)
    inverse: list[Op] = field(default_factory=list)
    error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """What placing an entry did.

    `own`: the effect of its action. `sync`: what running the later ones again changed beside that.
    `failure`: what the action raised. `corrected`: ids of the actions that were run again.
    `failed`: those of them that raise now and did not before.
    """

    own: list[Op]
    sync: list[Op]
    result: Json
    failure: Exception | None
    corrected: tuple[str, ...] = ()
    failed: tuple[Entry, ...] = ()


class Timeline:
    """The entries of one document, over a working copy that is at its start."""

    def __init__(
        self,
        copy: WorkingCopy,
        *,
        check_purity: bool = False,
        deadline: Deadline | None = None,
    ) -> None:
        self.copy = copy
        self.entries: list[Entry] = []
        self._check_purity = check_purity
        self._deadline = deadline

    def place(self, entry: Entry) -> Placed:
        """Put an action at its place, and run it and all that lies after it.

        An entry whose action raises stays, without effect: a later arrival may let it succeed.
        """
        place = bisect_right(self.entries, entry.key, key=_key_of)
        later = self.entries[place:]
        failed: list[Entry] = []
        with self.copy.record() as journal:
            self._undo(later)
            outcome, failure = self._run(entry)
            for each in later:
                had_effect = each.error is None
                self._redo(each)
                if had_effect and each.error is not None:
                    failed.append(each)
        self.entries.insert(place, entry)
        sync: list[Op] = []
        if later:
            before = _as_state(journal.before)
            own = apply_row_ops(before, parse_row_ops(entry.ops))
            sync = diff_rows({spot: row_at(own, spot) for spot in journal.rows}, journal.after)
        return Placed(
            own=entry.ops,
            sync=sync,
            result=outcome.result if outcome is not None else None,
            failure=failure,
            corrected=tuple(each.id for each in later if each.invocation is not None),
            failed=tuple(failed),
        )

    def patch(self, id: str, ops: list[Op]) -> None:
        """Apply operations as an entry at the head."""
        key = self.entries[-1].key if self.entries else (0, 0, "", "")
        entry = Entry(id=id, key=key, invocation=None, ops=ops)
        with self.copy.record():
            self._redo(entry)
        self.entries.append(entry)

    def apply_to_start(self, ops: Iterable[RowOp]) -> None:
        """Change what lies before the first entry; there must be none."""
        assert not self.entries
        with self.copy.record():
            self.copy.apply(list(ops))

    def remove(self, ids: Collection[str]) -> None:
        """Take entries out, and run again what lies after the first of them."""
        first = next((place for place, each in enumerate(self.entries) if each.id in ids), None)
        if first is None:
            return
        later = self.entries[first:]
        kept = [each for each in later if each.id not in ids]
        with self.copy.record():
            self._undo(later)
            for each in kept:
                self._redo(each)
        self.entries[first:] = kept

    def fold(self, count: int) -> None:
        """Forget the first entries; their effects are part of the start."""
        del self.entries[:count]

    def _undo(self, entries: list[Entry]) -> None:
        for entry in reversed(entries):
            if entry.inverse:
                self.copy.apply(parse_row_ops(entry.inverse))

    def _redo(self, entry: Entry) -> None:
        if entry.invocation is not None:
            self._run(entry)
            return
        with self.copy.record() as journal:
            self.copy.apply(parse_row_ops(entry.ops))
        entry.inverse = journal.inverse()

    def _run(self, entry: Entry) -> tuple[Outcome | None, Exception | None]:
        assert entry.invocation is not None
        try:
            outcome = run(
                self.copy,
                entry.invocation,
                check_purity=self._check_purity,
                deadline=self._deadline,
            )
        except ImpureActionError:
            raise
        except Exception as error:  # whatever the application's function raises is its outcome
            entry.ops, entry.inverse, entry.error = [], [], message_of(error)
            return None, error
        entry.ops, entry.inverse, entry.error = outcome.ops, outcome.inverse, None
        return outcome, None


def _key_of(entry: Entry) -> Key:
    return entry.key


def _as_state(rows: dict[tuple[str, str], Json]) -> State:
    state: dict[str, dict[str, Json]] = {}
    for (table, key), row in rows.items():
        known = state.setdefault(table, {})
        if row is not None:
            known[key] = row
    return state
