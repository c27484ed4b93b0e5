"""Presence: who else is at a document, what they say of themselves, and where their cursors are.

Each client sends its state to the others through the server's relay, which stores nothing. A state
is one JSON object, sent whole, and the latest one counts. Messages name the document as their room,
so that they reach only who may read it. A peer that names no room (one of @dabble/patches 0.28.1)
is shown in every room, and gets states without a room.

The relay sends a newcomer the list of peers, and does not announce the newcomer. So a newcomer to
the relay greets all, a newcomer to a room sends its state to all, and whoever receives a state for
the first time answers with its own. States that came before a room was entered are kept.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType, TracebackType
from typing import Any, Final, Self

from patches.aio.signals import Signal
from patches.documents.anchors import Anchor, Span
from patches.documents.document import Document
from patches.errors import InvalidRequestError, PatchError
from patches.limits import KIB, Limits
from patches.model import codec
from patches.model.json_values import Json, checked_copy, json_equal
from patches.sync.presence.cursors import is_position, moved_cursor, text_change
from patches.sync.presence.hub import PresenceHub, State

#: Between two messages to one peer, of all rooms together: changes that come faster are sent as
#: one. The relay drops what comes more often than 20 times a second.
PAUSE_S: Final = 0.08
#: The largest message that a server with the default limits passes on, less what surrounds a state.
_MOST_BYTES: Final = (Limits().max_presence_bytes or 16 * KIB) - 256


class Room:
    """Who is at one document. Enter it with `async with sync.presence("doc-id", {...}) as room`.

    `others` are the states of everybody else, by peer id: a new mapping per change. With `text`,
    the path of a text in the document, each state's `"cursor"` (a position, or a list of them, in
    UTF-16 units) moves as that text changes.
    """

    def __init__(
        self,
        hub: PresenceHub,
        doc_id: str,
        state: Mapping[str, Json],
        *,
        text: str | None,
        open_doc: Callable[[], Document | None],
        spawn: Callable[[Any], None],
    ) -> None:
        self.doc_id: Final = doc_id
        self._hub = hub
        self._state: dict[str, Json] = _checked(state, doc_id)
        self._path = text
        self._open_doc = open_doc
        self._others: Mapping[str, Mapping[str, Json]] = MappingProxyType({})
        self._doc: Document | None = None
        self._stop_watching: Callable[[], None] = lambda: None
        self._shown: Json = None
        self._rev = 0
        #: Whom the own state is to be said to.
        self._recipients: dict[str, None] = {}
        self._has_recipients = asyncio.Event()
        self._sender: asyncio.Task[None] | None = None
        #: The new `others`.
        self.on_change: Signal[[Mapping[str, Mapping[str, Json]]]] = Signal(
            "on_change", spawn=spawn
        )

    @property
    def id(self) -> str | None:
        """What the others know this client by; `None` without a connection."""
        return self._hub.own_id

    @property
    def state(self) -> Mapping[str, Json]:
        """What the others know of this client."""
        return MappingProxyType(self._state)

    @property
    def others(self) -> Mapping[str, Mapping[str, Json]]:
        """The states of everybody else in the room, by peer id."""
        return self._others

    def update(self, **fields: Any) -> None:
        """Change fields of the own state. The others are notified soon.

        An anchor or a span is sent as its position, or both, in UTF-16 units. Raises
        `InvalidRequestError` if the state becomes larger than the server passes on.
        """
        sent = {name: _position(value) for name, value in fields.items()}
        self._state = _checked({**self._state, **sent}, self.doc_id)
        self.announce_all()

    def cursors(self, name: str = "cursor") -> Mapping[str, Sequence[Anchor]]:
        """The others' positions as anchors, by peer id: one for a cursor, two for a selection.

        `name`: the field of their states. Raises `PatchError` if the room has no text, or its
        document is not open.
        """
        doc = self._open_doc()
        if self._path is None or doc is None:
            raise PatchError("cursors() needs presence(..., text=path) and the document open")
        found: dict[str, Sequence[Anchor]] = {}
        for peer, state in self._others.items():
            position = state.get(name)
            places = position if isinstance(position, list) else [position]
            positions = [each for each in places if is_position(each)]
            if positions and len(positions) == len(places):
                found[peer] = [doc.anchor_at_utf16(self._path, each) for each in positions]
        return found

    async def __aenter__(self) -> Self:
        self._hub.rooms.append(self)
        self._sender = asyncio.get_running_loop().create_task(
            self._send_state(), name=f"presence in {self.doc_id}"
        )
        self._watch()
        self._hub.greet()
        self.announce_all()
        for peer, state in self._hub.states_in(self.doc_id).items():
            self.receive(peer, state)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._hub.rooms.remove(self)
        self._stop_watching()
        self._hub.left_room(self.doc_id)
        if self._sender is not None:
            self._sender.cancel()
            await asyncio.wait([self._sender])

    # ---- for the hub -----------------------------------------------------------------------------

    def receive(self, peer: str, state: State) -> None:
        """Take the state that a peer has sent."""
        if state.get("left") is True:
            self.forget(peer)
            return
        is_new = peer not in self._others
        self._watch()
        self._show({**self._others, peer: MappingProxyType({**state, "id": peer})})
        if is_new:
            self.announce(peer)

    def announce(self, peer: str) -> None:
        """Send the own state to one peer soon."""
        self._recipients[peer] = None
        self._has_recipients.set()

    def announce_all(self) -> None:
        """Send the own state to all peers soon; those outside of the room do not get it."""
        self._recipients.update(dict.fromkeys(self._hub.peers))
        self._has_recipients.set()

    def forget(self, peer: str) -> None:
        """A peer has left."""
        if peer in self._others:
            self._show({key: value for key, value in self._others.items() if key != peer})

    def forget_all(self) -> None:
        """The connection is lost: no peer can be received any more."""
        if self._others:
            self._show({})

    # ---- inside ----------------------------------------------------------------------------------

    async def _send_state(self) -> None:
        """Send the own state to those due, not more often than the relay passes it on."""
        while True:
            await self._has_recipients.wait()
            async with self._hub.turn:
                self._has_recipients.clear()
                recipients, self._recipients = self._recipients, {}
                if self._hub.own_id is not None:
                    data = codec.encode_text({**self._state, "id": self._hub.own_id})
                    for peer in recipients:
                        self._hub.send(peer, data, self.doc_id)
                await asyncio.sleep(PAUSE_S)

    def _show(self, others: dict[str, Mapping[str, Json]]) -> None:
        if not json_equal(_plain(others), _plain(self._others)):  # a state may be said again
            self._others = MappingProxyType(others)
            self.on_change.emit(self._others)

    def _watch(self) -> None:
        """Follow the text of the document, which may have been opened only now."""
        doc = self._open_doc()
        if self._path is None or doc is None or doc is self._doc:
            return
        self._stop_watching()
        self._doc, self._shown, self._rev = doc, doc.plain_state, doc.committed_rev
        self._stop_watching = doc.on_update(self._text_moved)

    def _text_moved(self, _state: object) -> None:
        assert self._path is not None
        assert self._doc is not None
        state = self._doc.plain_state
        before, self._shown = self._shown, state
        rev_before, self._rev = self._rev, self._doc.committed_rev
        if not rev_before and self._rev:
            return  # the document has arrived, and the cursors point into it already
        change = text_change(before, state, self._path)
        if change is None:
            return
        self._state = moved_cursor(self._state, change)
        self._show(
            {
                peer: MappingProxyType(moved_cursor(dict(shown), change))
                for peer, shown in self._others.items()
            }
        )


def _position(value: Any) -> Json:
    """A value as it is sent."""
    if isinstance(value, Span):
        return [value.start.utf16, value.end.utf16]
    return value.utf16 if isinstance(value, Anchor) else value


def _checked(state: Mapping[str, Json], doc_id: str) -> dict[str, Json]:
    """A copy of a state. Raises `InvalidRequestError` for one that the relay would drop unseen."""
    copy: dict[str, Json] = checked_copy(dict(state), path="/presence")
    size = len(codec.encode([codec.encode_text(copy), doc_id]))
    if size > _MOST_BYTES:
        raise InvalidRequestError(
            f"presence: the state has {size} bytes in its message, "
            f"with which it must stay below {_MOST_BYTES + 256}"
        )
    return copy


def _plain(others: Mapping[str, Mapping[str, Json]]) -> Json:
    return {peer: dict(state) for peer, state in others.items()}
