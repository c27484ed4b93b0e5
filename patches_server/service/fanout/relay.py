"""`AwarenessRelay`: passes small opaque messages between connections (`spec/protocol.md` 8).

Presence is built on it: each client sends its state to the peers it knows. What the relay sees is
never stored. The sender's id is the server's own word. A message that names a room, which is a
document's id, is passed only between connections subscribed to that document, so that presence
needs the right to read (`spec/reliability.md` T40); one without a room goes to any peer, as in the
original.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import Final, Protocol

from patches.limits import Limits
from patches.model import codec
from patches.model.json_values import Json
from patches_server.service.fanout.hub import Hub, Subscriber
from patches_server.service.rates import TokenBucket
from patches_server.wire.frames import notification_frame

#: Beyond this many connections newcomers are not given all others, nor everybody told of one that
#: leaves: it would cost the square of their number. Directed messages go on.
_ROSTER_MAX: Final = 1_000


class Peer(Subscriber, Protocol):
    """A connection, as the relay sees it."""

    @property
    def connection_id(self) -> str:
        """What others address it by."""
        ...


class Relayed(enum.Enum):
    """What became of a message."""

    SENT = "ok"
    NO_TARGET = "Target not connected"
    TOO_LARGE = "Message too large"
    TOO_MANY = "Too many messages"


class AwarenessRelay:
    """All connections of one server process, by id."""

    def __init__(self, hub: Hub, *, limits: Limits) -> None:
        self._hub, self._limits = hub, limits
        self._peers: dict[str, Peer] = {}
        self._rates: dict[str, TokenBucket] = {}
        self._contacts: dict[str, set[str]] = {}
        self.dropped = 0

    def __len__(self) -> int:
        return len(self._peers)

    def join(self, peer: Peer, *, now: float) -> None:
        """A connection has opened: it is told its own id and who else is there."""
        others = list(self._peers) if len(self._peers) <= _ROSTER_MAX else []
        self._peers[peer.connection_id] = peer
        rate = self._limits.presence_per_s
        self._rates[peer.connection_id] = TokenBucket(rate, rate or 0, now=now)
        welcome = codec.encode({"id": peer.connection_id, "peers": others})
        peer.outbox.put(notification_frame("peer-welcome", welcome))

    def leave(self, peer: Peer) -> None:
        """A connection is gone: the others are told."""
        left = peer.connection_id
        if self._peers.pop(left, None) is None:
            return
        self._rates.pop(left, None)
        met = self._contacts.pop(left, set())
        told = self._peers.keys() if len(self._peers) <= _ROSTER_MAX else met
        gone = notification_frame("peer-disconnected", codec.encode({"id": left}))
        for other in told:
            if other in self._peers:
                self._peers[other].outbox.put(gone)
        for other in met:
            self._contacts.get(other, set()).discard(left)

    def pass_on(self, sender: Peer, params: Sequence[Json], *, size: int, now: float) -> Relayed:
        """Pass `[TO, DATA]` or `[TO, DATA, ROOM]` on. What is over a limit is dropped and counted.

        The rate is per second and peer: a state that goes to everybody is one message to each.
        """
        if self._limits.max_presence_bytes is not None and size > self._limits.max_presence_bytes:
            self.dropped += 1
            return Relayed.TOO_LARGE
        rate = self._rates.get(sender.connection_id)
        if rate is None or rate.take(1, now=now, scale=max(1, len(self._peers) - 1)):
            self.dropped += 1
            return Relayed.TOO_MANY
        target = self._peers.get(str(params[0]))
        room = params[2] if len(params) > 2 else None
        if target is None or not self._share(room, sender, target):
            return Relayed.NO_TARGET
        self._contacts.setdefault(sender.connection_id, set()).add(target.connection_id)
        self._contacts.setdefault(target.connection_id, set()).add(sender.connection_id)
        frame = _signal(sender, params[1] if len(params) > 1 else None, room)
        if isinstance(room, str):
            self._hub.deliver_one(room, target, frame)  # asks for its right, if that is old
        else:
            target.outbox.put(frame)
        return Relayed.SENT

    def _share(self, room: Json, sender: Peer, target: Peer) -> bool:
        if room is None:
            return True
        return isinstance(room, str) and all(
            self._hub.is_subscribed(peer, room) for peer in (sender, target)
        )


def is_signal(jsonrpc: Json, method: Json, params: Json) -> bool:
    """Whether a message is the relay's; all others are the document server's."""
    return (
        method == "peer-signal"
        and jsonrpc == "2.0"
        and isinstance(params, list)
        and bool(params)
        and isinstance(params[0], str)
        and params[0] != ""
    )


def _signal(sender: Peer, data: Json, room: Json) -> bytes:
    params = {"from": sender.connection_id, "data": data}
    if room is not None:
        params["room"] = room
    return notification_frame("signal", codec.encode(params))
