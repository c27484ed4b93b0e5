"""What a client says it holds: tables that it wants on demand, and subsets of them. Pure.

Everything here comes from the wire: `InvalidRequestError` says what is wrong.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from patches.algorithms.collections.declaration import CREATED, Collections, DeclaredTable
from patches.algorithms.collections.ordering import check_order
from patches.errors import InvalidConditionError, InvalidRequestError, InvalidRowError
from patches.model.json_values import Json
from patches.rows.condition_syntax import parse_condition
from patches.rows.conditions import Condition
from patches_server.collections.parts import MAX_WINDOW

MAX_SUBSETS: Final = 100
_ID: Final = re.compile(r"[^\x00-\x1f\ud800-\udfff]{1,100}\Z")
_MAX_ORDER: Final = 4
_FIELDS: Final = frozenset({"id", "table", "where", "orderBy", "limit"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Subset:
    """A part of a table, as a client names it."""

    id: str
    table: DeclaredTable
    where: Condition | None = None
    order: tuple[tuple[str, bool], ...] = ()
    limit: int | None = None


@dataclass(frozen=True, slots=True)
class Statement:
    """What one connection holds of a document."""

    #: Tables of which nothing is sent but what a subset has.
    on_demand: frozenset[str] = frozenset()
    subsets: tuple[Subset, ...] = ()


def parse_statement(declared: Collections, options: Mapping[str, Json]) -> Statement:
    """What the options of a call say. Tables that are declared so are on demand in any case."""
    names = options.get("onDemand")
    if names is not None and not _is_strings(names):
        raise InvalidRequestError("INVALID_REQUEST: onDemand must be a list of tables")
    wanted: list[str] = [name for name in names or () if isinstance(name, str)]
    for name in wanted:
        if name not in declared.tables:
            raise InvalidRequestError(f"INVALID_REQUEST: onDemand: no table {name[:60]!r}")
    given = options.get("subsets")
    if given is not None and not isinstance(given, list):
        raise InvalidRequestError("INVALID_REQUEST: subsets must be a list")
    subsets = {subset.id: subset for subset in (parse_subset(declared, one) for one in given or ())}
    if len(subsets) > MAX_SUBSETS:
        raise InvalidRequestError(f"INVALID_REQUEST: at most {MAX_SUBSETS} subsets")
    own = (name for name, table in declared.tables.items() if table.sync == "on_demand")
    return Statement(frozenset(wanted).union(own), tuple(subsets.values()))


def parse_subset(declared: Collections, value: Json) -> Subset:
    """A subset from the wire."""
    if not isinstance(value, dict):
        raise InvalidRequestError("INVALID_REQUEST: a subset must be an object")
    for name in value:
        if name not in _FIELDS:
            raise InvalidRequestError(f"INVALID_REQUEST: a subset has no member {name[:60]!r}")
    subset_id, name = check_subset_id(value.get("id")), value.get("table")
    table = declared.tables.get(name) if isinstance(name, str) else None
    if table is None:
        raise InvalidRequestError("INVALID_REQUEST: subset: no such table")
    limit = value.get("limit")
    if limit is not None:
        if isinstance(limit, bool) or not isinstance(limit, int) or not 1 <= limit <= MAX_WINDOW:
            raise InvalidRequestError(f"INVALID_REQUEST: limit must be from 1 to {MAX_WINDOW}")
    where = value.get("where")
    order = value.get("orderBy")
    if order is not None and limit is None:
        raise InvalidRequestError("INVALID_REQUEST: orderBy needs a limit")
    try:
        condition = None if where is None else parse_condition(where)
        if condition is not None:
            condition.check(table.table)
        ranks = _order(order)
        check_order(table.table, ranks)
    except (InvalidConditionError, InvalidRowError) as exc:
        raise InvalidRequestError(f"INVALID_REQUEST: subset: {exc}") from None
    if limit is not None and not ranks and table.kind == "event":
        ranks = ((CREATED, True),)
    return Subset(id=subset_id, table=table, where=condition, order=ranks, limit=limit)


def check_subset_id(value: Json) -> str:
    """The id that a client gives a subset."""
    if not isinstance(value, str) or not _ID.match(value):
        raise InvalidRequestError("INVALID_REQUEST: a subset's id is a string of 1 to 100")
    return value


def _order(value: Json) -> tuple[tuple[str, bool], ...]:
    if value is None:
        return ()
    if not isinstance(value, list) or len(value) > _MAX_ORDER:
        raise InvalidRequestError(f"INVALID_REQUEST: orderBy is a list of at most {_MAX_ORDER}")
    ranks = []
    for item in value:
        match item:
            case [str(column), "asc" | "desc" as direction]:
                ranks.append((column, direction == "desc"))
            case _:
                raise InvalidRequestError('INVALID_REQUEST: orderBy has [column, "asc" | "desc"]')
    return tuple(ranks)


def _is_strings(value: Json) -> bool:
    return isinstance(value, Sequence) and all(isinstance(item, str) for item in value)
