"""The rows of one LWW document on the original's client, defects and all.

The rules: `docs/internals/lww.md` 10.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from patches.algorithms.lww import consolidate_field_op
from patches.errors import PatchError
from patches.json_patch import apply_patch
from patches.model.change import Change, Snapshot
from patches.model.json_values import Json, Op


@dataclass
class StoredLWW:
    """Committed rows over a snapshot, at most one change on its way, and what waits behind it."""

    state: Json = field(default_factory=dict)
    snapshot_rev: int = 0
    committed_rev: int = 0
    committed: dict[str, Op] = field(default_factory=dict)
    pending: dict[str, Op] = field(default_factory=dict)
    sending: Change | None = None

    @property
    def unsent(self) -> list[Op]:
        """What the document shows on top of what is committed."""
        return [*(self.sending.ops if self.sending is not None else ()), *self.pending.values()]

    def committed_state(self) -> Json:
        """Without what is not confirmed."""
        return apply_leniently(self.state, list(self.committed.values()))

    def load(self, new_id: Any, now: int) -> Snapshot:
        """State with everything, and the unsent ops again beside it (10.1, 12.2)."""
        changes = [self.sending] if self.sending is not None else []
        if self.pending:
            rev = self.committed_rev + 1
            changes.append(
                Change(
                    id=new_id(rev),
                    ops=list(self.pending.values()),
                    base_rev=self.committed_rev,
                    rev=rev,
                    created_at=now,
                )
            )
        state = apply_leniently(self.committed_state(), self.unsent)
        return Snapshot(state=state, rev=self.committed_rev, changes=changes)

    def save(self, snapshot: Snapshot) -> None:
        """Install what `getDoc` answered; pending and sending stay."""
        self.state = {} if snapshot.state is None else snapshot.state
        self.committed = {}
        for op in in_commit_order(snapshot.changes):
            self._put_row(op)
        self.committed_rev = snapshot.head

    def pending_at_or_below(self, paths: Sequence[str]) -> list[Op]:
        """Pending ops at these paths and below; those above are not seen (11.1)."""
        return [
            op
            for path, op in self.pending.items()
            if any(path == prefix or path.startswith(f"{prefix}/") for prefix in paths)
        ]

    def confirm(self, paths: set[str]) -> bool:
        """Take sent ops for committed (10.2); whether a row was not simply what was sent."""
        if self.sending is None:
            return False
        corrected = False
        left = []
        for op in self.sending.ops:
            if op["path"] not in paths:
                left.append(op)
                continue
            row = self.committed.get(op["path"])
            result = op if row is None else consolidate_field_op(row, op)
            corrected |= result is not op
            if result is not None:
                self._put_row(result)
        self.sending = self.sending.replace(ops=left) if left else None
        return corrected

    def apply_server(self, changes: Sequence[Change]) -> None:
        """Put every row, whatever stands there (10.3)."""
        for op in in_commit_order(changes):
            self._put_row(op)
        self.committed_rev = max(self.committed_rev, changes[-1].rev)

    def _put_row(self, op: Op) -> None:
        below = f"{op['path']}/"
        for path in [path for path in self.committed if path.startswith(below)]:
            del self.committed[path]
        self.committed.pop(op["path"], None)
        self.committed[op["path"]] = op


def apply_leniently(state: Json, ops: Sequence[Op]) -> Json:
    """As the original's applier: a failing op is skipped; one below a truthy scalar raises."""
    return apply_patch(state, ops)


def in_commit_order(changes: Sequence[Change]) -> list[Op]:
    """All ops, by row revision and time."""
    ops = [op for change in changes for op in change.ops]
    return sorted(ops, key=lambda op: (op.get("rev") or 0, op.get("ts") or 0))


class OriginalLWWDoc:
    """The open document (12): `base` holds what the pipeline gave, local ops included."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.optimistic: list[list[Op]] = []
        self.committed_rev = 0
        self.load(snapshot)

    def load(self, snapshot: Snapshot) -> None:
        """Start again from the store. Its unsent deltas are applied a second time (15)."""
        if snapshot.rev < self.committed_rev:
            return
        self.committed_rev = snapshot.rev
        ops = [op for change in snapshot.changes for op in change.ops]
        self._in_flight = {_key(op) for op in ops}
        self._base = apply_leniently(snapshot.state, ops)
        self._recompute()

    def change(self, ops: list[Op]) -> None:
        """Apply an edit; it waits until it is stored. Raises `PatchError`."""
        self.state: Json = apply_patch(self.state, ops, strict=True)
        self.optimistic.append(ops)

    def take_own(self, ops: Sequence[Op], saved: Sequence[Op], retired: Sequence[Op]) -> None:
        """An edit has been stored."""
        self._in_flight -= {_key(op) for op in retired}
        self._in_flight |= {_key(op) for op in saved}
        self._base = apply_leniently(self._base, ops)
        if self.optimistic:
            del self.optimistic[0]
        else:
            self._recompute()

    def take_server(self, changes: Sequence[Change]) -> None:
        """Server changes, merged with what is not sent."""
        ops = [op for change in changes for op in change.ops]
        keys = {_key(op) for op in ops}
        pure_echo = keys <= self._in_flight
        self._in_flight -= keys
        self.committed_rev = changes[-1].rev  # as it is: it may go down
        if not pure_echo:
            self._base = apply_leniently(self._base, ops)
            self._recompute()

    def _recompute(self) -> None:
        state = self._base
        for ops in list(self.optimistic):
            try:
                state = apply_patch(state, ops, strict=True)
            except PatchError:
                self.optimistic = [other for other in self.optimistic if other is not ops]
        self.state = state


def _key(op: Op) -> str:
    return repr(sorted((name, repr(value)) for name, value in op.items() if name != "rev"))
