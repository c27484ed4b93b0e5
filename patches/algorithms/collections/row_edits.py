"""What a local edit writes: row operations, checked against the declaration. Pure.

An edit by draft or by JSON Patch is applied to the rows that it names, and the difference is what
is written: one `add` or `remove` for each row that appears or goes, one `replace` for each column
that differs. A `test` is kept in front: the server checks it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from patches.algorithms.collections.declaration import Collections
from patches.algorithms.collections.overlay import Changed
from patches.errors import InvalidRowError, NotARowOperationError, OpsRefusedError
from patches.json_patch import apply_patch
from patches.json_patch.pointer import escape, parse
from patches.model.codec import json_size
from patches.model.json_values import Json, Op, json_equal
from patches.rows.row_ops import Row, diff_rows, parse_row_ops
from patches.rows.schema import Table

MAX_ROW_BYTES: Final = 256 * 1024
MAX_MUTATIONS: Final = 1_000

Rows = Mapping[str, Mapping[str, Row]]


def test_ops(table: str, key: str, expect: Mapping[str, Json]) -> list[Op]:
    """The operations by which the server checks columns of a row before it writes."""
    place = f"/{escape(table)}/{escape(key)}"
    return [
        {"op": "test", "path": f"{place}/{escape(column)}", "value": value}
        for column, value in expect.items()
    ]


def check_row_ops(ops: Sequence[Op]) -> None:
    """Raises `NotARowOperationError` for an operation that neither changes rows nor tests them."""
    for number, op in enumerate(ops):
        if op.get("op") != "test":
            try:
                parse_row_ops([op])
            except NotARowOperationError:
                raise NotARowOperationError(number, op.get("op"), op.get("path")) from None


def row_edit(ops: Sequence[Op], visible: Rows, declared: Mapping[str, Table]) -> list[Op]:
    """The row operations that JSON Patch operations, made for the visible rows, amount to.

    Raises `PatchError` for one that cannot be applied, and as `check_edit`.
    """
    touched = _named_rows(ops, visible, declared)
    state: dict[str, dict[str, Row]] = {name: {} for name in declared}
    for name, key in touched:
        row = visible.get(name, {}).get(key)
        if row is not None:
            state.setdefault(name, {})[key] = row
    after = apply_patch(state, list(ops), strict=True)
    if not isinstance(after, dict):
        raise InvalidRowError("", None, "the state is an object of tables")
    before_rows: dict[tuple[str, str], Row | None] = {}
    after_rows: dict[tuple[str, str], Row | None] = {}
    for name in state.keys() | after.keys():
        table, rows = declared.get(name), after.get(name, {})
        if table is None:
            raise InvalidRowError(name, None, f"no such table; there are {', '.join(declared)}")
        if not isinstance(rows, dict):
            raise InvalidRowError(name, None, "expected an object of rows")
        for key in state.get(name, {}).keys() | rows.keys():
            old, new = state.get(name, {}).get(key), rows.get(key)
            before_rows[name, key] = old
            after_rows[name, key] = _checked(table, key, old, new)
    tests = [op for op in ops if op.get("op") == "test"]
    return [*tests, *diff_rows(before_rows, after_rows)]


def _checked(table: Table, key: str, old: Row | None, new: Json) -> Row | None:
    if new is None or new is old:
        return new
    if not isinstance(new, dict):
        raise InvalidRowError(table.name, None, "expected an object: a row")
    if old is None:
        row = table.complete({table.key: key, **new})
        if row[table.key] != key:
            raise InvalidRowError(table.name, table.key, f"expected {key!r}, as the path")
        return row
    for column in old.keys() - new.keys():
        raise InvalidRowError(table.name, column, "a column cannot be taken away; set it to null")
    table.check_columns(
        {
            name: value
            for name, value in new.items()
            if name not in old or not json_equal(old[name], value)
        }
    )
    return new


def _named_rows(
    ops: Sequence[Op], visible: Rows, declared: Mapping[str, Table]
) -> dict[tuple[str, str], None]:
    named: dict[tuple[str, str], None] = {}
    for op in ops:
        for field in ("path", "from"):
            path = op.get(field)
            parts = parse(path) if isinstance(path, str) and path.startswith("/") else []
            if len(parts) >= 2:
                named[parts[0], parts[1]] = None
            elif path is not None:
                for name in parts or declared:
                    named.update(((name, key), None) for key in visible.get(name, ()))
    return named


def checked_row_ops(ops: Sequence[Op], declaration: Collections, changed: Changed) -> None:
    """Check what a write changes: how many rows, their sizes, and the rules of the application.

    Raises `OpsRefusedError`, and what a rule raises.
    """
    mutations = {tuple(parse(op["path"])[:2]) for op in ops if op.get("op") != "test"}
    if len(mutations) > MAX_MUTATIONS:
        raise OpsRefusedError(
            f"one change writes {len(mutations)} rows, at most {MAX_MUTATIONS} are allowed",
            code=413,
        )
    for (name, key), (before, after) in changed.items():
        size = 0 if after is None else json_size(after)
        if size > MAX_ROW_BYTES:
            raise OpsRefusedError(
                f"the row {key!r} of {name!r} would have {size} bytes, at most {MAX_ROW_BYTES} "
                f"are allowed",
                code=413,
            )
        table = declaration.tables.get(name)
        if table is not None and table.validate is not None:
            if after is None:
                assert before is not None
                table.validate("delete", before, None)
            else:
                table.validate("insert" if before is None else "update", after, None)
