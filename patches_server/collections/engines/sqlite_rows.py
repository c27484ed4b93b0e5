"""Rows as SQLite keeps them, and as JSON. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, TypeAlias

from patches.algorithms.collections.declaration import DeclaredTable
from patches.errors import InvalidJsonError
from patches.model import codec
from patches.model.json_values import Json
from patches.rows.annotations import Kind
from patches.rows.row_ops import Row
from patches.rows.scalars import bound_scalar

RowReader: TypeAlias = Callable[[Sequence[Any]], Row]


def bound(kind: Kind, value: Json) -> Any:
    """A value of a column as a parameter of a statement."""
    if value is not None and kind == "json":
        return codec.encode_text(value)
    return bound_scalar(value) if isinstance(value, bool | int) else value


def reader_of(table: DeclaredTable) -> RowReader:
    """The function that makes a row of the values of a table's columns, in their order.

    Other programs may have written what no column takes; it is given as it can be.
    """
    names = table.table.names
    converted = [
        (name, _READERS[column.kind])
        for name, column in table.table.columns.items()
        if column.kind in _READERS
    ]

    def read(values: Sequence[Any]) -> Row:
        row: Row = dict(zip(names, values, strict=True))
        for name, convert in converted:
            value = row[name]
            if value is not None:
                row[name] = convert(value)
        return row

    return read


def _boolean(value: Any) -> Json:
    return bool(value) if value in (0, 1) else _plain(value)


def _json(value: Any) -> Json:
    try:
        return codec.decode(value) if isinstance(value, str) else _plain(value)
    except InvalidJsonError:
        return str(value)


def _plain(value: Any) -> Json:
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    plain: Json = value
    return plain


_READERS: Final[dict[Kind, Callable[[Any], Json]]] = {
    "boolean": _boolean,
    "json": _json,
    "text": _plain,
    "integer": _plain,
    "real": _plain,
}
