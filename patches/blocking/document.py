"""`Document`: an open document for code without `async`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from typing import TYPE_CHECKING, Any

from patches.aio.signals import Unsubscribe
from patches.blocking.loop_thread import LoopThread
from patches.documents.document import Document as AsyncDocument
from patches.model.change import DocSyncStatus
from patches.model.json_values import Json

if TYPE_CHECKING:
    from patches.blocking.client import Client


class Document:
    """An open document: `client.open_doc("plan")`. May be used from any thread.

    An edit runs on the client's event loop; its exception is raised here. `state` is a value to
    read from.
    """

    def __init__(self, client: Client, thread: LoopThread, doc: AsyncDocument) -> None:
        self._client = client
        self._thread = thread
        self._doc = doc

    # ---- what it shows ---------------------------------------------------------------------------

    @property
    def id(self) -> str:
        """Its id."""
        return self._doc.id

    @property
    def algorithm(self) -> str:
        """The name of its algorithm: `"ot"`, `"lww"`."""
        return self._doc.algorithm

    @property
    def state(self) -> Json:
        """Everything committed and edited, as one JSON value. Not to be changed."""
        return self._thread.call(lambda: self._doc.state)

    @property
    def committed_rev(self) -> int:
        """The last revision of the server that the state contains."""
        return self._doc.committed_rev

    @property
    def has_pending(self) -> bool:
        """Whether there are edits that the server has not confirmed."""
        return self._thread.call(lambda: self._doc.has_pending or bool(self._doc.unsaved))

    @property
    def sync_status(self) -> DocSyncStatus:
        """`"unsynced"`, `"syncing"`, `"synced"` or `"error"`."""
        return self._doc.sync_status

    @property
    def sync_error(self) -> Exception | None:
        """The reason, if the status is `"error"`."""
        return self._doc.sync_error

    @property
    def is_closed(self) -> bool:
        """True after it was closed as often as opened, or its client was closed."""
        return self._doc.is_closed

    # ---- edits -----------------------------------------------------------------------------------

    def change(self, fn: Callable[[Any], object]) -> None:
        """Edit it: `fn` gets a draft of the state, and its edits are applied, all or none.

        Raises what `fn` raises, and `PatchError` for an edit that cannot be made.
        """
        self._thread.call(lambda: self._doc.change(fn))

    def edit(self) -> AbstractContextManager[Any]:
        """`with doc.edit() as draft:`. Raises `PatchError` if others changed it meanwhile."""
        return self._doc.threadsafe.edit()

    def apply(self, ops: Any) -> None:
        """Apply JSON Patch operations, all or none. Raises `PatchError`."""
        self._thread.call(lambda: self._doc.apply(ops))

    def set(self, state: Json) -> None:
        """Make `state` the document's state, by the smallest patch that leads there."""
        self._thread.call(lambda: self._doc.set(state))

    def flush(self) -> None:
        """Wait until every edit so far is in the store. Does not wait for the server."""
        self._thread.run(self._doc.flush)

    def settled(self, timeout: float | None = None) -> None:
        """Wait until the server has confirmed every edit of this document.

        Raises why that cannot be, and `TimeoutError` after `timeout` seconds.
        """
        self._client.settled(timeout, docs=[self.id])

    def close(self) -> None:
        """Give it back; the last of as many opens takes it out of memory."""
        self._client.close_doc(self.id)

    # ---- updates ---------------------------------------------------------------------------------

    def subscribe(self, subscriber: Callable[[Json], object]) -> Unsubscribe:
        """Call `subscriber(state)` now and after every update. Returns the unsubscriber.

        Subscribers run one at a time on a thread of their own, and may use the client.
        """

        def notify(state: Json) -> None:
            self._thread.later(lambda: subscriber(state))

        unsubscribe = self._thread.call(lambda: self._doc.subscribe(notify))
        return lambda: self._thread.call(unsubscribe)

    def states(self, timeout: float | None = None) -> Iterator[Json]:
        """The state now and after updates, until the document is closed, or `timeout` seconds
        after the first is asked for. States that a slow reader missed are left out."""
        loop = self._thread.loop
        until = None if timeout is None else loop.time() + timeout
        seen: object = self  # no state is this object
        while True:
            found = self._thread.run(partial(_next_state, self._doc, seen, until))
            if found is None:
                return
            [seen] = found
            yield found[0]

    def __repr__(self) -> str:
        return repr(self._doc)


async def _next_state(doc: AsyncDocument, seen: object, until: float | None) -> list[Json] | None:
    """The state once it is another than `seen`; `None` if it is too late or the end."""
    try:
        async with asyncio.timeout_at(until):
            while doc.state is seen:
                if doc.is_closed:
                    return None
                await doc.next_update()
    except TimeoutError:
        return None
    return [doc.state]
