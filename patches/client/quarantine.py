"""`Quarantine`: what a client offers for changes that the server refuses for good."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping

from patches.algorithms.base import Algorithm
from patches.client.signals import ClientSignals
from patches.documents.document import Document
from patches.errors import PendingChangeError
from patches.model.change import Change, QuarantinedChange


class Quarantine(ClientSignals):
    """A part of `Patches`. Changes in quarantine are kept until somebody decides about them."""

    algorithms: Mapping[str, Algorithm]

    @abstractmethod
    async def _wait_idle(self, doc_id: str) -> None:
        """Wait for a document's edits."""

    @abstractmethod
    async def _ready(self) -> None:
        """Start on first use."""

    @abstractmethod
    def algorithm_of(self, doc_id: str) -> Algorithm:
        """The algorithm of a tracked document. Raises `DocNotTrackedError`."""

    @abstractmethod
    def get_open_doc(self, doc_id: str) -> Document | None:
        """The document if it is in memory."""

    async def eject_pending_change(
        self,
        doc_id: str,
        change_id: str,
        reason: str = "app-requested",
        *,
        only_if_unappliable: bool = False,
    ) -> QuarantinedChange | None:
        """Move one unconfirmed change into quarantine; `None` if there is no such change.

        Raises `PendingChangeError` when the others cannot do without it; nothing is changed then.
        """
        await self._ready()
        entry = await self.algorithm_of(doc_id).eject_pending_change(
            doc_id,
            change_id,
            reason,
            self.get_open_doc(doc_id),
            only_if_unappliable=only_if_unappliable,
        )
        if entry is not None:
            self.on_change_quarantined.emit(doc_id, entry)
            self.on_quarantine_changed.emit(doc_id)
            self.on_change.emit(doc_id)
        return entry

    async def list_quarantined_changes(self, doc_id: str | None = None) -> list[QuarantinedChange]:
        """What is in quarantine, for one document or all."""
        await self._ready()
        entries: dict[tuple[str, str], QuarantinedChange] = {}
        for algorithm in self.algorithms.values():
            for entry in await algorithm.list_quarantined_changes(doc_id):
                entries.setdefault((entry.doc_id, entry.change_id), entry)
        return list(entries.values())

    async def discard_quarantined_change(self, doc_id: str, change_id: str) -> None:
        """Forget a quarantined change for good. One that is not there is no error."""
        await self._ready()
        for algorithm in self.algorithms.values():
            await algorithm.discard_quarantined_change(doc_id, change_id)

    async def retry_quarantined_change(self, doc_id: str, change_id: str) -> list[Change]:
        """Make a quarantined change an edit of the document as it is now, in one step.

        It keeps its id, so that it counts once if it was committed after all. Raises
        `PendingChangeError` if there is none, or it still does not apply; it then stays.
        """
        await self._ready()
        algorithm = self.algorithm_of(doc_id)
        entries = await algorithm.list_quarantined_changes(doc_id)
        if all(entry.change_id != change_id for entry in entries):
            raise PendingChangeError(
                f"document {doc_id!r} has no change {change_id!r} in quarantine"
            )
        await self._wait_idle(doc_id)  # it comes after the edits made so far
        changes = await algorithm.retry_quarantined_change(
            doc_id, change_id, self.get_open_doc(doc_id)
        )
        self.on_quarantine_changed.emit(doc_id)
        self.on_change.emit(doc_id)
        return changes
