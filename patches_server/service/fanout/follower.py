"""`Follower`: lets the subscribers of this process have what all processes commit, in order.

For each document with a subscriber here there is a *cursor*: up to which revision its subscribers
have been notified. What follows on the cursor is broadcast, whether it was committed here or came
as a hint. What is older is dropped. Anything else means that something is missing: then the store
is read from the cursor on, and what it gives is one broadcast. So each revision goes out at most
once and in order, however hints are lost, doubled or shuffled. Hints that are lost without another
one to show it are found by polling the heads of all followed documents.

A deletion, and a document that was made again, is announced as a deletion. Another epoch of the
storage means that revisions may be those of another history: then all connections are closed, and
clients come back and check their tokens.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from patches.aio.tasks import TaskScope
from patches.errors import DocDeletedError, PatchesError
from patches.model.change import Change
from patches.runtime import Runtime
from patches_server.bus.bus import HintBus
from patches_server.bus.hints import Hint
from patches_server.documents.backend import DocAt
from patches_server.documents.document_server import DocumentServer
from patches_server.documents.records import CommitOptions
from patches_server.service.stats import ServerStats

POLL_S: Final = 10.0
#: While the bus is down.
BLIND_POLL_S: Final = 1.0
_FIRST_RETRY_S: Final = 0.25
_LAST_RETRY_S: Final = 5.0
#: Of what waits while the store is read; beyond, it is read once more.
_MAX_WAITING: Final = 1024 * 1024
#: More than this goes out as its last change: subscribers see the gap and pull.
_MAX_CHANGES: Final = 1_000
_MAX_BYTES: Final = 4 * 1024 * 1024

_log = logging.getLogger("patches_server.service.fanout.follower")


class Heads(Protocol):
    """What the follower asks of the shared store."""

    async def moved(self, known: Mapping[str, DocAt]) -> Mapping[str, DocAt]:
        """Those documents that stand elsewhere than is known, and where."""


class Audience(Protocol):
    """What the follower needs of the server: a way to its subscribers, and to document servers."""

    def deliver(
        self,
        doc_id: str,
        changes: Sequence[Change],
        options: CommitOptions | None,
        origin: str | None,
    ) -> None:
        """Notify the subscribers but `origin`."""

    def deliver_deletion(self, doc_id: str, origin: str | None) -> None:
        """Notify the subscribers but `origin`, and forget what is at hand of the document."""

    async def documents_of(self, doc_id: str) -> DocumentServer:
        """What serves the document."""

    def is_elsewhere(self, doc_id: str) -> None:
        """Another process has committed: forget what is at hand."""

    def history_replaced(self, epoch: str) -> None:
        """The storage has another epoch."""


@dataclass(slots=True)
class _Due:
    """A commit that is to go out."""

    base: int
    rev: int
    changes: Sequence[Change]
    options: CommitOptions | None
    origin: str | None = None
    token: str | None = None
    size: int = 0


@dataclass(slots=True)
class _Followed:
    """A document with subscribers here. `at`: the cursor, `None` until it has been read."""

    at: DocAt | None = None
    is_read: asyncio.Event = field(default_factory=asyncio.Event)
    is_catching_up: bool = False
    catches_up_again: bool = False
    waiting: list[_Due] = field(default_factory=list)
    waiting_bytes: int = 0


class Follower:
    """The cursors of one process. `on_other(hint)` gets hints that are not about documents."""

    def __init__(
        self,
        audience: Audience,
        bus: HintBus,
        heads: Heads,
        *,
        process: str,
        tasks: TaskScope,
        stats: ServerStats,
        runtime: Runtime,
        poll_s: float = POLL_S,
        blind_poll_s: float = BLIND_POLL_S,
    ) -> None:
        self._audience, self._bus, self._heads = audience, bus, heads
        self._process, self._tasks, self._stats = process, tasks, stats
        self._random = runtime.random
        self._poll_s, self._blind_poll_s = poll_s, blind_poll_s
        self._followed: dict[str, _Followed] = {}
        self._unread: dict[str, _Followed] = {}
        self._is_reading = False
        self._poll_now = asyncio.Event()
        self._epoch: str | None = None
        self.on_other: Callable[[Hint], None] = lambda _hint: None
        #: Called with each poll.
        self.on_poll: list[Callable[[], None]] = []

    def __len__(self) -> int:
        """How many documents are followed."""
        return len(self._followed)

    async def start(self) -> None:
        """Begin to receive hints and to poll."""
        await self._bus.start(self._process, self._received, self._poll_now.set)
        self._tasks.spawn(self._poll_forever(), name="polls of followed documents")

    async def close(self) -> None:
        """Send what is to be sent, and end."""
        await self._bus.flush()
        await self._bus.close()

    # Subscriptions.

    async def follow(self, doc_id: str) -> None:
        """A document has a subscriber: returns once its cursor is known.

        What is committed later reaches the subscriber by broadcast, what was before by its pull.
        """
        followed = self._followed.get(doc_id)
        if followed is None:
            followed = self._followed[doc_id] = _Followed()
            await self._bus.follow(doc_id)
            self._unread[doc_id] = followed
            if not self._is_reading:
                self._is_reading = True
                self._tasks.spawn(self._read_cursors(), name="heads of documents")
        await followed.is_read.wait()

    def unfollow(self, doc_id: str) -> None:
        """A document has no subscriber any more."""
        followed = self._followed.pop(doc_id, None)
        if followed is not None:
            self._unread.pop(doc_id, None)
            followed.is_read.set()
            self._bus.unfollow(doc_id)

    async def _read_cursors(self) -> None:
        delay_s = _FIRST_RETRY_S
        while self._unread:
            asked, self._unread = self._unread, {}
            try:
                found = await self._heads.moved(dict.fromkeys(asked, DocAt(rev=-1)))
            except PatchesError:
                self._unread = {**asked, **self._unread}
                self._unread = {
                    doc_id: each
                    for doc_id, each in self._unread.items()
                    if self._followed.get(doc_id) is each
                }
                await asyncio.sleep(delay_s)
                delay_s = min(_LAST_RETRY_S, 2 * delay_s)
                continue
            for doc_id, followed in asked.items():
                if self._followed.get(doc_id) is followed:
                    followed.at = found.get(doc_id, DocAt())
                    self._see_epoch(followed.at)
                    followed.is_read.set()
                    self._go_on(doc_id, followed)
        self._is_reading = False

    # Commits and deletions.

    def committed(
        self,
        doc_id: str,
        changes: Sequence[Change],
        options: CommitOptions | None,
        origin: str | None,
    ) -> None:
        """Something was committed in this process."""
        base, rev = changes[0].rev - 1, changes[-1].rev
        followed = self._followed.get(doc_id)
        token = None
        if followed is not None:
            if followed.at is not None and followed.at.rev == base:
                token = followed.at.token
            self._take(doc_id, followed, _Due(base, rev, changes, options, origin))
        self._publish(
            Hint(
                kind="c",
                process=self._process,
                doc_id=doc_id,
                token=token,
                base=base,
                rev=rev,
                options=None if options is None else options.to_wire(),
                changes=tuple(change.encoded for change in changes),
            )
        )

    def deleted(self, doc_id: str, origin: str | None) -> None:
        """A document was deleted in this process."""
        self._audience.deliver_deletion(doc_id, origin)
        self._forget(doc_id)
        self._publish(Hint(kind="d", process=self._process, doc_id=doc_id))

    def publish(self, hint: Hint) -> None:
        """Send a hint that is not about a document."""
        self._publish(hint)

    def _publish(self, hint: Hint) -> None:
        self._stats.hints["sent", hint.kind] += 1
        self._bus.publish(hint)

    def _received(self, hint: Hint) -> None:
        if hint.process == self._process:
            return
        self._stats.hints["received", hint.kind] += 1
        doc_id = hint.doc_id
        if hint.kind not in ("c", "d") or doc_id is None:
            self.on_other(hint)
            return
        followed = self._followed.get(doc_id)
        self._audience.is_elsewhere(doc_id)
        if followed is None:
            return
        if hint.kind == "d":
            self._catch_up(doc_id, followed, "hint")
            return
        at = followed.at
        if at is not None and hint.token is not None and hint.token == at.token:
            if hint.rev <= at.rev:
                return
            if hint.changes:
                changes = [Change.from_encoded(each) for each in hint.changes]
                options = None if not hint.options else CommitOptions.from_wire(hint.options)
                due = _Due(hint.base, hint.rev, changes, options, None, hint.token, hint.size)
                self._take(doc_id, followed, due)
                return
        self._catch_up(doc_id, followed, "gap")

    def _take(self, doc_id: str, followed: _Followed, due: _Due) -> None:
        if followed.at is None or followed.is_catching_up:
            self._wait(followed, due)
            return
        at = followed.at
        if due.rev <= at.rev:
            return
        if due.base != at.rev:
            self._wait(followed, due)
            self._catch_up(doc_id, followed, "gap")
            return
        followed.at = DocAt(at.token if at.rev else due.token, due.rev)
        self._audience.deliver(doc_id, due.changes, due.options, due.origin)
        if followed.at.token is None:
            self._catch_up(doc_id, followed, "new")  # it was made just now: learn its token

    def _wait(self, followed: _Followed, due: _Due) -> None:
        followed.waiting_bytes += due.size or sum(len(change.encoded) for change in due.changes)
        if followed.waiting_bytes > _MAX_WAITING:
            followed.waiting.clear()
            followed.catches_up_again = True
        else:
            followed.waiting.append(due)

    def _go_on(self, doc_id: str, followed: _Followed) -> None:
        """Take what has waited."""
        waiting, followed.waiting, followed.waiting_bytes = followed.waiting, [], 0
        for due in waiting:
            self._take(doc_id, followed, due)
        if followed.catches_up_again:
            followed.catches_up_again = False
            self._catch_up(doc_id, followed, "gap")

    # Catch-up.

    def _catch_up(self, doc_id: str, followed: _Followed, why: str) -> None:
        """Read the store from the cursor on. Reasons that come meanwhile make one more read."""
        if followed.is_catching_up or followed.at is None:
            followed.catches_up_again = True
            return
        followed.is_catching_up = True
        self._stats.catch_ups[why] += 1
        self._tasks.spawn(self._read_store(doc_id, followed), name="catch-up of a document")

    async def _read_store(self, doc_id: str, followed: _Followed) -> None:
        delay_s = _FIRST_RETRY_S
        while self._followed.get(doc_id) is followed:
            assert followed.at is not None
            try:
                await self._read_once(doc_id, followed, followed.at)
                break
            except PatchesError as exc:
                _log.warning("document %.128r cannot be read: %s", doc_id, exc)
            await asyncio.sleep(delay_s)
            delay_s = min(_LAST_RETRY_S, 2 * delay_s)
        followed.is_catching_up = False
        if self._followed.get(doc_id) is followed:
            self._go_on(doc_id, followed)

    async def _read_once(self, doc_id: str, followed: _Followed, at: DocAt) -> None:
        found = (await self._heads.moved({doc_id: at})).get(doc_id)
        if found is None or followed.at is not at:
            return
        self._see_epoch(found)
        is_another = at.token is not None and found.token != at.token
        if is_another or (found.is_deleted and not at.is_deleted):
            self._audience.deliver_deletion(doc_id, None)
            followed.at = found
            return
        if found.rev <= at.rev:
            followed.at = DocAt(found.token, max(at.rev, found.rev), found.is_deleted)
            return
        documents = await self._audience.documents_of(doc_id)
        try:
            changes = await documents.get_changes_since(doc_id, at.rev)
        except DocDeletedError:
            followed.catches_up_again = True
            return
        # Only if it is the same document after it was read, the changes are those of this one.
        after = (await self._heads.moved({doc_id: found})).get(doc_id, found)
        if after.token != found.token or followed.at is not at:
            followed.catches_up_again = True
            return
        if self._followed.get(doc_id) is not followed:
            return
        if not changes:  # rows that concern nobody any more
            followed.at = found
            return
        followed.at = DocAt(found.token, changes[-1].rev)
        self._audience.is_elsewhere(doc_id)
        size = sum(len(change.encoded) for change in changes)
        if len(changes) > _MAX_CHANGES or size > _MAX_BYTES:
            changes = changes[-1:]
        self._audience.deliver(doc_id, changes, None, None)

    def _forget(self, doc_id: str) -> None:
        followed = self._followed.get(doc_id)
        if followed is not None and followed.at is not None:
            followed.at = DocAt(is_deleted=True)
            followed.waiting.clear()

    # Polls.

    async def _poll_forever(self) -> None:
        while True:
            every_s = self._poll_s if self._bus.healthy else self._blind_poll_s
            try:
                async with asyncio.timeout(every_s * self._random.uniform(0.8, 1.2)):
                    await self._poll_now.wait()
            except TimeoutError:
                pass
            self._poll_now.clear()
            try:
                await self._poll()
            except PatchesError as exc:
                _log.warning("the heads of documents cannot be read: %s", exc)
            for poll in self.on_poll:
                poll()

    async def _poll(self) -> None:
        known = {
            doc_id: each.at
            for doc_id, each in self._followed.items()
            if each.at is not None and not each.is_catching_up
        }
        if not known:
            return
        moved = await self._heads.moved(known)
        for doc_id, at in moved.items():
            self._see_epoch(at)
            followed = self._followed.get(doc_id)
            if followed is not None and followed.at == known[doc_id]:  # it has not moved since
                self._stats.catch_ups["poll"] += 1
                self._catch_up(doc_id, followed, "moved")

    def _see_epoch(self, at: DocAt) -> None:
        if at.token is None:
            return
        epoch = at.token.rpartition(".")[0]
        if self._epoch is not None and epoch != self._epoch:
            _log.error("the storage has another history: all clients check theirs")
            self._audience.history_replaced(epoch)
        self._epoch = epoch
