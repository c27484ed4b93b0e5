"""What one user is sent of a document. Pure.

A user sees the rows of their audiences. The name and arguments of an action go to its author, and
to those who see all of its operations, or if the action shares its arguments; those of an action
without effect, which nobody sees anything of, to its author. A change of which nothing may be seen
is sent as an empty one, so that revisions have no holes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from patches.algorithms.replay.changes import GROUP, OP_AUDIENCE, RIGHTS, SYNC, group_of
from patches.model.change import Change
from patches.model.json_values import Json
from patches.rows.row_ops import State
from patches.rows.schema import AUDIENCE

HIDDEN: Final = "hidden-"
_MARK: Final = "/"


@dataclass(frozen=True, slots=True)
class Viewer:
    """A receiver: a user, and the audiences they belong to (`None`: all)."""

    author: str | None
    rights: frozenset[str] | None

    @property
    def mark(self) -> str | None:
        """Names the audiences, so that a copy made with others is known by it."""
        if self.rights is None:
            return None
        audiences = "\n".join(sorted(self.rights)).encode("utf-8", "surrogatepass")
        return hashlib.sha256(audiences).hexdigest()[:16]

    def token(self, history: str | None) -> str | None:
        """The token of a history, as this user sees it."""
        return history if history is None or self.mark is None else f"{history}{_MARK}{self.mark}"

    def sees(self, audience: object) -> bool:
        """Whether a row of an audience may be seen."""
        return self.rights is None or audience is None or audience in self.rights


def view_of(change: Change, viewer: Viewer, shares_args: Callable[[Change], bool]) -> Change:
    """A committed change, as a user may see it."""
    metadata = change.metadata
    is_own = metadata.get("author") == viewer.author
    ops = [op for op in change.ops if viewer.sees(op.get(OP_AUDIENCE))]
    sees_all = len(ops) == len(change.ops)
    is_shown = is_own or viewer.rights is None or (sees_all and bool(ops))
    shown: dict[str, Any] = {}
    for name, value in metadata.items():
        if name == "action" and not (is_shown or shares_args(change)):
            continue
        if name == RIGHTS and viewer.rights is not None:
            value = sorted(viewer.rights.intersection(value))
        if name == "error" and not is_own:
            continue
        if name == "failed":
            value = _own_failures(value, viewer)
            if not value:
                continue
        shown[name] = value
    if not ops and change.ops and not is_own and "failed" not in shown:
        return Change(
            id=f"{HIDDEN}{change.rev}",
            ops=[],
            base_rev=change.base_rev,
            rev=change.rev,
            created_at=change.committed_at,
            committed_at=change.committed_at,
            metadata={"kind": SYNC, GROUP: group_of(change)},
        )
    if sees_all and shown == metadata:
        return change
    return change.replace(ops=ops, metadata=shown)


def _own_failures(failed: Json, viewer: Viewer) -> list[dict[str, Json]]:
    return [
        {key: value for key, value in each.items() if key != "author"}
        for each in failed
        if each.get("author") == viewer.author
    ]


def view_of_state(state: State, viewer: Viewer) -> Mapping[str, Mapping[str, Json]]:
    """The rows that a user may see."""
    if viewer.rights is None:
        return state
    return {
        table: {key: row for key, row in rows.items() if viewer.sees(row.get(AUDIENCE))}
        for table, rows in state.items()
    }


def parted_token(token: str | None) -> tuple[str | None, str | None]:
    """The token of the history, and the mark of the audiences that a copy was made with."""
    if token is None:
        return None, None
    history, _, mark = token.partition(_MARK)
    return history, mark or None


def views_of(
    changes: Sequence[Change], viewer: Viewer, shares_args: Callable[[Change], bool]
) -> list[Change]:
    """Committed changes, as a user may see them."""
    return [view_of(change, viewer, shares_args) for change in changes]
