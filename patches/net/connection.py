"""`PatchesConnection`: what the sync coordinator needs of a server, and the usual one.

Wire objects become `Change` and `Snapshot` here, and nowhere above. A transport of your own is
either a `Transport` (frames) given to `RpcConnection`, or a class with the members of
`PatchesConnection`, for a server that does not speak JSON-RPC.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

from patches.aio.signals import Signal
from patches.errors import InvalidRequestError, JSONRPCError, NetworkError
from patches.model.change import Change, Snapshot
from patches.model.codec import Encoded
from patches.model.json_values import Json
from patches.net.rpc import RpcPeer
from patches.net.transport import Transport, TransportState
from patches.net.websocket import WebSocketOptions, WebSocketTransport
from patches.runtime import Runtime

_log = logging.getLogger("patches.net")

Options: TypeAlias = Mapping[str, Json] | None


@dataclass(frozen=True, slots=True)
class CommitAnswer:
    """What a server answers to `commitChanges`. `doc_reload_required`: it was committed, and the
    document must be fetched whole.
    """

    changes: Sequence[Change]
    doc_reload_required: bool = False
    #: Of the document's history, if the server gave one.
    token: str | None = None


class ChangesOfHistory(list[Change]):
    """Changes since a revision, and the token of the history that they belong to.

    `token` is `None` for a document that the server does not have.
    """

    def __init__(self, changes: Sequence[Change], token: str | None) -> None:
        super().__init__(changes)
        self.token = token


class PatchesConnection(Protocol):
    """A server, over a connection that comes and goes by itself.

    Every call raises `NetworkError` when no answer comes, `StatusError` or `JSONRPCError` as the
    server answers.
    """

    #: The new state, after `state` has changed.
    on_state_change: Signal[[TransportState]]
    #: `(doc_id, changes)`: committed by others. No changes: there is something to fetch.
    on_changes_committed: Signal[[str, Sequence[Change]]]
    #: `(doc_id)`: deleted on the server.
    on_doc_deleted: Signal[[str]]
    #: `(method, params)`: any other notification.
    on_notification: Signal[[str, Any]]
    #: A failure that belongs to no call.
    on_error: Signal[[Exception]]

    @property
    def url(self) -> str | None:
        """Where the server is, for people to read."""

    @property
    def state(self) -> TransportState:
        """Where the connection is."""

    @property
    def failure(self) -> NetworkError | None:
        """Why the last connection ended or could not be made; `None` while there is one."""

    async def connect(self, *, background: bool = False) -> None:
        """See `Transport.connect`."""

    async def disconnect(self) -> None:
        """See `Transport.disconnect`."""

    def set_online(self, online: bool) -> None:
        """See `Transport.set_online`."""

    async def subscribe(self, doc_ids: Sequence[str]) -> list[str]:
        """Ask for the broadcasts of documents; the ids granted."""

    async def unsubscribe(self, doc_ids: Sequence[str]) -> list[str]:
        """Ask for no more of them; the ids removed."""

    async def get_doc(self, doc_id: str, options: Options = None) -> Snapshot:
        """The document: a state and the changes on top of it."""

    async def get_changes_since(
        self, doc_id: str, rev: int, options: Options = None
    ) -> Sequence[Change]:
        """What was committed after `rev`; `ChangesOfHistory` if the server gave a token."""

    async def commit_changes(
        self, doc_id: str, changes: Sequence[Change], options: Options = None
    ) -> CommitAnswer:
        """Commit pending changes."""

    async def delete_doc(self, doc_id: str) -> None:
        """Delete the document for everybody."""

    async def call(self, method: str, *params: Any) -> Json:
        """Any other method of the server: versions, branches, an algorithm's own."""

    def notify(self, method: str, *params: Any) -> None:
        """Send a notification: presence."""


class RpcConnection:
    """A `PatchesConnection` that speaks JSON-RPC over a `Transport`."""

    def __init__(
        self,
        transport: Transport,
        *,
        url: str | None = None,
        request_timeout_s: float | None = 30.0,
    ) -> None:
        self._url = url
        self._transport = transport
        self._peer = RpcPeer(transport.send, timeout_s=request_timeout_s)
        self.on_state_change: Signal[[TransportState]] = Signal("on_state_change")
        self.on_changes_committed: Signal[[str, Sequence[Change]]] = Signal("on_changes_committed")
        self.on_doc_deleted: Signal[[str]] = Signal("on_doc_deleted")
        self.on_notification: Signal[[str, Any]] = Signal("on_notification")
        self.on_error: Signal[[Exception]] = Signal("on_error")
        transport.on_state_change(self._state_changed)
        transport.on_frame(self._peer.receive)
        self._peer.on_answer(transport.mark_healthy)
        self._peer.on_notification(self._notified)

    @property
    def url(self) -> str | None:
        return self._url

    @property
    def state(self) -> TransportState:
        return self._transport.state

    @property
    def failure(self) -> NetworkError | None:
        """Why there is no connection; `None` while there is one."""
        return self._transport.failure

    async def connect(self, *, background: bool = False) -> None:
        await self._transport.connect(background=background)

    async def disconnect(self) -> None:
        await self._transport.disconnect()

    def set_online(self, online: bool) -> None:
        self._transport.set_online(online)

    # ---- methods of the server -------------------------------------------------------------------

    async def call(self, method: str, *params: Any) -> Json:
        return await self._peer.call(method, *params)

    def notify(self, method: str, *params: Any) -> None:
        self._peer.notify(method, *params)

    async def subscribe(self, doc_ids: Sequence[str]) -> list[str]:
        return _strings(await self.call("subscribe", list(doc_ids)))

    async def unsubscribe(self, doc_ids: Sequence[str]) -> list[str]:
        return _strings(await self.call("unsubscribe", list(doc_ids)))

    async def get_doc(self, doc_id: str, options: Options = None) -> Snapshot:
        return snapshot_from_wire(await self.call("getDoc", doc_id, options))

    async def get_changes_since(
        self, doc_id: str, rev: int, options: Options = None
    ) -> Sequence[Change]:
        wire = await self.call("getChangesSince", doc_id, rev, options)
        if isinstance(wire, dict) and "token" in wire:
            return ChangesOfHistory(
                changes_from_wire(wire.get("changes")), _string_or_none(wire["token"])
            )
        return changes_from_wire(wire)

    async def commit_changes(
        self, doc_id: str, changes: Sequence[Change], options: Options = None
    ) -> CommitAnswer:
        encoded = [Encoded(change.encoded) for change in changes]
        wire = await self._peer.call("commitChanges", doc_id, encoded, options)
        return answer_from_wire(wire)

    async def delete_doc(self, doc_id: str) -> None:
        await self.call("deleteDoc", doc_id)

    async def undelete_doc(self, doc_id: str) -> bool:
        """Remove a document's tombstone; whether there was one."""
        return bool(await self.call("undeleteDoc", doc_id))

    # ---- what comes from the server --------------------------------------------------------------

    def _state_changed(self, state: TransportState) -> None:
        if state in ("disconnected", "error"):
            lost = self._transport.failure or NetworkError("Transport disconnected")
            self._peer.reject_all(lost)
        self.on_state_change.emit(state)

    def _notified(self, method: str, params: Any) -> None:
        try:
            if method == "changesCommitted":
                changes = changes_from_wire(params["changes"])
                self.on_changes_committed.emit(_doc_id(params), changes)
            elif method == "docDeleted":
                self.on_doc_deleted.emit(_doc_id(params))
            else:
                self.on_notification.emit(method, params)
        except Exception as exc:  # boundary: what the peer sent cannot be understood
            _log.warning("a notification %.80r could not be read", method, exc_info=exc)
            self.on_error.emit(exc)


class WebSocketConnection(RpcConnection):
    """The server at a websocket url. `websocket`: see `patches.net.websocket`."""

    def __init__(
        self,
        url: str,
        *,
        websocket: WebSocketOptions | None = None,
        request_timeout_s: float | None = 30.0,
        runtime: Runtime | None = None,
    ) -> None:
        transport = WebSocketTransport(url, options=websocket, runtime=runtime)
        super().__init__(transport, url=url, request_timeout_s=request_timeout_s)


# ---- wire objects, read with suspicion -----------------------------------------------------------


def changes_from_wire(wire: Any) -> list[Change]:
    """A list of changes. Raises `JSONRPCError` when it is none."""
    if not isinstance(wire, list):
        raise _unreadable("a list of changes", wire)
    try:
        changes = [Change.from_wire(change) for change in wire]
    except (AttributeError, TypeError, InvalidRequestError) as exc:
        raise _unreadable("a list of changes", wire) from exc
    for change in changes:
        ops: object = change.ops
        rev: object = change.rev
        if not isinstance(ops, list) or not isinstance(rev, int):
            raise _unreadable("a list of changes", wire)
    return changes


def snapshot_from_wire(wire: Any) -> Snapshot:
    """The answer to `getDoc`. Raises `JSONRPCError` when it is none."""
    if not isinstance(wire, dict) or not isinstance(wire.get("rev"), int):
        raise _unreadable("a document", wire)
    changes = changes_from_wire(wire.get("changes") or [])
    others = {key: wire[key] for key in wire.keys() - {"state", "rev", "changes"}}
    return Snapshot(state=wire.get("state"), rev=wire["rev"], changes=changes, metadata=others)


def answer_from_wire(wire: Any) -> CommitAnswer:
    """The answer to `commitChanges`. Raises `JSONRPCError` when it is none."""
    if not isinstance(wire, dict):
        raise _unreadable("an answer to a commit", wire)
    return CommitAnswer(
        changes_from_wire(wire.get("changes") or []),
        wire.get("docReloadRequired") is True,
        _string_or_none(wire.get("token")),
    )


def _doc_id(params: Any) -> str:
    doc_id = params.get("docId") if isinstance(params, Mapping) else None
    if not isinstance(doc_id, str) or not doc_id:
        raise _unreadable("a notification with a docId", params)
    return doc_id


def _strings(wire: Any) -> list[str]:
    if not isinstance(wire, list) or not all(isinstance(item, str) for item in wire):
        raise _unreadable("a list of document ids", wire)
    return wire


def _string_or_none(wire: Any) -> str | None:
    return wire if isinstance(wire, str) else None


def _unreadable(expected: str, got: object) -> JSONRPCError:
    return JSONRPCError(-32603, f"the server sent a {type(got).__name__}, expected {expected}")
