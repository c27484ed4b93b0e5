"""Errors of tables, their rows, conditions and actions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from patches.errors.base import PatchesError
from patches.errors.documents import PatchError


class NotARowOperationError(PatchError):
    """An operation that is no change of rows: the document's state is tables."""

    def __init__(self, index: int, op: object, path: object) -> None:
        self.index: int = index
        self.op: object = op
        self.path: object = path
        super().__init__(
            f"operation {index} ({op!r} at {path!r}) is no change of rows: expected add "
            f"or remove at /table/key, or replace at /table/key/column"
        )


class InvalidRowError(PatchError):
    """A row, or a value of a column, that its table does not take. Nothing was written."""

    code: int = 400

    def __init__(self, table: str, column: str | None, problem: str) -> None:
        self.table: str = table
        self.column: str | None = column
        self.problem: str = problem
        place = table if column is None else f"{table}.{column}"
        super().__init__(f"{place}: {problem}")


class InvalidError(PatchError):
    """A rule of the application refuses a row: raised by `validate` and `validate_update`."""

    code: int = 400


#: What a reason begins with where what is stored refuses a write.
_CONFLICTS: Final = frozenset({"ROW_EXISTS", "ROW_NOT_FOUND", "EXPECTATION_FAILED", "CONSTRAINT"})


class RejectedError(PatchesError):
    """The server refused a write of a collection for good. `reason` is what it said.

    The write is undone here, and its change is in quarantine under `change_id`. `code` is
    `"ROW_EXISTS"`, `"ROW_NOT_FOUND"`, `"EXPECTATION_FAILED"` or `"CONSTRAINT"` where what is stored
    refuses it, and `None` where a rule of the application does.
    """

    def __init__(self, change_id: str, reason: str) -> None:
        self.change_id: str = change_id
        self.reason: str = reason
        word = reason.partition(":")[0]
        self.code: str | None = word if word in _CONFLICTS else None
        super().__init__(reason)


class WriteDiscardedError(PatchesError):
    """A write of a collection was taken back by `discard()` before it was confirmed."""

    def __init__(self, change_id: str) -> None:
        self.change_id = change_id
        super().__init__(f"the write {change_id} was discarded")


class InvalidConditionError(PatchesError, ValueError):
    """A condition that is malformed, too large, or about a column that is not there."""

    code: int = 400


class ActionsOnlyError(PatchesError):
    """The document is changed by actions alone: `doc.run(action, ...)`."""

    def __init__(self, doc_id: str) -> None:
        self.doc_id = doc_id
        super().__init__(f"document {doc_id!r} is changed by actions alone; use doc.run(action)")


class ActionRefusedError(PatchesError):
    """An action that writes too much or runs for too long. Nothing of it is left."""


class ActionTooSlowError(ActionRefusedError):
    """An action that was not done within its time."""

    def __init__(self, action: str) -> None:
        self.action = action
        super().__init__(f"action {action!r} was not done within its time")


class ImpureActionError(PatchesError):
    """An action that does something else when it is run a second time on the same rows."""

    def __init__(self, action: str, *, table: str, key: str, columns: Sequence[str]) -> None:
        self.action: str = action
        self.table: str = table
        self.key: str = key
        self.columns: tuple[str, ...] = tuple(columns)
        super().__init__(
            f"action {action!r} is not deterministic: run twice, it gives another row "
            f"{table}/{key} ({', '.join(columns)}); use tx.now, tx.random() and tx.id() instead"
        )


class DuplicateIdentityError(PatchesError):
    """An action inserts two rows whose identity columns are equal: they would be one row."""

    def __init__(self, table: str, columns: Sequence[str]) -> None:
        self.table: str = table
        self.columns: tuple[str, ...] = tuple(columns)
        super().__init__(
            f"two rows of {table!r} with one identity ({', '.join(columns)}) in one action"
        )


class WritesRefusedError(PatchesError):
    """SQL that writes outside of an action, or uses what gives another result elsewhere."""


class AudienceDeniedError(PatchesError):
    """An action writes a row whose audience its author does not belong to."""

    code: int = 403

    def __init__(self, table: str, audience: str) -> None:
        self.table: str = table
        self.audience: str = audience
        super().__init__(f"{table}: the author may not write rows of the audience {audience!r}")


class ConstraintError(PatchesError):
    """A write breaks a constraint of the database; nothing of its transaction was kept.

    `constraint` is its name, where the database gives one.
    """

    code: int = 409

    def __init__(self, constraint: str | None, message: str) -> None:
        self.constraint: str | None = constraint
        super().__init__(message)


class SchemaError(PatchesError):
    """A declaration of tables that is wrong. Raised when it is made."""


class SchemaTooOldError(PatchesError):
    """The server has a table or column that is not declared here. Unsent work is kept; update."""

    def __init__(self, doc_id: str, table: str, column: str | None) -> None:
        self.doc_id: str = doc_id
        self.table: str = table
        self.column: str | None = column
        what = f"table {table!r}" if column is None else f"column {table}.{column}"
        super().__init__(
            f"document {doc_id!r}: the server has the {what}, which is not in the schema here; "
            f"update the application"
        )
