"""`Deletions`: documents that were deleted, here and to be deleted on the server, or there."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from patches.aio.signals import Signal, Spawn
from patches.aio.tasks import TaskScope
from patches.algorithms.base import Algorithm
from patches.client.patches import Patches
from patches.documents.document import Document
from patches.errors import DocDeletedError, StatusError
from patches.model.change import Change
from patches.model.ids import change_ids
from patches.model.json_values import Op
from patches.net.backoff import reconnect_wait
from patches.net.connection import PatchesConnection
from patches.sync.document.failures import least_wait, refuses_for_good
from patches.sync.documents import Report

_log = logging.getLogger("patches.sync")

#: How long the handlers of a remote deletion are waited for.
HANDLERS_S: Final = 10.0


class Deletions:
    """The deletions of one `PatchesSync`."""

    def __init__(
        self,
        patches: Patches,
        connection: PatchesConnection,
        *,
        scope: TaskScope,
        spawn: Spawn,
        on_remote: Signal[[str, Sequence[Change]]],
        report: Report,
        changed: Callable[[], None],
        is_linked: Callable[[], bool],
    ) -> None:
        self._patches = patches
        self._connection = connection
        self._scope = scope
        self._spawn = spawn  # for handlers of the application
        self._on_remote = on_remote
        self._report = report
        self._changed = changed
        self._is_linked = is_linked
        self._under_way: set[str] = set()
        #: Those that failed and are tried again: how often in a row, and what was reported last.
        self._failed: dict[str, tuple[int, str]] = {}
        #: Those that the server has carried out, while dropping their tombstones seemed to fail.
        self._unconfirmed: dict[str, None] = {}
        self._forgetting: set[str] = set()
        self._forgotten = asyncio.Event()

    @property
    def all_handed_over(self) -> bool:
        """Whether the work of every document deleted on the server was given to the application."""
        return not self._forgetting

    @property
    def all_done(self) -> bool:
        """Whether no deletion is on its way to the server."""
        return not self._under_way

    def start(self) -> None:
        """The scope has started: nothing is under way."""
        self._under_way.clear()
        self._failed.clear()

    # ---- deleted here ----------------------------------------------------------------------------

    async def delete_one(self, doc_id: str) -> None:
        """Delete on the server what was just deleted here."""
        if doc_id not in self._under_way:
            self._under_way.add(doc_id)
            await self._delete_on_server(doc_id, None)

    def delete_all(self, tombstones: Mapping[str, Algorithm]) -> None:
        """Delete on the server what was deleted here without a connection, all at one time.

        `tombstones` is what the stores hold. One that seemed to stay and is not there was dropped.
        """
        for doc_id in self._unconfirmed:
            if doc_id not in tombstones:
                self._patches.deletion_confirmed(doc_id)
        self._unconfirmed.clear()
        for doc_id, algorithm in tombstones.items():
            if doc_id not in self._under_way:
                self._under_way.add(doc_id)
                self._scope.spawn(
                    self._delete_on_server(doc_id, algorithm), name=f"deletion of {doc_id}"
                )

    async def _delete_on_server(self, doc_id: str, algorithm: Algorithm | None) -> None:
        wait_s = None
        try:
            algorithm = algorithm or await self._owner_of(doc_id)
            if algorithm is not None:
                await self._delete(doc_id, algorithm)
            elif self._unconfirmed.pop(doc_id, False) is None:  # it was dropped after all
                self._patches.deletion_confirmed(doc_id)
            self._failed.pop(doc_id, None)
        except Exception as exc:  # boundary: a store, or a connection of the application's own
            wait_s = self._failed_again(doc_id, exc)
        finally:
            self._under_way.discard(doc_id)
            self._changed()
        if wait_s is not None:
            self._scope.spawn(self._delete_later(doc_id, wait_s), name=f"deletion of {doc_id}")

    def _failed_again(self, doc_id: str, error: Exception) -> float:
        """Report a failure, once while it stays the same. Seconds until the next attempt."""
        attempt, reported = self._failed.get(doc_id, (0, ""))
        said = f"{type(error).__name__}: {error}"
        if said != reported:
            self._report(error, doc_id)
        self._failed[doc_id] = attempt + 1, said
        wait_s = reconnect_wait(attempt, self._patches.runtime.random.random())
        return max(wait_s, least_wait(error))

    async def _delete_later(self, doc_id: str, wait_s: float) -> None:
        """Try again, unless the connection is lost: the next full sync does it then."""
        await asyncio.sleep(wait_s)
        if self._is_linked() and doc_id in self._failed:
            await self.delete_one(doc_id)

    async def _owner_of(self, doc_id: str) -> Algorithm | None:
        """The algorithm whose store has a document's tombstone."""
        for algorithm in self._patches.algorithms.values():
            docs = await algorithm.list_docs(include_deleted=True)
            if any(doc.deleted and doc.doc_id == doc_id for doc in docs):
                return algorithm
        return None

    async def _delete(self, doc_id: str, algorithm: Algorithm) -> None:
        """One that is refused for good is reported and given up: the document can be opened again,
        as the server has it. Raises what may pass.
        """
        try:
            await self._connection.delete_doc(doc_id)
        except StatusError as exc:
            if exc.code != 410:  # deleted by somebody else already
                if not refuses_for_good(exc):
                    raise
                self._report(exc, doc_id)
        try:
            await self._patches.confirm_deletion(doc_id, algorithm)
        except Exception:
            self._unconfirmed[doc_id] = None
            raise

    # ---- deleted on the server -------------------------------------------------------------------

    async def forget(self, doc_id: str) -> None:
        """Forget a document here, and hand the work that was not confirmed to the application."""
        self._forgetting.add(doc_id)
        try:
            pending = await self._remove(doc_id)
            if pending and not self._on_remote:  # nobody takes the work
                lost = DocDeletedError(doc_id, deleted_at=0, last_rev=0)
                lost.add_note(f"{len(pending)} changes that the server did not have went with it")
                self._report(lost, doc_id)
            handled = asyncio.Event()
            self._spawn(self._notify(doc_id, pending, handled))
            await asyncio.sleep(0)  # its first turn, in which the handlers are called
        finally:
            self._forgetting.discard(doc_id)
            self._forgotten.set()
            self._changed()
        try:
            async with asyncio.timeout(HANDLERS_S):
                await handled.wait()
        except TimeoutError:
            _log.warning("a handler of the deletion of %r has not come to an end", doc_id)

    async def finish(self) -> None:
        """Wait until what is being forgotten is, and was handed over: cut off in between, the work
        would be gone, and nobody would know. Handlers are called by then, not waited for.
        """
        try:
            async with asyncio.timeout(HANDLERS_S):
                while self._forgetting:
                    self._forgotten.clear()
                    await self._forgotten.wait()
        except TimeoutError:
            _log.warning("documents %s could not be forgotten", sorted(self._forgetting))

    async def _notify(self, doc_id: str, pending: Sequence[Change], handled: asyncio.Event) -> None:
        try:
            await self._on_remote.emit_and_wait(doc_id, pending)
        finally:
            handled.set()

    async def _remove(self, doc_id: str) -> list[Change]:
        algorithm = self._patches.algorithm_of(doc_id)
        doc = self._patches.get_open_doc(doc_id)
        await algorithm.list_pending(doc_id, doc)  # a store that cannot be read ends nothing
        unsaved: list[list[Op]] = []
        if doc is not None and doc.unsaved:
            try:
                await doc.flush()
            except Exception:  # whatever it is, it was reported: the edits go as they are
                unsaved = [ops for ops in doc.unsaved if ops]
        await self._patches.close_doc(doc_id, force=True)  # no edit comes any more
        pending = await algorithm.list_pending(doc_id, doc)
        try:
            await self._patches.untrack_docs([doc_id])
        except Exception as exc:  # its data stays, and is found again after a restart
            self._report(exc, doc_id)
        if doc is not None:
            pending += [self._as_change(doc, ops) for ops in unsaved]
        return pending

    def _as_change(self, doc: Document, ops: list[Op]) -> Change:
        runtime = self._patches.runtime
        rev = doc.committed_rev + 1
        return Change(
            id=change_ids(runtime.random)(rev),
            ops=list(ops),
            base_rev=doc.committed_rev,
            rev=rev,
            created_at=runtime.wall_ms(),
        )
