"""`ShownDoc`: the rows that an open collections document shows, and its subscribers.

The tables are kept in place and queries follow each changed row, so that a write costs what it
touches. `state` is an immutable picture of them, made when it is asked for: only tables that have
changed since are copied, and each copies references, not rows.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Final, Protocol, TypeVar

from patches.algorithms.base import SyncHost
from patches.algorithms.collections.declaration import Collections
from patches.algorithms.collections.live import Live
from patches.algorithms.collections.overlay import Changed, Overlay, Place
from patches.algorithms.collections.queries import Queries
from patches.algorithms.collections.shown_tables import ShownTables
from patches.algorithms.collections.subsets import Interest
from patches.algorithms.collections.tables import Work
from patches.documents.document import Document
from patches.limits import Limits
from patches.model.json_values import Json
from patches.rows.row_ops import Row, RowOp

_log = logging.getLogger("patches.algorithms.collections")

T = TypeVar("T")

_MAX_ROUNDS: Final = 100


class DocHost(Protocol):
    """What a document asks of its algorithm."""

    confirm_timeout_s: float

    @property
    def host(self) -> SyncHost | None:
        """Who syncs the documents, if anybody does."""

    def adopted(self, doc: Document) -> None:
        """A document is open."""

    def new_id(self) -> str:
        """An id for a change."""

    def new_key(self) -> str:
        """A key for a row: a UUIDv7."""

    def now(self) -> int:
        """The time, in milliseconds."""

    async def read_options(self, doc_id: str) -> Mapping[str, Json]:
        """The options of a call that reads."""

    async def forget_write(self, doc_id: str, write_id: str) -> None:
        """Take a stored write out of the store."""


class ShownDoc(Document):
    """Synced rows, with rows in progress and unconfirmed writes on top."""

    def __init__(
        self,
        doc_id: str,
        work: Work,
        *,
        declaration: Collections,
        host: DocHost,
        limits: Limits | None = None,
    ) -> None:
        self.declaration: Final = declaration
        self._host: Final = host
        self._overlay = Overlay(work.rows, declaration.schema.tables)
        self._pictures = ShownTables(self._overlay.visible, work.committed_rev, limits or Limits())
        super().__init__(
            doc_id,
            state=None,
            committed_rev=work.committed_rev,
            limits=limits,
            shown=self._pictures,
        )
        self.interest: Final = Interest(self.is_on_demand)
        self.interest.cursor = work.committed_rev
        is_any_on_demand = any(self.is_on_demand(name) for name in declaration.tables)
        self._keep = self.interest.keeps if is_any_on_demand else None
        self.queries: Final = Queries(self, self.interest)
        self._lives: list[Live[Any]] = []
        self._untold: set[str] = set()  # tables that changed since subscribers were called
        self._contact = asyncio.Event()

    @property
    def tables(self) -> Mapping[str, Mapping[str, Row]]:
        """The visible tables as they are kept. Read only, and not a picture: they change."""
        return self._overlay.visible

    def live(self, fn: Callable[[Mapping[str, Mapping[str, Row]]], T]) -> Live[T]:
        """Any function of the visible tables, computed again when one that it has read changes."""
        live: Live[T] = Live(fn, self._overlay.visible, self._lives_remove)
        self._lives.append(live)
        return live

    def _lives_remove(self, live: Live[Any]) -> None:
        if live in self._lives:
            self._lives.remove(live)

    # ---- for queries -----------------------------------------------------------------------------

    def is_on_demand(self, table: str) -> bool:
        """Whether the rows of a table come by subsets alone."""
        declared = self.declaration.tables.get(table)
        return declared is not None and declared.sync == "on_demand"

    @property
    def host(self) -> SyncHost | None:
        """Who syncs the document, if anybody does."""
        return self._host.host

    async def read_options(self) -> Mapping[str, Json]:
        """The options of a call that reads."""
        return await self._host.read_options(self.id)

    @property
    def contact(self) -> asyncio.Event:
        """Set when the document is synced over a connection once more, and by `wake_loads`."""
        return self._contact

    def wake_loads(self) -> None:
        """Let those that wait for a connection look whether they still have to."""
        self._contact.set()
        self._contact = asyncio.Event()

    def run(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Run this while the client is open."""
        self._spawned(coroutine)

    def synced_rows(self, table: str) -> Mapping[str, Row]:
        """The synced rows of a table, without unconfirmed writes."""
        return self._overlay.synced.get(table, {})

    def take_rows(self, ops: list[RowOp], review: list[Place]) -> None:
        """Synced rows of an on-demand table came, and others may go."""
        self._changed(self._overlay.step(ops, review=review, keep=self._keep))

    # ---- inside ----------------------------------------------------------------------------------

    def _changed(self, changed: Changed) -> None:
        self._settle(changed)
        self._notify()

    def _settle(self, changed: Changed, *, is_held: bool = False) -> None:
        """Take visible changes into queries and the picture; `is_held`: notify nobody yet."""
        self.has_pending = self.pending_count > 0
        if changed:
            tables = {table for table, _ in changed}
            self._pictures.mark(tables)
            if not is_held:
                self._untold |= tables
            self.queries.update(changed, is_held=is_held)

    def _notify(self) -> None:
        """Call subscribers, if something visible differs. Each sees the newest rows."""
        if not self._untold:
            return
        self._wake()
        if self._notifying:
            return
        self._notifying = True
        try:
            for _ in range(_MAX_ROUNDS):
                tables, self._untold = self._untold, set()
                if not tables:
                    return
                if self.on_update:
                    self.on_update.emit(self.state)
                self.queries.notify()
                for live in list(self._lives):
                    self._update_live(live, tables)
            _log.error(
                "document %r: subscribers changed it %d times in a row; they are not called again",
                self.id,
                _MAX_ROUNDS,
            )
        finally:
            self._notifying = False

    def _update_live(self, live: Live[Any], tables: set[str]) -> None:
        try:
            live.update(tables)
        except Exception:  # boundary: the application's function; its value stays as it was
            _log.exception("document %r: a live function failed", self.id)
