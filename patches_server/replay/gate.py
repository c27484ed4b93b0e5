"""`GateDoc`: one document in the memory of a server that has no actions.

Who commits an action has run it, on the revision that is the head, and says what it did: to the
rows, and to what later actions had done. The server sees to who writes, which rows, and in which
order; whether the rules of the actions hold it cannot know.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from patches.algorithms.replay.changes import (
    CLIENT,
    GROUP,
    OP_AUDIENCE,
    RIGHTS,
    RUNNER,
    SYNC,
    clock_of,
    plain_ops,
)
from patches.errors import PatchesError
from patches.model.change import Change
from patches.model.json_values import Json, Op
from patches.rows.row_ops import Row, RowOp, State, parse_row_ops
from patches.rows.schema import AUDIENCE, KEY, is_name
from patches.runtime import Millis
from patches_server.replay.judge import refused
from patches_server.replay.logbook import Logbook
from patches_server.replay.store import LoadedDoc, Logged


@dataclass(frozen=True, slots=True, kw_only=True)
class Correction:
    """What an action that came late changed of the effect of later ones."""

    ops: Sequence[Op]
    corrects: Sequence[str]
    failed: Sequence[Mapping[str, str]]

    @property
    def is_empty(self) -> bool:
        """Nothing is to be corrected, though others were run again."""
        return not self.ops and not self.failed


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposed:
    """A change that was run by who commits it. `group`: how many changes from it on belong
    together.
    """

    id: str
    ops: Sequence[Op]
    created_at: Millis
    author: str | None
    rights: frozenset[str] | None
    correction: Correction | None = None
    group: int = 1
    metadata: Mapping[str, Json] = field(default_factory=dict)


class GateDoc(Logbook):
    """A `Logbook` with the rows that its operations make."""

    def __init__(self, loaded: LoadedDoc, new_id: Callable[[], str]) -> None:
        super().__init__(loaded, new_id)
        self._rows = self._folded()

    @property
    def state(self) -> State:
        return self._rows.state

    def append(self, proposed: Sequence[Proposed], now: Millis) -> list[Logged]:
        """The changes as they are committed, with what their operations do.

        Raises `ChangeRefusedError` for one that writes what its author may not; nothing is left
        then. They are part of this document from now on: drop it if they cannot be stored.
        """
        made: list[Logged] = []
        done: list[list[Op]] = []
        count = 0  # of actions since the last correction that belong with the next
        left = 0  # in the group
        try:
            for each in proposed:
                if left == 0:
                    count, left = 0, each.group
                count, left = count + 1, left - 1
                kept = dict(each.metadata)
                if each.correction is not None and each.correction.is_empty and count > 1:
                    kept[GROUP] = count - 1
                made.append(self._change(each, each.id, each.ops, kept, made, done))
                if each.correction is not None and not each.correction.is_empty:
                    given = self._correction(each.correction, count)
                    sync_id = f"{each.id}+sync"
                    made.append(self._change(each, sync_id, each.correction.ops, given, made, done))
        except BaseException:
            for back in reversed(done):
                self._rows.apply(parse_row_ops(back))
            raise
        made = [Logged(entry.change.replace(committed_at=now), entry.rights) for entry in made]
        self._add(made)
        return made

    # ---- inside ----------------------------------------------------------------------------------

    def _change(
        self,
        proposed: Proposed,
        change_id: str,
        ops: Sequence[Op],
        metadata: dict[str, Any],
        before: Sequence[Logged],
        done: list[list[Op]],
    ) -> Logged:
        metadata[RUNNER] = CLIENT
        if proposed.author is not None:
            metadata["author"] = proposed.author
        if proposed.rights is not None:
            metadata[RIGHTS] = sorted(proposed.rights)
        rev = self.rev + len(before)
        change = Change(
            id=change_id,
            ops=self._applied(proposed, ops, done),
            base_rev=rev,
            rev=rev + 1,
            created_at=proposed.created_at,
            metadata=metadata,
        )
        rights = None if proposed.rights is None else sorted(proposed.rights)
        return Logged(change, rights)

    def _correction(self, correction: Correction, count: int) -> dict[str, Any]:
        given: dict[str, Any] = {
            "kind": SYNC,
            "corrects": list(correction.corrects),
            GROUP: count,
        }
        failed = [self._with_author(each) for each in correction.failed]
        if failed:
            given["failed"] = failed
        return given

    def _with_author(self, failure: Mapping[str, str]) -> dict[str, Json]:
        change = self.by_id(failure["id"])
        if change is None:
            return {**failure}
        clock, author = clock_of(change), change.metadata.get("author")
        known: dict[str, Json] = {} if clock is None else {"client": clock.client}
        return {**failure, **known} if author is None else {**failure, **known, "author": author}

    def _applied(self, proposed: Proposed, ops: Sequence[Op], done: list[list[Op]]) -> list[Op]:
        """The operations that have an effect, each with the audience of the row that it writes."""
        kept: list[Op] = []
        for op, parsed in zip(ops, parse_row_ops(ops), strict=True):
            before = self._rows.row(parsed.table, parsed.key or "")
            audience = _audience(proposed, parsed, before)
            journal = self._rows.apply([parsed])
            if not journal.rows:
                continue  # of a row that is not there
            done.append(journal.inverse())
            kept.append(op if audience is None else {**op, OP_AUDIENCE: audience})
        return kept


def _audience(proposed: Proposed, op: RowOp, before: Row | None) -> Json:
    """The audience of the row that is written. Raises `ChangeRefusedError` (403)."""
    rows: list[Json] = [before, op.value]
    audiences = [row[AUDIENCE] for row in rows if isinstance(row, dict) and AUDIENCE in row]
    for audience in audiences:
        if proposed.rights is not None and audience not in proposed.rights:
            message = f"it writes a row of {op.table!r} whose audience is {audience!r}"
            raise refused(proposed.id, message, code=403)
    if len(audiences) == 2 and audiences[0] != audiences[1]:
        raise refused(proposed.id, f"it changes the audience of a row of {op.table!r}")
    return audiences[0] if audiences else None


def checked_ops(change_id: str, ops: object) -> list[Op]:
    """Operations of rows. Raises `ChangeRefusedError` for others."""
    if not isinstance(ops, list) or not all(isinstance(op, dict) for op in ops):
        raise refused(change_id, "expected a list of operations")
    try:
        parsed = parse_row_ops(ops)
    except PatchesError as error:
        raise refused(change_id, str(error)) from error
    for op in parsed:
        names = [op.table, *(op.value if op.kind == "add" and op.key is not None else ())]
        if op.column is not None:
            names.append(op.column)
        if wrong := next((name for name in names if not is_name(name)), None):
            raise refused(change_id, f"{wrong!r} is no name of a table or a column")
        if op.kind == "clear" or op.column in (KEY, AUDIENCE):
            raise refused(change_id, f"an action does not write {op.column or 'whole tables'}")
    return plain_ops(ops)
