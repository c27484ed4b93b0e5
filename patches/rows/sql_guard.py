"""Which SQL an action may use: what gives the same result wherever it runs. Pure.

The authorizer of SQLite reports what a statement uses. What it does not report is refused by
searching the SQL for words: the time (`CURRENT_TIMESTAMP`), `RETURNING` and upserts, which views
do not support, and comments.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Container
from typing import Final

from patches.errors import WritesRefusedError

#: Functions that depend on their arguments alone, in every version of SQLite alike.
_FUNCTIONS: Final = frozenset(
    "abs avg char coalesce count format glob group_concat hex ifnull iif instr json json_array "
    "json_array_length json_extract json_group_array json_group_object json_object json_quote "
    "json_type json_valid length like lower ltrim max min nullif printf quote replace round rtrim "
    "sign string_agg substr substring sum total trim typeof unicode upper -> ->> "
    "row_number rank dense_rank lag lead first_value last_value ntile json_each json_tree".split()
)
_FIRST: Final = frozenset(("select", "insert", "update", "delete", "with", "values", "replace"))
_REFUSED: Final = frozenset(
    ("current_timestamp", "current_date", "current_time", "returning", "conflict")
)
_TOKEN: Final = re.compile(
    r"""'(?:[^']|'')*'|"(?:[^"]|"")*"|`[^`]*`|\[[^\]]*\]|--|/\*|[A-Za-z_]\w*|\S""", re.DOTALL
)
_HIDDEN: Final = ("_patches", "sqlite_", "pragma_")
_WRITES: Final = frozenset((sqlite3.SQLITE_INSERT, sqlite3.SQLITE_UPDATE, sqlite3.SQLITE_DELETE))


def check_sql(query: str) -> None:
    """Raises `WritesRefusedError` for a statement that no action may use."""
    words = _TOKEN.findall(query)
    first = words[0].lower() if words else ""
    if first not in _FIRST:
        raise WritesRefusedError(
            f"this SQL is not allowed: expected SELECT, INSERT, UPDATE or DELETE, got {first!r}"
        )
    for word in words:
        if word in ("--", "/*"):
            raise WritesRefusedError("this SQL is not allowed: it has a comment")
        if word.lower() in _REFUSED:
            raise WritesRefusedError(f"this SQL is not allowed: it uses {word!r}")


def authorize(
    tables: Container[str], action: int, arg1: str | None, arg2: str | None, inner: str | None
) -> bool:
    """Whether a statement may do this; `inner` is the view or trigger that does it, if one does."""
    if action in (sqlite3.SQLITE_SELECT, sqlite3.SQLITE_RECURSIVE):
        return True
    if action == sqlite3.SQLITE_FUNCTION:
        return inner is not None or (arg2 or "").lower() in _FUNCTIONS
    if action in _WRITES:
        return inner is not None or arg1 in tables
    if action == sqlite3.SQLITE_READ:
        # The other names are those that the statement gives to its own parts.
        hidden = (arg1 or "").lower().startswith(_HIDDEN)
        return inner is not None or arg1 in tables or not hidden
    return False
