"""`PresenceHub`: the peers of one connection, and what they have states of themselves."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any, Final, Protocol, TypeAlias

from patches.errors import InvalidJsonError, NetworkError
from patches.model import codec
from patches.model.json_values import Json

_log = logging.getLogger("patches.sync")

_HELLO: Final = "{}"
#: Rooms of one peer whose states are remembered.
_KEPT_ROOMS: Final = 16

State: TypeAlias = dict[str, Json]


class OpenRoom(Protocol):
    """A room that is open here."""

    @property
    def doc_id(self) -> str:
        """The document that it is at."""

    def receive(self, peer: str, state: State) -> None:
        """Take the state that a peer has sent."""

    def announce(self, peer: str) -> None:
        """Send the own state to one peer soon."""

    def announce_all(self) -> None:
        """Send the own state to all peers soon."""

    def forget(self, peer: str) -> None:
        """A peer has left."""

    def forget_all(self) -> None:
        """The connection is lost: no peer can be received any more."""


class Relay(Protocol):
    """What presence needs of a connection."""

    def notify(self, method: str, *params: Any) -> None:
        """Send a notification. Raises `NetworkError` without a connection."""


class PresenceHub:
    """The peers of one connection, and the rooms that are open here. Owned by a `PatchesSync`."""

    def __init__(self, relay: Relay) -> None:
        self._relay = relay
        self._own_id: str | None = None
        self._peers: dict[str, None] = {}
        self._greeted = False
        #: The newest state of each peer by the room that it named; `None`: it named none.
        self._states: dict[str, dict[str | None, State]] = {}
        self.rooms: list[OpenRoom] = []
        #: Held by the room that says its state, until the next may.
        self.turn: Final = asyncio.Lock()

    @property
    def own_id(self) -> str | None:
        """What the others know this connection by; `None` without one."""
        return self._own_id

    @property
    def peers(self) -> list[str]:
        """The connections that are known."""
        return list(self._peers)

    def notified(self, method: str, params: Any) -> bool:
        """Take a notification, if it is one of the relay's."""
        if method not in ("peer-welcome", "peer-disconnected", "signal"):
            return False
        if isinstance(params, Mapping):
            if method == "peer-welcome":
                self._welcomed(params)
            elif method == "peer-disconnected":
                is_connected = params.get("withdrawn") is True
                self._left(params.get("id"), params.get("room"), is_connected=is_connected)
            else:
                self._receive(params)
        return True

    def lost(self) -> None:
        """The connection is gone, and everybody with it."""
        self._own_id, self._greeted = None, False
        self._peers.clear()
        self._states.clear()
        for room in list(self.rooms):
            room.forget_all()

    def subscribed(self) -> None:
        """The connection is subscribed to what it needs: the rooms are open to it."""
        self.greet()
        for room in list(self.rooms):
            room.announce_all()

    def greet(self) -> None:
        """Make this connection known to the others, once, if it has any room."""
        if self.rooms and self._own_id is not None and not self._greeted:
            self._greeted = True
            for peer in self._peers:
                self.send(peer, _HELLO, None)

    def send(self, peer: str, data: str, room: str | None) -> None:
        """Send to one peer, as far as that is possible: presence may be lost."""
        if self.names_no_room(peer):
            room = None
        self._notify("peer-signal", peer, data, room)

    def names_no_room(self, peer: str) -> bool:
        """Whether a peer has sent its state without a room, and receives only what names none."""
        return None in self._states.get(peer, ())

    def states_in(self, doc_id: str) -> dict[str, State]:
        """The states that peers have sent to a room so far."""
        found = {peer: each.get(doc_id, each.get(None)) for peer, each in self._states.items()}
        return {peer: state for peer, state in found.items() if state is not None}

    def left_room(self, doc_id: str) -> None:
        """A room is not open here any more: no one keeps this client in it."""
        if self._own_id is None:
            return
        gone = codec.encode_text({"id": self._own_id, "left": True})
        for peer in self._peers:  # also those that sent nothing yet: they may have our state
            if not self.names_no_room(peer):
                self.send(peer, gone, doc_id)
            elif self.rooms:
                self.rooms[-1].announce(peer)  # it keeps one state of us, which is not this room's
        self._notify("peer-leave", doc_id)
        if not self.rooms:
            self._greeted = False
            self._notify("peer-leave")

    def _notify(self, method: str, *params: Any) -> None:
        try:
            self._relay.notify(method, *params)
        except NetworkError:
            _log.debug("presence: not connected")

    def _welcomed(self, params: Mapping[str, Any]) -> None:
        own, peers = params.get("id"), params.get("peers")
        if not isinstance(own, str) or not isinstance(peers, list):
            return
        if params.get("room") is not None:  # the same again, for a relay that takes a room
            return
        self._own_id = own
        present = [peer for peer in peers if isinstance(peer, str) and peer != own]
        for peer in [peer for peer in self._peers if peer not in present]:
            self._left(peer, None)
        self._peers.update(dict.fromkeys(present))
        self.greet()
        for room in list(self.rooms):
            room.announce_all()

    def _left(self, peer: Any, doc_id: Any, *, is_connected: bool = False) -> None:
        """A peer has left one room, or all: then it is forgotten, unless it stays connected."""
        if not isinstance(peer, str):
            return
        if isinstance(doc_id, str):
            self._states.get(peer, {}).pop(doc_id, None)
        else:
            self._states.pop(peer, None)
            if not is_connected:
                self._peers.pop(peer, None)
        for room in list(self.rooms):
            if doc_id in (None, room.doc_id):
                room.forget(peer)

    def _receive(self, params: Mapping[str, Any]) -> None:
        peer, room_id = params.get("from"), params.get("room")
        state = _parsed(params.get("data"))
        if not isinstance(peer, str) or peer == self._own_id or state is None:
            return
        is_new = peer not in self._peers
        self._peers[peer] = None
        if "id" in state and (room_id is None or isinstance(room_id, str)):
            self._remember(peer, room_id, state)
        for room in list(self.rooms):
            if room_id in (None, room.doc_id) and "id" in state:
                room.receive(peer, state)
            elif is_new:
                room.announce(peer)

    def _remember(self, peer: str, room_id: str | None, state: State) -> None:
        rooms = self._states.setdefault(peer, {})
        rooms.pop(room_id, None)
        if state.get("left") is not True:
            rooms[room_id] = state
            if len(rooms) > _KEPT_ROOMS:
                del rooms[next(iter(rooms))]


def _parsed(data: Any) -> dict[str, Json] | None:
    """The state in a message; text that is none, and other values, are nobody's."""
    if isinstance(data, str):
        try:
            data = codec.decode(data)
        except InvalidJsonError:
            return None
    return data if isinstance(data, dict) else None
