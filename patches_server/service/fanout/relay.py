"""`AwarenessRelay`: passes small opaque messages between connections.

Presence is built on it: each client sends its state to the peers it knows. What the relay sees is
never stored. The sender's id is set by the server. A message that names a room, which is a
document's id, is passed only between connections subscribed to that document, so that presence
needs the right to read.

Clients of @dabble/patches 0.28.1 name no room. Where every call is allowed, their messages
go to any peer. Where rights are checked, they go as messages of the documents that both sides are
subscribed to, and to no other peer: a stranger must not appear beside a document it may not read.
A relay of that library that is given a room takes only messages that name it. For it, a connection
is welcomed again in each document it subscribes to, and a departure is announced in each room.

Messages are limited per sender and per receiver, in number and bytes. A receiver that reads slowly
gets the newest of each sender later, so that nobody stays unseen. A flood of them never ends the
receiver's connection.
"""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

from patches.limits import Limits
from patches.model import codec
from patches.model.json_values import Json
from patches_server.service.fanout.hub import Hub
from patches_server.service.fanout.outbox import About, Event
from patches_server.service.fanout.subscriber import Subscriber
from patches_server.service.rates import TokenBucket

#: Beyond this many connections a newcomer is not sent all others, and leaving is not announced to
#: everybody: it would cost the square of their number. Directed messages go on.
_ROSTER_MAX: Final = 1_000
#: A welcome in a room lists everybody up to this number, and then whoever shares a document: a
#: relay without a room takes any welcome for the whole list of its peers.
_LISTED_WHOLE: Final = 32
#: A call that subscribes to more documents than this is not welcomed in each of them.
_WELCOMED_ROOMS: Final = 32
#: Of the documents that two connections share, so many are used, found among so many.
_MAX_SHARED: Final = 8
_MAX_SCANNED: Final = 1_000


#: What a newcomer sends to peers it does not know: a state without an id.
_HELLO: Final = "{}"


class Relayed(enum.Enum):
    """What became of a message."""

    SENT = "ok"
    NO_TARGET = "Target not connected"
    TOO_LARGE = "Message too large"
    TOO_MANY = "Too many messages"


@dataclass(slots=True)
class _Member:
    peer: Subscriber
    messages: TokenBucket
    bytes_sent: TokenBucket
    bytes_received: TokenBucket
    #: Who it has exchanged messages with, and who has to learn that it is gone.
    contacts: dict[str, None] = field(default_factory=dict)
    #: Who has got messages of it since it was last withdrawn.
    seen_by: dict[str, None] = field(default_factory=dict)


class AwarenessRelay:
    """All connections of one server process, by id.

    `is_open`: every peer may read every document, so a message needs no room.
    """

    def __init__(self, hub: Hub, *, limits: Limits, is_open: bool) -> None:
        self._hub, self._limits, self._is_open = hub, limits, is_open
        self._members: dict[str, _Member] = {}
        #: Room -> the connections that have sent or got a message in it.
        self._met: dict[str, dict[str, None]] = {}
        self.dropped: int = 0

    def __len__(self) -> int:
        return len(self._members)

    def join(self, peer: Subscriber) -> None:
        """A connection has opened: it gets its own id and the ids of the others."""
        now = asyncio.get_running_loop().time()
        others = self._everybody()
        per_s, bytes_per_s = self._limits.presence_per_s, self._limits.presence_bytes_per_s
        self._members[peer.connection_id] = _Member(
            peer,
            messages=TokenBucket(per_s, per_s or 0, now=now),
            bytes_sent=TokenBucket(bytes_per_s, bytes_per_s or 0, now=now),
            bytes_received=TokenBucket(bytes_per_s, bytes_per_s or 0, now=now),
        )
        welcome = codec.encode({"id": peer.connection_id, "peers": others})
        peer.outbox.answer(Event("peer-welcome", welcome))

    def leave(self, peer: Subscriber) -> None:
        """A connection is gone: notify the others."""
        member = self._members.pop(peer.connection_id, None)
        if member is None:
            return
        everybody = len(self._members) <= _ROSTER_MAX
        gone = Event("peer-disconnected", codec.encode({"id": peer.connection_id}))
        for other_id in self._members if everybody else member.contacts:
            other = self._members.get(other_id)
            if other is not None:
                other.peer.outbox.withdraw(sender=peer.connection_id)
                other.peer.outbox.put(gone)
        for other_id in member.contacts:
            if other_id in self._members:
                self._members[other_id].contacts.pop(peer.connection_id, None)
                self._members[other_id].seen_by.pop(peer.connection_id, None)

    def subscribed(self, peer: Subscriber, rooms: Sequence[str]) -> None:
        """A connection has subscribed to documents: it is welcomed in each of them."""
        own = peer.connection_id
        if own not in self._members or len(rooms) > _WELCOMED_ROOMS:
            return
        others = [other for other in self._roster_of(peer) if other != own]
        for room in rooms:
            welcome = codec.encode({"id": own, "peers": others, "room": room})
            peer.outbox.answer(Event("peer-welcome", welcome))

    def leave_room(self, left: str, room: str) -> None:
        """A connection has left a room, or may no longer be in it: notify those it met."""
        met = self._met.get(room)
        if met is None or left not in met:
            return
        del met[left]
        if not met:
            del self._met[room]
        if len(met) > _ROSTER_MAX:
            return
        gone = Event("peer-disconnected", codec.encode({"id": left, "room": room}))
        for other in met:
            if other in self._members:
                target = self._members[other].peer
                target.outbox.withdraw(sender=left, room=room)
                self._hub.offer(room, target, gone, about=(left, room))

    def withdraw(self, peer: Subscriber, params: Json) -> None:
        """A connection is seen no more, though it stays: in a room, or by anybody it has met.

        `withdrawn`: clients that know the key keep its id: it may be seen again, and two that
        withdraw at the same time would otherwise both forget whom to greet.
        """
        left = peer.connection_id
        room = params[0] if isinstance(params, list) and params else None
        if isinstance(room, str):
            self.leave_room(left, room)
        elif room is None and left in self._members:
            gone = Event("peer-disconnected", codec.encode({"id": left, "withdrawn": True}))
            seen_by, self._members[left].seen_by = self._members[left].seen_by, {}
            for other_id in seen_by:
                other = self._members.get(other_id)
                if other is not None:
                    other.peer.outbox.withdraw(sender=left)
                    other.peer.outbox.offer(gone, about=(left, None))

    def pass_on(self, sender: Subscriber, params: Sequence[Json], *, size: int) -> Relayed:
        """Pass `[TO, DATA]` or `[TO, DATA, ROOM]` on. What is over a limit is dropped and counted.

        The rate is per second and peer: a state that goes to everybody is one message to each.
        """
        if self._limits.max_presence_bytes is not None and size > self._limits.max_presence_bytes:
            return self._drop(Relayed.TOO_LARGE)
        now = asyncio.get_running_loop().time()
        member = self._members.get(sender.connection_id)
        others = max(1, len(self._members) - 1)
        if member is None or member.messages.take(1, now=now, scale=others):
            return self._drop(Relayed.TOO_MANY)
        target = self._members.get(str(params[0]))
        if target is None:
            return Relayed.NO_TARGET
        room = params[2] if len(params) > 2 else None
        rooms = self._rooms(sender, target.peer, room)
        if not rooms:
            return Relayed.NO_TARGET
        cost = size * len(rooms)
        if member.bytes_sent.take(cost, now=now) or target.bytes_received.take(cost, now=now):
            return self._drop(Relayed.TOO_MANY)
        member.contacts[target.peer.connection_id] = None
        target.contacts[sender.connection_id] = None
        member.seen_by[target.peer.connection_id] = None
        for each in rooms:
            if each is not None:
                met = self._met.setdefault(each, {})
                met.update(dict.fromkeys((sender.connection_id, target.peer.connection_id)))
        data = params[1] if len(params) > 1 else None
        superseded = target.peer.outbox.superseded
        is_hello = self.is_greeting(data)
        arrives = [
            self._offer(
                target.peer,
                signal_event(sender.connection_id, data, each),
                each,
                about=None if is_hello else (sender.connection_id, each),
            )
            for each in rooms
        ]
        self.dropped += target.peer.outbox.superseded - superseded
        return Relayed.SENT if all(arrives) else self._drop(Relayed.TOO_MANY)

    def _rooms(self, sender: Subscriber, target: Subscriber, room: Json) -> list[str | None]:
        """The rooms that a message is passed on in; `None` is none in particular."""
        if isinstance(room, str):
            share = all(self._hub.is_subscribed(peer, room) for peer in (sender, target))
            return [room] if share else []
        if room is not None:
            return []
        if self._is_open:
            return [None]
        few, many = sorted((sender.subscriptions, target.subscriptions), key=len)
        shared = (doc_id for doc_id in islice(few, _MAX_SCANNED) if doc_id in many)
        return list(islice(shared, _MAX_SHARED))

    def _everybody(self) -> list[str]:
        """The ids of all connections, unless they are too many."""
        return list(self._members) if len(self._members) <= _ROSTER_MAX else []

    @staticmethod
    def is_greeting(data: Json) -> bool:
        """Whether a message asks for a state and is none: it must not replace one."""
        return bool(data == _HELLO)

    def _roster_of(self, peer: Subscriber) -> list[str]:
        if len(self._members) <= _LISTED_WHOLE:
            return list(self._members)
        sharing: dict[str, None] = {}
        for room in islice(peer.subscriptions, _MAX_SCANNED):
            for other in self._hub.subscribers_of(room):
                other_id = other.context.connection_id
                if other_id in self._members:
                    sharing[str(other_id)] = None
            if len(sharing) > _ROSTER_MAX:
                return []
        return list(sharing)

    def _offer(
        self, target: Subscriber, event: Event, room: str | None, *, about: About | None
    ) -> bool:
        if room is None:
            return target.outbox.offer(event, about=about)
        return self._hub.offer(room, target, event, about=about)

    def _drop(self, why: Relayed) -> Relayed:
        self.dropped += 1
        return why


def is_signal(params: Json) -> bool:
    """Whether params are those of a message: `[TO, DATA]` or `[TO, DATA, ROOM]`."""
    if not isinstance(params, list) or not params:
        return False
    return isinstance(params[0], str) and params[0] != ""


def signal_event(sender: str, data: Json, room: str | None) -> Event:
    """A message, as its receiver gets it."""
    params: dict[str, Json] = {"from": sender, "data": data}
    if room is not None:
        params["room"] = room
    return Event("signal", codec.encode(params))
