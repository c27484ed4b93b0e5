"""`Timeline`: actions in the order of their clocks, over a working copy.

The working copy is always the state after the last entry. An action that arrives late is put where
its clock says: what lies after it is undone, the action is run, and what was undone is *run again*,
so that the rules written in the actions hold for the history as it is now. What was committed and
never run here is the `past`; as much of it as is needed is taken back and run.

Four properties are tested: removing what was placed gives the state before; placing the same
entries in any order gives the same state; `own` and then `sync` lead from the state before to the
state after; a run that raises leaves no trace.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from heapq import merge

from patches.algorithms.replay.clock import Key
from patches.algorithms.replay.past import Past
from patches.algorithms.replay.running import Deadline, Invocation, Outcome, message_of, run
from patches.errors import AudienceDeniedError, ImpureActionError
from patches.model.json_values import Json, Op
from patches.rows.row_ops import RowOp, State, apply_row_ops, diff_rows, parse_row_ops, row_at
from patches.rows.working_copy import WorkingCopy

#: Called with the operations that history has and running it again has not.
Diverged = Callable[[list[Op]], None]


@dataclass(slots=True, kw_only=True)
class Entry:
    """One action, or a patch that is not run (`invocation` is `None`).

    `ops`, `inverse` and `error` are those of the last run. `committed`: the effect that it has in
    history, which stands for an action that may not write here what it wrote there.
    `is_correction`: it says what history has and running it again has not.
    """

    id: str
    key: Key
    invocation: Invocation | None
    ops: list[Op] = field(default_factory=list)
    inverse: list[Op] = field(default_factory=list)
    error: str | None = None
    committed: list[Op] | None = None
    is_correction: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """What placing entries did.

    `own`: the effects of their actions. `sync`: what running the later ones again changed beside
    that. `failures`: what their actions raised, by id. `corrected`: ids of the actions that were
    run again. `failed`: those of them that raise now and did not before. `is_late`: there was
    something to be run again.
    """

    own: list[Op]
    sync: list[Op]
    result: Json = None  # of the last
    failures: Mapping[str, Exception] = field(default_factory=dict)
    corrected: tuple[str, ...] = ()
    failed: tuple[Entry, ...] = ()
    is_late: bool = False

    @property
    def failure(self) -> Exception | None:
        """What the one action raised."""
        return next(iter(self.failures.values()), None)


class Timeline:
    """The entries of one document, over a working copy that is at its start."""

    def __init__(
        self,
        copy: WorkingCopy,
        *,
        check_purity: bool = False,
        deadline: Deadline | None = None,
        diverged: Diverged | None = None,
    ) -> None:
        self.copy = copy
        self.entries: list[Entry] = []
        self.past: Past = Past()
        self._check_purity = check_purity
        self._deadline = deadline
        self._diverged = diverged

    def place(self, entry: Entry) -> Placed:
        """Put an action at its place, and run it and all that lies after it.

        An entry whose action raises stays, without effect: a later arrival may let it succeed.
        """
        return self.place_all([entry])

    def place_all(self, entries: Sequence[Entry]) -> Placed:
        """`place` for several: what lies after the first of them is run again once.

        `own` is in the order of `entries`.
        """
        if not entries:
            return Placed(own=[], sync=[])
        ordered = sorted(entries, key=_key_of)
        self._reach(ordered[0].key)
        place = bisect_right(self.entries, ordered[0].key, key=_key_of)
        later = self.entries[place:]
        all_later = list(merge(later, ordered, key=_key_of)) if later else ordered
        new = {id(entry) for entry in entries}
        failures: dict[str, Exception] = {}
        failed: list[Entry] = []
        result: Json = None
        with self.copy.record() as journal:
            self._undo(later)
            for entry in all_later:
                had_effect = entry.error is None
                outcome, failure = self._redo(entry)
                if id(entry) not in new:
                    if had_effect and failure is not None:
                        failed.append(entry)
                    continue
                result = outcome.result if outcome is not None else None
                if failure is not None:
                    failures[entry.id] = failure
        self.entries[place:] = all_later
        own = [op for entry in entries for op in entry.ops]
        sync: list[Op] = []
        if later:
            folded = apply_row_ops(_as_state(journal.before), parse_row_ops(own))
            sync = diff_rows({spot: row_at(folded, spot) for spot in journal.rows}, journal.after)
        return Placed(
            own=own,
            sync=sync,
            result=result,
            failures=failures,
            corrected=tuple(each.id for each in later if each.invocation is not None),
            failed=tuple(failed),
            is_late=bool(later),
        )

    def patch(self, id: str, ops: list[Op]) -> None:
        """Apply operations as an entry at the head."""
        entry = Entry(id=id, key=self._last_key(), invocation=None, ops=ops)
        with self.copy.record():
            self._redo(entry)
        self.entries.append(entry)

    def commit(self, entries: Iterable[Entry], ops: Sequence[RowOp]) -> None:
        """What was committed elsewhere: apply its operations at the head. All entries here are
        committed, too.
        """
        self.move_to_past(len(self.entries))
        with self.copy.record() as journal:
            self.copy.apply(ops)
        self.past.append(entries, journal.inverse())

    def move_to_past(self, count: int) -> None:
        """Move the first entries into the past: they are committed."""
        for entry in self.entries[:count]:
            self.past.append(() if entry.is_correction else (entry,), entry.inverse)
        del self.entries[:count]

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

    # ---- inside ----------------------------------------------------------------------------------

    def _last_key(self) -> Key:
        return self.entries[-1].key if self.entries else (0, 0, "", "")

    def run_again_from(self, key: Key) -> list[Op]:
        """Run again what was committed at `key` and after it: what that does here and has not done
        where it was committed, because other rows are in sight. Nothing stays of it.
        """
        return self._reach((*key[:3], ""))  # what is at `key`, too

    def _reach(self, key: Key) -> list[Op]:
        """Have all entries that lie after `key`, of the past too."""
        if self.past.highest < key:
            return []
        units = self.past.take_from(key)
        known = [entry for entry in self.entries if not entry.is_correction]
        taken = [entry for unit in units for entry in unit.entries]
        again = sorted([*taken, *known], key=_key_of)
        with self.copy.record() as journal:
            self._undo(self.entries)
            for unit in reversed(units):
                self.copy.apply(parse_row_ops(unit.back))
            for entry in again:
                self._redo(entry)
        self.entries = again
        missing = diff_rows(journal.after, journal.before)
        if missing:
            # An action was changed under its name, or was run with other rows in sight: what was
            # committed is right.
            entry = Entry(
                id="", key=self._last_key(), invocation=None, ops=missing, is_correction=True
            )
            with self.copy.record():
                self._redo(entry)
            self.entries.append(entry)
            if self._diverged is not None:
                self._diverged(missing)
        return diff_rows(journal.before, journal.after)

    def _undo(self, entries: list[Entry]) -> None:
        for entry in reversed(entries):
            if entry.inverse:
                self.copy.apply(parse_row_ops(entry.inverse))

    def _redo(self, entry: Entry) -> tuple[Outcome | None, Exception | None]:
        if entry.invocation is None:
            self._put(entry, entry.ops)
            return None, None
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
            if entry.committed is not None and isinstance(error, AudienceDeniedError):
                self._put(entry, entry.committed)  # its author may write what nobody sees here
                return None, None
            entry.ops, entry.inverse, entry.error = [], [], message_of(error)
            return None, error
        entry.ops, entry.inverse, entry.error = outcome.ops, outcome.inverse, None
        return outcome, None

    def _put(self, entry: Entry, ops: list[Op]) -> None:
        with self.copy.record() as journal:
            self.copy.apply(parse_row_ops(ops))
        entry.ops, entry.inverse = ops, journal.inverse()


def _key_of(entry: Entry) -> Key:
    return entry.key


def _as_state(rows: Mapping[tuple[str, str], Json]) -> State:
    state: dict[str, dict[str, Json]] = {}
    for (table, key), row in rows.items():
        known = state.setdefault(table, {})
        if row is not None:
            known[key] = row
    return state
