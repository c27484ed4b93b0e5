"""`Interests`: what each connection holds of one document, and what a commit means for each.

A connection holds every eager table, and the subsets that it has loaded, both only as far as the
rules of `visible` let its user see rows. What a commit changes is found once for each part, put
together once for all connections that hold the same parts, and encoded once for them.

Revisions have holes for those who cannot see everything: each change is sent with the revision
that was sent before it as its base, so that a client can distinguish a hole from a loss.

All of it lives in the thread of the document's transactions, and nothing else touches it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from patches.algorithms.collections.declaration import Collections
from patches.errors import InvalidRequestError, StatusError
from patches.json_patch.pointer import escape
from patches.model.json_values import Json, Op
from patches.rows.row_ops import Row, delete_op, insert_op
from patches_server.collections.calls import Caller
from patches_server.collections.engines.engine import Commit, Touched, Transaction, Where
from patches_server.collections.parts import (
    MAX_SUBSET_ROWS,
    NOTHING,
    Part,
    PartChange,
    PartId,
    Window,
    part_id,
)
from patches_server.collections.statement import MAX_SUBSETS, Statement, Subset

#: The name of a part: a subset's id, or the table of an eager one.
PartName: TypeAlias = tuple[str, str]


@dataclass(slots=True, eq=False)
class Subscription:
    """What one connection holds. `sent_rev`: everything up to there was sent to it."""

    connection_id: str
    user_id: str | None
    claims: Mapping[str, Json]
    parts: dict[PartName, Part] = field(default_factory=dict)
    sent_rev: int = 0
    #: It has said what it holds of before; one that has only loaded a subset has not.
    is_stated: bool = True
    #: Equal for those who are sent the same; `None` until it is computed.
    same_as: tuple[object, ...] | None = None

    def hold(self, name: PartName, part: Part) -> None:
        """It holds a part."""
        self.parts[name] = part
        self.same_as = None

    def drop(self, name: PartName) -> None:
        """It holds a part no more."""
        if self.parts.pop(name, None) is not None:
            self.same_as = None

    def signature(self) -> tuple[object, ...]:
        """Two connections with the same one are sent the same: clients name windows themselves."""
        if self.same_as is None:
            self.same_as = tuple(
                (id(part), name if isinstance(part, Window) else None)
                for name, part in self.parts.items()
            )
        return self.same_as


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """What some connections are sent of one commit."""

    connection_ids: frozenset[str]
    base_rev: int
    ops: list[Op]
    windows: dict[str, list[str]]
    author: str | None


class Interests:
    """The connections of one document. `rev`: the commits up to there are in it."""

    def __init__(self, declared: Collections, *, max_eager_rows: int) -> None:
        self._declared: Final = declared
        self._max_eager_rows: Final = max_eager_rows
        self._parts: dict[PartId, Part] = {}
        self._subscriptions: dict[str, Subscription] = {}
        self._hides: Final = {
            name for name, table in declared.tables.items() if table.visible is not None
        }
        #: Those who hold the same parts, side by side; `None` when that may have changed.
        self._groups: list[list[Subscription]] | None = None
        self.rev: int = 0

    def __len__(self) -> int:
        return len(self._subscriptions)

    def get(self, connection_id: str | None) -> Subscription | None:
        """What a connection holds, `None` if it has not said."""
        return None if connection_id is None else self._subscriptions.get(connection_id)

    def of_user(self, user_id: str) -> list[str]:
        """The connections of a user."""
        return [each.connection_id for each in self.all() if each.user_id == user_id]

    def all(self) -> Iterable[Subscription]:
        """All that is held."""
        return self._subscriptions.values()

    def leave(self, connection_ids: Iterable[str]) -> None:
        """These connections hold nothing any more."""
        self._groups = None
        left = [self._subscriptions.pop(each, None) for each in connection_ids]
        if any(left):
            self._drop_unused()

    def clear(self) -> list[str]:
        """Nobody holds anything; who did."""
        self._groups = None
        held = list(self._subscriptions)
        self._subscriptions.clear()
        self._parts.clear()
        return held

    def state(
        self, tx: Transaction, caller: Caller, statement: Statement
    ) -> tuple[Subscription, dict[PartName, list[Row]]]:
        """A connection says what it holds from now on, beside the subsets that it has loaded.

        Gives the rows of parts that had to be looked up. For a caller without a connection nothing
        is kept.
        """
        self._groups = None
        claims = caller.known_claims()
        held = self.get(caller.connection_id)
        if held is None or held.claims != claims:
            held = Subscription(caller.connection_id or "", caller.user_id, claims)
            if caller.connection_id is not None:
                self._subscriptions[caller.connection_id] = held
        held.is_stated = True
        loaded: dict[PartName, list[Row]] = {}
        for name, table in self._declared.tables.items():
            place = ("table", name)
            if name in statement.on_demand:
                held.drop(place)
            elif place not in held.parts:
                rows = self._hold(tx, held, place, Subset(id=name, table=table))
                if rows is not None:
                    loaded[place] = rows
        named = {name for kind, name in held.parts if kind == "subset"}
        if len(named.union(subset.id for subset in statement.subsets)) > MAX_SUBSETS:
            raise InvalidRequestError(f"INVALID_REQUEST: at most {MAX_SUBSETS} subsets")
        for subset in statement.subsets:
            rows = self._hold(tx, held, ("subset", subset.id), subset)
            if rows is not None:
                loaded["subset", subset.id] = rows
        self._drop_unused()
        return held, loaded

    def load(self, tx: Transaction, held: Subscription, subset: Subset) -> list[Row]:
        """A connection holds a subset from now on; its rows. Raises `StatusError` 413."""
        self._groups = None
        name = ("subset", subset.id)
        rows = self._hold(tx, held, name, subset)
        self._drop_unused()
        return rows if rows is not None else held.parts[name].load(tx, MAX_SUBSET_ROWS)

    def unload(self, held: Subscription, subset_id: str) -> None:
        """A connection holds a subset no more."""
        self._groups = None
        held.drop(("subset", subset_id))
        self._drop_unused()

    def absorb(
        self,
        tx: Transaction,
        touched: Touched,
        commit: Commit | None,
        *,
        origin: str | None = None,
    ) -> tuple[list[View], View | None]:
        """A commit was made: what the connections are sent, and what its author `origin` gets."""
        self.rev = tx.rev
        changes: dict[int, PartChange] = {}
        for part in self._parts.values():
            if part.table in touched.rows:
                change = part.absorb(tx, touched)
                if change is not NOTHING:
                    changes[id(part)] = change
        author = None if commit is None else commit.author
        is_hidden = bool(self._hides.intersection(touched.rows))
        views: list[View] = []
        for group in self._grouped() if changes else ():
            same: dict[tuple[int, bool], list[Subscription]] = {}
            for held in group:
                if held.connection_id != origin:
                    shows_author = author is not None and (not is_hidden or author == held.user_id)
                    same.setdefault((held.sent_rev, shows_author), []).append(held)
            for (_, shows_author), members in same.items():
                view = self._view(members[0], changes, touched, author if shows_author else None)
                if view is not None:
                    for held in members:
                        held.sent_rev = tx.rev
                    ids = frozenset([held.connection_id for held in members])
                    views.append(_to(view, ids))
        own = None
        sender = self.get(origin)
        if sender is not None:
            shows_author = author is not None and (not is_hidden or author == sender.user_id)
            own = self._view(sender, changes, touched, author if shows_author else None)
            sender.sent_rev = tx.rev
        return views, own

    def missed(
        self, held: Subscription, tx: Transaction, touched: Touched
    ) -> tuple[list[Op], dict[str, list[str]]]:
        """What a connection that was away needs of the rows that were touched meanwhile.

        What it cannot see is removed: it ignores keys that it does not hold. Windows come whole.
        """
        ops: list[Op] = []
        windows: dict[str, list[str]] = {}
        for table, rows in touched.rows.items():
            parts = [(name, part) for name, part in held.parts.items() if part.table == table]
            shown: dict[str, Row] = {}
            for (_, name), part in parts:
                if isinstance(part, Window):
                    key = part.where.table.key
                    shown.update((str(row[key]), row) for row in part.load(tx, None))
                    windows[name] = part.contents()
                else:
                    shown.update(
                        (key, row)
                        for key, row in rows.items()
                        if row is not None and part.where.matches(row)
                    )
            if table in touched.emptied:
                ops.append(_clear(table))
                continue
            ops += [insert_op(table, key, row) for key, row in shown.items()]
            ops += [delete_op(table, key) for key in rows if key not in shown]
        return ops, windows

    def rows_of(
        self, tx: Transaction, held: Subscription, loaded: Mapping[PartName, Sequence[Row]]
    ) -> tuple[dict[str, dict[str, Row]], dict[str, list[str]]]:
        """All that a connection holds: the rows of its tables, and the keys of its windows.

        `loaded`: rows that are at hand. Raises `StatusError` 413.
        """
        state: dict[str, dict[str, Row]] = {name: {} for name in self._declared.tables}
        windows = {}
        left = self._max_eager_rows
        for name, part in held.parts.items():
            rows = loaded.get(name)
            if rows is None:
                is_subset = name[0] == "subset"
                rows = part.load(tx, MAX_SUBSET_ROWS) if is_subset else self._eager(tx, part, left)
            if name[0] == "table":
                left -= len(rows)
                if left < 0:
                    raise self._too_large()
            key = part.where.table.key
            state[part.table].update((str(row[key]), row) for row in rows)
            if isinstance(part, Window):
                windows[name[1]] = part.contents()
        return state, windows

    def _eager(self, tx: Transaction, part: Part, left: int) -> Sequence[Row]:
        rows = tx.select(part.where, limit=left + 1)
        if len(rows) > left:
            raise self._too_large()
        return rows

    def _too_large(self) -> StatusError:
        return StatusError(
            413,
            f"more than {self._max_eager_rows} rows of eager tables: open the document with "
            "on_demand tables, and load subsets of them",
            {"limit": "max_eager_rows"},
        )

    def _hold(
        self, tx: Transaction, held: Subscription, name: PartName, subset: Subset
    ) -> list[Row] | None:
        """Hold a part. Its rows, if they had to be looked up to know which it has."""
        conditions = (subset.where, subset.table.visible)
        where = Where(
            subset.table, tuple(each for each in conditions if each is not None), held.claims
        )
        identity = part_id(where, subset.order, subset.limit)
        part = self._parts.get(identity)
        rows = None
        if part is None:
            part = (
                Part(where) if subset.limit is None else Window(where, subset.order, subset.limit)
            )
            if part.keys is not None or isinstance(part, Window):
                rows = part.load(tx, MAX_SUBSET_ROWS if name[0] == "subset" else None)
            if held.connection_id:
                self._parts[identity] = part
        held.hold(name, part)
        return rows

    def _drop_unused(self) -> None:
        used = {id(part) for held in self.all() for part in held.parts.values()}
        self._parts = {key: part for key, part in self._parts.items() if id(part) in used}

    def _grouped(self) -> list[list[Subscription]]:
        if self._groups is None:
            groups: dict[tuple[object, ...], list[Subscription]] = {}
            for held in self._subscriptions.values():
                groups.setdefault(held.signature(), []).append(held)
            self._groups = list(groups.values())
        return self._groups

    def _view(
        self,
        held: Subscription,
        changes: Mapping[int, PartChange],
        touched: Touched,
        author: str | None,
    ) -> View | None:
        ops: list[Op] = []
        windows: dict[str, list[str]] = {}
        by_table: dict[str, list[PartChange]] = {}
        for (_, name), part in held.parts.items():
            change = changes.get(id(part))
            if change is None:
                continue
            by_table.setdefault(part.table, []).append(change)
            if change.keys is not None:
                windows[name] = change.keys
        for table, found in by_table.items():
            adds: dict[str, Row] = {}
            removes: set[str] = set()
            for change in found:
                adds.update(change.adds)
                removes |= change.removes
            if table in touched.emptied and removes:
                ops.append(_clear(table))
                continue
            others = [part for part in held.parts.values() if part.table == table]
            ops += [insert_op(table, key, row) for key, row in adds.items()]
            ops += [
                delete_op(table, key)
                for key in sorted(removes)
                if key not in adds and not _is_held(others, changes, key)
            ]
        if not ops and not windows:
            return None
        return View(
            connection_ids=frozenset(),
            base_rev=held.sent_rev,
            ops=ops,
            windows=windows,
            author=author,
        )


def _is_held(parts: Iterable[Part], changes: Mapping[int, PartChange], key: str) -> bool:
    """Whether a row that one part has lost is in another one."""
    for part in parts:
        change = changes.get(id(part))
        if (change is None or key not in change.removes) and part.has(key):
            return True
    return False


def _to(view: View, connection_ids: frozenset[str]) -> View:
    return View(
        connection_ids=connection_ids,
        base_rev=view.base_rev,
        ops=view.ops,
        windows=view.windows,
        author=view.author,
    )


def _clear(table: str) -> Op:
    return {"op": "add", "path": f"/{escape(table)}", "value": {}}
