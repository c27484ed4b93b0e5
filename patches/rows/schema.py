"""`Schema`: the tables of a kind of document, declared from plain classes. Pure.

The class stays as it is: annotations and defaults are read from it, nothing is added.
"""

from __future__ import annotations

import copy
import dataclasses
import re
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Final, TypeVar

from patches.errors import InvalidRowError, SchemaError
from patches.model.json_values import Json
from patches.rows.annotations import Check, Kind, value_type
from patches.rows.row_ops import Row, RowOp

T = TypeVar("T")

#: The key of every table.
KEY: Final = "id"
#: Who may see a row, where a table has this column.
AUDIENCE: Final = "audience"
#: The audience that everyone with access belongs to.
EVERYBODY: Final = "*"
MAX_KEY_BYTES: Final = 200
MAX_COLUMNS: Final = 100

_NAME: Final = re.compile(r"[a-z_][a-z0-9_]{0,62}\Z")
_RESERVED: Final = "_patches"


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column: its name, how SQLite stores it, and which values it takes."""

    name: str
    kind: Kind
    nullable: bool
    check: Check
    values: tuple[Json, ...] = ()
    has_default: bool = False
    default: Json = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """One table.

    `identity` names the columns that make a row the same row in every re-run. `references`: by
    column, the table whose key it holds; with a row go those that refer to it.
    """

    name: str
    columns: Mapping[str, Column]
    identity: tuple[str, ...] = ()
    key: str = KEY
    references: Mapping[str, str] = field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the columns, in the order of the class."""
        return tuple(self.columns)

    @property
    def has_audience(self) -> bool:
        """True if each row says who may see it."""
        return AUDIENCE in self.columns

    def complete(self, given: Mapping[str, Json]) -> Row:
        """A whole row: what is given, then defaults, in the order of the columns.

        Raises `InvalidRowError` for a column that the table does not have, one that is missing,
        and a value that its column does not take.
        """
        for name in given:
            self._known(name)
        row: Row = {}
        for name, column in self.columns.items():
            if name in given:
                row[name] = _copied(column, given[name])
            elif column.has_default:
                row[name] = _copied(column, column.default)
            elif column.nullable:
                row[name] = None
            else:
                raise InvalidRowError(self.name, name, "a value is needed")
            self.check_value(name, row[name])
        return row

    def check_columns(self, given: Mapping[str, Json]) -> None:
        """Raises `InvalidRowError` unless `given` can be written to a row that is there.

        The key and the audience of a row never change.
        """
        for name, value in given.items():
            self._known(name)
            if name in (self.key, AUDIENCE):
                raise InvalidRowError(self.name, name, "never changes; delete and insert instead")
            self.check_value(name, value)

    def check_value(self, name: str, value: Json) -> None:
        """Raises `InvalidRowError` if the column does not take the value."""
        column = self._known(name)
        if problem := column.check(value):
            raise InvalidRowError(self.name, name, problem)
        if name == self.key:
            check_key(self.name, value, self.key)

    def _known(self, name: str) -> Column:
        column = self.columns.get(name)
        if column is None:
            known = ", ".join(self.columns)
            raise InvalidRowError(self.name, name, f"no such column; there are {known}")
        return column


def check_key(table: str, key: Json, column: str = KEY) -> None:
    """Raises `InvalidRowError` unless `key` is a string of 1 to 200 bytes."""
    if not isinstance(key, str):
        raise InvalidRowError(table, column, "expected a string")
    size = len(key.encode("utf-8", "surrogatepass"))
    if not 1 <= size <= MAX_KEY_BYTES:
        raise InvalidRowError(table, column, f"expected 1 to {MAX_KEY_BYTES} bytes, got {size}")


def _copied(column: Column, value: Json) -> Json:
    return copy.deepcopy(value) if column.kind == "json" else value


class Schema:
    """Tables by name, with a version and the migrations that lead to it.

    One for each kind of document, made when a module is imported and shared from then on.
    """

    def __init__(self, name: str, *, version: int = 1) -> None:
        if version < 1:
            raise SchemaError(f"schema {name!r}: expected a version from 1 on, got {version}")
        self.name = name
        self.version = version
        self._tables: dict[str, Table] = {}
        self._migrations: dict[int, str] = {}

    @property
    def tables(self) -> Mapping[str, Table]:
        """The tables by name."""
        return MappingProxyType(self._tables)

    def table(
        self,
        name: str,
        *,
        identity: Iterable[str] = (),
        key: str = KEY,
        references: Mapping[str, str] | None = None,
    ) -> Callable[[type[T]], type[T]]:
        """Declare a table from a class. Raises `SchemaError`, naming what is wrong.

        `references`: by column, the table declared before whose key it holds, or this one.
        """

        def declare(declared: type[T]) -> type[T]:
            if name in self._tables:
                raise SchemaError(f"table {name!r} is declared twice")
            table = table_of(name, declared, tuple(identity), key)
            for column, target in (references or {}).items():
                if column not in table.columns or table.columns[column].kind != "text":
                    raise SchemaError(f"{name}.{column}: a reference is a column of str")
                if target != name and target not in self._tables:
                    raise SchemaError(f"{name}.{column}: declare the table {target!r} before")
            self._tables[name] = replace(table, references=MappingProxyType(dict(references or {})))
            return declared

        return declare

    def migrate(self, version: int, script: str) -> None:
        """The SQL that leads from `version - 1` to `version`; run once per working copy.

        New tables, and new columns with a default or that take null, need none.
        """
        if not 2 <= version <= self.version:
            raise SchemaError(f"expected a version from 2 to {self.version}, got {version}")
        if version in self._migrations:
            raise SchemaError(f"the migration to version {version} is declared twice")
        self._migrations[version] = script

    def unknown_part(self, ops: Iterable[RowOp]) -> tuple[str, str | None] | None:
        """The first table, or table and column, that operations name and this schema has not."""
        for op in ops:
            table = self._tables.get(op.table)
            if table is None:
                return op.table, None
            if op.column is not None and op.column not in table.columns:
                return op.table, op.column
            if op.kind == "add" and isinstance(op.value, dict):
                for name in op.value:
                    if name not in table.columns:
                        return op.table, name
        return None

    def check_ops(self, ops: Iterable[RowOp]) -> None:
        """Raises `InvalidRowError` for operations that do not fit the tables.

        A row is whole, under its own key; key and audience of a row never change.
        """
        for op in ops:
            table = self._tables.get(op.table)
            if table is None:
                raise InvalidRowError(op.table, None, "no such table")
            if op.key is None:
                continue
            if op.kind == "add":
                for name in table.columns:
                    if name not in op.value:
                        raise InvalidRowError(op.table, name, "a value is needed")
                table.complete(op.value)
                if op.value[table.key] != op.key:
                    raise InvalidRowError(op.table, table.key, f"expected {op.key!r}, as the path")
            elif op.column is not None:
                table.check_columns({op.column: op.value})

    def migrations_since(self, version: int) -> list[str]:
        """The scripts that lead from `version` to this schema's, in order."""
        return [self._migrations[v] for v in sorted(self._migrations) if v > version]


def table_of(name: str, declared: type, identity: tuple[str, ...] = (), key: str = KEY) -> Table:
    """The table that a class declares. Raises `SchemaError`."""
    _check_name("table", name)
    columns: dict[str, Column] = {}
    for column_name, annotation in _hints(name, declared).items():
        _check_name(f"column of {name!r}:", column_name)
        try:
            kind = value_type(annotation)
        except TypeError as error:
            raise SchemaError(f"{name}.{column_name}: {error}") from error
        except RecursionError as error:
            raise SchemaError(f"{name}.{column_name}: a dataclass contains itself") from error
        if kind.kind == "json" and kind.check(0) is None:
            raise SchemaError(f"{name}.{column_name}: a column of any type cannot be compared")
        has_default, default = _default_of(declared, column_name)
        column = Column(
            name=column_name,
            kind=kind.kind,
            nullable=kind.nullable,
            check=kind.check,
            values=kind.values,
            has_default=has_default,
            default=default,
        )
        if column.has_default and (problem := column.check(column.default)):
            raise SchemaError(f"{name}.{column_name}: the default does not fit: {problem}")
        columns[column_name] = column
    if len(columns) > MAX_COLUMNS:
        raise SchemaError(f"table {name!r}: at most {MAX_COLUMNS} columns, got {len(columns)}")
    _check_columns(name, columns, identity, key)
    return Table(name=name, columns=MappingProxyType(columns), identity=identity, key=key)


def _default_of(declared: type, column: str) -> tuple[bool, Json]:
    """Whether the class gives the column a default, and a copy of it."""
    for member in dataclasses.fields(declared) if dataclasses.is_dataclass(declared) else ():
        if member.name == column and member.default_factory is not dataclasses.MISSING:
            return True, copy.deepcopy(member.default_factory())
    for cls in declared.__mro__:  # not `getattr`: it finds the members of `type` too
        if column in vars(cls):
            return True, copy.deepcopy(vars(cls)[column])
    return False, None


def _hints(name: str, declared: type) -> dict[str, object]:
    try:
        return dict(typing.get_type_hints(declared))
    except (NameError, TypeError) as error:
        raise SchemaError(f"table {name!r}: an annotation cannot be resolved: {error}") from error


def _check_columns(
    name: str, columns: Mapping[str, Column], identity: tuple[str, ...], key: str
) -> None:
    column = columns.get(key)
    if column is None or column.kind != "text" or column.nullable or column.has_default:
        raise SchemaError(f"table {name!r}: the key is missing; declare it as {key}: str")
    audience = columns.get(AUDIENCE)
    if audience is not None and (audience.kind != "text" or audience.nullable):
        raise SchemaError(f"table {name!r}: the audience of a row is declared as {AUDIENCE}: str")
    for part in identity:
        if part not in columns or part == key:
            raise SchemaError(f"table {name!r}: identity names {part!r}, which is no column")


def is_name(name: str) -> bool:
    """Whether a table or a column may have this name."""
    return _NAME.match(name) is not None and not name.startswith(_RESERVED)


def _check_name(what: str, name: str) -> None:
    if not _NAME.match(name):
        raise SchemaError(
            f"{what} {name!r}: expected lower-case letters, digits and _, at most 63, "
            "not starting with a digit"
        )
    if name.startswith(_RESERVED):
        raise SchemaError(f"{what} {name!r}: names that start with {_RESERVED} are reserved")
