"""`LWWServer`: commits, catch-up, deletion, versions, compaction."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from patches.errors import (
    ChangeRefusedError,
    DocDeletedError,
    RevConflictError,
    StorageError,
    VersionError,
)
from patches.limits import Limits
from patches.model.change import Change, ChangeInput
from patches.model.json_values import Json, Op
from patches_server.documents.context import CallContext, call_context
from patches_server.documents.records import CommitOptions
from patches_server.lww import LWWServer
from patches_server.lww.rows import Row
from patches_server.lww.stores.factory import LWW_STORES
from patches_server.lww.stores.memory import LWWMemoryServerStore
from patches_server.stores.memory.backend import MemoryBackend

DAY = 86_400_000


def submission(change_id: str, *ops: Op, base_rev: int | None = None, **fields: Any) -> ChangeInput:
    return ChangeInput(id=change_id, ops=list(ops), base_rev=base_rev, **fields)


def put(path: str, value: Json, **fields: Any) -> Op:
    return {"op": "replace", "path": path, "value": value, **fields}


def inc(path: str, by: float) -> Op:
    return {"op": "@inc", "path": path, "value": by}


def remove(path: str) -> Op:
    return {"op": "remove", "path": path}


def text(path: str, *parts: Json) -> Op:
    return {"op": "@txt", "path": path, "value": list(parts)}


async def commit(server: LWWServer, *changes: ChangeInput) -> Change:
    result = await server.commit_changes("d", changes)
    (change,) = result.changes
    return change


async def values(server: LWWServer) -> dict[str, Json]:
    """The rows of the document, by path."""
    snapshot = await server.get_doc("d")
    return {op["path"]: op.get("value") for change in snapshot.changes for op in change.ops}


@pytest.fixture
def broadcasts(server: LWWServer) -> list[tuple[Any, ...]]:
    """What the server tells about commits."""
    told: list[tuple[Any, ...]] = []
    server.on_changes_committed(
        lambda doc_id, changes, options, origin: told.append((doc_id, changes, options, origin))
    )
    return told


async def test_a_commit_is_told_with_its_options_and_where_it_came_from(
    server: LWWServer, broadcasts: list[tuple[Any, ...]]
) -> None:
    options = CommitOptions(force_commit=True)
    with call_context(CallContext(client_id="lasting", connection_id="socket")):
        await server.commit_changes("d", [submission("a", put("/x", 1))], options)
    ((doc_id, changes, told, origin),) = broadcasts
    assert (doc_id, told, origin) == ("d", options, "socket")
    assert (changes[0].id, changes[0].base_rev, changes[0].rev) == ("a", 0, 1)


async def test_a_repeated_id_counts_once_within_a_submission(server: LWWServer) -> None:
    change = submission("a", inc("/n", 2))
    await commit(server, change, change)
    assert await values(server) == {"/n": 2}


async def test_a_retry_counts_once_while_its_id_is_kept(server: LWWServer, clock: Any) -> None:
    change = submission("a", inc("/n", 2))
    await commit(server, change)
    clock.now += 30 * DAY - 1
    again = await commit(server, change)
    assert [op["value"] for op in again.ops] == [2]
    clock.now += 1
    await commit(server, change)
    assert await values(server) == {"/n": 4}


async def test_parts_of_a_split_change_are_new_each(server: LWWServer) -> None:
    """The connection broke after the first of two parts: the retry brings both."""
    first, second = submission("a", inc("/n", 1)), submission("b", inc("/n", 10))
    await commit(server, first)
    await commit(server, first, second)
    assert await values(server) == {"/n": 11}


async def test_times_from_the_future_are_lowered(server: LWWServer, clock: Any) -> None:
    await commit(server, submission("a", put("/x", 1, ts=clock.now + 5_000)))
    clock.now += 1
    await commit(server, submission("b", put("/x", 2, ts=clock.now)))
    assert await values(server) == {"/x": 2}


async def test_an_older_write_gets_the_newer_row_back(server: LWWServer, clock: Any) -> None:
    await commit(server, submission("a", put("/x", "new", ts=clock.now)))
    answer = await commit(server, submission("b", put("/x", "old", ts=clock.now - 1), base_rev=1))
    assert answer.rev == 1
    assert [op["value"] for op in answer.ops] == ["new"]


async def test_a_commit_that_only_removes_dead_rows_stores_nothing(
    server: LWWServer, broadcasts: list[tuple[Any, ...]]
) -> None:
    await commit(server, submission("a", remove("/a"), put("/a/b", 5)))
    answer = await commit(server, submission("b", inc("/a/b", 0), base_rev=1))
    assert answer.rev == 1
    assert await server.store.get_current_rev("d") == 1
    assert len(broadcasts) == 1


@pytest.mark.parametrize(
    "bad",
    [
        {"op": "move", "path": "/b"},
        {"op": "@sum", "path": "/a", "value": 1},
        {"op": "replace", "path": "a", "value": 1},
        {"op": "replace", "path": "/a"},
        {"op": "replace", "path": "/a", "value": float("nan")},
        {"op": "@inc", "path": "/a", "value": 2**53},
        {"op": "@inc", "path": "/a", "value": float("inf")},
        {"op": "@inc", "path": "/a", "value": True},
        {"op": "replace", "path": "/a", "value": 1, "ts": "now"},
    ],
    ids=str,
)
async def test_what_fields_have_not_is_refused_and_nothing_is_stored(
    server: LWWServer, bad: Op
) -> None:
    with pytest.raises(ChangeRefusedError) as error:
        await commit(server, submission("good", put("/x", 1)), submission("bad", bad))
    assert (error.value.code, error.value.change_id, error.value.scope) == (400, "bad", "change")
    assert await server.store.get_current_rev("d") == 0


async def test_limits_are_checked(clock: Any) -> None:
    server = LWWServer(LWWMemoryServerStore(), limits=Limits(max_ops_per_change=2))
    with pytest.raises(ChangeRefusedError) as error:
        await commit(server, submission("a", *[put(f"/{n}", 1) for n in range(3)]))
    assert error.value.code == 413


@pytest.mark.parametrize(
    ("steps", "total"),
    [
        ((2**53 - 1, 5), 9007199254740996.0),
        ((-(2**53) + 1, -5), -9007199254740996.0),
        ((1e308, 1e308), sys.float_info.max),
    ],
)
async def test_a_sum_beyond_what_a_browser_counts_exactly_is_stored_as_a_double(
    server: LWWServer, steps: tuple[float, float], total: float
) -> None:
    """Refusing it would stop a client over what somebody else wrote."""
    first, second = steps
    await commit(server, submission("a", put("/n", first)))
    await commit(server, submission("ok", put("/x", 1)), submission("b", inc("/n", second)))
    assert await values(server) == {"/n": total, "/x": 1}
    await commit(server, submission("c", inc("/n", -total)))
    assert (await values(server))["/n"] == 0


async def test_increments_of_one_submission_add_up(server: LWWServer) -> None:
    await commit(server, submission("a", inc("/n", 2**53 - 1), inc("/n", -5), inc("/n", 3)))
    assert await values(server) == {"/n": 2**53 - 3}


async def test_a_delta_on_what_is_no_number_changes_nothing(server: LWWServer) -> None:
    await commit(server, submission("a", put("/o", {"x": 1}), put("/s", "text")))
    answer = await commit(server, submission("b", inc("/o", 1), inc("/s", 1), base_rev=1))
    assert answer.rev == 1
    assert [op["value"] for op in answer.ops] == [{"x": 1}, "text"]


# ---- text ----------------------------------------------------------------------------------------


async def test_text_edits_are_merged_in_the_order_of_commits(server: LWWServer) -> None:
    await commit(server, submission("a", text("/t", {"insert": "Hello"})))
    await commit(server, submission("b", text("/t", {"retain": 5}, {"insert": " world"})))
    answer = await commit(server, submission("c", text("/t", {"insert": "> "}), base_rev=1))
    (op,) = answer.ops
    assert op["op"] == "replace"
    assert op["value"] == {"ops": [{"insert": "> Hello world\n"}]}


async def test_text_edits_do_not_compete_by_time(server: LWWServer, clock: Any) -> None:
    await commit(server, submission("a", text("/t", {"insert": "a"})))
    late = {**text("/t", {"insert": "b"}), "ts": clock.now - 1_000}
    await commit(server, submission("b", late))
    assert await values(server) == {"/t": {"ops": [{"insert": "ba\n"}]}}


async def test_text_that_is_a_string_or_inside_a_value_is_edited(server: LWWServer) -> None:
    await commit(server, submission("a", put("/t", "abc"), put("/doc", {"body": "xyz"})))
    edits = text("/t", {"insert": "1"}), text("/doc/body", {"insert": "2"})
    await commit(server, submission("b", *edits))
    assert await values(server) == {
        "/t": {"ops": [{"insert": "1abc\n"}]},
        "/doc": {"body": "xyz"},
        "/doc/body": {"ops": [{"insert": "2xyz\n"}]},
    }


async def test_a_text_edit_sees_what_its_own_submission_wrote(server: LWWServer) -> None:
    ops = [put("/t", "a"), text("/t", {"insert": "b"}), put("/u", 1), text("/t", {"insert": "c"})]
    await commit(server, submission("a", *ops))
    assert await values(server) == {"/t": {"ops": [{"insert": "cba\n"}]}, "/u": 1}


async def test_a_text_edit_of_what_is_no_text_leaves_it_alone(server: LWWServer) -> None:
    held = {"/n": 5, "/o/k": 1, "/p": 7, "/list": [1, 2], "/object": {"x": 1}}
    await commit(server, submission("a", *(put(path, value) for path, value in held.items())))
    paths = ("/n", "/o", "/p/q", "/list", "/object")
    edits = [text(path, {"insert": "x"}) for path in paths]
    answer = await commit(server, submission("b", *edits, base_rev=1))
    assert answer.rev == 1
    assert {op["path"]: op["value"] for op in answer.ops} == held


async def test_a_retried_text_edit_counts_once(server: LWWServer) -> None:
    change = submission("a", text("/t", {"insert": "x"}))
    await commit(server, change)
    await commit(server, change)
    assert await values(server) == {"/t": {"ops": [{"insert": "x\n"}]}}


# ---- deletion ------------------------------------------------------------------------------------


async def test_a_deleted_document_answers_410_until_it_is_undeleted(
    server: LWWServer, clock: Any
) -> None:
    await commit(server, submission("a", put("/x", 1)))
    with call_context(CallContext(client_id="me")):
        await server.delete_doc("d")
    for refused in (
        server.get_doc("d"),
        server.get_changes_since("d", 0),
        server.commit_changes("d", [submission("b", put("/x", 2))]),
        server.change("d", lambda patch: patch.replace("/x", 3)),
        server.change("d", lambda patch: None),
        server.capture_current_version("d"),
    ):
        with pytest.raises(DocDeletedError) as error:
            await refused
        assert error.value.data == {"deletedAt": clock.now, "lastRev": 1}
    stone = await server.store.get_tombstone("d")
    assert stone is not None
    assert stone.deleted_by_client_id == "me"
    assert await server.undelete_doc("d") is True
    assert await server.undelete_doc("d") is False
    assert await values(server) == {}


async def test_deleting_twice_keeps_the_first_tombstone(server: LWWServer, clock: Any) -> None:
    told: list[Any] = []
    server.on_doc_deleted(lambda doc_id, origin: told.append((doc_id, origin)))
    await commit(server, submission("a", put("/x", 1)))
    await server.delete_doc("d")
    clock.now += 1
    with call_context(CallContext(connection_id="socket")):
        await server.delete_doc("d")
    stone = await server.store.get_tombstone("d")
    assert stone is not None
    assert stone.last_rev == 1
    assert told == [("d", None), ("d", "socket")]


# ---- several processes, failures -----------------------------------------------------------------


async def test_two_servers_on_one_database_lose_no_write(
    sqlite_server: Callable[[], LWWServer],
) -> None:
    servers = [sqlite_server(), sqlite_server()]

    async def until_stored(number: int) -> None:
        while True:  # a commit that lost too often is sent again, as a client does
            with contextlib.suppress(RevConflictError):
                await commit(servers[number % 2], submission(f"c{number}", inc("/n", 1)))
                return

    await asyncio.gather(*map(until_stored, range(12)))
    assert await values(servers[0]) == {"/n": 12}
    assert await servers[0].store.get_current_rev("d") == 12


class Contended(LWWMemoryServerStore):
    """A store whose head has always just moved, for a while."""

    conflicts = 0
    attempts = 0

    async def save_rows(self, doc_id: str, rows: Sequence[Any], **options: Any) -> None:
        self.attempts += 1
        if self.attempts <= self.conflicts:
            raise RevConflictError
        await super().save_rows(doc_id, rows, **options)


async def test_a_commit_tries_five_times() -> None:
    store = Contended()
    store.conflicts = 4
    await commit(LWWServer(store), submission("a", put("/x", 1)))
    assert store.attempts == 5
    store.attempts, store.conflicts = 0, 9
    with pytest.raises(RevConflictError):
        await commit(LWWServer(store), submission("b", put("/x", 2)))
    assert store.attempts == 5


async def test_a_failed_commit_does_not_stop_the_next(server: LWWServer) -> None:
    with pytest.raises(ChangeRefusedError):
        await commit(server, submission("a", {"op": "@sum", "path": "/x", "value": 1}))
    await commit(server, submission("b", put("/x", 1)))


async def test_a_listener_that_fails_does_not_fail_the_commit(server: LWWServer) -> None:
    async def fail(*_: object) -> None:
        raise RuntimeError("listener")

    server.on_changes_committed(fail)
    assert (await commit(server, submission("a", put("/x", 1)))).rev == 1


async def test_time_does_not_run_backwards_over_a_restart(
    sqlite_server: Callable[[], LWWServer], clock: Any
) -> None:
    await commit(sqlite_server(), submission("a", put("/x", 1)))
    clock.now -= 60_000
    answer = await commit(sqlite_server(), submission("b", put("/x", 2)))
    assert answer.committed_at == clock.now + 60_000
    assert await values(sqlite_server()) == {"/x": 2}


# ---- server-side edits and versions --------------------------------------------------------------


async def test_an_edit_by_the_server_is_told_to_everybody(
    server: LWWServer, broadcasts: list[tuple[Any, ...]], clock: Any
) -> None:
    with call_context(CallContext(connection_id="socket")):
        change = await server.change("d", lambda patch: patch.increment("/n", 3), {"by": "cron"})
    assert change is not None
    assert (change.base_rev, change.rev, change.committed_at) == (0, 1, 0)
    assert change.metadata == {"by": "cron"}
    assert change.ops == [{"op": "@inc", "path": "/n", "value": 3, "ts": clock.now}]
    assert [told[3] for told in broadcasts] == [None]
    assert await server.change("d", lambda patch: None) is None


async def test_a_version_holds_the_state(server: LWWServer) -> None:
    assert await server.capture_current_version("d") is None
    first = [put("/a", {"b": 1}), put("/n", 5), put("/n/x", 1)]  # the last goes under a number
    await commit(server, submission("a", *first))
    await commit(server, submission("b", remove("/a"), put("/a/c", 2)))
    version_id = await server.capture_current_version("d", {"name": "First"})
    assert version_id is not None
    assert server.store.versions is not None
    version = await server.store.versions.load_version("d", version_id)
    assert version is not None
    assert (version.end_rev, version.metadata) == (2, {"name": "First"})
    assert await server.store.versions.load_version_state("d", version_id) == (
        b'{"n":5,"a":{"c":2}}'
    )


async def test_a_state_loads_whatever_the_rows_are(server: LWWServer, clock: Any) -> None:
    """A row of one revision may stand below a newer number of the same one."""
    ops = [put("/n", 5, ts=clock.now - 9), put("/m", 1, ts=clock.now)]
    await commit(server, submission("a", *ops))
    store = server.store
    loaded = await store.load_rows("d", now=clock.now)
    assert loaded.rev == 1
    below = Row.from_op({**put("/n/x", 1), "ts": clock.now}, rev=2, pos=0)
    await store.save_rows("d", [below], expected_rev=1, now=clock.now)
    version_id = await server.capture_current_version("d")
    assert store.versions is not None
    assert version_id is not None
    state = await store.versions.load_version_state("d", version_id)
    assert state == b'{"n":5,"m":1}'


async def test_a_store_without_versions_says_so() -> None:
    store = LWWMemoryServerStore()
    store.versions = None  # type: ignore[assignment]  # one of another kind may have none
    with pytest.raises(VersionError, match="requires a store"):
        await LWWServer(store).capture_current_version("d")


# ---- compaction ----------------------------------------------------------------------------------


async def churn(server: LWWServer, clock: Any, revisions: int) -> None:
    """Fields that come and go, and one that stays."""
    await commit(server, submission("keep", put("/keep", 1)))
    for number in range(revisions):
        ops = put(f"/f{number}", number), remove(f"/f{number - 1}")
        await commit(server, submission(f"c{number}", *ops))
        clock.now += DAY


async def test_old_removals_are_dropped_in_passing(server: LWWServer, clock: Any) -> None:
    await churn(server, clock, 300)
    loaded = await server.store.load_rows("d", now=clock.now)
    assert len(loaded.rows) < 90  # of 300 fields that were removed
    assert loaded.floor > 200
    assert (await server.get_doc("d")).rev == loaded.rev == 301


async def test_a_reader_from_before_the_floor_gets_the_whole_document(
    server: LWWServer, clock: Any
) -> None:
    await churn(server, clock, 300)
    loaded = await server.store.load_rows("d", now=clock.now)
    (since_floor,) = await server.get_changes_since("d", loaded.floor)
    assert "" not in [op["path"] for op in since_floor.ops]
    (behind,) = await server.get_changes_since("d", 2)
    assert behind.ops[0] == {"op": "replace", "path": "", "value": {}, "ts": 1, "rev": 0}
    assert {"/keep", "/f299"} <= {op["path"] for op in behind.ops}
    answer = await commit(server, submission("late", put("/mine", 1), base_rev=2))
    assert answer.ops[0]["path"] == ""
    assert {"/keep", "/f299", "/mine"} <= {op["path"] for op in answer.ops}


async def test_the_head_stays_known_when_every_row_was_dropped(
    server: LWWServer, clock: Any
) -> None:
    await commit(server, submission("a", put("/x", 1)))
    await commit(server, submission("b", remove("/x")))
    await server.store.drop_removals("d", stored_before=clock.now + 1, limit=10)
    snapshot = await server.get_doc("d")
    assert (snapshot.state, snapshot.rev, snapshot.changes) == ({}, 2, [])
    (behind,) = await server.get_changes_since("d", 1)
    assert (behind.base_rev, behind.rev) == (1, 2)
    assert [op["path"] for op in behind.ops] == [""]


class Uncompactable(LWWMemoryServerStore):
    async def drop_removals(self, doc_id: str, **options: Any) -> int:
        raise StorageError("disk")


async def test_a_compaction_that_fails_does_not_fail_the_commit() -> None:
    server = LWWServer(Uncompactable())
    for number in range(256):
        await commit(server, submission(f"c{number}", inc("/n", 1)))
    assert await values(server) == {"/n": 256}


async def test_a_subscriber_may_write_to_the_document_it_is_told_of(server: LWWServer) -> None:
    told: list[int] = []

    async def count(doc_id: str, changes: Sequence[Change], *_: Any) -> None:
        told.append(changes[-1].rev)
        if len(told) == 1:
            await server.change(doc_id, lambda patch: patch.increment("/count", 1))

    server.on_changes_committed(count)
    async with asyncio.timeout(5):
        await server.commit_changes("doc", [submission("a", put("/x", 1))])
    assert told == [1, 2]


async def test_a_server_takes_its_store_from_a_backend() -> None:
    backend = MemoryBackend()
    server = LWWServer(backend)
    await server.change("doc", lambda patch: patch.replace("/x", 1))
    assert server.store is backend.open_store(LWW_STORES)


async def test_a_removed_root_has_a_state_too(sqlite_server: Callable[[], LWWServer]) -> None:
    server = sqlite_server()
    await commit(server, submission("c1", put("/a", 1)))
    await commit(server, submission("c2", remove("")))
    version_id = await server.capture_current_version("d")
    assert version_id is not None
    assert server.store.versions is not None
    assert await server.store.versions.load_version_state("d", version_id) == b"null"
    await commit(server, submission("c3", put("/b", 2)))
    version_id = await server.capture_current_version("d")
    assert version_id is not None
    assert await server.store.versions.load_version_state("d", version_id) == b'{"b":2}'
