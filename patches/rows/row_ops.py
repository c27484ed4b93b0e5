"""Changes of rows as JSON Patch on `{table: {key: row}}`. Pure.

| change | operation |
| --- | --- |
| insert | `add /todos/<key>` with the whole row |
| update | one `replace /todos/<key>/<column>` for each column that differs, `null` written out |
| delete | `remove /todos/<key>` |
| empty a table | `add /todos {}` |

Keys are escaped as in RFC 6901. Applying never fails: an `add` puts the whole row, there or not; a
`replace` or `remove` of a row that is not there does nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias, cast

from patches.errors import NotARowOperationError
from patches.json_patch.pointer import escape, parse
from patches.model.json_values import Json, Op, json_equal

#: One row: its columns by name.
Row: TypeAlias = dict[str, Json]
State: TypeAlias = Mapping[str, Mapping[str, Row]]
#: Rows by table and key; `None` is a row that is not there.
Touched: TypeAlias = Mapping[tuple[str, str], Row | None]

_NO_ROWS: Final[Mapping[str, Row]] = {}


@dataclass(frozen=True, slots=True)
class RowOp:
    """One change of a row: the whole row, one column of it, or its end.

    `key` is `None` where a whole table is emptied.
    """

    kind: Literal["add", "replace", "remove", "clear"]
    table: str
    key: str | None = None
    column: str | None = None
    value: Json = None


def insert_op(table: str, key: str, row: Row) -> Op:
    """The operation that puts a whole row."""
    return {"op": "add", "path": f"/{escape(table)}/{escape(key)}", "value": row}


def update_ops(table: str, key: str, before: Row, after: Row) -> list[Op]:
    """One operation for each column that differs; none where nothing does.

    The whole row where a column is gone: no operation takes one away.
    """
    if before.keys() - after.keys():
        return [insert_op(table, key, after)]
    place = f"/{escape(table)}/{escape(key)}"
    return [
        {"op": "replace", "path": f"{place}/{escape(column)}", "value": value}
        for column, value in after.items()
        if column not in before or not json_equal(before[column], value)
    ]


def delete_op(table: str, key: str) -> Op:
    """The operation that takes a row away."""
    return {"op": "remove", "path": f"/{escape(table)}/{escape(key)}"}


def parse_row_ops(ops: Sequence[Op]) -> list[RowOp]:
    """The operations as changes of rows. Raises `NotARowOperationError`, naming the first that is
    none. Tables, columns and values are not checked against a schema.
    """
    return [_parse(number, op) for number, op in enumerate(ops)]


def _parse(number: int, op: Op) -> RowOp:
    path = op.get("path")
    parts = parse(path) if isinstance(path, str) and path.startswith("/") else []
    match op.get("op"), parts:
        case "add", [table, key] if isinstance(op.get("value"), dict):
            return RowOp("add", table, key, None, op["value"])
        case "add", [table] if op.get("value") == {}:
            return RowOp("clear", table)
        case "replace", [table, key, column] if "value" in op:
            return RowOp("replace", table, key, column, op["value"])
        case "remove", [table, key]:
            return RowOp("remove", table, key)
        case _:
            raise NotARowOperationError(number, op.get("op"), path)


def apply_row_ops(state: State, ops: Iterable[RowOp]) -> dict[str, dict[str, Row]]:
    """The state after the changes; what they do not touch is shared with `state`."""
    # What is written to is copied first.
    result = cast("dict[str, dict[str, Row]]", dict(state))
    own: set[str] = set()
    own_rows: set[tuple[str, str]] = set()

    def rows_of(table: str) -> dict[str, Row]:
        if table not in own:
            own.add(table)
            result[table] = dict(result.get(table, _NO_ROWS))
        return result[table]

    for op in ops:
        if op.kind != "add" and op.table not in result:
            continue
        rows = rows_of(op.table)
        if op.key is None:
            rows.clear()
            continue
        place = (op.table, op.key)
        if op.kind == "add" and isinstance(op.value, dict):
            rows[op.key] = op.value
            own_rows.discard(place)
        elif op.kind == "remove":
            rows.pop(op.key, None)
        elif op.kind == "replace" and op.column is not None and op.key in rows:
            if place not in own_rows:
                own_rows.add(place)
                rows[op.key] = dict(rows[op.key])
            rows[op.key][op.column] = op.value
    return result


def touched_by(state: State, ops: Iterable[RowOp]) -> dict[tuple[str, str], Row | None]:
    """Each row that the changes name, as it is in `state`."""
    touched: dict[tuple[str, str], Row | None] = {}
    for op in ops:
        rows = state.get(op.table, _NO_ROWS)
        keys = rows if op.key is None else (op.key,)
        for key in keys:
            touched.setdefault((op.table, key), rows.get(key))
    return touched


def invert_row_ops(state: State, ops: Sequence[RowOp]) -> list[Op]:
    """The operations that lead back to `state` from what `ops` make of it.

    They are computed from the rows before, so applying them gives `state` whatever `ops` did.
    """
    before = touched_by(state, ops)
    after = apply_row_ops(state, ops)
    return diff_rows({place: row_at(after, place) for place in before}, before)


def row_at(state: State, place: tuple[str, str]) -> Row | None:
    """The row at a table and key, if there is one."""
    return state.get(place[0], _NO_ROWS).get(place[1])


def diff_rows(before: Touched, after: Touched) -> list[Op]:
    """The net difference over the rows of both, ordered by table and key.

    One `add` or `remove` for a row that appears or vanishes, one `replace` per column otherwise.
    """
    ops: list[Op] = []
    for table, key in sorted(before.keys() | after.keys()):
        old, new = before.get((table, key)), after.get((table, key))
        if new is None:
            if old is not None:
                ops.append(delete_op(table, key))
        elif old is None:
            ops.append(insert_op(table, key, new))
        else:
            ops.extend(update_ops(table, key, old, new))
    return ops
