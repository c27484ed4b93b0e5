"""`DocWorker`: keeps one tracked document in sync. Its task alone talks to the server about it.

It asks `next_step` what to do, does it, and folds the outcome into the document's state. Everybody
else only folds events in. There is one request in flight, and the batch to send is asked for anew
after each answer, so nothing that was computed can grow stale (`spec/sync.md` 5 to 8).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial

from patches.errors import ChangeRefusedError, FrameTooLargeError, StatusError
from patches.sync.document import transitions as folds
from patches.sync.document.exchange import Exchange
from patches.sync.document.failures import Attempt, Kind, classify, uncorroborated
from patches.sync.document.keeper import DocKeeper, Host
from patches.sync.document.plan import (
    DocSync,
    Idle,
    Learn,
    Load,
    Pull,
    Push,
    Receive,
    Reload,
    Remove,
    Request,
    Wait,
    next_step,
)

_log = logging.getLogger("patches.sync")


class DocWorker:
    """One tracked document. Owned by the coordinator, from tracking to untracking."""

    def __init__(self, doc_id: str, host: Host) -> None:
        self.keeper = DocKeeper(doc_id, host)
        self._exchange = Exchange(self.keeper)
        self._task: asyncio.Task[object] | None = None
        self._announced = False

    @property
    def doc(self) -> DocSync:
        """What is known of the document."""
        return self.keeper.doc

    def tell(self, doc: DocSync) -> None:
        """Take a new state, made by a fold from `doc` in this turn of the loop."""
        self.keeper.tell(doc)

    def stop(self) -> None:
        """The document is no longer tracked: whatever is under way ends, its outcome unseen."""
        self.keeper.stopped = True
        if self._task is not None and self._task is not asyncio.current_task():
            self._task.cancel()

    async def run(self) -> None:
        """Sync the document until cancelled, stopped, or deleted on the server."""
        self._task = asyncio.current_task()
        self._announced = False
        try:
            while not self.keeper.stopped:
                self.keeper.wake.clear()
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
                self.keeper.host.deleted_remotely(self.keeper.id)
                await self._never()  # untracking it ends this task; a disconnect begins it anew
            case Learn():
                await self._try(step, self._learn())
            case Receive():
                await self._try(step, self._exchange.receive(step.frames))
            case Push():
                await self._request(step, partial(self._exchange.push, step))
            case Pull():
                await self._request(step, partial(self._exchange.pull, step))
            case Load():
                await self._request(step, partial(self._exchange.load, step))
            case Reload():
                await self._request(step, partial(self._exchange.reload, step))

    async def _woken(self, until: float | None) -> None:
        if until is None:
            await self.keeper.wake.wait()
            return
        with suppress(TimeoutError):
            async with asyncio.timeout_at(until):
                await self.keeper.wake.wait()

    async def _never(self) -> None:
        await asyncio.get_running_loop().create_future()

    async def _learn(self) -> None:
        self.keeper.learn(await self.keeper.find())

    async def _request(self, step: Request, work: Callable[[], Awaitable[None]]) -> None:
        self.tell(folds.begun(self.doc, step))
        await self._try(step, self._announcing(work))

    async def _announcing(self, work: Callable[[], Awaitable[None]]) -> None:
        """Before the first request of a session, tell again of what is in quarantine."""
        if not self._announced:
            self._announced = True
            try:
                for entry in await self.keeper.algorithm.list_quarantined_changes(self.keeper.id):
                    self.keeper.host.quarantined(self.keeper.id, entry)
            except Exception:  # an announcement that fails costs nothing
                _log.warning("cannot list the quarantine of %r", self.keeper.id, exc_info=True)
        await work()  # made only now: a cancelled announcement leaves nothing unawaited

    async def _try(self, step: Request | Receive | Learn, work: Awaitable[None]) -> None:
        link = self.doc.link
        self._exchange.begin()
        try:
            await work
        except asyncio.CancelledError as exc:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            await self._failed(step, link, exc)  # not we were cancelled: what we waited for was
        except Exception as exc:  # boundary: one document's failure stays that document's
            await self._failed(step, link, exc)

    # ---- failures --------------------------------------------------------------------------------

    async def _failed(
        self, step: Request | Receive | Learn, link: int, error: BaseException
    ) -> None:
        attempt = self._attempt(step)
        kind = classify(error, attempt)
        if isinstance(error, FrameTooLargeError) and kind in (Kind.TERMINAL, Kind.SMALLER_CHANGES):
            error = ChangeRefusedError(attempt.batch_head or "", str(error), code=413)
        if kind is Kind.QUARANTINE and isinstance(error, StatusError):
            if await self._ejected(error):
                return
            kind = uncorroborated(error)
        if self.keeper.stopped:
            return
        doc, report = folds.failed(
            self.doc,
            error,
            kind,
            attempt,
            link=link,
            now=asyncio.get_running_loop().time(),
            chance=self.keeper.host.chance(),
            resolved=self._exchange.resolved,
        )
        if kind is Kind.RETRY:
            _log.info("document %r: %s failed: %s", self.keeper.id, attempt.step, error)
        self.tell(doc)
        if report is not None:
            self.keeper.host.report(report, self.keeper.id)

    def _attempt(self, step: Request | Receive | Learn) -> Attempt:
        name = type(step).__name__
        doc = self.doc
        if self._exchange.commit is None:
            options = self.keeper.host.options_of(doc)
            return Attempt(
                step=name,
                reloads=doc.reloads,
                ejections=doc.ejections,
                storage_budget=options.max_storage_bytes,
            )
        batch, options = self._exchange.commit
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
        """Set the change that the server named aside, if it fails here or is against its rules."""
        algorithm, change_id = self.keeper.algorithm, error.change_id
        assert change_id is not None
        is_final = error.data is not None and error.data.get("final") is True
        try:
            if not is_final and await algorithm.verify_pending_change(self.keeper.id, change_id):
                return False
            entry = await algorithm.eject_pending_change(
                self.keeper.id,
                change_id,
                str(error),
                self.keeper.open_doc,
                only_if_unappliable=not is_final,
            )
            if entry is None:
                return False
            edits = self.doc.edits
            has_pending = await algorithm.has_pending(self.keeper.id)
        except Exception:  # whatever it is, the change stays where it was
            _log.warning("document %r: cannot set a change aside", self.keeper.id, exc_info=True)
            return False
        self.tell(folds.ejected(self.doc, has_pending=has_pending, edits=edits))
        self.keeper.host.quarantined(self.keeper.id, entry)
        return True
