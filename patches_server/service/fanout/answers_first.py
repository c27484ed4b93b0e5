"""`AnswersFirst`: some broadcasts wait for an answer, for clients of @dabble/patches 0.28.1.

Such a client takes the rows of an answer to an LWW commit for newer than any broadcast that it has
applied. If the commit stored nothing, its answer holds rows that were there before; if the client
applies a broadcast first, an older row of the answer stays for good. So what is due to a connection
is held back from such an answer on until the connection's next call about the document, which it
makes after the answer; or else until its end of the socket has taken the answer, and a moment more.
That is no proof: a client may take longer. Proof would be a `baseRev` that makes it see a gap, and
frames unlike those of 0.28.1.

All that is done for that client is here; the hub calls it, and holds back and flushes on its word.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable
from functools import partial
from typing import Final

from patches_server.service.fanout.held_broadcasts import Reason
from patches_server.service.fanout.subscriber import Subscriber

#: What a client gets to apply an answer, from when its end of the socket has taken it.
_TO_APPLY_S: Final = 0.2
#: Upper bound on the delay when the client never acknowledges.
_MAX_DELAY_S: Final = 5.0


class AnswersFirst:
    """The answers that broadcasts wait for, on one server. Owned by its hub.

    `hold(doc_id, subscriber)` begins to hold back, `flush(doc_id, subscriber, reason)` ends it.
    """

    def __init__(
        self,
        hold: Callable[[str, Subscriber], Reason],
        flush: Callable[[str, Subscriber, Reason], None],
    ) -> None:
        self._hold, self._flush = hold, flush
        #: Of answers that are still to come, and of those that are on their way.
        self._to_come: dict[Subscriber, list[tuple[str, Reason]]] = {}
        #: Of every call about a document, where other processes commit too: see `begins`.
        self._in_calls: dict[tuple[str, Subscriber], list[Reason]] = {}
        self.holds_calls = False
        self._on_the_way: dict[tuple[str, Subscriber], list[Reason]] = {}

    def __len__(self) -> int:
        return len(self._to_come) + len(self._on_the_way) + len(self._in_calls)

    def begins(self, subscriber: Subscriber, doc_ids: Iterable[str]) -> None:
        """A call about documents begins, and `ends` once its answer is in the outbox.

        Where other processes commit, a broadcast may come between what an answer was read from and
        the answer. A client must not have the newer rows of the broadcast first.
        """
        for doc_id in doc_ids if self.holds_calls else ():
            self._in_calls.setdefault((doc_id, subscriber), []).append(
                self._hold(doc_id, subscriber)
            )

    def ends(self, subscriber: Subscriber, doc_ids: Iterable[str]) -> None:
        """The answer to a call is in the outbox, or there is none."""
        for doc_id in doc_ids if self._in_calls else ():
            reasons = self._in_calls.get((doc_id, subscriber))
            if reasons is not None:
                reason = reasons.pop(0)
                if not reasons:
                    del self._in_calls[doc_id, subscriber]
                self._flush(doc_id, subscriber, reason)

    def nothing_stored(self, doc_id: str, subscriber: Subscriber) -> None:
        """The commit of a subscriber is about to be answered from what was there already."""
        self._to_come.setdefault(subscriber, []).append((doc_id, self._hold(doc_id, subscriber)))

    def answered(self, subscriber: Subscriber, doc_ids: Collection[str]) -> None:
        """The answer to a call about documents is in the outbox, or there is none."""
        if subscriber not in self._to_come:
            return
        loop = asyncio.get_running_loop()
        waiting = self._to_come.pop(subscriber)
        if left := [each for each in waiting if each[0] not in doc_ids]:
            self._to_come[subscriber] = left
        for doc_id, reason in waiting:
            if doc_id in doc_ids:
                self._on_the_way.setdefault((doc_id, subscriber), []).append(reason)
                end = partial(self._end, doc_id, subscriber, reason)
                loop.call_later(_MAX_DELAY_S, end)
                subscriber.outbox.when_taken(partial(loop.call_later, _TO_APPLY_S, end))

    def called(self, subscriber: Subscriber, doc_ids: Iterable[str]) -> None:
        """A subscriber makes a call about documents: it has applied earlier answers about them."""
        for doc_id in doc_ids if self._on_the_way else ():
            self.end(doc_id, subscriber)

    def end(self, doc_id: str, subscriber: Subscriber) -> None:
        """Hold nothing back any more for answers that are on their way."""
        for reason in self._on_the_way.pop((doc_id, subscriber), ()):
            self._flush(doc_id, subscriber, reason)

    def forget(self, doc_id: str, subscriber: Subscriber) -> None:
        """The subscription has ended."""
        self._on_the_way.pop((doc_id, subscriber), None)

    def left(self, subscriber: Subscriber) -> None:
        """The connection has ended."""
        self._to_come.pop(subscriber, None)

    def _end(self, doc_id: str, subscriber: Subscriber, reason: Reason) -> None:
        reasons = self._on_the_way.get((doc_id, subscriber), [])
        if reason in reasons:
            reasons.remove(reason)
            if not reasons:
                del self._on_the_way[doc_id, subscriber]
            self._flush(doc_id, subscriber, reason)
