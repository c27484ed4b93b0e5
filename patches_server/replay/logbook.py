"""`Logbook`: one document's log in a server's memory, whoever runs its actions."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Final

from patches.algorithms.replay.changes import clock_of, units_of
from patches.algorithms.replay.clock import Key
from patches.model import codec
from patches.model.change import Change
from patches.rows.plain_rows import PlainRows
from patches.rows.row_ops import State, parse_row_ops
from patches.runtime import Millis
from patches_server.replay.store import LoadedDoc, Logged

START: Final[Key] = (0, 0, "", "")


class Logbook(ABC):
    """The snapshot at the floor, and the changes after it. Owned by the server, which orders the
    calls about one document.
    """

    def __init__(self, loaded: LoadedDoc, new_id: Callable[[], str]) -> None:
        self.token: str | None = loaded.token
        self.floor: int = loaded.floor
        self.log: list[Logged] = list(loaded.log)
        self._new_id = new_id
        self._start: State = codec.decode(loaded.state)
        self._start_clock = loaded.clock
        #: Revisions by the ids of all committed changes.
        self.revs: dict[str, int] = dict(loaded.folded_ids)
        #: Whose each client id in a clock is.
        self.clients: dict[str, str | None] = {}
        self.clock: tuple[int, int] = loaded.clock
        self._last_key = START
        for entry in self.log:
            self._note(entry)

    @property
    @abstractmethod
    def state(self) -> State:
        """The rows at the head."""

    def close(self) -> None:
        """Release the rows."""
        return None

    @property
    def rev(self) -> int:
        """The head."""
        return self.log[-1].change.rev if self.log else self.floor

    @property
    def last_id(self) -> str | None:
        """The id of the change at the head, if it is still there."""
        return self.log[-1].change.id if self.log else None

    def id_at(self, rev: int) -> str | None:
        """The id of the change at a revision, if it is still there."""
        place = rev - self.floor - 1
        return self.log[place].change.id if 0 <= place < len(self.log) else None

    def since(self, rev: int) -> list[Change]:
        """The changes after a revision that is not below the floor."""
        return [entry.change for entry in self.log[max(rev - self.floor, 0) :]]

    def at(self, rev: int) -> Change:
        """The change at a revision; without its operations if it was folded."""
        if rev > self.floor:
            return self.log[rev - self.floor - 1].change
        change_id = next(id for id, found in self.revs.items() if found == rev)
        return Change(id=change_id, ops=[], base_rev=rev - 1, rev=rev, created_at=0, committed_at=1)

    def by_id(self, change_id: str) -> Change | None:
        """A change that is still there."""
        rev = self.revs.get(change_id, 0)
        return self.log[rev - self.floor - 1].change if rev > self.floor else None

    def foldable(self, oldest: Millis, most: int) -> int:
        """How many changes are older than that, or beyond so many. Actions and the sync change that
        belongs with them are never parted.
        """
        many, count = len(self.log) - most, 0
        for unit in units_of([entry.change for entry in self.log]):
            if count >= many and unit[-1].committed_at >= oldest:
                break
            count += len(unit)
        return count

    def fold(self, rev: int) -> tuple[bytes, tuple[int, int]]:
        """Put a snapshot in the place of the changes up to `rev`: its state and its clock."""
        folded = [entry.change for entry in self.log if entry.change.rev <= rev]
        rows = PlainRows(self._start)
        rows.apply(op for change in folded for op in parse_row_ops(change.ops))
        self._start = rows.state
        clocks = [clock for change in folded if (clock := clock_of(change)) is not None]
        self._start_clock = max([self._start_clock, *((clock.ms, clock.n) for clock in clocks)])
        self.log = self.log[len(folded) :]
        self.floor = rev
        return codec.encode(self._start), self._start_clock

    # ---- inside ----------------------------------------------------------------------------------

    def _add(self, made: Sequence[Logged]) -> None:
        for entry in made:
            self.log.append(entry)
            self._note(entry)

    def _note(self, entry: Logged) -> None:
        change = entry.change
        self.revs[change.id] = change.rev
        clock = clock_of(change)
        if clock is not None:
            author = change.metadata.get("author")
            self.clients.setdefault(clock.client, author if isinstance(author, str) else None)
            self._last_key = max(self._last_key, clock.key(change.id))
            self.clock = max(self.clock, (clock.ms, clock.n))

    def _folded(self) -> PlainRows:
        rows = PlainRows(self._start)
        rows.apply(op for entry in self.log for op in parse_row_ops(entry.change.ops))
        return rows
