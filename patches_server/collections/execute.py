"""Carries one change out inside of a transaction: expectations, the writes or the action.

Runs in the thread of the document's transactions. Whatever it raises, the transaction undoes.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from patches.algorithms.collections.declaration import CREATED, USER
from patches.errors import (
    ChangeRefusedError,
    ConstraintError,
    DeniedError,
    InvalidConditionError,
    InvalidError,
    InvalidRowError,
    NotARowOperationError,
    OpsRefusedError,
    PatchesError,
    StatusError,
    UnavailableError,
)
from patches.model.ids import random_id
from patches.model.json_values import Json, json_equal
from patches.rows.row_ops import Row
from patches.runtime import Millis, Runtime
from patches_server.collections.calls import CalledAction, Caller, Expectation, Mutation, RowWrite
from patches_server.collections.engines.engine import Transaction
from patches_server.collections.mutations import check_size, new_row
from patches_server.collections.rules import Rules, validate

_log = logging.getLogger("patches_server.collections")

#: How long the code of an application may take, in seconds.
TIME_LIMIT_S: Final = 5.0


@dataclass(slots=True, kw_only=True)
class Plan:
    """A change that was checked and authorized. `seen`: the rows that this rested on."""

    change_id: str
    expected: Sequence[Expectation] = ()
    mutations: Sequence[Mutation] = ()
    action: CalledAction | None = None
    seen: Mapping[tuple[str, str], Row | None] = field(default_factory=dict)
    #: A client's change passes `validate`; the server's own need not.
    is_checked: bool = True


class RowsMovedError(Exception):
    """The rows that a change was authorized on are others now; nothing was done."""


def key_of(mutation: Mutation, caller: Caller) -> str:
    """The key of the row that is written: a singular record's is its user's id."""
    if mutation.table.kind == "singular" and caller.user_id is not None:
        return caller.user_id
    return mutation.key


def planned(mutation: Mutation, old: Row | None, caller: Caller, now: Millis) -> RowWrite:
    """The write that a mutation is, on the row as it is now.

    A singular record is written whether there is one or not. Raises `ChangeRefusedError`, without
    the id of the change, if the row is there, or is not.
    """
    table, kind, sent = mutation.table, mutation.type, dict(mutation.columns)
    key = key_of(mutation, caller)
    if table.kind != "table":
        for name in (USER, CREATED):  # hints, for the display
            sent.pop(name, None)
        if kind == "insert":
            sent |= {table.key: key, USER: caller.user_id or "", CREATED: now}
    if table.kind == "singular" and kind != "delete":
        if old is None:
            kind = "insert"
            sent |= {table.key: key, USER: caller.user_id or "", CREATED: now}
        else:
            kind = "update"
            sent = {name: sent[name] for name in sent if name not in (table.key, USER, CREATED)}
    if kind == "insert":
        if old is not None:
            raise Refused("ROW_EXISTS", f"{table.name} has a row {key!r}")
        row = new_row(table, sent)
    elif kind == "update":
        if old is None:
            raise Refused("ROW_NOT_FOUND", f"{table.name} has no row {key!r}")
        row = {**old, **sent}
        check_size(table.name, row)
    else:
        row = old or {}
    return RowWrite(type=kind, table=table.name, key=key, row=row, columns=sent, old=old)


class Refused(Exception):  # noqa: N818  # becomes a `ChangeRefusedError` with the change's id
    """A change does not fit what is stored."""

    def __init__(self, reason: str, message: str) -> None:
        self.reason = reason
        super().__init__(f"{reason}: {message}")


def carry_out(
    tx: Transaction, rules: Rules, plan: Plan, caller: Caller, now: Millis
) -> list[RowWrite]:
    """Execute a change; what was written, row by row.

    Raises `RowsMovedError`, `Refused`, and what the application's code raises.
    """
    for (table_name, key), row in plan.seen.items():
        table = rules.table(table_name)
        if tx.get(table, key) != row:
            raise RowsMovedError
    for expectation in plan.expected:
        _check(tx, expectation)
    if plan.action is not None:
        rule = rules.actions[plan.action.name]
        _limited(tx, partial(rule.run, tx.sql, caller, **plan.action.args))
        return []
    writes = []
    for mutation in plan.mutations:
        table = mutation.table
        write = planned(mutation, tx.get(table, key_of(mutation, caller)), caller, now)
        if write.type == "delete" and write.old is None:
            continue  # what is not there is deleted already
        if plan.is_checked:
            validate(table, write.type, write.row, caller)
        execute = rules.execute.get((table.name, write.type))
        if execute is not None:
            _limited(tx, partial(execute, tx.sql, write, caller))
        elif write.type == "insert":
            tx.insert(table, write.row)
        elif write.type == "update":
            tx.update(table, write.key, write.columns)
        else:
            tx.delete(table, write.key)
        writes.append(write)
    return writes


def refusal(exc: Exception, change_id: str, runtime: Runtime) -> Exception:
    """What the sender of a change gets for an error that it met.

    An error of the application's code is 503 and logged: the change is kept, and tried again.
    """
    match exc:
        case ChangeRefusedError() | RowsMovedError():
            return exc
        case Refused():
            return _refused(change_id, exc, 409, exc.reason)
        case DeniedError():
            return _refused(change_id, exc, 403, "DENIED")
        case sqlite3.IntegrityError() | ConstraintError():
            return _refused(change_id, f"CONSTRAINT: {exc}", 409, "CONSTRAINT")
        case InvalidError():
            return _refused(change_id, exc, 400, "INVALID")
        case (
            InvalidRowError()
            | NotARowOperationError()
            | OpsRefusedError()
            | InvalidConditionError()
        ):
            code = exc.code if isinstance(exc.code, int) else 400
            return _refused(change_id, exc, code, None)
        case StatusError() | PatchesError():
            if exc.code in (503, 410, 409):
                return exc
    ref = random_id(runtime.random, 10)
    _log.error("change %s failed in the application's code (ref %s)", change_id, ref, exc_info=exc)
    return UnavailableError(f"the server could not carry the change out (ref {ref})", {"ref": ref})


def _refused(change_id: str, why: object, code: int, reason: str | None) -> ChangeRefusedError:
    return ChangeRefusedError(change_id, str(why), code=code, final=True, reason=reason)


def _check(tx: Transaction, expectation: Expectation) -> None:
    row = tx.get(expectation.table, expectation.key)
    found: Json = row if expectation.column is None else (row or {}).get(expectation.column)
    if row is None and expectation.column is not None:
        raise Refused("ROW_NOT_FOUND", f"{expectation.table.name} has no row {expectation.key!r}")
    if not json_equal(found, expectation.value):
        shown = "the row is another" if expectation.column is None else _differs(expectation, found)
        raise Refused("EXPECTATION_FAILED", shown)


def _differs(expectation: Expectation, found: Json) -> str:
    shown, wanted = repr(found)[:60], repr(expectation.value)[:60]
    return f"{expectation.column} is {shown}, not {wanted}"


def _limited(tx: Transaction, work: Callable[[], object]) -> None:
    tx.time_limit(TIME_LIMIT_S)
    try:
        work()
    finally:
        tx.time_limit(None)
