"""`Write`: a write of the application, from when it is shown until the server has decided.

`WriteBook` knows the unconfirmed writes of one open document, and reports one that is not
confirmed in time. A write keeps one id for ever, so sending it again never does a thing twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator, Iterator
from typing import Final, Protocol

from patches.aio.signals import Signal
from patches.algorithms.collections.write_status import (
    SETTLED,
    WriteEvent,
    WriteStatus,
    next_status,
)
from patches.errors import PatchesError, RejectedError, WriteDiscardedError


class WriteOwner(Protocol):
    """What a write asks of its document."""

    def retry_write(self, write_id: str) -> None:
        """Send it now, if there is a connection."""

    def discard_write(self, write_id: str) -> None:
        """Take it back here."""


class _Outcome:
    """What becomes of one change; shared by the handles of the writes in it."""

    def __init__(self, write_id: str, key: str | None, deadline: float) -> None:
        self.id: Final = write_id
        self.key = key
        self.status: WriteStatus = "pending"
        self.error: Exception | None = None
        self.deadline = deadline
        self.waiting: list[asyncio.Future[None]] = []

    def take(self, event: WriteEvent, error: Exception | None = None) -> bool:
        """Follow an event; whether the status is another than before."""
        status = next_status(self.status, event)
        if status == self.status:
            return False
        self.status, self.error = status, error
        if status in SETTLED:
            self._settle(error)
        return True

    def abandon(self, error: Exception) -> None:
        """No answer will come: end the wait with `error`."""
        self._settle(error)

    def _settle(self, error: Exception | None) -> None:
        for future in self.waiting:
            if not future.done():
                if error is None:
                    future.set_result(None)
                else:
                    future.set_exception(error)
        self.waiting.clear()


class Write:
    """One write. `await write` waits until the server has confirmed it.

    Raises `RejectedError` if the server refuses it, `WriteDiscardedError` if it was taken back, and
    `PatchesError` if the document is closed before: the write stays pending then, and is sent with
    the next connection.
    """

    __slots__ = ("_outcome", "_owner", "key")

    def __init__(self, owner: WriteOwner, outcome: _Outcome, key: str | None) -> None:
        self._owner, self._outcome = owner, outcome
        #: The key of the row, for good; `None` where the change is not about one row.
        self.key: str | None = key

    @property
    def id(self) -> str:
        """The id of the change. Writes of one transaction share it."""
        return self._outcome.id

    @property
    def status(self) -> WriteStatus:
        """`"pending"`, `"sent"`, `"unconfirmed"`, `"confirmed"`, `"rejected"` or `"discarded"`."""
        return self._outcome.status

    @property
    def error(self) -> Exception | None:
        """Why it was rejected, if it was."""
        return self._outcome.error

    def retry(self) -> None:
        """Send it now, if it is unconfirmed and there is a connection; its time begins anew."""
        self._owner.retry_write(self.id)

    def discard(self) -> None:
        """Take it back here, with all that is in the same transaction.

        If it was sent, the server may have done it all the same; then the stream brings it.
        """
        self._owner.discard_write(self.id)

    def __await__(self) -> Generator[object, None, None]:
        outcome = self._outcome
        if outcome.status == "confirmed":
            return
        if outcome.status in SETTLED:
            assert outcome.error is not None
            raise outcome.error
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        outcome.waiting.append(future)
        yield from future

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Write) and (self.id, self.key) == (other.id, other.key)

    def __hash__(self) -> int:
        return hash(self.id)

    def __repr__(self) -> str:
        return f"Write({self.id!r}, key={self.key!r}, status={self.status!r})"


class WriteBook:
    """The unconfirmed writes of a document, in order. Owned by it."""

    def __init__(self, owner: WriteOwner, timeout_s: float, now: Callable[[], float]) -> None:
        self._owner, self._timeout_s, self._now = owner, timeout_s, now
        self._outcomes: dict[str, _Outcome] = {}
        self._closed = asyncio.Event()
        self.on_unconfirmed: Signal[[Write]] = Signal("on_unconfirmed")
        self.on_rejected: Signal[[Write]] = Signal("on_rejected")

    def __iter__(self) -> Iterator[Write]:
        return iter([Write(self._owner, each, each.key) for each in self._outcomes.values()])

    def begin(self, write_id: str, key: str | None = None, *, age_s: float = 0.0) -> Write:
        """A write was made, or read from the store `age_s` after that."""
        outcome = self._outcomes.get(write_id)
        if outcome is None:
            deadline = self._now() + max(0.0, self._timeout_s - age_s)
            outcome = self._outcomes[write_id] = _Outcome(write_id, key, deadline)
        return Write(self._owner, outcome, key)

    def also(self, write_id: str, key: str) -> Write:
        """Another handle of a write."""
        return Write(self._owner, self._outcomes[write_id], key)

    def sent(self, write_id: str) -> None:
        """It leaves for the server."""
        if (outcome := self._outcomes.get(write_id)) is not None:
            outcome.take(WriteEvent.SENT)

    def confirmed(self, write_id: str) -> None:
        """The stream has brought its id."""
        if (outcome := self._outcomes.pop(write_id, None)) is not None:
            outcome.take(WriteEvent.CONFIRMED)

    def rejected(self, write_id: str, reason: str | Exception) -> None:
        """It was refused for good, by the server or by the store."""
        outcome = self._outcomes.pop(write_id, None)
        if outcome is not None:
            error = RejectedError(write_id, reason) if isinstance(reason, str) else reason
            if outcome.take(WriteEvent.REJECTED, error):
                self.on_rejected.emit(Write(self._owner, outcome, outcome.key))

    def discarded(self, write_id: str) -> None:
        """The application has taken it back."""
        if (outcome := self._outcomes.pop(write_id, None)) is not None:
            outcome.take(WriteEvent.DISCARDED, WriteDiscardedError(write_id))

    def retried(self, write_id: str) -> bool:
        """The application wants it sent now; whether it is unconfirmed."""
        outcome = self._outcomes.get(write_id)
        if outcome is None or not outcome.take(WriteEvent.RETRIED):
            return False
        outcome.deadline = self._now() + self._timeout_s
        return True

    def close(self, doc_id: str) -> None:
        """The document leaves memory."""
        self._closed.set()
        for outcome in self._outcomes.values():
            outcome.abandon(
                PatchesError(
                    f"document {doc_id!r} was closed before the write {outcome.id} was confirmed; "
                    f"it stays pending"
                )
            )

    @property
    def next_deadline(self) -> float | None:
        """When the next write is unconfirmed, if none is confirmed before."""
        waiting = [
            each.deadline for each in self._outcomes.values() if each.status in ("pending", "sent")
        ]
        return min(waiting, default=None)

    async def watch(self) -> None:
        """Tell of each write that is not confirmed in time, until there is none or it is closed."""
        while not self._closed.is_set() and (deadline := self.next_deadline) is not None:
            try:
                async with asyncio.timeout_at(deadline):
                    await self._closed.wait()
            except TimeoutError:
                self._expire()

    def _expire(self) -> None:
        now = self._now()
        due = [outcome for outcome in self._outcomes.values() if outcome.deadline <= now]
        for outcome in due:
            if outcome.take(WriteEvent.EXPIRED):
                self.on_unconfirmed.emit(Write(self._owner, outcome, outcome.key))
