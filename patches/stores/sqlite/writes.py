"""What waits for the thread that writes an SQLite file."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

from patches.errors import StorageError

T = TypeVar("T")
A = TypeVar("A")

#: Does several writes of one kind in order, and says of each what it came to. One that came to an
#: exception has changed nothing.
Together: TypeAlias = Callable[[sqlite3.Connection, Sequence[A]], Sequence[T | Exception]]


@dataclass(slots=True, eq=False)
class Write:
    """One write, and what it has come to."""

    fn: Callable[..., Any]
    done: asyncio.Future[Any]
    item: Any = None
    is_together: bool = False  # `fn` takes the items of all such writes that stand side by side
    result: Any = None
    error: BaseException | None = None
    ran: bool = False  # its group's transaction is on disk


def kind_of(write: Write) -> object:
    """What writes that are run in one call have in common."""
    return write.fn if write.is_together else write


def resolve(write: Write, path: str) -> None:
    """Tell whoever waits for a write."""
    if write.done.done():
        return
    if write.error is None and not write.ran:
        write.error = StorageError(f"{path}: the write was not carried out")
    if write.error is not None:
        write.done.set_exception(write.error)
        write.done.exception()  # a caller that was cancelled will not fetch it
    else:
        write.done.set_result(write.result)
