"""`Exchange`: the steps that apply what the server says and send what is here, one at a time.

Each ends with one fold of its outcome. What fails is raised: `worker.py` decides what it means.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Final

from patches.errors import ApplyChangesError, CommittedPoisonSkippedError
from patches.model.change import Change, Snapshot
from patches.options import DocOptions
from patches.sync.document import transitions as folds
from patches.sync.document.keeper import DocKeeper
from patches.sync.document.plan import Load, Notice, Pull, Push, Reload, Request
from patches.sync.document.unappliable import (
    reported,
    struck,
    struck_in_snapshot,
    unreported,
    without_poison,
)

_log = logging.getLogger("patches.sync")

#: How many changes of one snapshot or batch are skipped before it is given up.
MAX_REPAIRS: Final = 5


class Exchange:
    """The steps of one document. Owned by its worker."""

    def __init__(self, keeper: DocKeeper) -> None:
        self._keeper = keeper
        #: The batch that the step under way has sent, and the limits it was made for.
        self.commit: tuple[Sequence[Change], DocOptions] | None = None
        #: What of it is known to be committed.
        self.resolved: Sequence[Change] = ()

    def begin(self) -> None:
        """A step begins: nothing has been sent in it."""
        self.commit, self.resolved = None, ()

    async def receive(self, count: int) -> None:
        """Apply the first `count` frames of the inbox."""
        frames = self._keeper.doc.inbox[:count]
        self._keeper.tell(folds.taken(self._keeper.doc, count))
        if isinstance(frames[0], Notice):
            await self._keeper.algorithm.handle_notification(
                self._keeper.id, frames[0].method, frames[0].params, self._keeper.open_doc
            )
            return
        changes = [change for frame in frames if not isinstance(frame, Notice) for change in frame.changes]  # fmt: skip  # noqa: E501
        new = await self._applied(changes)
        rev = await self._reached(changes, new)
        self._keeper.tell(folds.received(self._keeper.doc, rev))
        await self._committed(new)

    async def push(self, step: Push) -> None:
        """Send the next batch, and fold the answer in."""
        algorithm, edits = self._keeper.algorithm, self._keeper.doc.edits
        options = self._keeper.host.options_of(self._keeper.doc)
        batch = await algorithm.next_batch(self._keeper.id, self._keeper.open_doc, options)
        if not batch:
            has_pending = await algorithm.has_pending(self._keeper.id)
            self._keeper.tell(
                folds.nothing_to_send(self._keeper.doc, has_pending=has_pending, edits=edits)
            )
            return
        ids = tuple(change.id for change in batch)
        if ids == self._keeper.doc.sent:
            self._keeper.tell(folds.stalled(self._keeper.doc, edits))
            return
        self.commit = (batch, options)
        answer = await self._keeper.host.connection.commit_changes(
            self._keeper.id, batch, await algorithm.sync_options(self._keeper.id)
        )
        if answer.doc_reload_required:
            self._keeper.tell(folds.must_reload(self._keeper.doc, batch))
            return
        echoed = {change.id for change in answer.changes}
        self.resolved = [change for change in batch if change.id in echoed]
        new = await self._repairing(
            answer.changes,
            lambda usable: algorithm.receive_answer(
                self._keeper.id, batch, usable, self._keeper.open_doc
            ),
        )
        # Answered with what was missed and none of ours: made on an old revision, it is made again.
        is_outdated = bool(new) and not self.resolved
        rev = await self._reached(answer.changes, new)
        await self._worked(step, rev, sent=() if is_outdated else ids)
        await self._committed(new)

    async def pull(self, step: Pull) -> None:
        """Fetch what follows on, and apply it."""
        changes = await self._keeper.host.connection.get_changes_since(
            self._keeper.id, step.since, await self._keeper.algorithm.sync_options(self._keeper.id)
        )
        new = await self._applied(changes) if changes else []
        await self._worked(step, await self._reached(changes, new))
        await self._committed(new)

    async def load(self, step: Load) -> None:
        """Fetch the document for the first time."""
        snapshot = await self._keeper.host.connection.get_doc(
            self._keeper.id, await self._keeper.algorithm.sync_options(self._keeper.id)
        )
        await self._saved()
        if self._keeper.doc.has_pending or await self._keeper.algorithm.has_pending(
            self._keeper.id
        ):
            # Work that appeared meanwhile goes out at its true base first. The server says whether
            # it fits below what it has; if not, a reload follows.
            self._keeper.tell(folds.found_work(self._keeper.doc))
            if self._keeper.doc.sendable:
                return
        await self._install(step, snapshot, (), ())

    async def reload(self, step: Reload) -> None:
        """Fetch the document whole; unsent work stays on top."""
        connection, algorithm = self._keeper.host.connection, self._keeper.algorithm
        options = await algorithm.sync_options(self._keeper.id)
        since = self._keeper.doc.committed_rev
        snapshot = await connection.get_doc(self._keeper.id, options)
        tail: Sequence[Change] = ()
        if snapshot.head > since and await algorithm.needs_tail(self._keeper.id):
            changes = await connection.get_changes_since(self._keeper.id, since, options)
            tail = [change for change in changes if change.rev <= snapshot.head]
        await self._install(step, snapshot, tail, step.resolved)

    async def _saved(self) -> None:
        """Edits that are shown and not stored yet become work like any other."""
        doc = self._keeper.open_doc
        if doc is not None and doc.unsaved:
            try:
                await doc.flush()
            except Exception:  # told by whoever stores them; they stay on top of what comes
                _log.info("document %r has edits that cannot be stored", self._keeper.id)

    # ---- parts of steps --------------------------------------------------------------------------

    async def _applied(self, changes: Sequence[Change]) -> list[Change]:
        algorithm = self._keeper.algorithm
        return await self._repairing(
            changes,
            lambda usable: algorithm.apply_server_changes(
                self._keeper.id, usable, self._keeper.open_doc
            ),
        )

    async def _repairing(
        self,
        changes: Sequence[Change],
        apply: Callable[[Sequence[Change]], Awaitable[list[Change]]],
    ) -> list[Change]:
        """Apply changes, without those that are known to be unappliable."""
        for _ in range(MAX_REPAIRS):
            try:
                new = await apply(without_poison(self._keeper.doc.poison, changes))
            except ApplyChangesError as exc:
                self._keeper.tell(
                    replace(self._keeper.doc, poison=struck(self._keeper.doc.poison, exc.change_id))
                )
                if not self._keeper.doc.poison.floored(exc.change_id):
                    raise
            else:
                self._report_skipped(changes)
                return new
        return await apply(without_poison(self._keeper.doc.poison, changes))

    async def _install(
        self,
        step: Load | Reload,
        snapshot: Snapshot,
        tail: Sequence[Change],
        resolved: Sequence[Change],
    ) -> None:
        for repairs in range(MAX_REPAIRS + 1):
            poison = self._keeper.doc.poison
            usable = Snapshot(
                state=snapshot.state,
                rev=snapshot.rev,
                changes=without_poison(poison, snapshot.changes),
                metadata=snapshot.metadata,
            )
            try:
                await self._keeper.algorithm.install_snapshot(
                    self._keeper.id,
                    usable,
                    self._keeper.open_doc,
                    tail=without_poison(poison, tail),
                    resolved=resolved,
                )
                break
            except ApplyChangesError as exc:
                if repairs == MAX_REPAIRS:
                    raise
                self._keeper.tell(
                    replace(self._keeper.doc, poison=struck_in_snapshot(poison, exc.change_id))
                )
        edits = self._keeper.doc.edits
        has_pending = await self._keeper.algorithm.has_pending(self._keeper.id)
        self._keeper.tell(
            folds.installed(
                self._keeper.doc, step, head=snapshot.head, has_pending=has_pending, edits=edits
            )
        )
        self._report_skipped(snapshot.changes)
        await self._keeper.refresh()

    async def _reached(self, changes: Sequence[Change], new: Sequence[Change]) -> int:
        """The revision of the store after `changes` were applied and `new` of them were new."""
        doc = self._keeper.open_doc
        rev = max(new[-1].rev if new else 0, doc.committed_rev if doc is not None else 0)
        if changes and rev < changes[-1].rev:
            # None of it was new: another process that shares the store was faster.
            rev = max(rev, await self._keeper.algorithm.get_committed_rev(self._keeper.id))
        return rev

    async def _worked(
        self, step: Request, rev: int, *, sent: tuple[str, ...] | None = None
    ) -> None:
        edits = self._keeper.doc.edits
        has_pending = await self._keeper.algorithm.has_pending(self._keeper.id)
        doc = folds.worked(self._keeper.doc, step, rev=rev, has_pending=has_pending, edits=edits)
        self._keeper.tell(doc if sent is None else folds.committed(doc, sent))

    async def _committed(self, new: Sequence[Change]) -> None:
        if new:
            self._keeper.host.server_committed(self._keeper.id, new)
            await self._keeper.refresh()

    def _report_skipped(self, changes: Sequence[Change]) -> None:
        """Only now, when it is stored: told earlier, a crash would tell it twice or never."""
        skipped = unreported(self._keeper.doc.poison, changes)
        if skipped:
            self._keeper.tell(
                replace(self._keeper.doc, poison=reported(self._keeper.doc.poison, skipped))
            )
            for change in skipped:
                error = CommittedPoisonSkippedError(self._keeper.id, change.id, change.rev)
                self._keeper.host.report(error, self._keeper.id)
