"""What a transaction gives an open document to follow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from patches.model.change import Change
from patches.model.history import History
from patches.model.json_values import Json, Op


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """All of a document: the committed state, the pieces being sent, the pending ops."""

    state: Json
    committed_rev: int
    sending: Sequence[Change]
    pending: Sequence[Op]
    version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A write to the tables, as an open document follows it.

    `rows` apply to the committed state, `confirmed` left the pieces being sent, `saved` and
    `removed_paths` changed the pending ops. `work` is set if that is not enough to follow.
    """

    before: int
    after: int
    committed_rev: int
    rows: Sequence[Op] = ()
    confirmed: Sequence[Change] = ()
    sending: Sequence[Change] | None = None
    saved: Sequence[Op] = ()
    removed_paths: Sequence[str] = ()
    accepted: Sequence[Change] = ()
    corrections: Sequence[Op] = ()
    local: Sequence[Op] = ()
    before_rev: int = 0
    work: Work | None = None
    history: History | None = None  # of the copy after this, if it has received something

    @property
    def newly_committed(self) -> list[Change]:
        """The changes above the revision before."""
        return [change for change in self.accepted if change.rev > self.before_rev]
