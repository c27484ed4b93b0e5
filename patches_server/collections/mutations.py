"""From the operations of a change to writes of rows, checked against the declaration. Pure.

Tables and columns are looked up in the declaration, so nothing that a client sends becomes part of
a statement. What is wrong is `InvalidRowError`, `NotARowOperationError` or `OpsRefusedError`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from patches.algorithms.collections.declaration import CREATED, USER, Collections, DeclaredTable
from patches.errors import InvalidRowError, NotARowOperationError, OpsRefusedError
from patches.json_patch.pointer import parse
from patches.model.codec import json_size
from patches.model.json_values import Json, Op
from patches.rows.row_ops import Row, RowOp, parse_row_ops
from patches.rows.schema import check_key
from patches_server.collections.calls import CalledAction, Expectation, Mutation

MAX_MUTATIONS: Final = 1_000
MAX_ROW_BYTES: Final = 256 * 1024


def parse_change(
    declared: Collections, ops: Sequence[Op]
) -> tuple[list[Expectation], list[Mutation]]:
    """What a change expects, and what it writes, in order."""
    if len(ops) > 2 * MAX_MUTATIONS * 64:  # every column of every row, and what is expected
        raise OpsRefusedError(f"{len(ops)} operations in one change", code=413)
    expected: list[Expectation] = []
    writes: list[Op] = []
    for number, op in enumerate(ops):
        if not isinstance(op, dict):
            raise NotARowOperationError(number, None, None)
        if op.get("op") == "test":
            if writes:
                raise OpsRefusedError(f"operation {number}: every test comes before the writes")
            expected.append(_expectation(declared, number, op))
        else:
            writes.append(op)
    mutations = _mutations(declared, parse_row_ops(writes))
    if len(mutations) > MAX_MUTATIONS:
        raise OpsRefusedError(
            f"{len(mutations)} writes in one change, at most {MAX_MUTATIONS}", code=413
        )
    return expected, mutations


def parse_action(value: Json) -> CalledAction:
    """The action of a change, from its key `action`."""
    match value:
        case {"name": str(name), "args": dict(args), **rest} if not rest:
            return CalledAction(name=name, args=args)
        case {"name": str(name), **rest} if not rest:
            return CalledAction(name=name, args={})
    raise OpsRefusedError('an action is {"name": ..., "args": {...}}')


def check_size(table: str, row: Row) -> None:
    """Raises `OpsRefusedError` for a row that is too large."""
    size = json_size(row)
    if size > MAX_ROW_BYTES:
        raise OpsRefusedError(
            f"a row of {table} has {size} bytes, at most {MAX_ROW_BYTES}", code=413
        )


def new_row(table: DeclaredTable, columns: Mapping[str, Json], *, now: int = 0) -> Row:
    """A whole row of what was sent, with defaults. The server sets the columns of a store."""
    if table.kind != "table":
        columns = {USER: "", CREATED: now, **columns}
    return table.table.complete(columns)


def _table(declared: Collections, name: str) -> DeclaredTable:
    table = declared.tables.get(name)
    if table is None:
        shown = name if len(name) <= 60 else f"{name[:57]}..."
        raise InvalidRowError(shown, None, "no such table")
    return table


def _expectation(declared: Collections, number: int, op: Op) -> Expectation:
    path = op.get("path")
    parts = parse(path) if isinstance(path, str) and path.startswith("/") else []
    if "value" not in op or len(parts) not in (2, 3):
        raise NotARowOperationError(number, op.get("op"), path)
    table = _table(declared, parts[0])
    check_key(table.name, parts[1], table.key)
    column = parts[2] if len(parts) == 3 else None
    if column is not None and column not in table.table.columns:
        raise InvalidRowError(table.name, column, "no such column")
    return Expectation(table=table, key=parts[1], column=column, value=op["value"])


def _mutations(declared: Collections, ops: Sequence[RowOp]) -> list[Mutation]:
    mutations: list[Mutation] = []
    for op in ops:
        table = _table(declared, op.table)
        if op.key is None:
            raise InvalidRowError(table.name, None, "a table is emptied by deleting its rows")
        check_key(table.name, op.key, table.key)
        if op.kind == "remove":
            mutations.append(Mutation(type="delete", table=table, key=op.key))
        elif op.kind == "add":
            mutations.append(_insert(table, op))
        else:
            assert op.column is not None, "replace has a column"
            columns = _sent(table, {op.column: op.value})
            last = mutations[-1] if mutations else None
            if last is not None and (last.type, last.table, last.key) == ("update", table, op.key):
                mutations[-1] = Mutation(
                    type="update", table=table, key=op.key, columns={**last.columns, **columns}
                )
            else:
                mutations.append(Mutation(type="update", table=table, key=op.key, columns=columns))
    return mutations


def _insert(table: DeclaredTable, op: RowOp) -> Mutation:
    assert isinstance(op.value, dict), "a row is added whole"
    assert op.key is not None, "a table is not added"
    row = new_row(table, op.value)
    if row[table.key] != op.key:
        raise InvalidRowError(table.name, table.key, "expected the key of the path")
    check_size(table.name, row)
    return Mutation(type="insert", table=table, key=op.key, columns=op.value)


def _sent(table: DeclaredTable, columns: Mapping[str, Json]) -> Mapping[str, Json]:
    table.table.check_columns(columns)
    return columns
