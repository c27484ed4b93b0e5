"""`ChangeQueue`: one document's edits on their way to the store, strictly in order.

An edit is shown before it is stored. If storing fails, the queue decides by whose fault it was
(`docs/internals/ot.md` 11.6):

- *rejection*, *defective*: this edit can never be stored. The edits that are not stored are taken
  back, all of them, since the later ones were made on top; a new epoch begins, and what was queued
  before it is skipped.
- *environment*: the disk is full, the file is locked. It is tried again under the same id; after
  the third time the document is *latched*: edits stay in the document, unsaved, until
  `retry` is called.

A failed try may have stored the change all the same, so an edit keeps its id through all of them.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Final, Literal, TypeAlias

from patches.algorithms.base import Algorithm, LocalEdit
from patches.documents.document import Document
from patches.errors import (
    TERMINAL_CODES,
    ErrorContext,
    InvalidJsonError,
    PatchError,
    UnsplittableChangeError,
)
from patches.model.change import Change
from patches.model.json_values import Json, Op

FailureKind: TypeAlias = Literal["rejection", "defective", "environment"]
#: Tells the owner of a failure: the error, and its context.
Report: TypeAlias = Callable[[Exception, ErrorContext], None]

_MOST_ATTEMPTS: Final = 3
_LONGEST_WAIT_S: Final = 30.0
_TURN_S: Final = 0.005


@dataclass(slots=True, eq=False)
class Edit:
    """One live operation list on its way to the store."""

    ops: list[Op]
    id: str
    algorithm: Algorithm
    doc: Document | None
    metadata: Mapping[str, Json]
    epoch: int = 0
    #: What it was stored as, for a caller who waits for it.
    stored: asyncio.Future[list[Change]] | None = None

    async def stored_changes(self) -> list[Change]:
        """Wait for what it is stored as. Raises why it cannot be stored."""
        assert self.stored is not None
        return await self.stored

    def finish(self, changes: list[Change]) -> None:
        """Tell who waits that this is done."""
        if self.stored is not None and not self.stored.done():
            self.stored.set_result(changes)

    def fail(self, error: Exception) -> None:
        """Tell who waits that this cannot be stored."""
        if self.stored is not None and not self.stored.done():
            self.stored.set_exception(error)

    @property
    def is_moot(self) -> bool:
        """Whether there is nothing left to store: rebased away, or confirmed by other means."""
        if not self.ops:
            return True
        return self.doc is not None and not self.doc.holds(self.ops)


@dataclass(slots=True, eq=False)
class ChangeQueue:
    """The edits of one document. `spawn` runs its worker, which ends when nothing is left."""

    doc_id: str
    spawn: Callable[[Coroutine[Any, Any, None]], None]
    report: Report
    saved: Callable[[str], None]
    error: Exception | None = None  # why edits were last taken back, or are latched
    is_latched: bool = False
    _waiting: deque[Edit] = field(default_factory=deque)
    _kept: list[Edit] = field(default_factory=list)  # latched, in order
    _epoch: int = 0
    _working: bool = False
    _closing: bool = False
    _idle: asyncio.Event = field(default_factory=asyncio.Event)
    _hurry: asyncio.Event = field(default_factory=asyncio.Event)

    def put(self, edit: Edit) -> None:
        """Queue an edit that the document shows already."""
        edit.epoch = self._epoch
        self._waiting.append(edit)
        self._work()

    async def wait_idle(self) -> None:
        """Wait until the queue is idle."""
        while self._working:
            await self._idle.wait()

    async def flush(self) -> None:
        """Wait until all edits so far are stored. Raises the reason if they cannot be."""
        epoch = self._epoch
        await self.wait_idle()
        if (self.is_latched or epoch != self._epoch) and self.error is not None:
            raise self.error

    async def retry(self) -> None:
        """Try again to store what is latched, and wait for the outcome."""
        await self.wait_idle()  # what was queued meanwhile joins the kept ones, in order
        kept, self._kept = self._kept, []
        self.is_latched = False
        for edit in kept:
            if edit.is_moot:
                edit.finish([])
                self.saved(self.doc_id)
            else:
                edit.epoch = self._epoch
                self._waiting.append(edit)
        self._work()
        await self.wait_idle()

    def unlatch(self) -> None:
        """Forget what is latched: its document is gone."""
        for edit in self._kept:
            edit.fail(self.error or PatchError(f"document {self.doc_id!r} was closed"))
        self._kept.clear()
        self.is_latched = False

    def hurry(self) -> None:
        """Try what is queued once more, and wait for nothing between tries: the owner closes."""
        self._closing = True
        self._hurry.set()

    # ---- the worker ------------------------------------------------------------------------------

    def _work(self) -> None:
        if self._waiting and not self._working:
            self._working = True
            self._idle.clear()
            self.spawn(self._run())

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        turn = loop.time()
        try:
            while self._waiting:
                if len(self._waiting) < 2 or not await self._store_together(self._storable_run()):
                    await self._store(self._waiting.popleft())
                if loop.time() - turn > _TURN_S:  # a store in memory never lets others run
                    await asyncio.sleep(0)
                    turn = loop.time()
        finally:
            self._working = False
            self._idle.set()

    def _storable_run(self) -> list[Edit]:
        """The edits at the front that nothing stands against storing in one go."""
        if self.is_latched:
            return []
        first = self._waiting[0]
        run: list[Edit] = []
        for edit in islice(self._waiting, first.algorithm.edits_at_once):
            same = edit.algorithm is first.algorithm and edit.doc is first.doc
            if not same or edit.epoch != self._epoch or not edit.ops:
                break
            run.append(edit)
        return run

    async def _store_together(self, run: Sequence[Edit]) -> bool:
        """Store several edits in one go. `False` if the first has to be stored by itself: it is the
        only one, or one of them failed.
        """
        if len(run) < 2:
            return False
        edits = [LocalEdit(edit.ops, edit.metadata, edit.id) for edit in run]
        try:
            stored = await run[0].algorithm.handle_doc_changes(self.doc_id, edits, run[0].doc)
        except Exception:  # boundary: `_attempts` finds the edit that fails, and reports it
            return False
        for changes in stored:
            self._waiting.popleft().finish(changes)
        if any(stored):
            self.saved(self.doc_id)
        return True

    async def _store(self, edit: Edit) -> None:
        if edit.epoch != self._epoch:
            edit.fail(self.error or PatchError("the edit was taken back"))
        elif not edit.ops:
            edit.finish([])
        elif self.is_latched:
            assert self.error is not None
            self._kept.append(edit)
            self._report_failure(self.error, kind="environment", will_retry=False, latched=True)
        else:
            await self._attempts(edit)

    async def _attempts(self, edit: Edit) -> None:
        for attempt in range(1, _MOST_ATTEMPTS + 1):
            try:
                one = LocalEdit(edit.ops, edit.metadata, edit.id)
                (changes,) = await edit.algorithm.handle_doc_changes(self.doc_id, [one], edit.doc)
            except Exception as exc:  # boundary: every store and algorithm
                kind = failure_kind(exc)
                if kind != "environment":
                    self._take_back(edit, exc, kind)
                    return
                will_retry = attempt < _MOST_ATTEMPTS and not self._closing
                if not will_retry:
                    self._latch(edit, exc)
                self._report_failure(exc, kind=kind, will_retry=will_retry, attempt=attempt)
                if not will_retry:
                    return
                await self._pause(min(2.0 ** (attempt - 1), _LONGEST_WAIT_S))
                if edit.is_moot:
                    edit.finish([])
                    self.saved(self.doc_id)  # it may have been stored by a call that failed
                    return
            else:
                edit.finish(changes)
                if changes:
                    self.saved(self.doc_id)
                return

    def _take_back(self, edit: Edit, error: Exception, kind: FailureKind) -> None:
        self._epoch += 1
        self.error = error
        edit.fail(error)
        if edit.doc is not None:
            edit.doc.rollback_unsaved()
        self._report_failure(error, kind=kind, will_retry=False)

    def _latch(self, edit: Edit, error: Exception) -> None:
        self.is_latched = True
        self.error = error
        self._kept.append(edit)

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._hurry.wait()
        except TimeoutError:
            pass

    def _report_failure(
        self,
        error: Exception,
        *,
        kind: FailureKind,
        will_retry: bool,
        attempt: int = 1,
        latched: bool = False,
    ) -> None:
        self.report(
            error,
            ErrorContext(
                doc_id=self.doc_id,
                kind=kind,
                will_retry=will_retry,
                attempt=attempt,
                latched=latched,
            ),
        )


def failure_kind(error: Exception) -> FailureKind:
    """Whose fault it is that an edit could not be stored."""
    code = getattr(error, "code", None)
    if isinstance(code, int) and code in TERMINAL_CODES:
        return "rejection"
    if isinstance(error, (PatchError, InvalidJsonError, UnsplittableChangeError)):
        return "defective"
    return "environment"
