"""The root of the errors, and the context that `on_error` gives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorContext:
    """What an error on `on_error` is about, of `Patches`, `PatchesSync` and an algorithm alike."""

    doc_id: str | None = None
    #: The change that was refused or skipped, if the error is about one.
    change_id: str | None = None
    #: Why an edit could not be stored: `"rejection"` and `"defective"` edits were taken back,
    #: `"environment"` is the disk.
    kind: Literal["rejection", "defective", "environment"] | None = None
    #: Whether storing the edit is tried again, and how many tries have failed.
    will_retry: bool = False
    attempt: int = 1
    #: Whether storing failed too often: edits wait for `Patches.retry_saving_changes`.
    latched: bool = False


class PatchesError(Exception):
    """Base of all errors of this toolkit. `code` and `data` are what the wire carries."""

    code: int | str | None = None
    data: Mapping[str, Any] | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        # By its facts: an `__init__` that makes the message of them cannot be given the message.
        return _rebuilt, (type(self), self.args, self.__dict__.copy())


def _rebuilt(cls: type[PatchesError], args: tuple[Any, ...], facts: dict[str, Any]) -> PatchesError:
    error = cls.__new__(cls, *args)
    error.__dict__.update(facts)
    return error
