"""`DocWorker`: keeps one tracked document in sync. Its task alone talks to the server about it.

It asks `next_step` what to do, does it, and folds the outcome into its state. Everybody else only
folds events in, with `tell`. There is one request in flight, and the batch to send is asked for
anew after each answer, so nothing that was computed can grow stale (`spec/sync.md` 5 to 8).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Final, Protocol

from patches.algorithms.base import Algorithm
from patches.change import Change, QuarantinedChange, Snapshot
from patches.document import Document
from patches.errors import (
    ApplyChangesError,
    ChangeRefusedError,
    CommittedPoisonSkippedError,
    FrameTooLargeError,
    StatusError,
)
from patches.net.connection import PatchesConnection
from patches.options import DocOptions
from patches.sync import folds
from patches.sync.failures import Attempt, Kind, classify, uncorroborated
from patches.sync.plan import (
    DocSync,
    Idle,
    Load,
    Notice,
    Pull,
    Push,
    Receive,
    Reload,
    Remove,
    Request,
    Wait,
    next_step,
)
from patches.sync.poison import (
    reported,
    struck,
    struck_in_snapshot,
    unreported,
    without_poison,
)

_log = logging.getLogger("patches.sync")

#: How many changes of one snapshot or batch are skipped before it is given up.
MAX_REPAIRS: Final = 5


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

    def doc_changed(self, worker: DocWorker, before: DocSync) -> None:
        """The worker's state is another than `before`."""

    def report(self, error: Exception, doc_id: str) -> None:
        """Tell whoever listens about a failure."""

    def server_committed(self, doc_id: str, changes: Sequence[Change]) -> None:
        """These committed changes are new here."""

    def quarantined(self, doc_id: str, entry: QuarantinedChange) -> None:
        """A pending change is in quarantine."""

    def deleted_remotely(self, doc_id: str) -> None:
        """The document is gone; the worker has ended."""


class DocWorker:
    """One tracked document. Owned by the coordinator, from tracking to untracking."""

    def __init__(self, doc_id: str, host: Host) -> None:
        self.doc = DocSync(doc_id=doc_id)
        self._id: Final = doc_id
        self._host = host
        self._wake = asyncio.Event()
        self._task: asyncio.Task[object] | None = None
        self._stopped = False
        self._announced = False
        self._commit: tuple[Sequence[Change], DocOptions] | None = None
        self._resolved: Sequence[Change] = ()

    # ---- for the coordinator ---------------------------------------------------------------------

    def tell(self, doc: DocSync) -> None:
        """Take a new state, made by a fold from `self.doc` in this turn of the loop."""
        before, self.doc = self.doc, doc
        if doc is not before:
            self._wake.set()
            self._host.doc_changed(self, before)

    def stop(self) -> None:
        """The document is no longer tracked: whatever is under way ends, its outcome unseen."""
        self._stopped = True
        if self._task is not None and self._task is not asyncio.current_task():
            self._task.cancel()

    async def learn(self) -> None:
        """Read from the store what is not known yet."""
        if self.doc.known or self._stopped:
            return
        algorithm, edits = self._algorithm, self.doc.edits
        rev = await algorithm.get_committed_rev(self._id)
        has_pending = await algorithm.has_pending(self._id)
        if not self._stopped:
            self.tell(
                folds.learned(self.doc, committed_rev=rev, has_pending=has_pending, edits=edits)
            )

    async def refresh(self) -> None:
        """Bring an open document up to the store: it was loaded while something was applied."""
        doc = self._open
        if doc is not None and doc.committed_rev < self.doc.committed_rev:
            snapshot = await self._algorithm.load_doc(self._id)
            if snapshot is not None:
                self._host.show_snapshot(self._id, snapshot)

    async def run(self) -> None:
        """Sync the document until cancelled, stopped, or deleted on the server."""
        self._task = asyncio.current_task()
        self._announced = False
        try:
            while not self._stopped:
                self._wake.clear()
                await self._take(next_step(self.doc, asyncio.get_running_loop().time()))
        finally:
            self._task = None

    # ---- one step --------------------------------------------------------------------------------

    async def _take(self, step: object) -> None:
        match step:
            case Idle():
                self.tell(folds.rested(self.doc))
                await self._woken(None)
            case Wait(until):
                self.tell(folds.rested(self.doc))
                await self._woken(until)
            case Remove():
                self._stopped = True
                self._host.deleted_remotely(self._id)
            case Receive():
                await self._try(step, self._receive(step.frames))
            case Push():
                await self._request(step, self._push(step))
            case Pull():
                await self._request(step, self._pull(step))
            case Load():
                await self._request(step, self._load(step))
            case Reload():
                await self._request(step, self._reload(step))

    async def _woken(self, until: float | None) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout_at(until):
                await self._wake.wait()

    async def _request(self, step: Request, work: Awaitable[None]) -> None:
        self.tell(folds.begun(self.doc, step))
        await self._try(step, self._announcing(work))

    async def _announcing(self, work: Awaitable[None]) -> None:
        """Before the first request of a session, tell again of what is in quarantine."""
        if not self._announced:
            self._announced = True
            try:
                for entry in await self._algorithm.list_quarantined_changes(self._id):
                    self._host.quarantined(self._id, entry)
            except Exception:  # an announcement that fails costs nothing
                _log.warning("cannot list the quarantine of %r", self._id, exc_info=True)
        await work

    async def _try(self, step: Request | Receive, work: Awaitable[None]) -> None:
        link, self._commit, self._resolved = self.doc.link, None, ()
        try:
            await work
        except asyncio.CancelledError as exc:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            await self._failed(step, link, exc)  # not we were cancelled: what we waited for was
        except Exception as exc:  # boundary: one document's failure stays that document's
            await self._failed(step, link, exc)

    async def _receive(self, count: int) -> None:
        frames = self.doc.inbox[:count]
        self.tell(folds.taken(self.doc, count))
        if isinstance(frames[0], Notice):
            await self._algorithm.handle_notification(
                self._id, frames[0].method, frames[0].params, self._open
            )
            return
        changes = [change for frame in frames if not isinstance(frame, Notice) for change in frame.changes]  # fmt: skip  # noqa: E501
        new = await self._applied(changes)
        self.tell(folds.received(self.doc, _last_rev(new)))
        await self._committed(new)

    async def _push(self, step: Push) -> None:
        algorithm, edits = self._algorithm, self.doc.edits
        options = self._host.options_of(self.doc)
        batch = await algorithm.next_batch(self._id, self._open, options)
        if not batch:
            has_pending = await algorithm.has_pending(self._id)
            self.tell(folds.nothing_to_send(self.doc, has_pending=has_pending, edits=edits))
            return
        ids = tuple(change.id for change in batch)
        if ids == self.doc.sent:
            self.tell(folds.stalled(self.doc, edits))
            return
        self._commit = (batch, options)
        answer = await self._host.connection.commit_changes(
            self._id, batch, await algorithm.sync_options(self._id)
        )
        if answer.doc_reload_required:
            self.tell(folds.must_reload(self.doc, batch))
            return
        echoed = {change.id for change in answer.changes}
        self._resolved = [change for change in batch if change.id in echoed]
        new = await self._repairing(
            answer.changes,
            lambda usable: algorithm.receive_answer(self._id, batch, usable, self._open),
        )
        await self._worked(step, _last_rev(new), sent=ids)
        await self._committed(new)

    async def _pull(self, step: Pull) -> None:
        changes = await self._host.connection.get_changes_since(
            self._id, step.since, await self._algorithm.sync_options(self._id)
        )
        new = await self._applied(changes) if changes else []
        await self._worked(step, _last_rev(new))
        await self._committed(new)

    async def _load(self, step: Load) -> None:
        snapshot = await self._host.connection.get_doc(
            self._id, await self._algorithm.sync_options(self._id)
        )
        await self._saved()
        if self.doc.has_pending or await self._algorithm.has_pending(self._id):
            # Work that appeared meanwhile goes out at its true base first. The server says whether
            # it fits below what it has; if not, a reload follows.
            await self._worked(step, 0)
            return
        await self._install(step, snapshot, (), ())

    async def _reload(self, step: Reload) -> None:
        connection, algorithm = self._host.connection, self._algorithm
        options = await algorithm.sync_options(self._id)
        since = self.doc.committed_rev
        snapshot = await connection.get_doc(self._id, options)
        tail: Sequence[Change] = ()
        if snapshot.head > since and await algorithm.needs_tail(self._id):
            changes = await connection.get_changes_since(self._id, since, options)
            tail = [change for change in changes if change.rev <= snapshot.head]
        await self._install(step, snapshot, tail, step.resolved)

    async def _saved(self) -> None:
        """Edits that are shown and not stored yet become work like any other."""
        doc = self._open
        if doc is not None and doc.unsaved:
            try:
                await doc.flush()
            except Exception:  # told by whoever stores them; they stay on top of what comes
                _log.info("document %r has edits that cannot be stored", self._id)

    # ---- parts of steps --------------------------------------------------------------------------

    @property
    def _algorithm(self) -> Algorithm:
        return self._host.algorithm_of(self._id)

    @property
    def _open(self) -> Document | None:
        return self._host.open_doc(self._id)

    async def _applied(self, changes: Sequence[Change]) -> list[Change]:
        algorithm = self._algorithm
        return await self._repairing(
            changes, lambda usable: algorithm.apply_server_changes(self._id, usable, self._open)
        )

    async def _repairing(
        self,
        changes: Sequence[Change],
        apply: Callable[[Sequence[Change]], Awaitable[list[Change]]],
    ) -> list[Change]:
        """Apply changes, without those that are known to be unappliable."""
        for _ in range(MAX_REPAIRS):
            try:
                new = await apply(without_poison(self.doc.poison, changes))
            except ApplyChangesError as exc:
                self.tell(replace(self.doc, poison=struck(self.doc.poison, exc.change_id)))
                if not self.doc.poison.floored(exc.change_id):
                    raise
            else:
                self._report_skipped(changes)
                return new
        return await apply(without_poison(self.doc.poison, changes))

    async def _install(
        self,
        step: Load | Reload,
        snapshot: Snapshot,
        tail: Sequence[Change],
        resolved: Sequence[Change],
    ) -> None:
        for repairs in range(MAX_REPAIRS + 1):
            poison = self.doc.poison
            usable = Snapshot(
                state=snapshot.state,
                rev=snapshot.rev,
                changes=without_poison(poison, snapshot.changes),
                metadata=snapshot.metadata,
            )
            try:
                await self._algorithm.install_snapshot(
                    self._id,
                    usable,
                    self._open,
                    tail=without_poison(poison, tail),
                    resolved=resolved,
                )
                break
            except ApplyChangesError as exc:
                if repairs == MAX_REPAIRS:
                    raise
                self.tell(replace(self.doc, poison=struck_in_snapshot(poison, exc.change_id)))
        edits = self.doc.edits
        has_pending = await self._algorithm.has_pending(self._id)
        self.tell(
            folds.installed(
                self.doc, step, head=snapshot.head, has_pending=has_pending, edits=edits
            )
        )
        self._report_skipped(snapshot.changes)
        await self.refresh()

    async def _worked(self, step: Request, rev: int, *, sent: tuple[str, ...] = ()) -> None:
        edits = self.doc.edits
        has_pending = await self._algorithm.has_pending(self._id)
        doc = folds.worked(self.doc, step, rev=rev, has_pending=has_pending, edits=edits)
        self.tell(folds.committed(doc, sent) if sent else doc)

    async def _committed(self, new: Sequence[Change]) -> None:
        if new:
            self._host.server_committed(self._id, new)
            await self.refresh()

    def _report_skipped(self, changes: Sequence[Change]) -> None:
        """Only now, when it is stored: told earlier, a crash would tell it twice or never."""
        skipped = unreported(self.doc.poison, changes)
        if skipped:
            self.tell(replace(self.doc, poison=reported(self.doc.poison, skipped)))
            for change in skipped:
                error = CommittedPoisonSkippedError(self._id, change.id, change.rev)
                self._host.report(error, self._id)

    # ---- failures --------------------------------------------------------------------------------

    async def _failed(self, step: Request | Receive, link: int, error: BaseException) -> None:
        attempt = self._attempt(step)
        kind = classify(error, attempt)
        if isinstance(error, FrameTooLargeError) and kind in (Kind.TERMINAL, Kind.SMALLER_CHANGES):
            error = ChangeRefusedError(attempt.batch_head or "", str(error), code=413)
        if kind is Kind.QUARANTINE and isinstance(error, StatusError):
            if await self._ejected(error):
                return
            kind = uncorroborated(error)
        if self._stopped:
            return
        doc, report = folds.failed(
            self.doc,
            error,
            kind,
            attempt,
            link=link,
            now=asyncio.get_running_loop().time(),
            chance=self._host.chance(),
            resolved=self._resolved,
        )
        if kind is Kind.RETRY:
            _log.info("document %r: %s failed: %s", self._id, attempt.step, error)
        self.tell(doc)
        if report is not None:
            self._host.report(report, self._id)

    def _attempt(self, step: Request | Receive) -> Attempt:
        name = type(step).__name__
        doc = self.doc
        if self._commit is None:
            options = self._host.options_of(doc)
            return Attempt(
                step=name,
                reloads=doc.reloads,
                ejections=doc.ejections,
                storage_budget=options.max_storage_bytes,
            )
        batch, options = self._commit
        return Attempt(
            step=name,
            batch_changes=len(batch),
            batch_bytes=sum(len(change.encoded) for change in batch),
            batch_head=batch[0].id,
            storage_budget=options.max_storage_bytes,
            reloads=doc.reloads,
            ejections=doc.ejections,
        )

    async def _ejected(self, error: StatusError) -> bool:
        """Set the change that the server named aside, if it fails here too."""
        algorithm, change_id = self._algorithm, error.change_id
        assert change_id is not None
        try:
            if await algorithm.verify_pending_change(self._id, change_id):
                return False
            entry = await algorithm.eject_pending_change(
                self._id, change_id, str(error), self._open, only_if_unappliable=True
            )
            if entry is None:
                return False
            edits = self.doc.edits
            has_pending = await algorithm.has_pending(self._id)
        except Exception:  # whatever it is, the change stays where it was
            _log.warning("document %r: cannot set a change aside", self._id, exc_info=True)
            return False
        self.tell(folds.ejected(self.doc, has_pending=has_pending, edits=edits))
        self._host.quarantined(self._id, entry)
        return True


def _last_rev(changes: Sequence[Change]) -> int:
    return changes[-1].rev if changes else 0
