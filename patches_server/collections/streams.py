"""`Streams`: rows in progress, shown before they are committed. They are in memory only.

Each update goes to everybody who may see the row, at most twenty times a second, and the last one
is never left out. Leaving the block commits the row.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, Final, Self

from patches.algorithms.collections.declaration import Collections, DeclaredTable
from patches.errors import QueueFullError, UnavailableError
from patches.model.json_values import Json, Op
from patches.rows.row_ops import Row, delete_op, insert_op
from patches_server.collections.calls import Caller
from patches_server.collections.mutations import check_size
from patches_server.documents.document_server import Notification

MAX_STREAMS: Final = 100
_INTERVAL_S: Final = 1 / 20

Save = Callable[[Row], Awaitable[None]]


class Writing:
    """One row in progress: `async with server.stream(...) as message`.

    Its columns are attributes: `await message.update(content=message.content + token)`. An update
    after the block has ended is an error.
    """

    def __init__(
        self, streams: Streams, doc_id: str, table: DeclaredTable, row: Row, save: Save
    ) -> None:
        self._streams, self._save = streams, save
        self.doc_id: str = doc_id
        self.table: DeclaredTable = table
        self.row: Row = row
        self._sent_at = float("-inf")
        self._timer: asyncio.TimerHandle | None = None
        self._is_open = False
        self._is_taken_back = False

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name == "row" or name not in self.row:
            raise AttributeError(name)
        return self.row[name]

    @property
    def key(self) -> str:
        """The key of the row."""
        return str(self.row[self.table.key])

    async def update(self, **columns: Json) -> None:
        """Write columns, and show the row.

        Raises `InvalidRowError`, `OpsRefusedError`, `UnavailableError` when the server stops.
        """
        self._require_running()
        if not self._is_open:
            raise RuntimeError("the stream has ended")
        self.table.table.check_columns(columns)
        row = {**self.row, **columns}
        check_size(self.table.name, row)
        self.row = row
        self._show()
        await asyncio.sleep(0)

    async def __aenter__(self) -> Self:
        self._streams.add(self)
        self._is_open = True
        self._show()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()
        try:
            if exc_type is None:
                self._require_running()
                await self._save(self.row)
        finally:
            self._streams.remove(self)

    def stop(self) -> None:
        """Show nothing more."""
        self._is_open = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _require_running(self) -> None:
        if self._is_taken_back:
            raise UnavailableError("the server stops: the row in progress was taken back")

    def take_back(self) -> None:
        """The server stops: nothing more is shown, and nothing is committed."""
        self.stop()
        self._is_taken_back = True

    def _show(self) -> None:
        if self._timer is not None:
            return  # it shows what is newest when it goes off
        loop = asyncio.get_running_loop()
        left = self._sent_at + _INTERVAL_S - loop.time()
        if left > 0:
            self._timer = loop.call_later(left, self._show_now)
        else:
            self._show_now()

    def _show_now(self) -> None:
        self._timer = None
        self._sent_at = asyncio.get_running_loop().time()
        self._streams.show_row(self)


class Streams:
    """All rows in progress of a server, and who follows which document."""

    def __init__(self, declared: Collections, notify: Notification) -> None:
        self._declared, self._notify = declared, notify
        self._open: dict[str, dict[tuple[str, str], Writing]] = {}
        self._followers: dict[str, dict[str, Caller]] = {}

    def has(self, doc_id: str) -> bool:
        """Whether a row of a document is in progress."""
        return doc_id in self._open

    def add(self, writing: Writing) -> None:
        """A row is in progress from now on. Raises `QueueFullError`."""
        rows = self._open.setdefault(writing.doc_id, {})
        if len(rows) >= MAX_STREAMS:
            raise QueueFullError(
                f"document {writing.doc_id!r} has {MAX_STREAMS} rows in progress already"
            )
        rows[writing.table.name, writing.key] = writing

    def remove(self, writing: Writing) -> None:
        """A row is not in progress any more: it was committed, or is taken back."""
        rows = self._open.get(writing.doc_id, {})
        if rows.pop((writing.table.name, writing.key), None) is not None:
            if not rows:
                self._open.pop(writing.doc_id, None)
            self._announce(writing, delete_op(writing.table.name, writing.key))

    def show_row(self, writing: Writing) -> None:
        """Tell everybody who may see it what a row is now."""
        self._announce(writing, insert_op(writing.table.name, writing.key, writing.row))

    def follow(self, doc_id: str, caller: Caller) -> None:
        """A connection follows a document: it is sent what is in progress."""
        if caller.connection_id is None:
            return
        self._followers.setdefault(doc_id, {})[caller.connection_id] = caller
        rows = [each for each in self._open.get(doc_id, {}).values() if _sees(caller, each)]
        if rows:
            ops = [insert_op(each.table.name, each.key, each.row) for each in rows]
            self._send(doc_id, "streams", ops, frozenset({caller.connection_id}))

    def left(self, connection_id: str) -> None:
        """A connection has ended."""
        for doc_id in [doc for doc, found in self._followers.items() if connection_id in found]:
            del self._followers[doc_id][connection_id]
            if not self._followers[doc_id]:
                del self._followers[doc_id]

    def close(self) -> None:
        """Take back all that is in progress."""
        for rows in list(self._open.values()):
            for writing in list(rows.values()):
                writing.take_back()
                self.remove(writing)

    def _announce(self, writing: Writing, op: Op) -> None:
        followers = self._followers.get(writing.doc_id, {})
        seeing = frozenset(each for each, who in followers.items() if _sees(who, writing))
        if seeing:
            self._send(writing.doc_id, f"stream-{writing.key}", [op], seeing)

    def _send(self, doc_id: str, change_id: str, ops: list[Op], to: frozenset[str]) -> None:
        changes: list[Json] = [{"id": change_id, "ops": list(ops)}]
        self._notify.emit(doc_id, "changesPartial", {"changes": changes}, to)


def _sees(caller: Caller, writing: Writing) -> bool:
    visible = writing.table.visible
    return visible is None or visible.matches(writing.row, caller.known_claims())
