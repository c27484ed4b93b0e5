"""`Client`: a `Patches` and its `PatchesSync` for code without `async`."""

from __future__ import annotations

import threading
import warnings
import weakref
from collections.abc import Callable, Coroutine, Iterable, Mapping
from types import TracebackType
from typing import Any, Final, Literal, ParamSpec, Self, TypeVar

from patches.aio.signals import Signal, Unsubscribe
from patches.blocking.document import Document
from patches.blocking.loop_thread import LoopThread
from patches.client.patches import Patches
from patches.errors import ErrorContext, NetworkError, PatchesError
from patches.model.change import Change, QuarantinedChange
from patches.model.json_values import Json
from patches.net.websocket import WebSocketOptions
from patches.sync import PatchesSync, SyncedDoc, SyncState

P = ParamSpec("P")
T = TypeVar("T")

#: How long a client that is still open at the end of the program may store its work.
_AT_EXIT_S: Final = 5.0


def connect(
    url: str | None = None,
    *,
    store: Any = None,
    background: bool = False,
    websocket: WebSocketOptions | None = None,
    **options: Any,
) -> Client:
    """A client of the server at `url`; without it, one that works offline.

    Args:
        store: as of `Patches`: a path keeps documents in a SQLite file, `None` in memory.
        background: return at once, and connect when that is possible. Else an attempt that fails
            raises `NetworkError`.
        websocket: as of `PatchesSync`: headers and other options.
        options: as of `Patches`: `default_algorithm`, `metadata`, `limits`, ...
    """
    client = Client(url, store=store, websocket=websocket, **options)
    try:
        if url is not None:
            client.connect(background=background)
    except BaseException:
        client.close()
        raise
    return client


class Client:
    """Documents for code without `async`; `connect` makes one. May be used from any thread.

    Each call waits until what it does is done, and raises what it raises. After a fork a child has
    to connect again: `WrongThreadError`.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        store: Any = None,
        websocket: WebSocketOptions | None = None,
        **options: Any,
    ) -> None:
        self._closed = False
        self._thread = LoopThread()
        self._sync: PatchesSync | None = None
        try:
            self._patches = self._thread.call(lambda: Patches(store, **options))
            if url is not None:
                self._sync = self._thread.call(
                    lambda: PatchesSync(self._patches, url, websocket=websocket)
                )
            self._thread.run(self._patches.__aenter__)
        except BaseException:
            self._thread.stop()
            raise
        _close_at_exit(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Client of {self._patches!r}>"

    def close(self) -> None:
        """Store what is unsaved, disconnect, and end the thread. Unsent work stays in the store."""
        if self._closed:
            return
        self._closed = True
        try:
            self._thread.run(self._close)
        finally:
            self._thread.stop()

    # ---- the connection --------------------------------------------------------------------------

    def connect(self, *, background: bool = False) -> None:
        """Connect, and stay connected. Raises `NetworkError` if the first attempt fails."""
        sync = self._synced()
        self._run(lambda: sync.connect(background=background))

    def disconnect(self) -> None:
        """End the connection. Unsent work stays in the store."""
        self._run(self._synced().disconnect)

    @property
    def state(self) -> SyncState:
        """Whether it is connected, and what the full sync is doing. Offline clients never are."""
        return SyncState(online=False) if self._sync is None else self._sync.state

    @property
    def synced(self) -> Mapping[str, SyncedDoc]:
        """The tracked documents that are kept in sync, by id: a value that never changes."""
        return {} if self._sync is None else self._sync.synced

    def settled(
        self,
        timeout: float | None = None,
        *,
        docs: Iterable[str] | None = None,
        offline: Literal["wait", "raise"] = "wait",
    ) -> None:
        """Wait until every edit, or those of `docs`, is confirmed by the server.

        Raises why work does not leave by itself; `TimeoutError` after `timeout` seconds; and
        `NetworkError` at once where there is no server at all.
        """
        sync = self._synced()
        self._run(lambda: sync.settled(timeout, docs=docs, offline=offline))

    # ---- documents -------------------------------------------------------------------------------

    def open_doc(
        self,
        doc_id: str,
        *,
        algorithm: str | None = None,
        metadata: Mapping[str, Json] | None = None,
    ) -> Document:
        """The document, in memory and tracked until as many `close_doc` calls.

        Raises `AlgorithmMismatchError`, `DeletionPendingError`, `StorageError`.
        """
        return Document(
            self,
            self._thread,
            self._run(
                lambda: self._patches.open_doc(doc_id, algorithm=algorithm, metadata=metadata)
            ),
        )

    def close_doc(self, doc_id: str, *, untrack: bool = False, force: bool = False) -> None:
        """Give back one opening; the last takes the document out of memory, once it is stored."""
        self._run(lambda: self._patches.close_doc(doc_id, untrack=untrack, force=force))

    def track_docs(self, doc_ids: Iterable[str], algorithm: str | None = None) -> None:
        """Keep these documents in sync from now on, open or not."""
        self._run(lambda: self._patches.track_docs(doc_ids, algorithm))

    def untrack_docs(self, doc_ids: Iterable[str]) -> None:
        """Forget these documents' local data, and close those that are open."""
        self._run(lambda: self._patches.untrack_docs(doc_ids))

    def delete_doc(self, doc_id: str) -> None:
        """Delete a document here, and with the next connection on the server."""
        self._run(lambda: self._patches.delete_doc(doc_id))

    @property
    def tracked_docs(self) -> frozenset[str]:
        """The ids of the tracked documents."""
        return self._patches.tracked_docs

    # ---- quarantine ------------------------------------------------------------------------------

    def list_quarantined_changes(self, doc_id: str | None = None) -> list[QuarantinedChange]:
        """Changes that were set aside, of one document or all."""
        return self._run(lambda: self._patches.list_quarantined_changes(doc_id))

    def discard_quarantined_change(self, doc_id: str, change_id: str) -> None:
        """Forget a quarantined change for good."""
        self._run(lambda: self._patches.discard_quarantined_change(doc_id, change_id))

    def retry_quarantined_change(self, doc_id: str, change_id: str) -> list[Change]:
        """Make a quarantined change an edit of the document as it is now."""
        return self._run(lambda: self._patches.retry_quarantined_change(doc_id, change_id))

    # ---- signals ---------------------------------------------------------------------------------

    def on_error(self, subscriber: Callable[[Exception, ErrorContext], object]) -> Unsubscribe:
        """Call it with every error that no call raises. See `Document.subscribe`."""
        signals = [self._patches.on_error, *([self._sync.on_error] if self._sync else [])]
        stops = [self._subscribed(signal, subscriber) for signal in signals]
        return lambda: [stop() for stop in stops].clear()

    def on_state_change(self, subscriber: Callable[[SyncState], object]) -> Unsubscribe:
        """Call it with each new `state`. See `Document.subscribe`."""
        return self._subscribed(self._synced().on_state_change, subscriber)

    def on_change_quarantined(
        self, subscriber: Callable[[str, QuarantinedChange], object]
    ) -> Unsubscribe:
        """Call it with the document's id and each change that is set aside."""
        return self._subscribed(self._patches.on_change_quarantined, subscriber)

    # ---- inside ----------------------------------------------------------------------------------

    def _run(self, make: Callable[[], Coroutine[Any, Any, T]]) -> T:
        if self._closed:
            raise PatchesError("this client is closed")
        return self._thread.run(make)

    def _subscribed(self, signal: Signal[P], subscriber: Callable[P, object]) -> Unsubscribe:
        def notify(*args: P.args, **kwargs: P.kwargs) -> None:
            self._thread.later(lambda: subscriber(*args, **kwargs))

        unsubscribe = self._thread.call(lambda: signal(notify))
        return lambda: self._thread.call(unsubscribe)

    def _synced(self) -> PatchesSync:
        if self._sync is None:
            raise NetworkError("this client has no server; give connect() its url")
        return self._sync

    async def _close(self) -> None:
        if self._sync is not None:
            await self._sync.disconnect()
        await self._patches.close()

    def close_at_exit(self) -> None:
        """The end of the program: close it within seconds, and warn."""
        if self._closed:
            return
        warnings.warn(
            f"{self!r} was not closed; use 'with connect(...)', or close()",
            ResourceWarning,
            stacklevel=1,
        )
        self._closed = True
        self._thread.run_for(self._close, _AT_EXIT_S)
        self._thread.stop()


_open: Final[weakref.WeakSet[Client]] = weakref.WeakSet()
_is_registered = False


def _close_at_exit(client: Client) -> None:
    """Close this client at the end of the program, if nobody has."""
    global _is_registered
    _open.add(client)
    if not _is_registered:
        _is_registered = True
        # Not `atexit`: by then no thread pool takes work any more, and stores need theirs.
        threading._register_atexit(_close_all)  # type: ignore[attr-defined]  # as the pools do


def _close_all() -> None:
    for client in list(_open):
        client.close_at_exit()
