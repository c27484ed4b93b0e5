"""`Recovery`: what a client does about damage in its store.

What the server has too is fetched anew: when the document is opened, if a coordinator is connected,
and by a reload when it is found while changes are received. Unsent work exists here alone: damage
in it is raised, and nothing of it is sent or dropped until the application untracks the document.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Final, TypeVar

from patches.algorithms.base import Algorithm, SyncHost
from patches.errors import (
    CorruptDataError,
    ErrorContext,
    NetworkError,
    OutdatedAnswerError,
    StatusError,
)
from patches.model.change import Change, Snapshot, TrackedDoc

T = TypeVar("T")

#: Of one document, while it goes on receiving changes.
_MOST_FETCHES: Final = 10


class Recovery:
    """Recovers the documents of one algorithm, which owns it."""

    def __init__(self, algorithm: Algorithm) -> None:
        self._algorithm = algorithm
        #: The coordinator that syncs the documents, once there is one.
        self.host: SyncHost | None = None

    async def load(self, doc_id: str, load: Callable[[], Awaitable[T]]) -> T:
        """What `load` gives, after the committed part was fetched anew if that is damaged.

        Raises `CorruptDataError` for other damage, and without a connection to the server.
        """
        try:
            return await load()
        except CorruptDataError as damage:
            if damage.part != "committed" or self.host is None:
                raise
            await self._fetch(doc_id, self.host, damage)
            self._report(damage, doc_id)
            return await load()

    async def receive(self, doc_id: str, receive: Callable[[], Awaitable[T]]) -> T:
        """What `receive` gives. Asks for a reload if the committed part is damaged."""
        try:
            return await receive()
        except CorruptDataError as damage:
            self.reload_damaged(doc_id, damage)
            raise

    def reload_damaged(self, doc_id: str, damage: CorruptDataError) -> None:
        """Damage was found while changes were received: ask for a reload, if that mends it."""
        if damage.part == "committed" and self.host is not None:
            self.host.reload(doc_id)

    def listed(self, docs: list[TrackedDoc]) -> list[TrackedDoc]:
        """The documents of a store. Those with a damaged record are reported."""
        for doc in docs:
            if doc.is_damaged:
                damage = CorruptDataError(
                    f"document {doc.doc_id!r}: its record is damaged or missing",
                    doc_id=doc.doc_id,
                    part="record",
                )
                self._report(damage, doc.doc_id)
        return docs

    async def _fetch(self, doc_id: str, host: SyncHost, damage: CorruptDataError) -> None:
        for _ in range(_MOST_FETCHES):
            try:
                await self._fetch_once(doc_id, host, damage)
                return
            except OutdatedAnswerError:
                continue
        raise damage

    async def _fetch_once(self, doc_id: str, host: SyncHost, damage: CorruptDataError) -> None:
        algorithm = self._algorithm
        asked_at = await algorithm.get_committed_rev(doc_id)
        try:
            snapshot = Snapshot.from_wire(await host.call("getDoc", doc_id))
            tail: Iterable[Change] = ()
            if await algorithm.needs_tail(doc_id):
                wire = await host.call("getChangesSince", doc_id, asked_at)
                tail = (Change.from_wire(change) for change in wire)
        except (NetworkError, StatusError) as exc:
            raise damage from exc
        head = snapshot.head
        await algorithm.install_snapshot(
            doc_id,
            snapshot,
            None,
            tail=[change for change in tail if change.rev <= head],
            asked_at=asked_at,
        )

    def _report(self, damage: CorruptDataError, doc_id: str) -> None:
        self._algorithm.on_error.emit(damage, ErrorContext(doc_id=doc_id))
