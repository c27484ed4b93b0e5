"""The original's open OT document: committed, pending and optimistic edits.

The rules: `docs/internals/ot.md` 8.
"""

from __future__ import annotations

from collections.abc import Sequence

from patches.algorithms.ot import apply_changes, apply_pending_for_view, rebase_changes
from patches.errors import PatchError
from patches.json_patch import apply_patch
from patches.model.change import Change, Snapshot
from patches.model.json_values import Json, Op


class OriginalOTDoc:
    """`optimistic` holds the live op lists of edits that are not stored yet."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.state: Json = None
        self.optimistic: list[list[Op]] = []
        self.load(snapshot)

    def load(self, snapshot: Snapshot) -> None:
        """Take over a snapshot from the store, pending changes and all (8.6)."""
        if snapshot.rev < getattr(self, "committed_rev", 0):
            return
        self._committed = {} if snapshot.state is None else snapshot.state
        self.committed_rev = snapshot.rev
        self.pending = list(snapshot.changes)
        unmatched = [change.ops for change in self.pending]
        for ops in list(self.optimistic):
            if ops in unmatched:  # it has been stored meanwhile
                unmatched.remove(ops)
                self._forget(ops)
        self._recompute()

    def change(self, ops: list[Op]) -> None:
        """Apply an edit; it waits until it is stored. Raises `PatchError`."""
        self.state = apply_patch(self.state, ops, strict=True)
        self.optimistic.append(ops)

    def take_own(self, changes: Sequence[Change]) -> None:
        """An edit has been stored: it is pending now."""
        self.pending += changes
        if self.optimistic:
            del self.optimistic[0]
        else:
            self.state = apply_changes(self.state, changes)

    def take_server(self, server: Sequence[Change], pending: Sequence[Change]) -> None:
        """Committed changes, and the pending ones rebased onto them (8.4)."""
        assert server[0].rev == self.committed_rev + 1, "not at the correct revision"
        prior = {change.id for change in self.pending}
        pure_echo = all(change.id in prior for change in server)
        committed = apply_changes(self._committed, server)
        if not pure_echo:
            self._rebase_optimistic(server)
        self._committed, self.committed_rev = committed, server[-1].rev
        self.pending = list(pending)
        if not pure_echo:
            self._recompute()

    def _rebase_optimistic(self, server: Sequence[Change]) -> None:
        last = self.pending[-1].rev if self.pending else self.committed_rev
        named = [
            Change(
                id=f"optimistic-{at}",
                ops=ops,
                base_rev=self.committed_rev,
                rev=last + 1 + at,
                created_at=0,
            )
            for at, ops in enumerate(self.optimistic)
        ]
        moved = {c.id: c.ops for c in rebase_changes(server, [*self.pending, *named])}
        for change, ops in zip(named, list(self.optimistic), strict=True):
            rebased = list(moved.get(change.id, ()))
            ops[:] = rebased  # whoever stores it holds this very list; an emptied one is skipped
            if not rebased:
                self._forget(ops)

    def _recompute(self) -> None:
        state = apply_pending_for_view(self._committed, self.committed_rev, self.pending)
        for ops in list(self.optimistic):
            try:
                state = apply_patch(state, ops, strict=True)
            except PatchError:
                self._forget(ops)
        self.state = state

    def _forget(self, ops: list[Op]) -> None:
        self.optimistic = [other for other in self.optimistic if other is not ops]
        ops.clear()
