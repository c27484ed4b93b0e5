"""`DocWorker`: keeps one tracked document in sync. Its task alone talks to the server about it.

It asks `next_step` what to do, does it, and takes the outcome into the document's state. There is
one request in flight, and the batch to send is computed anew after each answer, so nothing that
was computed can grow stale.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import TypeAlias

from patches.errors import (
    AlgorithmMismatchError,
    FrameTooLargeError,
    NetworkError,
    PendingChangeError,
    StatusError,
)
from patches.sync.document import setbacks, transitions
from patches.sync.document.failures import (
    LEAST_PAYLOAD_BYTES,
    Attempt,
    Kind,
    classify,
    halved,
    named_change,
)
from patches.sync.document.plan import (
    Idle,
    Load,
    Pull,
    Push,
    ReadStore,
    Receive,
    Reload,
    Remove,
    Request,
    Step,
    Wait,
    next_step,
)
from patches.sync.document.refusals import refusal_of, set_aside
from patches.sync.document.steps import DocSteps, Host
from patches.sync.link import Link

_log = logging.getLogger("patches.sync")

_Fallible: TypeAlias = Request | Receive | ReadStore


class DocWorker(DocSteps):
    """One tracked document. Owned by the coordinator, from tracking to untracking."""

    def __init__(self, doc_id: str, host: Host) -> None:
        super().__init__(doc_id, host)
        self._task: asyncio.Task[object] | None = None
        self._announced = False

    def stop(self) -> None:
        """The document is no longer tracked: whatever is under way ends, its outcome unseen."""
        self.stopped = True
        if self._task is not None and self._task is not asyncio.current_task():
            self._task.cancel()

    async def run(self) -> None:
        """Sync the document until cancelled, stopped, or deleted on the server."""
        self._task = asyncio.current_task()
        self._announced = False
        try:
            while not self.stopped:
                self._wake.clear()
                await self._take(next_step(self.doc, asyncio.get_running_loop().time()))
        finally:
            self._task = None

    # ---- one step --------------------------------------------------------------------------------

    async def _take(self, step: Step) -> None:
        match step:
            case Idle():
                self.set_state(transitions.pass_ended(self.doc))
                await self._wake.wait()
            case Wait(until):
                self.set_state(transitions.pass_ended(self.doc))
                with suppress(TimeoutError):
                    async with asyncio.timeout_at(until):
                        await self._wake.wait()
            case Remove():
                self.host.deleted_remotely(self.id)
                # Untracking it ends this task; a disconnect begins it anew.
                await asyncio.get_running_loop().create_future()
            case ReadStore():
                await self._try(step, self._read_store)
            case Receive():
                await self._try(step, partial(self.receive, step.frames))
            case Push():
                await self._request(step, partial(self.push, step))
            case Pull():
                await self._request(step, partial(self.pull, step))
            case Load():
                await self._request(step, partial(self.load, step))
            case Reload():
                await self._request(step, partial(self.reload, step))

    async def _read_store(self) -> None:
        self.learn(await self.find())

    async def _request(self, step: Request, work: Callable[[], Awaitable[None]]) -> None:
        self.set_state(transitions.pass_begun(self.doc))
        if not self._announced:
            await self._announce_quarantine()
        await self._try(step, work)

    async def _announce_quarantine(self) -> None:
        """Before the first request of a session, announce what is in quarantine again."""
        self._announced = True
        try:
            for entry in await self.algorithm.list_quarantined_changes(self.id):
                self.host.quarantined(self.id, entry)
        except Exception:  # an announcement that fails costs nothing
            _log.warning("cannot list the quarantine of %r", self.id, exc_info=True)

    async def _try(self, step: _Fallible, work: Callable[[], Awaitable[None]]) -> None:
        link = self.doc.link
        self._commit, self._resolved = None, ()
        try:
            await work()
        except asyncio.CancelledError as exc:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            await self._failed(step, link, exc)  # not we were cancelled: what we waited for was
        except Exception as exc:  # boundary: one document's failure stays that document's
            await self._failed(step, link, exc)

    # ---- failures --------------------------------------------------------------------------------

    async def _failed(self, step: _Fallible, link: object | None, error: BaseException) -> None:
        attempt = self._attempt(step)
        if attempt.batch and _was_lost(link, error):
            self.set_state(transitions.lost(self.doc, attempt.batch))
            attempt = replace(attempt, resets=transitions.resets_over(self.doc, attempt.batch))
        if isinstance(error, AlgorithmMismatchError):
            if await self.host.take_algorithm(self.id, error.expected):
                self.set_state(transitions.pull_requested(self.doc))
                return
        kind = classify(error, attempt)
        if kind is Kind.REFUSED:
            stuck = await self._refused(error, attempt)
            if stuck is None:
                return
            kind, error = stuck
        if self.stopped:
            return
        if kind is Kind.SMALLER_BATCHES:
            self.host.learn_max_commit(halved(attempt.batch_bytes, LEAST_PAYLOAD_BYTES))
        doc, report = setbacks.failed(
            self.doc,
            error,
            kind,
            attempt,
            link=link,
            now=asyncio.get_running_loop().time(),
            jitter=self.host.jitter(),
            resolved=self._resolved,
        )
        if kind is Kind.RETRY:
            _log.info("document %r: %s failed: %s", self.id, attempt.step, error)
        self.set_state(doc)
        if report is not None:
            self.host.report(report, self.id)

    def _attempt(self, step: _Fallible) -> Attempt:
        doc = self.doc
        batch, options = self._commit or ((), self.host.options_of(doc))
        return Attempt(
            step=type(step).__name__,
            batch=tuple(change.id for change in batch),
            batch_bytes=sum(len(change.encoded) + 1 for change in batch),
            payload_budget=options.max_payload_bytes,
            storage_budget=options.max_storage_bytes,
            reloads=doc.reloads,
            refusals=doc.refusals,
        )

    async def _refused(
        self, error: BaseException, attempt: Attempt
    ) -> tuple[Kind, BaseException] | None:
        """Set the change aside that the server refuses for good, or search it by smaller commits.

        Returns what to do, and about which error, if that cannot be done.
        """
        change_id = named_change(error, attempt.batch) or getattr(error, "change_id", None)
        if change_id is None or (attempt.batch and change_id not in attempt.batch):
            if len(attempt.batch) > 1:
                self.set_state(transitions.narrowed(self.doc, len(attempt.batch) // 2))
                return None
            (change_id,) = attempt.batch
        algorithm, refusal = self.algorithm, refusal_of(error, change_id)
        try:
            if await self._mended(error, change_id) or await algorithm.divide_pending_change(
                self.id, change_id, self.open_doc
            ):
                self.set_state(transitions.narrowed(self.doc, self.doc.commit_limit))
                return None
            entries = await set_aside(algorithm, self.id, change_id, str(error), self.open_doc)
            edits = self.doc.edits
            has_pending = await algorithm.has_pending(self.id)
        except Exception as exc:  # whatever it is, the change stays where it was
            _log.warning("document %r: cannot set %s aside", self.id, change_id, exc_info=True)
            # The others cannot do without it, or the disk is at fault.
            return Kind.FINAL if isinstance(exc, PendingChangeError) else Kind.RETRY, refusal
        if not entries:  # it has left the queue meanwhile, or has no id there yet
            return Kind.RETRY if attempt.batch else Kind.FINAL, refusal
        self.set_state(transitions.refused(self.doc, has_pending=has_pending, edits=edits))
        for entry in entries:
            self.host.quarantined(self.id, entry)
        self.host.refused(self.id, refusal)
        self.host.report(refusal, self.id, change_id)
        return None

    async def _mended(self, error: BaseException, change_id: str) -> bool:
        return isinstance(error, StatusError) and await self.algorithm.mend_refused_change(
            self.id, change_id, error, self.open_doc
        )


def _was_lost(link: object | None, error: BaseException) -> bool:
    return (
        isinstance(link, Link)
        and link.was_lost
        and isinstance(error, NetworkError)
        and not isinstance(error, FrameTooLargeError)
    )
