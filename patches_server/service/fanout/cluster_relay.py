"""`ClusterRelay`: presence messages also between connections of different server processes.

Processes announce to each other which connections they have, by hints that may be lost: it is best
effort. A newcomer is welcomed with all of them, and its client sends its state to each. A message
to a connection of another process travels as a hint, which names the room; each process checks that
its own side is subscribed. The rates hold where the sender is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from typing import Any, Final

from patches.limits import Limits
from patches.model import codec
from patches.model.json_values import Json
from patches_server.bus.hints import Hint
from patches_server.service.fanout.hub import Hub
from patches_server.service.fanout.outbox import Event
from patches_server.service.fanout.relay import AwarenessRelay, Relayed, signal_event
from patches_server.service.fanout.subscriber import Subscriber

#: Beyond so many connections over all processes, newcomers are not given those of others.
_MAX_KNOWN: Final = 1_000
_IDS_PER_HINT: Final = 300
#: Of a message that names no room: the receiver's process picks those that are shared.
_MAX_ROOMS: Final = 32
#: A process that sends nothing for so long is gone.
GONE_S: Final = 9.0


class ClusterRelay(AwarenessRelay):
    """`send(kind, data)` publishes a hint."""

    def __init__(
        self,
        hub: Hub,
        *,
        limits: Limits,
        is_open: bool,
        send: Callable[[str, dict[str, Any]], None],
    ) -> None:
        super().__init__(hub, limits=limits, is_open=is_open)
        self._send = send
        #: Process -> its connections, and when it was there last.
        self._processes: dict[str, dict[str, None]] = {}
        self._seen_at: dict[str, float] = {}

    # The others' connections.

    def announce(self, *, asks: bool = False) -> None:
        """Let the others know all connections here; with `asks`, they answer with theirs."""
        ids = list(self._members)[:_MAX_KNOWN]
        first, rest = ids[:_IDS_PER_HINT], ids[_IDS_PER_HINT:]
        # Only a list that is whole shows who has gone.
        self._send("j", {"ids": first, "whole": not rest, "asks": asks})
        for start in range(0, len(rest), _IDS_PER_HINT):
            self._send("j", {"ids": rest[start : start + _IDS_PER_HINT]})

    def drop_silent(self) -> None:
        """Processes that have sent nothing for long are gone, with their connections."""
        now = asyncio.get_running_loop().time()
        for process, seen_at in list(self._seen_at.items()):
            if now - seen_at > GONE_S:
                del self._seen_at[process]
                for gone in self._processes.pop(process, {}):
                    self._remote_left(gone)

    def received(self, hint: Hint) -> None:
        """A hint of another process about connections."""
        self._seen_at[hint.process] = asyncio.get_running_loop().time()
        data = hint.data
        if hint.kind == "j":
            known = self._processes.setdefault(hint.process, {})
            ids = dict.fromkeys(each for each in data.get("ids", ()) if isinstance(each, str))
            if data.get("whole") is True:
                for gone in [each for each in known if each not in ids]:
                    del known[gone]
                    self._remote_left(gone)
            known.update(ids)
            if data.get("asks") is True:
                self.announce()
        elif hint.kind == "g":
            left, room = data.get("id"), data.get("room")
            if isinstance(left, str) and isinstance(room, str):
                self.leave_room(left, room)
            elif isinstance(left, str):
                if data.get("withdrawn") is not True:
                    self._processes.get(hint.process, {}).pop(left, None)
                self._remote_left(left, withdrawn=data.get("withdrawn") is True)
        elif hint.kind == "s":
            self._deliver(data)

    def _remote_left(self, left: str, *, withdrawn: bool = False) -> None:
        members: dict[str, Json] = {"id": left}
        if withdrawn:
            members["withdrawn"] = True
        gone = Event("peer-disconnected", codec.encode(members))
        for member in self._members.values():
            if left in member.contacts:
                if not withdrawn:
                    del member.contacts[left]
                member.peer.outbox.withdraw(sender=left)
                member.peer.outbox.put(gone)
        if not withdrawn:
            for room in [room for room, met in self._met.items() if left in met]:
                del self._met[room][left]
                if not self._met[room]:
                    del self._met[room]

    def _known(self) -> list[str]:
        known = [each for ids in self._processes.values() for each in ids]
        return known if len(known) + len(self._members) <= _MAX_KNOWN else []

    def _everybody(self) -> list[str]:
        return [*super()._everybody(), *self._known()]

    def _roster_of(self, peer: Subscriber) -> list[str]:
        return [*super()._roster_of(peer), *self._known()]

    # Connections here.

    def join(self, peer: Subscriber) -> None:
        super().join(peer)
        self._send("j", {"ids": [peer.connection_id]})

    def leave(self, peer: Subscriber) -> None:
        is_here = peer.connection_id in self._members
        super().leave(peer)
        if is_here:
            self._send("g", {"id": peer.connection_id})

    def leave_room(self, left: str, room: str) -> None:
        has_met = left in self._met.get(room, ())
        super().leave_room(left, room)
        if has_met and left in self._members:
            self._send("g", {"id": left, "room": room})

    def withdraw(self, peer: Subscriber, params: Json) -> None:
        super().withdraw(peer, params)
        if not (isinstance(params, list) and params):
            self._send("g", {"id": peer.connection_id, "withdrawn": True})

    def pass_on(self, sender: Subscriber, params: Sequence[Json], *, size: int) -> Relayed:
        to = str(params[0])
        is_remote = to not in self._members and any(to in ids for ids in self._processes.values())
        if not is_remote:
            return super().pass_on(sender, params, size=size)
        if self._limits.max_presence_bytes is not None and size > self._limits.max_presence_bytes:
            return self._drop(Relayed.TOO_LARGE)
        now = asyncio.get_running_loop().time()
        member = self._members.get(sender.connection_id)
        others = max(1, len(self._everybody()) - 1)
        if member is None or member.messages.take(1, now=now, scale=others):
            return self._drop(Relayed.TOO_MANY)
        room = params[2] if len(params) > 2 else None
        rooms: list[str] = []
        if isinstance(room, str):
            if not self._hub.is_subscribed(sender, room):
                return Relayed.NO_TARGET
            rooms = [room]
        elif not self._is_open:
            rooms = list(islice(sender.subscriptions, _MAX_ROOMS))
            if not rooms:
                return Relayed.NO_TARGET
        if member.bytes_sent.take(size, now=now):
            return self._drop(Relayed.TOO_MANY)
        member.contacts[to] = None
        for each in rooms if isinstance(room, str) else ():
            self._met.setdefault(each, {}).update(dict.fromkeys((sender.connection_id, to)))
        data = params[1] if len(params) > 1 else None
        message = {"to": to, "from": sender.connection_id, "data": data, "size": size}
        self._send("s", {**message, "rooms": rooms} if rooms else message)
        return Relayed.SENT

    def _deliver(self, message: Mapping[str, Any]) -> None:
        """A message of another process's connection to one here."""
        target, sender = self._members.get(str(message.get("to"))), message.get("from")
        if target is None or not isinstance(sender, str):
            return
        named, size = message.get("rooms"), message.get("size")
        rooms: list[str | None] = []
        if isinstance(named, list):
            rooms += [
                room
                for room in named
                if isinstance(room, str) and self._hub.is_subscribed(target.peer, room)
            ]
        elif self._is_open:
            rooms = [None]
        now = asyncio.get_running_loop().time()
        cost = (size if isinstance(size, int) else 0) * len(rooms)
        if not rooms or target.bytes_received.take(cost, now=now):
            return
        target.contacts[sender] = None
        data = message.get("data")
        for room in rooms:
            if room is not None:
                self._met.setdefault(room, {}).update(
                    dict.fromkeys((sender, target.peer.connection_id))
                )
            about = None if self.is_greeting(data) else (sender, room)
            self._offer(target.peer, signal_event(sender, data, room), room, about=about)
