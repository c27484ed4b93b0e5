"""`TableServer`: a server of one collections document, in memory, as small as one can be.

It follows the wire of collections and nothing else: one revision per commit, one entry per key,
subsets and windows of each connection, refusals. Clients reach it through a `FakeConnection` each.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from patches.algorithms.collections.result import Result
from patches.errors import StatusError
from patches.json_patch.pointer import parse
from patches.model.change import Change, Snapshot
from patches.model.json_values import Json, Op, json_equal
from patches.net.connection import ChangesOfHistory, CommitAnswer
from patches.rows.condition_syntax import parse_condition
from patches.rows.row_ops import Row, RowOp, delete_op, insert_op, parse_row_ops
from patches.testing.fake_connection import Call, FakeConnection

Place = tuple[str, str]


@dataclass(eq=False)
class Peer:
    """One connection: what it has asked for, and what it was sent of on-demand tables."""

    connection: FakeConnection
    subsets: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    sent: set[Place] = field(default_factory=set)
    is_subscribed: bool = False


class TableServer:
    """`refuse` gives the reason to refuse a change, `actions` are the real halves."""

    def __init__(self, *tables: str, on_demand: Collection[str] = ()) -> None:
        self.rows: dict[str, dict[str, Row]] = {name: {} for name in (*tables, *on_demand)}
        self.on_demand = frozenset(on_demand)
        self.rev = 0
        self.token = "first"
        self.touched: dict[Place, int] = {}
        self.ids: dict[str, int] = {}
        self.peers: list[Peer] = []
        self.refuse: Callable[[Change], StatusError | None] = lambda _change: None
        self.actions: dict[str, Callable[..., list[Op]]] = {}
        self.executed: list[str] = []  # ids of changes that had an effect, in order
        #: What happens to a broadcast on its way; by default it arrives.
        self.deliver: Callable[[Peer, list[Change]], None] = deliver
        self.loads = 0

    # ---- for the test ----------------------------------------------------------------------------

    def connection(self) -> FakeConnection:
        """A client's connection to it."""
        connection = FakeConnection()
        peer = Peer(connection)
        connection.on_state_change(lambda _state: self._forget(peer))
        connection.replies |= {
            "subscribe": lambda call: self._subscribe(peer, call),
            "getDoc": lambda call: self._get_doc(peer, call),
            "getChangesSince": lambda call: self._get_changes_since(peer, call),
            "commitChanges": lambda call: self._commit(peer, call),
            "loadSubset": lambda call: self._load(peer, call),
            "unloadSubset": lambda call: self._unload(peer, call),
            "unsubscribe": lambda call: list(call.args[0]),
        }
        self.peers.append(peer)
        return connection

    def write(self, *ops: Op, change_id: str | None = None) -> int:
        """Somebody else commits."""
        change = Change(
            id=change_id or f"theirs{self.rev + 1}", ops=list(ops), base_rev=0, rev=0, created_at=1
        )
        self._execute(change, None)
        return self.rev

    def window(self, subset: Mapping[str, Any]) -> list[str]:
        """The keys that a window has now."""
        result = Result(
            lambda row: matches(subset, row),
            tuple((column, way == "desc") for column, way in subset.get("orderBy", ())),
            subset.get("limit"),
        )
        result.fill(self.rows[subset["table"]])
        return result.keys

    # ---- calls -----------------------------------------------------------------------------------

    def _forget(self, peer: Peer) -> None:
        peer.subsets, peer.sent, peer.is_subscribed = {}, set(), False

    def _subscribe(self, peer: Peer, call: Call) -> list[str]:
        peer.is_subscribed = True
        return list(call.args[0])

    def _state_interest(self, peer: Peer, options: Mapping[str, Any] | None) -> None:
        for subset in (options or {}).get("subsets") or ():
            peer.subsets[subset["id"]] = subset

    def _check_token(self, options: Mapping[str, Any] | None) -> None:
        token = (options or {}).get("token")
        if token is not None and token != self.token:
            raise StatusError(409, "another history", {"scope": "doc"})

    def _get_doc(self, peer: Peer, call: Call) -> Snapshot:
        self._state_interest(peer, call.args[1])
        covered = self._covered(peer)
        peer.sent = set(covered)
        state = {
            name: {
                key: row
                for key, row in rows.items()
                if name not in self.on_demand or (name, key) in covered
            }
            for name, rows in self.rows.items()
        }
        windows = {each["id"]: self.window(each) for each in windowed(peer.subsets.values())}
        return Snapshot(
            state=state, rev=self.rev, metadata={"token": self.token, "windows": windows}
        )

    def _get_changes_since(self, peer: Peer, call: Call) -> ChangesOfHistory:
        _, since, options = call.args
        self._check_token(options)
        self._state_interest(peer, options)
        return ChangesOfHistory(self._difference(peer, since), self.token)

    def _commit(self, peer: Peer, call: Call) -> CommitAnswer:
        options = call.args[2]
        self._check_token(options)
        self._state_interest(peer, options)
        answer = self._difference(peer, call.changes[0].base_rev)
        for change in call.changes:
            if change.id in self.ids:
                rev = self.ids[change.id]
                answer.append(change.replace(ops=[], rev=rev, base_rev=rev - 1, committed_at=1))
                continue
            if refusal := self.refuse(change):
                raise refusal
            answer.append(self._execute(change, peer))
        return CommitAnswer(answer, token=self.token)

    def _load(self, peer: Peer, call: Call) -> Json:
        self.loads += 1
        _, subset, options = call.args
        self._check_token(options)
        peer.subsets[subset["id"]] = subset
        keys = self.window(subset)
        rows = self.rows[subset["table"]]
        peer.sent |= {(subset["table"], key) for key in keys}
        count = sum(matches(subset, row) for row in rows.values())
        return {
            "rev": self.rev,
            "ops": [insert_op(subset["table"], key, rows[key]) for key in keys],
            "keys": keys,
            "more": count > len(keys),
        }

    def _unload(self, peer: Peer, call: Call) -> None:
        peer.subsets.pop(call.args[1], None)
        covered = self._covered(peer)
        peer.sent &= covered

    # ---- commits and views -----------------------------------------------------------------------

    def _execute(self, change: Change, author: Peer | None) -> Change:
        action = change.metadata.get("action")
        ops = (
            self.actions[action["name"]](**action["args"])
            if isinstance(action, dict)
            else change.ops
        )
        self._check(change.id, ops)
        places: dict[Place, None] = {}
        for op in parse_row_ops([op for op in ops if op["op"] != "test"]):
            self._apply(op, places)
        self.rev += 1
        self.ids[change.id] = self.rev
        self.executed.append(change.id)
        for place in places:
            self.touched[place] = self.rev
        own = change
        for peer in self.peers:
            if not peer.is_subscribed:
                continue
            seen_ops, windows = self._view(peer, places)
            metadata: dict[str, Json] = {"windows": windows} if windows else {}
            view = change.replace(
                ops=seen_ops, rev=self.rev, base_rev=self.rev - 1, committed_at=1, metadata=metadata
            )
            if peer is author:
                own = view
            else:
                self.deliver(peer, [view])
        return own

    def _check(self, change_id: str, ops: Iterable[Op]) -> None:
        for op in ops:
            table, key, *column = parse(op["path"])
            row = self.rows[table].get(key)
            code = None
            if op["op"] == "test":
                held = row.get(column[0]) if row is not None and column else row
                code = None if json_equal(held, op["value"]) else "EXPECTATION_FAILED"
            elif op["op"] == "add":
                code = "ROW_EXISTS" if row is not None else None
            elif op["op"] == "replace":
                code = "ROW_NOT_FOUND" if row is None else None
            if code is not None:
                raise refusal(409, code, change_id)

    def _apply(self, op: RowOp, places: dict[Place, None]) -> None:
        rows = self.rows[op.table]
        assert op.key is not None
        places[op.table, op.key] = None
        if op.kind == "add":
            rows[op.key] = dict(op.value)
        elif op.kind == "remove":
            rows.pop(op.key, None)
        elif op.column is not None:
            rows[op.key] = {**rows[op.key], op.column: op.value}

    def _covered(self, peer: Peer) -> set[Place]:
        return {
            (subset["table"], key)
            for subset in peer.subsets.values()
            for key in self.window(subset)
        }

    def _view(self, peer: Peer, places: Iterable[Place]) -> tuple[list[Op], dict[str, Json]]:
        changed = set(places)
        tables = {table for table, _ in changed}
        ops = [self._op(place) for place in changed if place[0] not in self.on_demand]
        covered = {place for place in self._covered(peer) if place[0] in tables}
        held = {place for place in peer.sent if place[0] in tables}
        ops += [self._op(place) for place in covered if place in changed or place not in held]
        ops += [delete_op(*place) for place in held - covered]
        peer.sent = (peer.sent - held) | covered
        windows: dict[str, Json] = {
            each["id"]: list(self.window(each))
            for each in windowed(peer.subsets.values())
            if each["table"] in tables
        }
        return ops, windows

    def _difference(self, peer: Peer, since: int) -> list[Change]:
        covered = self._covered(peer)
        peer.sent = set(covered)  # the client holds them, whether they come again or not
        if since >= self.rev:
            return []
        ops: list[Op] = []
        for place, rev in self.touched.items():
            if rev > since:
                is_seen = place[0] not in self.on_demand or place in covered
                ops.append(self._op(place) if is_seen else delete_op(*place))
        windows: dict[str, Json] = {}
        for subset in windowed(peer.subsets.values()):
            keys = self.window(subset)
            windows[subset["id"]] = list(keys)
            ops += [self._op((subset["table"], key)) for key in keys]
        return [
            Change(
                id=f"difference-{self.rev}",
                ops=ops,
                base_rev=since,
                rev=self.rev,
                created_at=1,
                committed_at=1,
                metadata={"windows": windows} if windows else {},
            )
        ]

    def _op(self, place: Place) -> Op:
        row = self.rows[place[0]].get(place[1])
        return delete_op(*place) if row is None else insert_op(*place, row)


def deliver(peer: Peer, changes: list[Change]) -> None:
    """A broadcast arrives."""
    if peer.connection.state == "connected":
        peer.connection.on_changes_committed.emit("d", changes)


def refusal(code: int, reason: str, change_id: str) -> StatusError:
    """The server refuses one change."""
    data = {"scope": "change", "code": reason, "changeId": change_id}
    return StatusError(code, reason, data)


def matches(subset: Mapping[str, Any], row: Row) -> bool:
    """Whether a row belongs to a subset, its limit aside."""
    where = subset.get("where")
    return where is None or parse_condition(where).matches(row)


def windowed(subsets: Iterable[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
    """Those that have a limit."""
    return [subset for subset in subsets if "limit" in subset]
