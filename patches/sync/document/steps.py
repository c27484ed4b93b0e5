"""`DocSteps`: what is known of one tracked document, and the steps that ask the server about it.

Each step takes its outcome into the state in one synchronous call after its last await
(`transitions.py`). What fails is raised: `worker.py` decides what that means.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import count
from typing import Final, Protocol

from patches.algorithms.base import Algorithm
from patches.documents.document import Document
from patches.errors import (
    ApplyChangesError,
    CommittedPoisonSkippedError,
    HistoryChangedError,
)
from patches.model.change import Change, QuarantinedChange, Snapshot
from patches.model.json_values import Json
from patches.net.connection import ChangesOfHistory, PatchesConnection
from patches.options import DocOptions
from patches.sync.document import transitions
from patches.sync.document.plan import DocSync, Load, Notice, Pull, Push, Reload, Request
from patches.sync.document.unappliable import (
    MAX_RECORDS,
    Unappliable,
    record_failure,
    record_snapshot_failure,
    reported,
    unreported,
    without_skipped,
)

_log = logging.getLogger("patches.sync")


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

    async def take_algorithm(self, doc_id: str, name: str) -> bool:
        """Keep a document with the server's algorithm, if nothing of it is here yet."""

    def learn_max_commit(self, size: int) -> None:
        """The server takes no commit that is larger."""

    def jitter(self) -> float:
        """A random number from 0 to 1."""

    def doc_changed(self, steps: DocSteps, before: DocSync) -> None:
        """The document's state is another than before."""

    def report(self, error: Exception, doc_id: str | None, change_id: str | None = None) -> None:
        """Report a failure on `on_error`."""

    def refused(self, doc_id: str, error: Exception) -> None:
        """Unsent work has left the queue for good: `settled` raises this."""

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


class DocSteps:
    """One document's state and steps, from its tracking to its untracking."""

    def __init__(self, doc_id: str, host: Host) -> None:
        self.doc: DocSync = DocSync(doc_id=doc_id)
        self.id: Final = doc_id
        self.host: Final = host
        self.stopped = False
        #: Set by whatever is new.
        self._wake = asyncio.Event()
        #: The batch that the step under way has sent, and the limits it was made for.
        self._commit: tuple[Sequence[Change], DocOptions] | None = None
        #: What of it is known to be committed.
        self._resolved: Sequence[Change] = ()

    @property
    def algorithm(self) -> Algorithm:
        """The document's algorithm."""
        return self.host.algorithm_of(self.id)

    @property
    def open_doc(self) -> Document | None:
        """The open document, if it is open. Ask again after every await."""
        return self.host.open_doc(self.id)

    def set_state(self, doc: DocSync) -> None:
        """Take a new state, made from `self.doc` in this turn of the loop."""
        before = self.doc
        if doc is not before:
            self.doc = doc
            self._wake.set()
            self.host.doc_changed(self, before)

    # ---- the store -------------------------------------------------------------------------------

    async def find(self) -> Found:
        """Read what the store holds. Raises as it does."""
        algorithm, edits = self.algorithm, self.doc.edits
        rev = await algorithm.get_committed_rev(self.id)
        return Found(rev, await algorithm.has_pending(self.id), edits)

    def learn(self, found: Found) -> None:
        """Know from now on what was found, unless it is known already."""
        if not self.stopped:
            self.set_state(
                transitions.learned(
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

    # ---- steps -----------------------------------------------------------------------------------

    async def receive(self, taken: int) -> None:
        """Apply the first `taken` frames of the inbox."""
        frames = self.doc.inbox[:taken]
        self.set_state(transitions.taken(self.doc, taken))
        if isinstance(frames[0], Notice):
            await self.algorithm.handle_notification(
                self.id, frames[0].method, frames[0].params, self.open_doc
            )
            return
        changes: list[Change] = []
        for frame in frames:
            if not isinstance(frame, Notice):
                changes += frame.changes
        new = await self._applied(changes)
        rev = await self._rev_after(new)
        doc = self.open_doc  # it may have taken over work of another process
        has_pending = doc is not None and doc.has_pending
        self.set_state(transitions.received(self.doc, rev, has_pending=has_pending))
        await self._committed(new)

    async def push(self, step: Push) -> None:
        """Send the next batch, and apply the answer."""
        algorithm, edits = self.algorithm, self.doc.edits
        options = self.host.options_of(self.doc)
        batch = await algorithm.next_batch(self.id, self.open_doc, options)
        batch = batch[: self.doc.commit_limit]
        if not batch:
            await self._nothing_to_send(edits)
            return
        ids = tuple([change.id for change in batch])
        if ids == self.doc.sent:
            self.set_state(transitions.stalled(self.doc, edits))
            return
        self._commit = (batch, options)
        answer = await self.host.connection.commit_changes(
            self.id, batch, await algorithm.commit_options(self.id)
        )
        if answer.doc_reload_required:
            self.set_state(transitions.must_reload(self.doc, batch))
            return
        echoed = {change.id for change in answer.changes}
        self._resolved = [change for change in batch if change.id in echoed]
        new = await self._applied(answer.changes, sent=batch)
        if answer.token is not None:
            await algorithm.receive_token(self.id, answer.token)
        # Answered with what was missed and none of ours: made on an old revision, it is made again.
        is_outdated = bool(new) and not self._resolved
        rev = await self._rev_after(new)
        await self._worked(step, rev, sent=() if is_outdated else ids)
        await self._committed(new)

    async def _nothing_to_send(self, edits: int) -> None:
        """There was no batch. If there is work all the same that is not withheld, another process
        that shares the store has added it since: the next step sends it.
        """
        algorithm = self.algorithm
        rev = await algorithm.get_committed_rev(self.id)
        is_withheld = await algorithm.withholds_work(self.id)
        left = await algorithm.has_pending(self.id)
        doc = transitions.nothing_to_send(self.doc, rev=rev, has_pending=left, edits=edits)
        self.set_state(transitions.stalled(doc, edits) if is_withheld and left else doc)
        await asyncio.sleep(0)  # a store that does not wait must not keep the loop

    async def pull(self, step: Pull) -> None:
        """Fetch what follows on, and apply it."""
        changes = await self.host.connection.get_changes_since(
            self.id, step.since, await self.algorithm.sync_options(self.id)
        )
        # Without changes, too: an open document takes over what another process has stored.
        new = await self._applied(changes)
        await self.algorithm.receive_token(
            self.id,
            changes.token if isinstance(changes, ChangesOfHistory) else None,
            is_given=isinstance(changes, ChangesOfHistory),
        )
        await self._worked(step, await self._rev_after(new))
        await self._committed(new)

    async def load(self, step: Load) -> None:
        """Fetch the document for the first time."""
        asked_at = await self.algorithm.get_committed_rev(self.id)
        snapshot = await self.host.connection.get_doc(
            self.id, await self.algorithm.sync_options(self.id)
        )
        if "token" not in snapshot.metadata:
            await self.algorithm.receive_token(self.id, None, is_given=False)
        await self._save_edits()
        if self.doc.has_pending or await self.algorithm.has_pending(self.id):
            # Work that appeared meanwhile goes out at its true base first. The server says whether
            # it fits below what it has; if not, a reload follows.
            self.set_state(transitions.found_work(self.doc))
            if self.doc.sendable:
                return
        await self._install(step, snapshot, asked_at=asked_at)

    async def reload(self, step: Reload) -> None:
        """Fetch the document whole; unsent work stays on top."""
        connection, algorithm = self.host.connection, self.algorithm
        options = await algorithm.sync_options(self.id)
        since = await algorithm.get_committed_rev(self.id)
        snapshot = await connection.get_doc(self.id, options)
        if step.is_new_history:
            await self._replace_history(step, snapshot, since)
            return
        tail: Sequence[Change] = ()
        if snapshot.head > since and await algorithm.needs_tail(self.id):
            changes = await connection.get_changes_since(self.id, since, options)
            tail = [change for change in changes if change.rev <= snapshot.head]
        await self._install(step, snapshot, tail, step.resolved, asked_at=since)

    async def _replace_history(self, step: Reload, snapshot: Snapshot, old_rev: int) -> None:
        """Take the server's history for the one here. Unsent work stays, as far as it applies."""
        old_state = await self._shown_state()
        await self._install(step, snapshot, resolved=step.resolved, asked_at=old_rev)
        error = HistoryChangedError(
            self.id, old_rev=old_rev, new_rev=snapshot.head, old_state=old_state
        )
        self.host.report(error, self.id)

    async def _shown_state(self) -> Json:
        """The state as the application sees it, or would if the document were open."""
        doc = self.open_doc
        if doc is None:
            stored = await self.algorithm.load_doc(self.id)
            if stored is None:
                return None
            doc = self.algorithm.create_doc(self.id, stored)
        return doc.plain_state

    # ---- parts of steps --------------------------------------------------------------------------

    async def _save_edits(self) -> None:
        """Edits that are shown and not stored yet become work like any other."""
        doc = self.open_doc
        if doc is not None and doc.unsaved:
            try:
                await doc.flush()
            except Exception:  # reported by whoever stores them; they stay on top of what comes
                _log.info("document %r has edits that cannot be stored", self.id)

    async def _applied(
        self, changes: Sequence[Change], *, sent: Sequence[Change] | None = None
    ) -> list[Change]:
        """Apply committed changes, without those that are known to be unappliable.

        `sent`: they are the answer to a commit of these.
        """
        algorithm = self.algorithm
        while True:
            known = self.doc.unappliable
            usable = without_skipped(known, changes) if known.records else changes
            try:
                if sent is None:
                    new = await algorithm.apply_server_changes(self.id, usable, self.open_doc)
                else:
                    new = await algorithm.receive_answer(self.id, sent, usable, self.open_doc)
            except ApplyChangesError as exc:
                known = self.doc.unappliable  # as it is by now
                self._set_unappliable(record_failure(known, exc.change_id))
                if known.is_skipped(exc.change_id) or not self.doc.unappliable.is_skipped(
                    exc.change_id
                ):
                    raise
            else:
                if self.doc.unappliable.records:
                    self._report_skipped(changes)
                return new

    async def _install(
        self,
        step: Load | Reload,
        snapshot: Snapshot,
        tail: Sequence[Change] = (),
        resolved: Sequence[Change] = (),
        *,
        asked_at: int,
    ) -> None:
        for found in count():  # one fetch finds all that cannot be applied, one per round
            known = self.doc.unappliable
            usable = Snapshot(
                state=snapshot.state,
                rev=snapshot.rev,
                changes=without_skipped(known, snapshot.changes),
                metadata=snapshot.metadata,
            )
            try:
                await self.algorithm.install_snapshot(
                    self.id,
                    usable,
                    self.open_doc,
                    tail=without_skipped(known, tail),
                    resolved=resolved,
                    is_new_history=isinstance(step, Reload) and step.is_new_history,
                    asked_at=asked_at,
                )
                break
            except ApplyChangesError as exc:
                if known.is_skipped(exc.change_id) or found == MAX_RECORDS:
                    raise
                self._set_unappliable(record_snapshot_failure(known, exc.change_id))
        edits = self.doc.edits
        has_pending = await self.algorithm.has_pending(self.id)
        self.set_state(
            transitions.installed(
                self.doc, step, head=snapshot.head, has_pending=has_pending, edits=edits
            )
        )
        self._report_skipped(snapshot.changes)
        await self.refresh()

    async def _rev_after(self, new: Sequence[Change]) -> int:
        """The revision of the copy after these changes were received. The store alone says it:
        another process that shares it may have set it forward, or back with another history.
        """
        if not new:
            return await self.algorithm.get_committed_rev(self.id)
        doc = self.open_doc
        return max(new[-1].rev, doc.committed_rev if doc is not None else 0)

    async def _worked(
        self, step: Request, rev: int, *, sent: tuple[str, ...] | None = None
    ) -> None:
        edits = self.doc.edits
        has_pending = await self.algorithm.has_pending(self.id)
        doc = transitions.worked(self.doc, step, rev=rev, has_pending=has_pending, edits=edits)
        self.set_state(doc if sent is None else transitions.committed(doc, sent))

    async def _committed(self, new: Sequence[Change]) -> None:
        if new:
            self.host.server_committed(self.id, new)
            await self.refresh()

    def _set_unappliable(self, unappliable: Unappliable) -> None:
        self.set_state(replace(self.doc, unappliable=unappliable))

    def _report_skipped(self, changes: Sequence[Change]) -> None:
        """Only now, when it is stored: reported earlier, a crash would report it twice or never."""
        skipped = unreported(self.doc.unappliable, changes)
        if skipped:
            self._set_unappliable(reported(self.doc.unappliable, skipped))
            for change in skipped:
                error = CommittedPoisonSkippedError(self.id, change.id, change.rev)
                self.host.report(error, self.id, change.id)
