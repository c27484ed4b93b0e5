"""`DocKeeper`: the one place that holds what is known of a tracked document.

Whoever learns something folds it in (`folds.py`) and hands the new state to `tell`, in one turn of
the loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from patches.algorithms.base import Algorithm
from patches.documents.document import Document
from patches.model.change import Change, QuarantinedChange, Snapshot
from patches.net.connection import PatchesConnection
from patches.options import DocOptions
from patches.sync.document import transitions as folds
from patches.sync.document.plan import DocSync


class Host(Protocol):
    """What a worker needs of the coordinator that owns it."""

    connection: PatchesConnection

    def algorithm_of(self, doc_id: str) -> Algorithm:
        """The document's algorithm."""

    def open_doc(self, doc_id: str) -> Document | None:
        """The open document, if it is open."""

    def show_snapshot(self, doc_id: str, snapshot: Snapshot) -> None:
        """Show what the store holds in the open document, if that is newer."""

    def options_of(self, doc: DocSync) -> DocOptions:
        """The limits that hold for a document now."""

    def chance(self) -> float:
        """A random number from 0 to 1."""

    def doc_changed(self, keeper: DocKeeper) -> None:
        """The document's state is another than before."""

    @property
    def report(self) -> Callable[[Exception, str], None]:
        """Tells whoever listens about a failure."""

    def server_committed(self, doc_id: str, changes: Sequence[Change]) -> None:
        """These committed changes are new here."""

    def quarantined(self, doc_id: str, entry: QuarantinedChange) -> None:
        """A pending change is in quarantine."""

    def deleted_remotely(self, doc_id: str) -> None:
        """The document is gone; the worker has ended."""


@dataclass(frozen=True, slots=True)
class Found:
    """What a store said of a document, after `edits` edits had been seen."""

    committed_rev: int
    has_pending: bool
    edits: int


class DocKeeper:
    """What is known of one document, from its tracking to its untracking."""

    def __init__(self, doc_id: str, host: Host) -> None:
        self.doc = DocSync(doc_id=doc_id)
        self.id: Final = doc_id
        self.host: Final = host
        #: Set by whatever is new.
        self.wake: Final = asyncio.Event()
        self.stopped = False

    @property
    def algorithm(self) -> Algorithm:
        """The document's algorithm."""
        return self.host.algorithm_of(self.id)

    @property
    def open_doc(self) -> Document | None:
        """The open document, if it is open. Ask again after every await."""
        return self.host.open_doc(self.id)

    def tell(self, doc: DocSync) -> None:
        """Take a new state, made by a fold from `self.doc` in this turn of the loop."""
        before, self.doc = self.doc, doc
        if doc is not before:
            self.wake.set()
            self.host.doc_changed(self)

    async def find(self) -> Found:
        """Read what the store holds. Raises as it does."""
        algorithm, edits = self.algorithm, self.doc.edits
        rev = await algorithm.get_committed_rev(self.id)
        return Found(rev, await algorithm.has_pending(self.id), edits)

    def learn(self, found: Found) -> None:
        """Know from now on what was found, unless it is known already."""
        if not self.stopped:
            self.tell(
                folds.learned(
                    self.doc,
                    committed_rev=found.committed_rev,
                    has_pending=found.has_pending,
                    edits=found.edits,
                )
            )

    async def refresh(self) -> None:
        """Bring an open document up to the store: it was loaded while something was applied."""
        doc = self.open_doc
        if doc is not None and doc.committed_rev < self.doc.committed_rev:
            snapshot = await self.algorithm.load_doc(self.id)
            if snapshot is not None:
                self.host.show_snapshot(self.id, snapshot)
