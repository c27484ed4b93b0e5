"""What PostgreSQL and its driver report, and what that says about a statement.

The driver's errors mean one of five things: the statement had no effect and may be run again; it
had none and should not be; it did or did not take effect, and nobody knows; the data is damaged; or
the schema is another one. An error without a code says nothing: the outcome is unknown.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import Final

from patches.errors import (
    CorruptDataError,
    StorageError,
    StorageFullError,
    StorageTimeoutError,
    WrongFileError,
)


class Outcome(Enum):
    """What became of a statement that ended in an error."""

    NOTHING = auto()
    NOTHING_YET = auto()  # run it again in a moment
    TAKEN = auto()  # a unique key: what it would write is there
    DISCONNECTED = auto()  # nothing was done: there is no connection
    UNKNOWN = auto()


_AGAIN: Final = frozenset({"40001", "40P01", "55P03"})
_REFUSED: Final = frozenset({"53300", "57P03", "08001", "08004"})
_FULL: Final = frozenset({"53100", "53200", "58030"})
_DAMAGED: Final = frozenset({"XX001", "XX002"})
_OTHER_SCHEMA: Final = frozenset({"42P01", "42703", "3F000", "42883"})
#: The server ends, or has become a standby: all connections are of no use.
_ENDING: Final = frozenset({"25006", "57P01", "57P02"})
_CANCELLED: Final = "57014"
_UNIQUE: Final = "23505"


def code_of(error: BaseException) -> str | None:
    """The SQLSTATE of an error, `None` if it has none."""
    code = getattr(error, "sqlstate", None)
    return code if isinstance(code, str) else None


def outcome_of(error: BaseException) -> Outcome:
    """What a statement's error says about its effect."""
    code = code_of(error)
    if code is None or code in _ENDING or code == _CANCELLED:
        return Outcome.UNKNOWN
    if code in _AGAIN:
        return Outcome.NOTHING_YET
    if code == _UNIQUE:
        return Outcome.TAKEN
    if code in _REFUSED:
        return Outcome.DISCONNECTED
    return Outcome.UNKNOWN if code.startswith("08") else Outcome.NOTHING


def ends_connections(error: BaseException) -> bool:
    """Whether all other connections are of no use either."""
    code = code_of(error)
    return code is None or code in _ENDING or code.startswith("08")


def refuses_for_good(error: BaseException) -> bool:
    """Whether a server that was asked for a connection will not give one later either."""
    code = code_of(error) or ""
    return code.startswith("28") or code == "3D000" or code in _OTHER_SCHEMA


def as_storage_error(error: BaseException) -> Exception:
    """The error that a caller gets. The database's words name tables, never content."""
    code = code_of(error)
    if code in _FULL:
        return StorageFullError(f"PostgreSQL is out of room ({code})")
    if code in _DAMAGED:
        return CorruptDataError(f"PostgreSQL reports damaged data ({code})")
    if code in _OTHER_SCHEMA:
        return WrongFileError(
            f"the database has another schema than this version needs ({code}): "
            "run patches-server migrate"
        )
    if code == _CANCELLED or isinstance(error, TimeoutError):
        return StorageTimeoutError("PostgreSQL did not answer in time")
    if code is not None and refuses_for_good(error):
        return StorageError(f"PostgreSQL refuses the connection ({code}): {error}")
    return StorageError(f"PostgreSQL: {code or type(error).__name__}")
