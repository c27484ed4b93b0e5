"""Every error that a server can answer, at every call: what the user sees, and when.

The table has each error of this repository's server, and of one like @dabble/patches 0.28.1. None
of them may leave a document that waits for ever and does not say so.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import pytest

from patches import Patches
from patches.errors import (
    BranchError,
    ChangeRefusedError,
    DocDeletedError,
    ForbiddenError,
    FrameTooLargeError,
    InvalidRequestError,
    JSONRPCError,
    JSONRPCParseError,
    NetworkError,
    NotFoundError,
    PatchesError,
    StaleSubmissionError,
    StatusError,
    TooManyRequestsError,
    UnauthorizedError,
    UnavailableError,
)
from patches.model.change import Change, Snapshot
from patches.net.connection import CommitAnswer
from patches.runtime import Runtime
from patches.sync import PatchesSync
from patches.testing.fake_connection import Call, FakeConnection
from patches.testing.virtual_time import idle, virtual_time
from tests.support.sync_scene import NoJitter

#: What becomes of the document when a call is answered with an error, for as long as that lasts:
#: - gone: it was deleted on the server.
#: - aside: the change is in quarantine, and all others arrive.
#: - doc: the document is in "error" at once, and `on_error` has it once.
#: - waits: the document is in "error" at once and tried again; `on_error` has it after the ladder.
#: - silent: as if the network were bad: tried again, never an error.
#: - reloads: fetched whole; if that does not help, "error".
Outcome: TypeAlias = Literal["gone", "aside", "doc", "waits", "silent", "reloads"]

MakeError: TypeAlias = Callable[[Call], Exception]


@dataclass(frozen=True)
class Row:
    """One error, and what it leads to as the answer of a read and of a commit."""

    make: MakeError
    read: Outcome
    commit: Outcome


def named(code: int, **data: Any) -> MakeError:
    """An error about the bad change of a commit."""

    def make(call: Call) -> Exception:
        changes = call.changes if call.method == "commitChanges" else []
        change_id = next((change.id for change in changes if is_bad(change)), "unknown")
        return StatusError(code, "no", {"scope": "change", "changeId": change_id, **data})

    return make


def is_bad(change: Change) -> bool:
    return "bad" in str(change.ops)


def fixed(error: Exception) -> MakeError:
    return lambda call: error


ROWS: dict[str, Row] = {
    "400": Row(fixed(InvalidRequestError("no")), "doc", "aside"),
    "400 doc": Row(fixed(InvalidRequestError("no", {"scope": "doc"})), "doc", "doc"),
    "400 change": Row(named(400), "doc", "aside"),
    "400 change final": Row(named(400, final=True), "doc", "aside"),
    "400 for a change that was not sent": Row(
        fixed(ChangeRefusedError("unknown", "no")), "doc", "aside"
    ),
    "401": Row(fixed(UnauthorizedError("no")), "doc", "doc"),
    "402": Row(fixed(StatusError(402, "pay")), "doc", "doc"),
    "403": Row(fixed(ForbiddenError("WRITE_FORBIDDEN:d")), "doc", "doc"),
    "403 change": Row(named(403), "doc", "aside"),
    "404": Row(fixed(NotFoundError("no")), "doc", "doc"),
    "405": Row(fixed(StatusError(405, "no")), "doc", "aside"),
    "408": Row(fixed(StatusError(408, "late")), "waits", "waits"),
    "409": Row(fixed(StatusError(409, "busy")), "waits", "waits"),
    "409 doc": Row(fixed(StaleSubmissionError("reload")), "reloads", "reloads"),
    "409 change": Row(named(409), "waits", "aside"),
    "410": Row(fixed(DocDeletedError("d", deleted_at=1, last_rev=1)), "gone", "gone"),
    "413": Row(fixed(StatusError(413, "large")), "doc", "aside"),
    "413 commit": Row(
        fixed(StatusError(413, "large", {"limit": "max_commit_bytes"})), "doc", "aside"
    ),
    "413 document": Row(
        fixed(StatusError(413, "large", {"limit": "max_doc_bytes"})), "doc", "aside"
    ),
    "413 change": Row(named(413), "doc", "aside"),
    "422": Row(fixed(StatusError(422, "no")), "doc", "aside"),
    "425": Row(fixed(StatusError(425, "early")), "waits", "waits"),
    "429": Row(fixed(TooManyRequestsError("slow", retry_after_ms=500)), "waits", "waits"),
    "500": Row(fixed(StatusError(500, "bug")), "waits", "waits"),
    "502": Row(fixed(StatusError(502, "proxy")), "waits", "waits"),
    "503": Row(fixed(UnavailableError("busy", {"reason": "BUSY"})), "waits", "waits"),
    "503 storage": Row(fixed(UnavailableError("disk", {"reason": "STORAGE"})), "waits", "waits"),
    "-32000": Row(fixed(JSONRPCError(-32000, "Server error", {"ref": "x"})), "waits", "waits"),
    "-32600": Row(fixed(JSONRPCError(-32600, "Invalid Request")), "doc", "doc"),
    "-32601": Row(fixed(JSONRPCError(-32601, "Method not found")), "doc", "doc"),
    "-32602": Row(fixed(JSONRPCError(-32602, "Invalid params")), "doc", "doc"),
    "-32603": Row(fixed(JSONRPCError(-32603, "unreadable")), "waits", "waits"),
    "-32700": Row(fixed(JSONRPCParseError("{")), "waits", "waits"),
    "no status": Row(fixed(BranchError("odd")), "waits", "waits"),
    "no answer": Row(fixed(NetworkError("late")), "silent", "silent"),
    "too large a frame": Row(fixed(FrameTooLargeError("1009")), "silent", "aside"),
    "time-out": Row(fixed(TimeoutError()), "silent", "silent"),
    "a bug here": Row(fixed(ValueError("odd")), "waits", "waits"),
}

CALLS = ("getDoc", "getChangesSince", "commitChanges")


class World:
    """A client of OT or LWW over a server that keeps a log and fails as it is told."""

    def __init__(self, algorithm: str, row: Row, method: str) -> None:
        self.algorithm, self.row, self.method = algorithm, row, method
        self.log: list[Change] = []
        self.failing = False
        self.connection = FakeConnection(
            getDoc=self.reply(lambda call: self.snapshot()),
            getChangesSince=self.reply(lambda call: self.log[call.args[1] :]),
            commitChanges=self.reply(self.commit),
        )
        self.errors: list[tuple[str, str | None, str | None]] = []
        self.deleted: list[str] = []
        self.statuses: list[str] = []

    def reply(self, honest: Callable[[Call], Any]) -> Callable[[Call], Any]:
        def answer(call: Call) -> Any:
            fails = call.method != "commitChanges" or any(map(is_bad, call.changes))
            if self.failing and fails and call.method == self.method and call.doc_id == "d":
                return self.row.make(call)
            return honest(call) if call.doc_id == "d" else self.other(call)

        return answer

    def other(self, call: Call) -> Any:
        return {"getDoc": Snapshot(state={}, rev=1), "getChangesSince": []}[call.method]

    def snapshot(self) -> Snapshot:
        return Snapshot(state={}, rev=0, changes=list(self.log))

    def commit(self, call: Call) -> CommitAnswer:
        base = call.changes[0].base_rev
        for change in call.changes:
            rev = len(self.log) + 1
            ops = [{**op, "rev": rev} if self.algorithm == "lww" else op for op in change.ops]
            self.log.append(change.replace(ops=ops, rev=rev, base_rev=rev - 1, committed_at=1))
        return CommitAnswer(self.log[base:])


def cases() -> list[Any]:
    return [
        pytest.param(algorithm, method, name, id=f"{algorithm}-{method}-{name}")
        for algorithm in ("ot", "lww")
        for method in CALLS
        for name in ROWS
    ]


@pytest.mark.parametrize(("algorithm", "method", "name"), cases())
def test_every_error_at_every_call(algorithm: str, method: str, name: str) -> None:
    row = ROWS[name]
    outcome = row.commit if method == "commitChanges" else row.read
    virtual_time(_every_error)(World(algorithm, row, method), outcome)


async def _every_error(world: World, outcome: Outcome) -> None:
    runtime = Runtime(random=NoJitter(1), wall_ms=lambda: 1_000_000)
    async with (
        Patches(runtime=runtime, default_algorithm=world.algorithm) as patches,
        PatchesSync(patches, world.connection) as sync,
    ):
        sync.on_error(
            lambda error, context: world.errors.append(
                (type(error).__name__, context.doc_id, context.change_id)
            )
        )
        sync.on_remote_doc_deleted(lambda doc_id, _pending: world.deleted.append(doc_id))
        other = await patches.open_doc("other")
        world.failing = world.method == "getDoc"
        doc = await patches.open_doc("d")
        await idle()
        if not world.failing:
            doc.apply([{"op": "replace", "path": "/first", "value": 1}])
            await sync.settled(5)
            world.failing = True
        if world.method == "getChangesSince":
            world.connection.on_changes_committed.emit("d", [])
        elif world.method == "commitChanges":
            for number, value in enumerate(("good", "bad", "later")):
                doc.apply([{"op": "replace", "path": f"/n{number}", "value": value}])
        await _looks(world, patches, sync, outcome)
        assert other.sync_status == "synced"
        if outcome not in ("gone", "aside"):
            # It passes: everything arrives without help.
            world.failing = False
            await asyncio.sleep(700 if outcome != "doc" or sync.synced["d"].has_pending else 0)
            world.connection.drop()
            world.connection.restore()
            await sync.settled(5)
            assert sync.synced["d"].status == "synced"
            assert doc.state == _expected(world, with_bad=True)


async def _looks(world: World, patches: Patches, sync: PatchesSync, outcome: Outcome) -> None:
    is_commit = world.method == "commitChanges"
    await asyncio.sleep(0.01)  # one round trip, and everything that follows at once
    reported = [error for error in world.errors if error[1] == "d"]
    match outcome:
        case "gone":
            assert world.deleted == ["d"]
            assert "d" not in sync.synced
            await sync.settled(1)
        case "aside":
            entries = await patches.list_quarantined_changes("d")
            assert [str(entry.change.ops[0]["value"]) for entry in entries] == ["bad"]
            assert entries[0].reason
            assert [change_id for _, _, change_id in reported] == [entries[0].change_id]
            with pytest.raises((StatusError, PatchesError)):
                await sync.settled(1)
            assert sync.synced["d"].status == "synced"
            assert not sync.synced["d"].has_pending
            assert patches.get_open_doc("d") is not None
            assert patches.get_open_doc("d").state == _expected(world)  # type: ignore[union-attr]
            await sync.settled(1)
        case "doc":
            assert len(reported) == 1
            assert sync.synced["d"].status == "error"
            assert sync.synced["d"].has_pending is is_commit
            assert await patches.list_quarantined_changes("d") == []
            with pytest.raises(PatchesError):
                await sync.settled(1)
            await sync.settled(1, docs=["other"])
            await asyncio.sleep(50)
            assert len([error for error in world.errors if error[1] == "d"]) == 1
        case "waits":
            assert reported == []
            assert sync.synced["d"].status == "error"
            assert sync.synced["d"].error is not None
            with pytest.raises(TimeoutError):
                await sync.settled(1)
            await sync.settled(1, docs=["other"])
            await asyncio.sleep(400)  # the ladder is used up
            assert len([error for error in world.errors if error[1] == "d"]) == 1
            with pytest.raises((PatchesError, ValueError)):
                await sync.settled(60)
        case "silent":
            with pytest.raises(TimeoutError):
                await sync.settled(1)
            await sync.settled(1, docs=["other"])
            assert reported == []
            assert sync.synced["d"].status != "error"
        case "reloads":
            if world.method == "getChangesSince":  # the reload works, and heals it
                await sync.settled(1)
                assert sync.synced["d"].status == "synced"
                return
            await asyncio.sleep(400)
            assert sync.synced["d"].status == "error"
            with pytest.raises(PatchesError):
                await sync.settled(60)


def _expected(world: World, *, with_bad: bool = False) -> dict[str, Any]:
    expected: dict[str, Any] = {"first": 1} if world.method != "getDoc" else {}
    if world.method == "commitChanges":
        expected |= {"n0": "good", "n2": "later"}
        if with_bad:
            expected["n1"] = "bad"
    return expected


@pytest.mark.parametrize("name", ROWS)
def test_every_error_of_a_subscription_is_reported_once_and_the_documents_sync(name: str) -> None:
    @virtual_time
    async def run() -> None:
        connection = FakeConnection(
            subscribe=lambda call: ROWS[name].make(call), getDoc=Snapshot(state={"a": 1}, rev=1)
        )
        connection.replies["getChangesSince"] = []
        errors: list[str | None] = []
        async with Patches() as patches, PatchesSync(patches, connection) as sync:
            sync.on_error(lambda _error, context: errors.append(context.doc_id))
            doc = await patches.open_doc("d")
            await sync.settled(5)
            assert doc.state == {"a": 1}
            assert errors == [None]
            await asyncio.sleep(100)
            assert errors == [None]
            connection.replies["subscribe"] = lambda call: list(call.args[0])
            pulls = connection.count("getChangesSince")
            await asyncio.sleep(31)
            assert connection.count("getChangesSince") > pulls  # what was missed meanwhile
            await patches.untrack_docs(["d"])

    run()


@pytest.mark.parametrize("name", ROWS)
@pytest.mark.parametrize("method", ["deleteDoc", "unsubscribe"])
def test_every_error_of_a_deletion_and_an_unsubscription_is_reported(
    method: str, name: str
) -> None:
    @virtual_time
    async def run() -> None:
        connection = FakeConnection(
            getDoc=Snapshot(state={"a": 1}, rev=1), deleteDoc=None, unsubscribe=[]
        )
        connection.replies[method] = lambda call: ROWS[name].make(call)
        errors: list[tuple[Exception, str | None]] = []
        async with Patches() as patches, PatchesSync(patches, connection) as sync:
            sync.on_error(lambda error, context: errors.append((error, context.doc_id)))
            await patches.open_doc("d")
            await patches.open_doc("other")
            await sync.settled(5)
            if method == "deleteDoc":
                await patches.delete_doc("d")
            else:
                await patches.untrack_docs(["d"])
            await idle()
            is_done = method == "deleteDoc" and name == "410"
            assert len(errors) == (0 if is_done else 1)
            await sync.settled(5)
            assert sync.synced["other"].status == "synced"
            connection.replies[method] = None

    run()
