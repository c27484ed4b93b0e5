"""Live queries: rows of one table that match a condition, in order, followed as they change.

The same query opened twice is one `OpenQuery`: kept in order once, and for an on-demand table
loaded once. It is closed with its last user; then its rows leave, unless another query covers them
or an unconfirmed write concerns them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Protocol, Self

from patches.aio.signals import Signal, Unsubscribe
from patches.algorithms.base import SyncHost
from patches.algorithms.collections.ordering import OrderBy, check_order
from patches.algorithms.collections.overlay import Changed, Place
from patches.algorithms.collections.result import Result
from patches.algorithms.collections.subsets import Interest, Subset
from patches.errors import (
    DocumentClosedError,
    InvalidRequestError,
    NetworkError,
    PatchesError,
    StatusError,
)
from patches.model import codec
from patches.model.json_values import Json
from patches.rows.conditions import Condition
from patches.rows.row_ops import Row, RowOp
from patches.rows.schema import Table


class QueryDoc(Protocol):
    """What queries ask of their document."""

    @property
    def id(self) -> str:
        """The document's id."""

    @property
    def tables(self) -> Mapping[str, Mapping[str, Row]]:
        """The visible rows."""

    def synced_rows(self, table: str) -> Mapping[str, Row]:
        """The synced rows of a table."""

    def take_rows(self, ops: list[RowOp], review: list[Place]) -> None:
        """Synced rows of an on-demand table came, and others may go."""

    def run(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Run this while the document is open."""

    async def read_options(self) -> Mapping[str, Json]:
        """The options of a call that reads."""

    @property
    def contact(self) -> asyncio.Event:
        """Set when the document is synced over a connection once more, and by `wake_loads`."""

    def wake_loads(self) -> None:
        """Let those that wait for a connection look whether they still have to."""

    @property
    def host(self) -> SyncHost | None:
        """Who syncs the document, if anybody does."""


class OpenQuery:
    """One query, shared by its users. Owned by `Queries`."""

    def __init__(self, key: bytes, query: Query, subset: Subset | None) -> None:
        self.key: bytes = key
        self.subset: Subset | None = subset
        self.table: str = query.table.name
        where = query.condition
        self.result: Result = Result(
            (lambda _row: True) if where is None else where.matches, query.order, query.size
        )
        self.users = 0
        self.is_dirty = True  # rows have to be listed again
        self.is_notified = True  # subscribers know the rows
        self.is_held = False  # they are notified when the transaction has ended
        self.rows: list[Row] = []
        self.is_wanted = False  # somebody wants it loaded
        self.loading: asyncio.Lock = asyncio.Lock()
        self.on_rows: Signal[[list[Row]]] = Signal("on_rows")


class Queries:
    """The open queries of one document."""

    def __init__(self, doc: QueryDoc, interest: Interest) -> None:
        self._doc, self._interest = doc, interest
        self._open: dict[bytes, OpenQuery] = {}
        self._by_table: dict[str, list[OpenQuery]] = {}
        self._next_subset = 1
        self._is_closed = False

    def open(self, query: Query) -> OpenQuery:
        """The query's state, with one more user."""
        key = query.canonical()
        opened = self._open.get(key)
        if opened is None:
            subset = None
            if self._interest.is_on_demand(query.table.name):
                subset = Subset(
                    f"q{self._next_subset}",
                    query.table.name,
                    query.condition,
                    query.order,
                    query.size,
                )
                self._next_subset += 1
                self._interest.subsets[subset.id] = subset
            opened = self._open[key] = OpenQuery(key, query, subset)
            opened.result.fill(self._doc.tables.get(opened.table, {}))
            self._by_table.setdefault(opened.table, []).append(opened)
        opened.users += 1
        return opened

    def release(self, opened: OpenQuery) -> None:
        """One user less; the last one closes it."""
        opened.users -= 1
        if opened.users or self._open.get(opened.key) is not opened:
            return
        del self._open[opened.key]
        self._by_table[opened.table].remove(opened)
        subset = opened.subset
        if subset is not None:
            del self._interest.subsets[subset.id]
            held = self._doc.tables.get(opened.table, {})
            self._doc.take_rows([], [(opened.table, key) for key in held])
            if opened.is_wanted:
                self._doc.wake_loads()
                self._doc.run(self._unload(subset.id))

    def rows(self, opened: OpenQuery) -> list[Row]:
        """The rows, in order."""
        if opened.is_dirty:
            opened.rows = opened.result.rows(self._doc.tables.get(opened.table, {}))
            opened.is_dirty = False
        return opened.rows

    def update(self, changed: Changed, *, is_held: bool = False) -> None:
        """Follow changes of visible rows; `is_held`: notify when `release_held` is called."""
        for (table, key), (_, row) in changed.items():
            for opened in self._by_table.get(table, ()):
                if opened.result.update(key, row):
                    opened.is_dirty = True
                    if is_held:
                        opened.is_held = True
                    else:
                        opened.is_notified = False

    def release_held(self, *, is_kept: bool) -> None:
        """A transaction has ended; what it changed stays, or was taken back."""
        for opened in self._open.values():
            if opened.is_held:
                opened.is_held = False
                opened.is_notified = opened.is_notified and not is_kept

    def notify(self) -> None:
        """Tell the subscribers of each query whose rows differ."""
        for queries in list(self._by_table.values()):
            for opened in list(queries):
                if not opened.is_notified:
                    opened.is_notified = True
                    if opened.on_rows:
                        opened.on_rows.emit(self.rows(opened))

    async def load(self, opened: OpenQuery) -> None:
        """Load the query's subset, with the next connection if there is none now.

        Returns when the query is closed, too. Raises `StatusError` if the server refuses it,
        `DocumentClosedError` when the document is closed.
        """
        subset = opened.subset
        if subset is None:
            return
        opened.is_wanted = True
        async with opened.loading:
            while subset.state != "loaded" and subset.id in self._interest.subsets:
                if self._is_closed:
                    raise DocumentClosedError(
                        f"document {self._doc.id!r} was closed before a query of "
                        f"{opened.table!r} was loaded"
                    )
                contact = self._doc.contact  # before it is asked: there may be another meanwhile
                if not await self._load_once(subset):
                    await contact.wait()

    def close(self) -> None:
        """The document is closed: what waits for a connection ends."""
        self._is_closed = True
        self._doc.wake_loads()

    async def _load_once(self, subset: Subset) -> bool:
        """Ask for a subset; whether asking again needs no waiting for a connection."""
        host = self._doc.host
        if host is None:
            return False
        self._interest.begin_load(subset)
        try:
            options = await self._doc.read_options()
            answer = await host.call("loadSubset", self._doc.id, subset.to_wire(), options)
        except NetworkError:
            self._interest.fail_load(subset)
            return False
        except StatusError as exc:
            self._interest.fail_load(subset)
            if exc.code == 409 and exc.scope == "doc":
                host.reload(self._doc.id)
                return False
            raise
        except BaseException:
            self._interest.fail_load(subset)
            raise
        taken = self._interest.finish_load(subset, answer, self._doc.synced_rows(subset.table))
        if taken is None:
            self._interest.fail_load(subset)
        else:
            self._doc.take_rows(*taken)
        return True

    def load_again(self) -> None:
        """Load what is asked for and not loaded: what was loaded is out of date."""
        for opened in self._open.values():
            subset = opened.subset
            if subset is not None and subset.state == "wanted" and opened.is_wanted:
                if not opened.loading.locked():
                    self._doc.run(self._load_quietly(opened))

    async def _load_quietly(self, opened: OpenQuery) -> None:
        try:
            await self.load(opened)
        except PatchesError:  # the loading task gets it; the rows stay as they are
            return

    async def _unload(self, subset_id: str) -> None:
        host = self._doc.host
        if host is not None:
            try:
                await host.call("unloadSubset", self._doc.id, subset_id)
            except PatchesError:  # the end of the connection ends the subset too
                return


class Query:
    """A live query. Each of `where`, `order_by` and `limit` gives a new one.

    It is open from its first use (`rows`, `subscribe`, `load`) until `close`.
    """

    def __init__(
        self,
        queries: Queries,
        table: Table,
        condition: Condition | None = None,
        order: OrderBy = (),
        size: int | None = None,
    ) -> None:
        self._queries = queries
        self.table: Table = table
        self.condition: Condition | None = condition
        self.order: OrderBy = order
        self.size = size
        self._opened: OpenQuery | None = None
        self._unsubscribe: Unsubscribe | None = None
        self._on_rows: Signal[[list[Row]]] = Signal("on_rows")

    # ---- what it asks for ------------------------------------------------------------------------

    def where(self, condition: Condition) -> Query:
        """Those of its rows that the condition holds for. Raises `InvalidConditionError`."""
        condition.check(self.table)
        both = condition if self.condition is None else self.condition & condition
        return Query(self._queries, self.table, both, self.order, self.size)

    def order_by(self, column: str, *, desc: bool = False) -> Query:
        """Ordered by a column, behind those given before. Raises `InvalidRowError`."""
        order = (*self.order, (column, desc))
        check_order(self.table, order)
        return Query(self._queries, self.table, self.condition, order, self.size)

    def limit(self, size: int) -> Query:
        """The first `size` of its rows."""
        if size < 1:
            raise InvalidRequestError(f"limit: expected a number of rows from 1 on, got {size!r}")
        return Query(self._queries, self.table, self.condition, self.order, size)

    def canonical(self) -> bytes:
        """Equal for equal queries."""
        where = None if self.condition is None else self.condition.to_wire()
        return codec.encode(
            [self.table.name, where, [list(part) for part in self.order], self.size]
        )

    # ---- what it shows ---------------------------------------------------------------------------

    @property
    def rows(self) -> list[Row]:
        """The rows now, in order. Shared: do not change them."""
        return self._queries.rows(self._open())

    @property
    def loading(self) -> bool:
        """Whether its rows are being fetched."""
        return self._opened is not None and self._opened.loading.locked()

    def subscribe(self, subscriber: Callable[[list[Row]], object]) -> Unsubscribe:
        """Call `subscriber(rows)` now and whenever they differ. Returns the unsubscriber."""
        opened = self._open()
        if self._unsubscribe is None:
            self._unsubscribe = opened.on_rows(self._on_rows.emit)
        unsubscribe = self._on_rows(subscriber)
        self._on_rows.notify(subscriber, self.rows)
        return unsubscribe

    async def load(self) -> Self:
        """Fetch its rows, if its table comes on demand. Waits for a connection.

        Raises `StatusError` if the server refuses it, `DocumentClosedError`.
        """
        await self._queries.load(self._open())
        return self

    async def more(self, count: int) -> Self:
        """Raise the limit by `count`, and load what that brings."""
        if self.size is None:
            return self
        before = self._open()
        wider = self.limit(self.size + count)
        opened = self._queries.open(wider)
        try:
            if before.is_wanted:
                await self._queries.load(opened)
        except BaseException:
            self._queries.release(opened)
            raise
        self.size, self._opened = wider.size, opened
        if self._unsubscribe is not None:
            self._unsubscribe()
            self._unsubscribe = opened.on_rows(self._on_rows.emit)
        self._queries.release(before)
        self._on_rows.emit(self.rows)
        return self

    async def close(self) -> None:
        """End it: subscribers are not called any more. Using it again opens it again."""
        opened, self._opened = self._opened, None
        if self._unsubscribe is not None:
            self._unsubscribe()
            self._unsubscribe = None
        self._on_rows.clear()
        if opened is not None:
            self._queries.release(opened)

    def _open(self) -> OpenQuery:
        if self._opened is None:
            self._opened = self._queries.open(self)
        return self._opened
