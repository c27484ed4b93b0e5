"""`Consumers`: gives the handlers of `server.on` what was committed.

A handler without a name gets what is committed while it runs. A durable one has a cursor in each
document's database, and is given the latest state of every row that was touched after it: the log
keeps no history. It is given a row again if the server ends before the cursor is stored.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import Any, Final, Protocol, TypeVar

from patches.aio.tasks import TaskScope
from patches.errors import PatchesError
from patches_server.collections.calls import Event
from patches_server.collections.engines.engine import Commit, Touched
from patches_server.collections.live import Job, Step
from patches_server.collections.rules import Listener, Rules

T = TypeVar("T")
_log = logging.getLogger("patches_server.collections")

_MAX_EVENTS: Final = 10_000_000
_ATTEMPTS: Final = 5
_FIRST_PAUSE_S: Final = 0.2


class RunsJobs(Protocol):
    """Runs a job on a document."""

    def __call__(self, doc_id: str, work: Callable[[Job], T]) -> Awaitable[T]: ...


class Consumers:
    """The handlers of one server, and which of them are at work."""

    def __init__(self, rules: Rules, tasks: TaskScope, run: RunsJobs) -> None:
        self._rules, self._tasks, self._run = rules, tasks, run
        self._waiting: dict[tuple[str, int], deque[Event]] = {}
        #: Durable handlers at work, and whether there is more for them.
        self._at_work: dict[tuple[str, str], bool] = {}

    @property
    def durable(self) -> list[Listener]:
        """The handlers that have a cursor."""
        return [each for each in self._rules.listeners if each.durable is not None]

    def committed(self, doc_id: str, step: Step) -> None:
        """A revision is on disk."""
        events: list[Event] | None = None
        for number, listener in enumerate(self._rules.listeners):
            if listener.table not in step.touched.rows:
                continue
            if listener.durable is not None:
                self._wake(doc_id, listener)
                continue
            if events is None:
                commits = {} if step.commit is None else {step.rev: step.commit}
                events = list(_events(doc_id, step.touched, commits))
            own = [event for event in events if _concerns(listener, event)]
            if own:
                self._queue(doc_id, number, listener, own)

    def wake(self, doc_id: str) -> None:
        """Durable handlers fetch what they have missed of a document."""
        for listener in self.durable:
            self._wake(doc_id, listener)

    def _queue(self, doc_id: str, number: int, listener: Listener, events: list[Event]) -> None:
        key = (doc_id, number)
        if key in self._waiting:
            self._waiting[key].extend(events)
            return
        self._waiting[key] = deque(events)
        self._tasks.spawn(self._notify_all(key, listener), name="handler")

    async def _notify_all(self, key: tuple[str, int], listener: Listener) -> None:
        try:
            while self._waiting[key]:
                event = self._waiting[key].popleft()
                try:
                    await _called(listener, event)
                except Exception:  # boundary: the application's code
                    _log.exception("a handler of %s failed", listener.table)
        finally:
            del self._waiting[key]

    def _wake(self, doc_id: str, listener: Listener) -> None:
        assert listener.durable is not None, "the others are notified"
        key = (doc_id, listener.durable)
        is_new = key not in self._at_work
        self._at_work[key] = True
        if is_new:
            self._tasks.spawn(self._follow(doc_id, listener, key), name="durable handler")

    async def _follow(self, doc_id: str, listener: Listener, key: tuple[str, str]) -> None:
        try:
            while self._at_work[key]:
                self._at_work[key] = False
                await self._catch_up(doc_id, listener)
        except PatchesError as exc:  # the document is gone, or the disk is
            _log.warning("handler %s on %.128r stopped: %s", listener.durable, doc_id, exc)
        finally:
            del self._at_work[key]

    async def _catch_up(self, doc_id: str, listener: Listener) -> None:
        events, head = await self._run(doc_id, partial(_missed, doc_id, listener))
        done: int | None = None
        for number, event in enumerate(events):
            await _insist(listener, event)
            if number + 1 == len(events) or events[number + 1].rev > event.rev:
                done = event.rev
                await self._run(doc_id, partial(_store, listener, done))
        if head > (done or 0):
            await self._run(doc_id, partial(_store, listener, head))


def _missed(doc_id: str, listener: Listener, job: Job) -> tuple[list[Event], int]:
    assert listener.durable is not None, "the others have no cursor"
    cursor = job.tx.consumers().get(listener.durable, 0)
    touched = job.tx.changed(cursor, job.tx.rev, limit=_MAX_EVENTS)
    if touched is None:
        return [], cursor
    found = _events(doc_id, touched, job.tx.commits_after(cursor))
    events = [event for event in found if _concerns(listener, event)]
    return sorted(events, key=lambda event: (event.rev, event.key)), job.tx.rev


def _store(listener: Listener, rev: int, job: Job) -> None:
    assert listener.durable is not None, "the others have no cursor"
    if job.tx.consumers().get(listener.durable) != rev:
        job.tx.put_consumer(listener.durable, rev)


def _events(doc_id: str, touched: Touched, commits: dict[int, Commit]) -> Iterable[Event]:
    for table, rows in touched.rows.items():
        for key, row in rows.items():
            is_new = (table, key) in touched.born
            if row is None and is_new:
                continue  # made and deleted before anybody could know of it
            rev = touched.revs[table, key]
            commit = commits.get(rev)
            yield Event(
                doc_id=doc_id,
                action="delete" if row is None else "create" if is_new else "update",
                table=table,
                key=key,
                row=row,
                rev=rev,
                author=None if commit is None else commit.author,
                change_id=None if commit is None else commit.change_id,
            )


def _concerns(listener: Listener, event: Event) -> bool:
    return event.table == listener.table and event.action in listener.actions


async def _called(listener: Listener, event: Event) -> None:
    result: Any = listener.handler(event)
    if inspect.isawaitable(result):
        await result


async def _insist(listener: Listener, event: Event) -> None:
    """Give a handler an event, a few times if it fails; then go on without."""
    for attempt in range(_ATTEMPTS):
        try:
            await _called(listener, event)
            return
        except Exception:  # boundary: the application's code
            _log.exception("handler %s failed", listener.durable)
            await asyncio.sleep(_FIRST_PAUSE_S * 2**attempt)
    _log.error("handler %s goes on without revision %d", listener.durable, event.rev)
