"""`Hub`: who is subscribed to what, and the fan-out of what was committed.

A notification is encoded once and put, as one event, into the outbox of every subscriber but the
connection that committed; nothing here waits for a socket. Rights are checked when a subscription
is made, and again before a delivery if the last check is old: until then, what is due for that one
subscriber is held back, in order. The same is done for a moment after some answers
(`AnswersFirst`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, Final, TypeAlias

from patches.aio.keyed_locks import KeyedLocks
from patches.aio.tasks import TaskScope
from patches.errors import (
    DocDeletedError,
    StatusError,
    TooManyRequestsError,
)
from patches.limits import Limits
from patches.model import codec
from patches.model.change import Change
from patches.model.json_values import Json
from patches_server.auth.access import Access, principal_key
from patches_server.documents.document_server import DocumentServer
from patches_server.documents.records import CommitOptions, Tombstone
from patches_server.service.fanout.answers_first import AnswersFirst
from patches_server.service.fanout.events import (
    committed_event,
    deletion_event,
    ended_event,
    wanted_ids,
)
from patches_server.service.fanout.held_broadcasts import HeldBroadcasts, Key, Reason
from patches_server.service.fanout.outbox import TRY_LATER, About, Event
from patches_server.service.fanout.subscriber import Subscriber
from patches_server.service.stats import ServerStats

_log = logging.getLogger("patches_server.service.fanout.hub")

#: Of one broadcast, so many are written in the turn in which it comes, which takes some
#: milliseconds; to more subscribers than these it goes by their writers.
_MAX_AT_ONCE: Final = 1_000
#: Rights that are checked at once: for one `subscribe`, and again for all subscriptions together.
_PARALLEL: Final = 64

GetTombstone: TypeAlias = Callable[[str], Awaitable[Tombstone | None]]


class Hub:
    """The subscriptions of one server process."""

    def __init__(
        self,
        access: Access,
        *,
        limits: Limits,
        tasks: TaskScope,
        get_tombstone: GetTombstone | None = None,
        reauth_s: float = 300.0,
        stats: ServerStats | None = None,
    ) -> None:
        self._access, self._limits, self._tasks = access, limits, tasks
        self._stats = stats or ServerStats()
        self._get_tombstone, self._reauth_s = get_tombstone, reauth_s
        #: Document -> subscriber -> loop time at which its right was last confirmed.
        self._table: dict[str, dict[Subscriber, float]] = {}
        #: What is held back while a right is checked again, or for `answers_first`.
        self._held = HeldBroadcasts(limits)
        #: What is done for clients of @dabble/patches.
        self.answers_first: AnswersFirst = AnswersFirst(self._hold, self._flush)
        self._views = KeyedLocks()
        self._revocations = 0
        #: Why broadcasts are held back while a subscriber's right is checked again.
        self._rechecks: dict[Key, Reason] = {}
        self._recheck_limit = asyncio.Semaphore(_PARALLEL)
        #: Document servers that keep something for each connection.
        self._connection_ended: list[Callable[[str], object]] = []
        #: Where other processes commit too: called with a document that gets its first subscriber,
        #: and with one that loses its last.
        self.follow: Callable[[str], Awaitable[None]] | None = None
        self.unfollow: Callable[[str], None] = lambda _doc_id: None
        #: Called when a subscription has ended, for whatever reason.
        self.on_removed: Callable[[str, str], object] = lambda _connection_id, _doc_id: None
        #: Called when a document has its first subscriber, and when the last one has left.
        self.on_first_open: Callable[[str], object] = lambda _doc_id: None
        self.on_last_close: Callable[[str], object] = lambda _doc_id: None

    def __len__(self) -> int:
        """How many subscriptions there are."""
        return sum(map(len, self._table.values()))

    def attach(self, server: DocumentServer, *, delivers: bool = True) -> None:
        """Deliver what a document server commits and deletes from now on.

        Without `delivers`, somebody else calls `publish` and `publish_deletion`.
        """

        def committed(
            doc_id: str,
            changes: Sequence[Change],
            options: CommitOptions | None,
            origin: str | None,
        ) -> None:
            if not server.has_views:
                self.publish(doc_id, changes, options, origin)
            elif doc_id in self._table:
                self._tasks.spawn(
                    self._publish_views(doc_id, changes, options, origin, server.view), name="views"
                )

        if delivers:
            server.on_changes_committed(committed)
            server.on_doc_deleted(self.publish_deletion)
        server.on_notification(self.notify)
        server.on_nothing_stored(self._nothing_stored)
        self._connection_ended.append(server.connection_ended)

    # Subscriptions.

    async def subscribe(self, subscriber: Subscriber, wanted: Json) -> list[str]:
        """Subscribe to one id or a list of them; the ids that were granted.

        Refused ids are left out. One with a tombstone is left out and announced as deleted first.
        """
        ids = wanted_ids(wanted, self._limits)
        maximum = self._limits.max_subscriptions
        if maximum is not None and len(subscriber.subscriptions.keys() | ids) > maximum:
            raise TooManyRequestsError(
                f"at most {maximum} subscriptions on one connection", retry_after_ms=60_000
            )
        granted: list[str] = []
        for start in range(0, len(ids), _PARALLEL):
            part = ids[start : start + _PARALLEL]
            answers = await asyncio.gather(*(self._grant(subscriber, doc_id) for doc_id in part))
            granted += [doc_id for doc_id, yes in zip(part, answers, strict=True) if yes]
        return granted

    def unsubscribe(self, subscriber: Subscriber, unwanted: Json) -> list[str]:
        """End subscriptions; those that there were."""
        return [
            doc_id
            for doc_id in wanted_ids(unwanted, self._limits)
            if self._remove(subscriber, doc_id)
        ]

    def is_subscribed(self, subscriber: Subscriber, doc_id: str) -> bool:
        """Whether a subscriber gets this document's changes."""
        return subscriber in self._table.get(doc_id, ())

    def subscribers_of(self, doc_id: str) -> Iterable[Subscriber]:
        """Who gets this document's changes."""
        return self._table.get(doc_id, {}).keys()

    def leave(self, subscriber: Subscriber) -> None:
        """All subscriptions of a connection end."""
        self.answers_first.left(subscriber)
        for doc_id in list(subscriber.subscriptions):
            self._remove(subscriber, doc_id)

    def ended(self, subscriber: Subscriber) -> None:
        """A connection is closed: document servers can forget what they kept for it."""
        self.leave(subscriber)
        connection_id = subscriber.context.connection_id
        if connection_id is None:
            return
        for notify in self._connection_ended:
            try:
                notify(connection_id)
            except Exception:  # boundary: one document server's failure is its own
                _log.exception("connection_ended failed")

    def revoke(self, *, principal: object = None, doc_id: str | None = None) -> None:
        """Rights have changed: those of a principal, to a document, or of the one to the other.

        Nothing more is delivered to these subscriptions before their rights are checked again.
        A subscriber that may still read misses nothing; the subscription of any other ends, and
        it is notified by `subscriptionEnded`.
        """
        self._revocations += 1
        if self._access.open:
            return
        for each in list(self._table) if doc_id is None else [doc_id]:
            for subscriber in list(self._table.get(each, ())):
                if principal is None or principal_key(subscriber.context.principal) == principal:
                    self._start_recheck(each, subscriber)

    async def _grant(self, subscriber: Subscriber, doc_id: str) -> bool:
        while True:
            try:
                await self._require_read(subscriber, doc_id)
            except DocDeletedError:
                subscriber.outbox.answer(deletion_event(doc_id))
                return False
            except StatusError as exc:
                if exc.code == 503:  # nobody said no: the client is to ask again
                    subscriber.outbox.answer(ended_event(doc_id, exc))
                return False
            if subscriber.ended:
                return False
            revocations = self._revocations
            # Subscribed before the tombstone is read: a deletion in between is announced
            # twice rather than never.
            if doc_id not in self._table:
                self.on_first_open(doc_id)
            self._table.setdefault(doc_id, {})[subscriber] = asyncio.get_running_loop().time()
            subscriber.subscriptions[doc_id] = None
            if self.follow is not None:
                await self.follow(doc_id)
            if self._get_tombstone is None or await self._get_tombstone(doc_id) is None:
                return self.is_subscribed(subscriber, doc_id)
            self._remove(subscriber, doc_id)
            if revocations == self._revocations:
                subscriber.outbox.answer(deletion_event(doc_id))
                return False
            # The right may be gone since it was checked, and with it the right to know this.

    async def _require_read(self, subscriber: Subscriber, doc_id: str) -> None:
        """Check the right. What is revoked meanwhile is checked again: the result may be older."""
        checked_after = None
        while checked_after != self._revocations:
            checked_after = self._revocations
            await self._access.require(subscriber.context.principal, doc_id, "read", "subscribe")

    def _remove(self, subscriber: Subscriber, doc_id: str) -> bool:
        self._held.drop((doc_id, subscriber))
        self._rechecks.pop((doc_id, subscriber), None)
        self.answers_first.forget(doc_id, subscriber)
        subscriber.subscriptions.pop(doc_id, None)
        subscriber.outbox.withdraw(room=doc_id)
        subscribers = self._table.get(doc_id)
        if subscribers is None or subscriber not in subscribers:
            return False
        del subscribers[subscriber]
        if not subscribers:
            del self._table[doc_id]
            self.unfollow(doc_id)
            self.on_last_close(doc_id)
        self.on_removed(subscriber.context.connection_id or "", doc_id)
        return True

    # Fan-out.

    def publish(
        self,
        doc_id: str,
        changes: Sequence[Change],
        options: CommitOptions | None,
        origin: str | None,
    ) -> None:
        """Tell every subscriber but `origin` what was committed."""
        if doc_id in self._table:
            self._deliver(doc_id, committed_event(doc_id, changes, options), origin)

    def publish_deletion(self, doc_id: str, origin: str | None) -> None:
        """Tell every subscriber but `origin` that a document was deleted."""
        if doc_id in self._table:
            self._deliver(doc_id, deletion_event(doc_id), origin)

    def notify(
        self,
        doc_id: str,
        method: str,
        params: Mapping[str, Any],
        to: str | Collection[str] | None = None,
    ) -> None:
        """A notification of a document server's own, to every subscriber of the document, or to the
        connections in `to`. Its params get the `docId`. It is encoded once.
        """
        event = Event(method, codec.encode({"docId": doc_id, **params}))
        named = (to,) if isinstance(to, str) else to
        for subscriber in list(self._table.get(doc_id, ())):
            if named is None or subscriber.context.connection_id in named:
                self.deliver_one(doc_id, subscriber, event)

    def _nothing_stored(self, doc_id: str, connection_id: str | None) -> None:
        for subscriber in self._table.get(doc_id, ()):
            if subscriber.context.connection_id == connection_id:
                self.answers_first.nothing_stored(doc_id, subscriber)

    def _hold(self, doc_id: str, subscriber: Subscriber) -> Reason:
        """Hold back what is due to a subscriber from now on."""
        return self._held.begin((doc_id, subscriber))

    def _flush(
        self, doc_id: str, subscriber: Subscriber, reason: Reason, *, may_read: bool = False
    ) -> None:
        """A reason to hold back is over; with the last one, what is due goes out in order.

        `may_read`: the right to read was confirmed just now.
        """
        for event in self._held.end((doc_id, subscriber), reason):
            if may_read:
                self._put(subscriber, event)
            else:
                self.deliver_one(doc_id, subscriber, event)

    async def _publish_views(
        self,
        doc_id: str,
        changes: Sequence[Change],
        options: CommitOptions | None,
        origin: str | None,
        view: Callable[..., Awaitable[Sequence[Change] | None]],
    ) -> None:
        async with self._views(doc_id):  # one commit after the other
            for subscriber in list(self._table.get(doc_id, ())):
                if origin is not None and subscriber.context.connection_id == origin:
                    continue
                seen = await view(doc_id, changes, subscriber.context)
                if seen is not None:
                    self.deliver_one(doc_id, subscriber, committed_event(doc_id, seen, options))

    def _deliver(self, doc_id: str, event: Event, origin: str | None) -> None:
        if self._access.open and not self._held:
            delivered = 0
            for subscriber in self._table[doc_id]:
                if subscriber.connection_id != origin or origin is None:
                    subscriber.outbox.put(event, at_once=delivered < _MAX_AT_ONCE)
                    delivered += 1
            self._stats.broadcast_frames += delivered
            return
        for subscriber in list(self._table[doc_id]):
            if subscriber.context.connection_id != origin or origin is None:
                self.deliver_one(doc_id, subscriber, event)

    def deliver_one(self, doc_id: str, subscriber: Subscriber, event: Event) -> None:
        """Give one subscriber an event about a document; nothing, if its right has ended."""
        checked_at = self._table.get(doc_id, {}).get(subscriber)
        if checked_at is None:
            return
        key = (doc_id, subscriber)
        if self._held.add(key, event):
            if self._held.is_full(key):
                self._end_hold(doc_id, subscriber)
        elif self._access.open or not self._is_old(checked_at):
            self._put(subscriber, event)
        else:
            self._start_recheck(doc_id, subscriber)
            self._held.add(key, event)

    def offer(
        self, doc_id: str, subscriber: Subscriber, event: Event, *, about: About | None = None
    ) -> bool:
        """Give one subscriber an event that it can do without, as `Outbox.offer`."""
        checked_at = self._table.get(doc_id, {}).get(subscriber)
        if checked_at is None:
            return False
        key = (doc_id, subscriber)
        if self._is_old(checked_at) and not self._access.open and not self._held.is_held(key):
            self._start_recheck(doc_id, subscriber)
        if self._held.is_held(key):
            return self._held.offer(key, event)
        return subscriber.outbox.offer(event, about=about)

    def _is_old(self, checked_at: float) -> bool:
        return asyncio.get_running_loop().time() - checked_at >= self._reauth_s

    def _start_recheck(self, doc_id: str, subscriber: Subscriber) -> None:
        """Hold back what is due from now on until a subscriber's right was checked again."""
        key = (doc_id, subscriber)
        if key not in self._rechecks:
            reason = self._rechecks[key] = self._held.begin(key)
            self._tasks.spawn(
                self._recheck(doc_id, subscriber, reason), name="rights checked again"
            )

    async def _recheck(self, doc_id: str, subscriber: Subscriber, reason: Reason) -> None:
        key = (doc_id, subscriber)
        refusal = None
        async with self._recheck_limit:
            try:
                if self._rechecks.get(key) is reason:
                    await self._require_read(subscriber, doc_id)
            except StatusError as exc:
                refusal = exc
        if self._rechecks.get(key) is not reason:
            return  # it has left meanwhile
        if refusal is None:
            del self._rechecks[key]
            self._table[doc_id][subscriber] = asyncio.get_running_loop().time()
            self._flush(doc_id, subscriber, reason, may_read=True)
            return
        self._remove(subscriber, doc_id)
        deleted = isinstance(refusal, DocDeletedError)
        subscriber.outbox.put(deletion_event(doc_id) if deleted else ended_event(doc_id, refusal))
        if refusal.code == 503:
            # Nobody said no: the peer is to come back and to catch up. The connection is closed for
            # clients that do not know the notification.
            subscriber.outbox.close(TRY_LATER, "rights cannot be checked now")

    def _end_hold(self, doc_id: str, subscriber: Subscriber) -> None:
        """Hold no more than may wait in an outbox: stop waiting for an answer, or else end the
        connection."""
        self.answers_first.end(doc_id, subscriber)
        if self._held.is_full((doc_id, subscriber)):  # a check of rights is slow
            self._remove(subscriber, doc_id)
            subscriber.outbox.close(TRY_LATER, "rights cannot be checked now")

    def _put(self, subscriber: Subscriber, event: Event) -> None:
        subscriber.outbox.put(event)
        self._stats.broadcast_frames += 1
