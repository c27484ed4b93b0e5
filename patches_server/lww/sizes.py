"""How large LWW documents are, as far as it must be known to keep them within `max_doc_bytes`.

Measuring takes every row, so it is done seldom: a document has *room*, which each write takes its
bytes from, and is measured when that is used up. One that was not measured yet has an eighth of
the limit.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from patches.runtime import Millis
from patches_server.lww.commit import AnyChange, decide, new_rows
from patches_server.lww.rows import Row, RowTable, rows_after
from patches_server.lww.store import LoadedRows

_REMEMBERED: Final = 10_000


class DocRoom:
    """The bytes that may still be written to documents before they are measured.

    Several threads may ask: a commit can be decided in the thread that writes.
    """

    def __init__(self, max_doc_bytes: int | None) -> None:
        self.max_doc_bytes: Final = max_doc_bytes
        self._room: OrderedDict[str, int] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._room)

    def suffices(self, doc_id: str, added: int) -> bool:
        """Whether so many bytes can be written without measuring."""
        if self.max_doc_bytes is None:
            return True
        return added <= self._room.get(doc_id, self.max_doc_bytes // 8)

    def take(self, doc_id: str, added: int) -> bool:
        """Note so many bytes as written, if they can be without measuring; whether they can."""
        if self.max_doc_bytes is None:
            return True
        with self._lock:
            room = self._room.get(doc_id, self.max_doc_bytes // 8) - added
            if room < 0:
                return False
            self._keep(doc_id, room)
            return True

    def wrote(self, doc_id: str, added: int) -> None:
        """So many bytes were written."""
        if self.max_doc_bytes is not None:
            with self._lock:
                self._keep(doc_id, self._room.get(doc_id, self.max_doc_bytes // 8) - added)

    def measured(self, doc_id: str, size: int) -> None:
        """A document has this size."""
        if self.max_doc_bytes is not None:
            with self._lock:
                self._keep(doc_id, self.max_doc_bytes - size)

    def forget(self, doc_id: str) -> None:
        """The document was deleted."""
        with self._lock:
            self._room.pop(doc_id, None)

    def _keep(self, doc_id: str, room: int) -> None:
        self._room[doc_id] = room
        self._room.move_to_end(doc_id)
        if len(self._room) > _REMEMBERED:
            self._room.popitem(last=False)


def size_of(rows: Sequence[Row]) -> int:
    """Bytes of rows as they are stored, but for pinned removals.

    A pinned removal takes away what a row above still holds: the document becomes smaller by it,
    and its row is one more. There are no more of them than there are values to take away.
    """
    size = 0
    for row in rows:
        if not row.pinned:
            size += len(row.encoded)
    return size


@dataclass(frozen=True, slots=True)
class Sizes:
    """Bytes of a document before and after a commit."""

    before: int
    after: int


def sizes_around(whole: LoadedRows, written: Sequence[Row]) -> Sizes:
    """The size of a document before and after rows are written to it, which replace what is at
    their paths and below them."""
    state = len(whole.snapshot.state) if whole.snapshot else 0
    after = rows_after(whole.rows, written)
    return Sizes(state + size_of(whole.rows), state + size_of(after))


def first_beyond(
    whole: LoadedRows, loaded: LoadedRows, changes: Sequence[AnyChange], now: Millis, *, most: int
) -> str:
    """The id of a change that takes the document over `most` bytes, where those before it do not.

    All of `changes` together do; `loaded` is what their commit has read of `whole`.
    """
    fitting, too_many = 0, len(changes)
    while too_many - fitting > 1:
        middle = (fitting + too_many) // 2
        decision = decide(RowTable(loaded.rows), changes[:middle], now)
        if sizes_around(whole, new_rows(loaded, decision)).after <= most:
            fitting = middle
        else:
            too_many = middle
    return changes[fitting].id
