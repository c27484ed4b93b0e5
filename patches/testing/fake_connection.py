"""`FakeConnection`: a `PatchesConnection` that a test drives step by step.

Every call waits until the test answers it, so a test can put any event between any two others:

    connection = FakeConnection()
    async with PatchesSync(patches, connection) as sync:
        (await connection.next_call("subscribe")).answer(["d"])
        pull = await connection.next_call("getDoc")
        connection.on_changes_committed.emit("d", [change])
        pull.answer(Snapshot(state={}, rev=3))

`replies` answers calls by itself: a method's value, exception, or function of the call.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from patches.aio.signals import Signal
from patches.errors import NetworkError
from patches.model.change import Change, Snapshot
from patches.model.json_values import Json
from patches.net.connection import CommitAnswer, Options
from patches.net.transport import TransportState


@dataclass(eq=False)
class Call:
    """One call of the code under test: answer it, or fail it."""

    method: str
    args: tuple[Any, ...]
    result: asyncio.Future[Any] = field(repr=False)

    @property
    def doc_id(self) -> str:
        """The first argument."""
        doc_id: str = self.args[0]
        return doc_id

    @property
    def changes(self) -> list[Change]:
        """What a `commitChanges` sends."""
        return list(self.args[1])

    def answer(self, value: Any = None) -> None:
        """Return from the call, once."""
        assert not self.result.done(), f"{self.method} was answered or cancelled already"
        self.result.set_result(value)

    def commit(self, rev: int, *, before: Sequence[Change] = ()) -> list[Change]:
        """Answer a `commitChanges`: `before` by others, then its own, the first at `rev`."""
        own = [
            change.replace(rev=rev + index, base_rev=rev + index - 1, committed_at=1)
            for index, change in enumerate(self.changes)
        ]
        self.answer(CommitAnswer([*before, *own]))
        return own

    def fail(self, error: BaseException) -> None:
        """Raise from the call."""
        assert not self.result.done(), f"{self.method} was answered or cancelled already"
        self.result.set_exception(error)


#: What a method replies by itself: a value, an exception, or a function of the call that gives one.
Reply = Any | Callable[[Call], Any]


class FakeConnection:
    """A server that does what the test says."""

    url = "fake:"

    def __init__(self, **replies: Reply) -> None:
        self.replies: dict[str, Reply] = {"subscribe": lambda call: list(call.args[0]), **replies}
        self.calls: list[Call] = []  # all there were
        self.waiting: deque[Call] = deque()  # those that nobody took with `next_call`
        self.up = True  # whether `connect` works
        self.online: bool = True
        #: What is done to each committed change on its way to the client.
        self.as_committed: Callable[[Change], Change] = _as_it_is
        self.cause: NetworkError = NetworkError("nobody there")  # why, when it does not
        self.failure: NetworkError | None = None
        self._state: TransportState = "disconnected"
        self._wanted = False
        self._arrived = asyncio.Event()
        self.on_state_change: Signal[[TransportState]] = Signal("on_state_change")
        self.on_changes_committed: Signal[[str, Sequence[Change]]] = Signal("on_changes_committed")
        self.on_doc_deleted: Signal[[str]] = Signal("on_doc_deleted")
        self.on_notification: Signal[[str, Any]] = Signal("on_notification")
        self.on_error: Signal[[Exception]] = Signal("on_error")

    # ---- for the test ----------------------------------------------------------------------------

    async def next_call(self, method: str | None = None) -> Call:
        """The next call that nobody has answered; with `method`, it must be that one."""
        while not self.waiting:
            self._arrived.clear()
            await self._arrived.wait()
        call = self.waiting.popleft()
        assert method in (None, call.method), f"expected {method}, got {call.method}{call.args}"
        return call

    def drop(self) -> None:
        """Lose the connection: what is in flight fails."""
        self.failure = self.failure or NetworkError("Transport disconnected")
        self._set_state("disconnected")
        self._fail_all()

    def fail(self) -> None:
        """Try to connect, as a transport does by itself, in vain."""
        self._set_state("connecting")
        self.failure = self.cause
        self._set_state("error")
        self._set_state("disconnected")

    def restore(self) -> None:
        """Connect again, as a transport does by itself."""
        self._set_state("connecting")
        self.failure = None
        self._set_state("connected")

    @property
    def methods(self) -> list[str]:
        """The names of all calls so far, in order."""
        return [call.method for call in self.calls]

    def count(self, method: str) -> int:
        """How many calls of a method there were."""
        return self.methods.count(method)

    # ---- PatchesConnection -----------------------------------------------------------------------

    @property
    def state(self) -> TransportState:
        return self._state

    async def connect(self, *, background: bool = False) -> None:
        self._wanted = True
        if not self.up:
            self.fail()
            if not background:
                raise self.cause
        elif self._state != "connected" and self.online:
            self.restore()

    async def disconnect(self) -> None:
        self._wanted = False
        self.drop()

    def set_online(self, online: bool) -> None:
        self.online = online
        if not online:
            self.drop()
        elif self._wanted and self.up:
            self.restore()

    async def subscribe(self, doc_ids: Sequence[str]) -> list[str]:
        return list(await self._called("subscribe", list(doc_ids)))

    async def unsubscribe(self, doc_ids: Sequence[str]) -> list[str]:
        return list(await self._called("unsubscribe", list(doc_ids)) or ())

    async def get_doc(self, doc_id: str, options: Options = None) -> Snapshot:
        snapshot: Snapshot = await self._called("getDoc", doc_id, options)
        if not snapshot.changes:
            return snapshot
        return Snapshot(
            state=snapshot.state,
            rev=snapshot.rev,
            changes=list(map(self.as_committed, snapshot.changes)),
            metadata=snapshot.metadata,
        )

    async def get_changes_since(
        self, doc_id: str, rev: int, options: Options = None
    ) -> Sequence[Change]:
        changes: Sequence[Change] = await self._called("getChangesSince", doc_id, rev, options)
        return changes if self.as_committed is _as_it_is else list(map(self.as_committed, changes))

    async def commit_changes(
        self, doc_id: str, changes: Sequence[Change], options: Options = None
    ) -> CommitAnswer:
        answer: CommitAnswer = await self._called("commitChanges", doc_id, list(changes), options)
        return replace(answer, changes=list(map(self.as_committed, answer.changes)))

    async def delete_doc(self, doc_id: str) -> None:
        await self._called("deleteDoc", doc_id)

    async def call(self, method: str, *params: Any) -> Json:
        if method == "getAlgorithm" and method not in self.replies:
            return None  # like a server that does not say
        return await self._called(method, *params)

    def notify(self, method: str, *params: Any) -> None:
        self.calls.append(Call(method, params, asyncio.get_running_loop().create_future()))

    # ---- inside ----------------------------------------------------------------------------------

    async def _called(self, method: str, *args: Any) -> Any:
        call = Call(method, args, asyncio.get_running_loop().create_future())
        self.calls.append(call)
        if self._state != "connected":
            raise NetworkError("not connected")
        if method in self.replies:
            self._reply(call, self.replies[method])
        else:
            self.waiting.append(call)
            self._arrived.set()
        return await call.result

    def _reply(self, call: Call, reply: Reply) -> None:
        try:
            value = reply(call) if callable(reply) else reply
        except Exception as exc:  # the function of a test says how the call fails
            call.fail(exc)
            return
        if isinstance(value, BaseException):
            call.fail(value)
        elif not call.result.done():
            call.answer(value)

    def _fail_all(self) -> None:
        self.waiting.clear()
        for call in self.calls:
            if not call.result.done():
                call.fail(NetworkError("Transport disconnected"))
                call.result.exception()  # nobody may be waiting any more

    def _set_state(self, state: TransportState) -> None:
        if state != self._state:
            self._state = state
            self.on_state_change.emit(state)


def _as_it_is(change: Change) -> Change:
    return change


def committed(
    rev: int, ops: list[Mapping[str, Json]] | None = None, *, id: str | None = None
) -> Change:
    """A change that somebody else committed at `rev`; by default it sets `/rN` to N."""
    ops = ops if ops is not None else [{"op": "replace", "path": f"/r{rev}", "value": rev}]
    return Change(
        id=id or f"other{rev}",
        ops=[dict(op) for op in ops],
        base_rev=rev - 1,
        rev=rev,
        created_at=1,
        committed_at=1,
    )
