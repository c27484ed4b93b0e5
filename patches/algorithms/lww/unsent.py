"""`Unsent`: an open document's writes that the server has not confirmed, each once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from patches.algorithms.lww.field_table import FieldTable, is_below, put_consolidated
from patches.model.change import Change
from patches.model.json_values import Op

#: So many comparisons of paths take about as long as building a large document.
_MAX_COMPARISONS: Final = 100_000


class Unsent:
    """In the order in which they are shown: pieces being sent, pending ops, unsaved edits."""

    def __init__(self, unsaved: Iterable[list[Op]]) -> None:
        self.pieces: Sequence[Change] = ()  #: what is being sent
        self._sending = FieldTable()
        self._pending = FieldTable()
        self._unsaved = unsaved  # the document's own queue

    @property
    def stored_count(self) -> int:
        """How many fields wait for the server, beside unsaved edits."""
        return len(self._sending.by_path) + len(self._pending.by_path)

    def pending(self) -> list[Op]:
        """The pending ops, in order."""
        return self._pending.ops()

    def stored(self) -> list[Op]:
        """The ops of pieces and pending ops."""
        return self._sending.ops() + self._pending.ops()

    def replace(self, sending: Sequence[Change], pending: Iterable[Op]) -> None:
        """Take over pieces and pending ops as they are stored."""
        self.send(sending)
        self._pending = FieldTable(pending)

    def save(self, saved: Sequence[Op], removed_paths: Sequence[str]) -> None:
        """Follow a write to the pending ops."""
        put_consolidated(self._pending, saved, removed_paths)

    def send(self, sending: Sequence[Change]) -> None:
        """Follow a write to the pieces."""
        self.pieces = sending
        self._sending = FieldTable()
        for piece in sending:
            for op in piece.ops:
                self._sending.put(op)

    def pending_is(self, op: Op) -> bool:
        """Whether the pending op of a path is this very op."""
        return self._pending.get(op["path"]) is op

    def waiting_at(self, path: str) -> Op | None:
        """The newest op of a path that is not being sent yet."""
        for ops in reversed(list(self._unsaved)):
            for op in reversed(ops):
                if op["path"] == path:
                    return op
        return self._pending.get(path)

    def are_too_many_to_search(self, count: int) -> bool:
        """Whether finding the ops at so many paths costs more than taking all: unsaved edits are
        searched one by one."""
        return count * sum(map(len, self._unsaved)) > _MAX_COMPARISONS

    def stands_at(self, path: str) -> bool:
        """Whether some op has exactly this path."""
        if self._pending.get(path) is not None or self._sending.get(path) is not None:
            return True
        return bool(self._unsaved) and any(
            op["path"] == path for ops in self._unsaved for op in ops
        )

    def within(self, path: str) -> list[Op]:
        """The ops at and below a path, in order."""
        if not path:
            return [*self._sending, *self._pending, *(op for ops in self._unsaved for op in ops)]
        found = [*_within(self._sending, path), *_within(self._pending, path)]
        for ops in self._unsaved:
            found += [op for op in ops if op["path"] == path or is_below(op["path"], path)]
        return found


def _within(table: FieldTable, path: str) -> list[Op]:
    own = table.get(path)
    found = [] if own is None else [own]
    if table.has_below(path):
        found += [op for name in table.below(path) if (op := table.get(name)) is not None]
    return found
