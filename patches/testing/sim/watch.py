"""`Watch`: what is said between the servers and their peers, as it is said.

I4: no queue of a connection, and nothing else a server holds for its connections, is beyond its
limits. I5: nothing of a document goes to whom it may not go. I8: every request gets one answer, or
its connection ends. It stands where a transport would: it sees a frame when the session gets it,
and when the session has put it into its outbox, whatever the network does then.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from patches.errors import InvalidJsonError
from patches.limits import Limits
from patches.model import codec
from patches.testing.sim.loop import Life
from patches.testing.sim.rights import HOSTILE, Rights
from patches_server.service.fanout.outbox import Event, Outbox
from patches_server.service.json_rpc import render

#: Within this many seconds a request has its answer, or its connection has ended.
ANSWER_S: Final = 60.0
#: Small enough to be reached now and then.
LIMITS: Final = Limits(
    max_response_buffer_bytes=4 * 1024, max_response_buffer_msgs=20, max_inflight_requests=32
)
_FIRST_HEARD: Final = {"jsonrpc": "2.0", "id": 1, "method": "subscribe", "params": ["ot-0"]}


@dataclass(frozen=True, slots=True)
class _Asked:
    at_s: float
    method: str
    subject: Any


class WatchedOutbox(Outbox):
    """A session's outbox that tells of every frame it takes; of broadcasts, also how many bytes of
    them were there before."""

    def __init__(self, limits: Limits, on_put: Callable[[bytes, int], None]) -> None:
        super().__init__(limits, render)
        self._on_put = on_put
        self._full_until = 0.0

    @property
    def full_until(self) -> float:
        """Until when calls were not begun, because the peer did not take the answers there were."""
        return self._full_until if self._has_room.is_set() else _now()

    async def get(self) -> bytes | None:
        was_full = not self._has_room.is_set()
        frame = await super().get()
        if was_full and self._has_room.is_set():
            self._full_until = _now()
        return frame

    def put(self, event: Event, *, at_once: bool = True) -> None:
        before = self.broadcast_bytes
        super().put(event, at_once=at_once)
        if self.closing is None:
            self._on_put(render(event), before)

    def _queue(self, event: Event) -> None:
        before = self.broadcast_bytes
        super()._queue(event)
        self._on_put(render(event), before)

    def answer(self, answer: bytes | Event) -> None:
        super().answer(answer)
        if self.closing is None:
            self._on_put(answer if isinstance(answer, bytes) else render(answer), 0)


@dataclass(slots=True, eq=False)
class Conversation:
    """One session, from its start to its end. `who` is its principal, `name` its link."""

    watch: Watch
    who: str
    name: str
    outbox: WatchedOutbox = field(init=False)
    _asked: dict[bytes, list[_Asked]] = field(default_factory=dict)
    _times_used: Counter[bytes] = field(default_factory=Counter)  # of each id

    def __post_init__(self) -> None:
        self.outbox = WatchedOutbox(LIMITS, self._told)

    def asks(self, frame: bytes) -> None:
        """The peer sends a frame."""
        message = _decoded(frame)
        if not isinstance(message, dict) or "id" not in message:
            return
        if self.who != HOSTILE:
            self.watch.heard.append(message)
        params = message.get("params")
        subject = params[0] if isinstance(params, list) and params else None
        asked = _Asked(_now(), str(message.get("method")), subject)
        key = _key(message["id"])
        self._times_used[key] += 1
        self._asked.setdefault(key, []).append(asked)

    def overdue(self) -> Iterator[str]:
        """The requests that have waited for too long."""
        if self.who == HOSTILE or self.outbox.closing is not None:
            return  # a connection that is about to end listens to nothing
        for asked in (asked for each in self._asked.values() for asked in each):
            waits_s = _now() - max(asked.at_s, self.outbox.full_until)
            if waits_s > ANSWER_S:
                yield f"{self.name}: no answer to {asked} for {waits_s:.0f} s"

    def _told(self, frame: bytes, broadcasts: int) -> None:
        outbox, fail = self.outbox, self.watch.fail
        too_many = len(outbox) > 2 * (LIMITS.max_response_buffer_msgs or 0)
        if too_many or broadcasts > (LIMITS.max_response_buffer_bytes or 0):
            fail("I4", f"{self.name}: {len(outbox)} frames, {broadcasts} bytes of broadcasts")
        message = _decoded(frame)
        if "method" in message:
            self._check_notification(message["method"], message["params"])
        else:
            self._check_answer(message)

    def _check_notification(self, method: str, params: dict[str, Any]) -> None:
        doc_id = params.get("docId", params.get("room"))
        if doc_id is None or method == "subscriptionEnded":  # that is how the loss is told
            return
        rights = self.watch.rights
        grace_s = 0.0 if rights.was_told(self.who, doc_id) else rights.reauth_s
        if method == "peer-welcome":
            grace_s = ANSWER_S  # with the answer to `subscribe`, on the right that was asked for it
        if not rights.may_get(self.who, doc_id, grace_s=grace_s):
            self.watch.fail("I5", f"{self.name}: {method} of {doc_id} to {self.who}")

    def _check_answer(self, message: dict[str, Any]) -> None:
        if "error" in message:
            self.watch.errors[str(message["error"]["code"])] += 1
        waiting = self._asked.get(_key(message["id"]), [])
        is_hostile = self.who == HOSTILE
        if not waiting and not is_hostile:
            self.watch.fail("I8", f"{self.name}: an answer that nobody waits for: {message}")
        if len(waiting) != 1 or (self._times_used[_key(message["id"])] > 1 and is_hostile):
            return  # the hostile peer may use an id twice: nobody knows which one this answers
        asked = waiting.pop()
        if "error" in message:
            return
        names = message.get("result") if asked.method == "subscribe" else asked.subject
        for name in names if isinstance(names, list) else [names]:
            if isinstance(name, str) and asked.method not in ("unsubscribe", "peer-signal"):
                self._check_content(asked, name)

    def _check_content(self, asked: _Asked, doc_id: str) -> None:
        """An answer rests on a right that was asked when the call began."""
        if not self.watch.rights.may_get(self.who, doc_id, grace_s=ANSWER_S):
            self.watch.fail("I5", f"{self.name}: an answer to {asked} for {self.who}")


class Watch:
    """All conversations of a run. Calls `fail(invariant, message)`."""

    def __init__(self, rights: Rights, fail: Callable[[str, str], None]) -> None:
        self.rights: Rights = rights
        self.fail: Callable[[str, str], None] = fail
        self.errors: Counter[str] = Counter()  # the codes of all refusals
        self.closes: Counter[int] = Counter()  # why servers closed connections, by code
        #: Some of the honest requests.
        self.heard: deque[Any] = deque([_FIRST_HEARD], maxlen=100)
        self._open: dict[Conversation, None] = {}

    def begins(self, who: str, name: str) -> Conversation:
        """A session starts."""
        conversation = Conversation(self, who, name)
        self._open[conversation] = None
        return conversation

    def ends(self, conversation: Conversation) -> None:
        """It has ended; whoever still waited knows it."""
        closing = conversation.outbox.closing
        if closing is not None and conversation in self._open:
            self.closes[closing.code] += 1
        self._check_overdue(conversation)
        self._open.pop(conversation, None)

    def check(self, lives: Iterable[Life], most_tasks: int) -> None:
        """What has to hold at any time, of everybody who is connected and of every process."""
        for conversation in self._open:
            self._check_overdue(conversation)
        for life in lives:
            if len(life.tasks) > most_tasks:
                names = Counter(task.get_name() for task in life.tasks).most_common(8)
                self.fail("I4", f"{life} has {len(life.tasks)} tasks: {names}")

    def _check_overdue(self, conversation: Conversation) -> None:
        for message in conversation.overdue():
            self.fail("I8", message)


def _decoded(frame: bytes) -> Any:
    try:
        return codec.decode(frame)
    except InvalidJsonError:
        return None


def _key(id: Any) -> bytes:
    return codec.encode(id)


def _now() -> float:
    return asyncio.get_running_loop().time()
