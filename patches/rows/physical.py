"""How the tables of a schema stand in SQLite. Pure.

Each is a table `_patches_<name>`, in the order of its keys (`WITHOUT ROWID`), so that nothing
depends on the order in which rows came, and a view `<name>` of the rows that may be seen. TEMP
triggers call `_patches_put` and `_patches_gone` for every row that is written.
"""

# ruff: noqa: S608  # names are those of a checked schema

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from patches.errors import InvalidRowError
from patches.model import codec
from patches.model.json_values import Json
from patches.rows.row_ops import Row
from patches.rows.schema import AUDIENCE, Column, Schema, Table

_TYPES: Final = {
    "text": "TEXT",
    "integer": "INTEGER",
    "real": "REAL",
    "boolean": "BOOLEAN",
    "json": "TEXT",
}


def statements(table: Table) -> Iterator[str]:
    """What makes a table, its view, and the triggers of both."""
    name, key = table.name, table.key
    columns = ", ".join(
        f'"{column.name}" {_TYPES[column.kind]}{" PRIMARY KEY" if column.name == key else ""}'
        for column in table.columns.values()
    )
    new = ", ".join(f'NEW."{column}"' for column in table.columns)
    sets = ", ".join(f'"{column}" = NEW."{column}"' for column in table.columns)
    given = ", ".join(_given(column) for column in table.columns.values())
    visible = f'WHERE _patches_is_visible("{AUDIENCE}")' if table.has_audience else ""
    yield f'CREATE TABLE "_patches_{name}" ({columns}) WITHOUT ROWID'
    for column in table.references:
        yield f'CREATE INDEX "i.{name}.{column}" ON "_patches_{name}" ("{column}")'
    yield (
        f'CREATE TEMP TRIGGER "t.{name}.i" AFTER INSERT ON "_patches_{name}" BEGIN '
        f"SELECT _patches_put('{name}', NULL, {new}); END"
    )
    yield (
        f'CREATE TEMP TRIGGER "t.{name}.u" AFTER UPDATE ON "_patches_{name}" BEGIN '
        f"SELECT _patches_put('{name}', OLD.\"{key}\", {new}); END"
    )
    yield (
        f'CREATE TEMP TRIGGER "t.{name}.d" AFTER DELETE ON "_patches_{name}" BEGIN '
        f"SELECT _patches_gone('{name}', OLD.\"{key}\"); END"
    )
    yield f'CREATE TEMP VIEW "{name}" AS SELECT * FROM "_patches_{name}" {visible}'
    yield (
        f'CREATE TEMP TRIGGER "v.{name}.i" INSTEAD OF INSERT ON "{name}" BEGIN '
        f'INSERT INTO "_patches_{name}" VALUES ({given}); END'
    )
    yield (
        f'CREATE TEMP TRIGGER "v.{name}.u" INSTEAD OF UPDATE ON "{name}" BEGIN '
        f'UPDATE "_patches_{name}" SET {sets} WHERE "{key}" = OLD."{key}"; END'
    )
    yield (
        f'CREATE TEMP TRIGGER "v.{name}.d" INSTEAD OF DELETE ON "{name}" BEGIN '
        f'DELETE FROM "_patches_{name}" WHERE "{key}" = OLD."{key}"; END'
    )


def _given(column: Column) -> str:
    """The value that an INSERT gives a column: one that takes no null gets its default for it."""
    if column.nullable or not column.has_default:
        return f'NEW."{column.name}"'
    default = stored(column, column.default)
    literal = "'" + default.replace("'", "''") + "'" if isinstance(default, str) else repr(default)
    return f'coalesce(NEW."{column.name}", {literal})'


def cascades(schema: Schema) -> Iterator[str]:
    """The triggers that delete, with a row, those that refer to it."""
    for table in schema.tables.values():
        for column, target in table.references.items():
            key = schema.tables[target].key
            yield (
                f'CREATE TEMP TRIGGER "c.{table.name}.{column}" '
                f'AFTER DELETE ON "_patches_{target}" '
                f"WHEN _patches_is_running() BEGIN "
                f'DELETE FROM "_patches_{table.name}" WHERE "{column}" = OLD."{key}"; END'
            )


def whole_row(table: Table, row: Row) -> Row:
    """A row in the table's columns; those that an older schema did not have get their defaults."""
    if row.keys() == table.columns.keys():
        return row
    return {
        name: row[name] if name in row else column.default for name, column in table.columns.items()
    }


def stored(column: Column, value: Json) -> Json:
    """A value as it stands in its column."""
    if value is None:
        return None
    if column.kind == "json":
        return codec.encode_text(value)
    if column.kind == "real" and isinstance(value, int | float):
        return float(value)
    return int(value) if isinstance(value, bool) else value


def loaded(table: Table, column: Column, value: Json) -> Json:
    """A value as it was before `stored`. Raises `InvalidRowError` for what is no JSON."""
    if value is None:
        return None
    if column.kind == "boolean":
        return bool(value) if value in (0, 1) else value
    if column.kind == "json" and isinstance(value, str):
        try:
            return codec.decode(value)
        except ValueError as error:
            raise InvalidRowError(table.name, column.name, "expected JSON") from error
    return value


def bindable(value: Json) -> Json:
    """A parameter of an action's SQL. Raises `TypeError` for what is no JSON."""
    if isinstance(value, list | dict):
        return codec.encode_text(value)
    if isinstance(value, bool):
        return int(value)
    if value is None or isinstance(value, str | int | float):
        return value
    raise TypeError(f"a parameter of SQL is JSON, not {type(value).__name__}")
