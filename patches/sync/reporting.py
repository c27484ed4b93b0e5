"""`Reporting`: the part of a `PatchesSync` that reports what happens."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

from patches.aio.tasks import TaskScope
from patches.errors import ErrorContext
from patches.sync.signals import SyncSignals
from patches.sync.state import SyncState

_log = logging.getLogger("patches.sync")


class Reporting(SyncSignals):
    """The state, the errors, and the tasks of async handlers.

    Handlers have a scope of their own: one of them may call `disconnect`, which ends everything
    else, and go on.
    """

    def __init__(self) -> None:
        self._state = SyncState()
        self._changed = asyncio.Event()  # something that `settled` waits for
        self._handlers = self._handler_scope()
        super().__init__(self._spawn)

    @property
    def state(self) -> SyncState:
        """`online`, `connected`, `syncing`."""
        return self._state

    def _show(self, state: SyncState) -> None:
        if state != self._state:
            self._state = state
            self._changed.set()
            self.on_state_change.emit(state)

    def _report(self, error: Exception, doc_id: str | None, change_id: str | None = None) -> None:
        if self.on_error:
            self.on_error.emit(error, ErrorContext(doc_id=doc_id, change_id=change_id))
        else:
            _log.warning("sync: %s", error, extra={"doc_id": doc_id})

    def _algorithm_failed(self, error: Exception, context: ErrorContext) -> None:
        self._report(error, context.doc_id, context.change_id)

    def _task_failed(self, error: Exception) -> None:
        _log.error("a task of the sync failed", exc_info=error)
        self._report(error, None)

    def _spawn(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        self._handlers.spawn(coroutine)

    async def _end_handlers(self) -> None:
        """End the handlers that run, except the one that calls this."""
        handlers = self._handlers
        if handlers.owns_current_task:
            self._handlers = self._handler_scope()
            handlers.finish()
        else:
            await handlers.close()

    def _handler_scope(self) -> TaskScope:
        return TaskScope("patches sync handlers", on_error=self._task_failed)
