"""`ReplayAlgorithm`: the client's side of documents that are changed by named actions.

The store has the committed rows, which are the fold of what the server committed, and the pending
actions. What is shown is derived: the rows with the pending actions run on top, in the order of
their clocks. Each call is one transaction (`steps.py`), and the open document follows the same
step.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import ClassVar, Final

from patches.algorithms.base import LocalEdit
from patches.algorithms.histories import check_not_outdated
from patches.algorithms.replay import steps
from patches.algorithms.replay.actions import Actions
from patches.algorithms.replay.changes import AUDIENCES_CHANGED, ActionOps
from patches.algorithms.replay.doc import ReplayDoc, ReplaySnapshot
from patches.algorithms.replay.stores.factory import REPLAY_STORES
from patches.algorithms.replay.tables import DocTables, ReplayStore
from patches.algorithms.replay.working import MOST_AT_ONCE, Maker
from patches.algorithms.tables import TablesAlgorithm, TrackingSteps
from patches.documents.document import Document
from patches.errors import (
    ActionsOnlyError,
    DocNotTrackedError,
    NetworkError,
    StatusError,
)
from patches.limits import Limits
from patches.model.change import Change, QuarantinedChange, Snapshot
from patches.model.ids import change_ids, random_id
from patches.model.json_values import Json
from patches.options import DocOptions
from patches.runtime import Runtime

_CLIENT_CHARS = 12
_RELOAD: Final = 409


_TRACKING: Final = TrackingSteps(
    steps.committed_rev, steps.untrack, steps.mark_deleted, steps.confirm_deleted
)


class ReplayAlgorithm(TablesAlgorithm[DocTables]):
    """Keeps documents of one kind equal: those of `actions`.

    `author`: the signed-in user, as actions see it in `tx.author` before the server has spoken.
    """

    name: ClassVar[str] = "replay"
    edits_at_once: ClassVar[int] = 100

    def __init__(
        self,
        actions: Actions,
        store: ReplayStore | None = None,
        *,
        author: str | None = None,
        options: DocOptions | None = None,
        runtime: Runtime | None = None,
        limits: Limits | None = None,
    ) -> None:
        super().__init__(store, REPLAY_STORES, _TRACKING, runtime=runtime, limits=limits)
        self._options = options or DocOptions()
        self._schema = actions.schema
        #: Documents whose actions are sent one by one.
        self._one_by_one: set[str] = set()
        self._maker = Maker(
            actions=actions,
            new_id=change_ids(self._runtime.random),
            now=self._runtime.wall_ms,
            author=author,
        )

    # ---- tracking --------------------------------------------------------------------------------

    async def track_docs(self, doc_ids: Sequence[str]) -> None:
        for doc_id in doc_ids:
            async with self._locks(doc_id):
                client = random_id(self._runtime.random, _CLIENT_CHARS)
                await self._store.change(doc_id, partial(steps.track, client=client))

    # ---- documents and actions -------------------------------------------------------------------

    def create_doc(self, doc_id: str, snapshot: Snapshot | None = None) -> ReplayDoc:
        return ReplayDoc(doc_id, snapshot, self._maker, self._limits)

    async def load_doc(self, doc_id: str) -> Snapshot | None:
        """The committed rows and the pending actions."""
        work = await self._recovery.load(doc_id, lambda: self._store.read(doc_id, steps.load))
        return None if work is None else ReplaySnapshot(work)

    async def handle_doc_changes(
        self, doc_id: str, edits: Sequence[LocalEdit], doc: Document | None
    ) -> list[list[Change]]:
        """Make actions durable, at the clocks that they were run with."""
        opened = _replay(doc)
        async with self._locks(doc_id):
            made = [await self._made(doc_id, edit, opened) for edit in edits]
            changes = [change for change in made if change is not None]
            if changes:
                known = None if opened is None else opened.version
                step = await self._store.change(
                    doc_id, lambda tables: steps.save(tables, changes, known)
                )
                if opened is not None:
                    opened.saved(step)
                    if step.work is not None:
                        opened.install(step.work)
        return [[] if change is None else [change] for change in made]

    async def _made(self, doc_id: str, edit: LocalEdit, opened: ReplayDoc | None) -> Change | None:
        """The change of an action that was run, `None` if it was taken back.

        Of a closed document it is run here. Raises what it raises.
        """
        ops = edit.ops
        if not isinstance(ops, ActionOps):
            if not ops:
                return None
            raise ActionsOnlyError(doc_id)
        if ops.change is None and ops.call is not None and opened is None:
            snapshot = await self.load_doc(doc_id)
            if snapshot is None:
                raise DocNotTrackedError(doc_id)
            closed = self.create_doc(doc_id, snapshot)
            run = closed.take_ops(ops)
            assert isinstance(run, ActionOps)
            change = run.change
            closed.mark_closed()
        else:
            change = ops.change
        if change is None or not edit.metadata:
            return change
        # The very change that the document has: it is what the store has, too.
        ops.change = change.replace(metadata={**edit.metadata, **change.metadata})
        return ops.change

    # ---- sending ---------------------------------------------------------------------------------

    async def has_pending(self, doc_id: str) -> bool:
        return await self._store.read(doc_id, lambda tables: tables.has_pending())

    async def next_batch(
        self, doc_id: str, doc: Document | None, options: DocOptions
    ) -> list[Change]:
        """The first pending actions, as many as a commit holds."""
        most = options.over(self._options).max_payload_bytes
        if await self._store.read(doc_id, _is_run_here):
            return await self._run_batch(doc_id, _replay(doc), most)
        pending = await self._store.read(doc_id, lambda tables: tables.pending())
        rev = await self.get_committed_rev(doc_id)
        most_of_one = self._limits.max_change_bytes
        batch: list[Change] = []
        size = 0
        for place, change in enumerate(pending[:MOST_AT_ONCE]):
            sent = change.replace(base_rev=rev, rev=rev + place + 1)
            if most_of_one is not None and len(sent.encoded) > most_of_one:
                sent = sent.replace(ops=[])  # the server runs the action itself
            size += len(sent.encoded) + 1
            if batch and most is not None and size > most:
                break
            batch.append(sent)
        return batch

    async def _run_batch(
        self, doc_id: str, opened: ReplayDoc | None, most_bytes: int | None
    ) -> list[Change]:
        """The same with what the actions do, for a server that does not run them."""
        most = 1 if doc_id in self._one_by_one else MOST_AT_ONCE
        if opened is not None:
            async with self._locks(doc_id):
                head = await self._store.read(doc_id, lambda tables: tables.head())
                if head is not None and head.version == opened.version:
                    return opened.outgoing(most, most_bytes)
        snapshot = await self.load_doc(doc_id)
        if snapshot is None:
            return []
        closed = self.create_doc(doc_id, snapshot)
        batch = closed.outgoing(most, most_bytes)
        closed.mark_closed()
        return batch

    async def receive_answer(
        self,
        doc_id: str,
        sent: Sequence[Change],
        committed: Sequence[Change],
        doc: Document | None,
    ) -> list[Change]:
        """As `Algorithm` has it. What is not in the answer is not committed, and is sent again."""
        new = await self._receive(doc_id, committed, {change.id for change in sent}, doc)
        if new:
            self._one_by_one.discard(doc_id)
        return new

    # ---- receiving -------------------------------------------------------------------------------

    async def apply_server_changes(
        self, doc_id: str, changes: Sequence[Change], doc: Document | None
    ) -> list[Change]:
        return await self._receive(doc_id, changes, set(), doc)

    async def _receive(
        self, doc_id: str, changes: Sequence[Change], sent: set[str], doc: Document | None
    ) -> list[Change]:
        opened = _replay(doc)
        async with self._locks(doc_id):
            known = None if opened is None else opened.version
            step = await self._store.change(
                doc_id,
                lambda tables: steps.receive(tables, doc_id, changes, sent, self._schema, known),
            )
            if opened is not None:
                if step.work is not None:
                    opened.install(step.work)
                elif step.new or step.confirmed:
                    opened.follow(step)
                    await self._send_beyond(doc_id, opened)
        return list(step.new)

    async def _send_beyond(self, doc_id: str, opened: ReplayDoc) -> None:
        """Actions that others have run have an effect on rows that only this user sees."""
        beyond = opened.take_beyond()
        if beyond is None:
            return
        now = self._runtime.wall_ms()
        work = await self._store.change(
            doc_id,
            lambda tables: steps.add_effect(tables, doc_id, beyond.corrects, beyond.ops, now),
        )
        if work is not None:
            opened.install(work)

    async def install_snapshot(
        self,
        doc_id: str,
        snapshot: Snapshot,
        doc: Document | None,
        *,
        tail: Sequence[Change] = (),
        resolved: Sequence[Change] = (),
        is_new_history: bool = False,
        asked_at: int | None = None,
    ) -> None:
        """Replace the committed rows by the server's; pending actions run on them."""
        opened = _replay(doc)
        ids = {change.id for change in resolved}
        async with self._locks(doc_id):

            def install(tables: DocTables) -> steps.Work:
                if not is_new_history:
                    rev, head = steps.committed_rev(tables), snapshot.head
                    check_not_outdated(doc_id, asked_at=asked_at, head=head, rev=rev)
                return steps.install(tables, doc_id, snapshot, ids, self._schema)

            work = await self._store.change(doc_id, install)
            if opened is not None:
                opened.install(work)

    # ---- history ---------------------------------------------------------------------------------

    async def sync_options(self, doc_id: str) -> Mapping[str, Json] | None:
        history = await self._store.read(doc_id, lambda tables: tables.history())
        return {"algorithm": self.name, **history.options()}

    async def receive_token(self, doc_id: str, token: str | None, *, is_given: bool = True) -> None:
        if is_given:
            async with self._locks(doc_id):
                history = await self._store.read(doc_id, lambda tables: tables.history())
                if history.token != token:
                    await self._store.change(doc_id, lambda tables: steps.put_token(tables, token))

    async def handle_notification(
        self, doc_id: str, method: str, params: Mapping[str, Json], doc: Document | None
    ) -> None:
        """The audiences of somebody have changed: if they are this user's, fetch the rows anew."""
        host = self._recovery.host
        if method != AUDIENCES_CHANGED or host is None:
            return
        rev = await self.get_committed_rev(doc_id)
        try:
            await host.call("getChangesSince", doc_id, rev, await self.sync_options(doc_id))
        except StatusError as error:
            if error.code != _RELOAD:
                raise
            host.reload(doc_id)
        except NetworkError:
            return  # asked again with the next connection

    # ---- actions that the server refuses ---------------------------------------------------------

    async def eject_pending_change(
        self,
        doc_id: str,
        change_id: str,
        reason: str,
        doc: Document | None,
        *,
        only_if_unappliable: bool = False,
    ) -> QuarantinedChange | None:
        """Undo a pending action and set it aside; what is pending after it is run again."""
        if only_if_unappliable:
            return None  # an action applies to any rows, if only by raising
        opened, now = _replay(doc), self._runtime.wall_ms()
        async with self._locks(doc_id):
            ejected = await self._store.change(
                doc_id, lambda tables: steps.eject(tables, doc_id, change_id, reason, now)
            )
            if ejected is None:
                return None
            entry, work = ejected
            if opened is not None:
                opened.install(work)
                opened.report_failure(entry.change, reason)
        return entry

    async def mend_refused_change(
        self, doc_id: str, change_id: str, error: StatusError, doc: Document | None
    ) -> bool:
        """The clock here is ahead of the server's: pending actions get new clocks, from the
        server's time on. Or those that were run together were divided: they are sent one by one.
        """
        data = error.data or {}
        if data.get("code") == "GROUP_INCOMPLETE" and doc_id not in self._one_by_one:
            self._one_by_one.add(doc_id)
            return True
        server_time = data.get("serverTime")
        if data.get("code") != "CLOCK_AHEAD" or not isinstance(server_time, int):
            return False
        opened = _replay(doc)
        async with self._locks(doc_id):
            work = await self._store.change(
                doc_id, lambda tables: steps.restamp(tables, change_id, server_time)
            )
            if work is not None and opened is not None:
                opened.restamped(work)
        return work is not None

    async def retry_quarantined_change(
        self, doc_id: str, change_id: str, doc: Document | None
    ) -> list[Change]:
        opened, now = _replay(doc), self._runtime.wall_ms()
        async with self._locks(doc_id):
            change, work = await self._store.change(
                doc_id, lambda tables: steps.retry(tables, doc_id, change_id, now)
            )
            if opened is not None:
                opened.install(work)
        return [change]


def _is_run_here(tables: DocTables) -> bool:
    """Whether what actions do has to be sent: the server does not run them, or is not known."""
    return tables.is_client_run() or steps.committed_rev(tables) == 0


def _replay(doc: Document | None) -> ReplayDoc | None:
    assert doc is None or isinstance(doc, ReplayDoc)
    return doc
