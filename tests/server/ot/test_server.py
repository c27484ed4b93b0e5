"""`OTServer`: what a commit stores, answers and tells, beside the recorded traces."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from patches.errors import (
    AlgorithmMismatchError,
    ChangeRefusedError,
    DocDeletedError,
    DuplicateChangeIdsError,
    InvalidRequestError,
    RevConflictError,
    StaleSubmissionError,
    StatusError,
)
from patches.json_patch import JSONPatch
from patches.limits import Limits
from patches.model.change import Change, ChangeInput
from patches_server.documents.context import CallContext, call_context
from patches_server.documents.records import CommitOptions
from patches_server.ot import NO_DOC, Bounds, OTServer, OTServerStore
from patches_server.ot.stores.factory import OT_STORES
from patches_server.ot.stores.memory import OTMemoryServerStore

MINUTE = 60_000


class CountingStore:
    """Passes calls on, and keeps their names."""

    def __init__(self, store: OTServerStore) -> None:
        self._store = store
        self.calls: list[str] = []

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._store, name)
        if not callable(value):
            return value

        def call(*args: Any, **options: Any) -> Any:
            self.calls.append(name)
            return value(*args, **options)

        return call


async def test_an_empty_submission_reads_nothing(world: Any) -> None:
    store = CountingStore(world.backend.open_store(OT_STORES))
    result = await world.commit(server=world.another(store))
    assert list(result.changes) == []
    assert store.calls == []


async def test_a_live_commit_reads_nothing_from_the_store(world: Any) -> None:
    store = CountingStore(world.backend.open_store(OT_STORES))
    world.serve(store=store)
    await world.create()
    await world.commit(world.change("a", base_rev=1))
    store.calls.clear()
    await world.commit(world.change("b", base_rev=2))
    await world.commit(world.change("c", base_rev=1), client="u2")  # behind, and foreign
    assert store.calls == ["save_changes", "save_changes"]
    assert await world.state() == {"a": "a", "b": "b", "c": "c"}


async def test_stored_changes_are_not_decoded_to_be_answered(
    world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.create()
    await world.commit(world.change("a", base_rev=1))

    def refuse(_wire: object) -> Any:
        raise AssertionError("decoded")

    monkeypatch.setattr(Change, "from_wire", refuse)
    changes = await world.server.get_changes_since("d", 0)
    snapshot = await world.server.get_doc("d")
    assert [change.rev for change in changes] == [1, 2]
    assert b'"id":"a"' in changes[1].encoded
    assert len(snapshot.changes) == 2


async def test_the_cached_end_of_a_log_is_never_trusted_for_an_answer(world: Any) -> None:
    """Another process writes behind this one's back; each decision is made on what is stored."""
    other = world.another()
    await world.create()
    await world.commit(world.change("a", base_rev=1))
    await world.commit(world.change("b", base_rev=2), server=other, client="u2")

    # A base beyond the cached head is not "ahead".
    result = await world.commit(world.change("c", base_rev=3))
    assert [(c.id, c.rev) for c in result.changes] == [("c", 4)]

    # What the other process has is not answered with what is cached.
    await world.commit(world.change("x", base_rev=4), server=other, client="u2")
    result = await world.commit(world.change("c", base_rev=3))
    assert [c.id for c in result.changes] == ["c", "x"]

    # A deletion by the other process is seen, also by what stores nothing.
    await other.delete_doc("d")
    for again in (world.change("c", base_rev=3), world.change("new", base_rev=5)):
        with pytest.raises(DocDeletedError):
            await world.commit(again)


async def test_a_log_that_was_made_again_is_not_taken_for_the_cached_one(world: Any) -> None:
    other = world.another()
    await world.create()
    await world.commit(world.change("a", base_rev=1))
    await other.delete_doc("d", skip_tombstone=True)
    root = [{"op": "replace", "path": "", "value": {"new": True}}]
    await world.commit(world.change("r2", root, base_rev=0, rev=1), server=other)
    await world.commit(world.change("a2", base_rev=1), server=other)
    result = await world.commit(world.change("b", base_rev=1), client="u2")
    assert [c.id for c in result.changes] == ["a2", "b"]
    assert await world.state() == {"new": True, "a2": "a2", "b": "b"}


async def test_a_commit_is_told_once_with_its_origin(world: Any) -> None:
    await world.create()
    await world.commit(world.change("a", base_rev=1), client="u2", connection="s2")
    await world.commit(world.change("a", base_rev=1), client="u2", connection="s2")
    assert world.told == [("d", ["root"], "u1"), ("d", ["a"], "s2")]
    (change,) = await world.server.get_changes_since("d", 1)
    assert change.client_id == "u2"


async def test_a_forged_client_id_and_time_are_overwritten(world: Any) -> None:
    forged = world.change(
        "a",
        base_rev=0,
        rev=77,
        client_id="boss",
        committed_at=5,
        created_at=world.now + 10**9,
    )
    result = await world.commit(forged)
    (change,) = result.changes
    assert (change.client_id, change.committed_at, change.rev) == ("u1", world.now, 1)
    assert change.created_at == world.now, "not in the future"


async def test_the_callers_changes_are_left_as_they_are(world: Any) -> None:
    await world.create({"list": []})
    ops = [{"op": "add", "path": "/list/0", "value": "a"}]
    change = world.change("a", ops, base_rev=1)
    foreign = [{"op": "add", "path": "/list/0", "value": "f"}]
    await world.commit(world.change("f", foreign, base_rev=1), client="u2")
    await world.commit(change)
    assert change == world.change("a", ops, base_rev=1)
    assert ops == [{"op": "add", "path": "/list/0", "value": "a"}]


async def test_what_a_caller_does_to_its_operations_later_changes_nothing(world: Any) -> None:
    await world.create({"list": ["x"]})
    ops = [{"op": "add", "path": "/list/0", "value": "a"}]
    await world.commit(world.change("a", ops, base_rev=1))
    ops[0]["path"] = "/list/1"
    behind = [{"op": "replace", "path": "/list/0", "value": "y"}]
    await world.commit(world.change("b", behind, base_rev=1), client="u2")
    assert await world.state() == {"list": ["a", "y"]}


async def test_a_lost_answer_is_answered_over_a_new_connection(world: Any) -> None:
    """The client's identity is that of its socket, which is a new one after the loss."""
    await world.create({"list": []})
    ops = [{"op": "add", "path": "/list/0", "value": "a"}]
    first = await world.commit(world.change("a", ops, base_rev=1, rev=2), client="socket-1")
    foreign = [{"op": "add", "path": "/list/0", "value": "f"}]
    await world.commit(world.change("f", foreign, base_rev=2), client="u2")
    again = await world.commit(world.change("a", ops, base_rev=1, rev=2), client="socket-2")
    assert [(c.id, c.rev) for c in again.changes] == [("a", 2), ("f", 3)]
    assert again.changes[0].encoded == first.changes[0].encoded
    assert await world.state() == {"list": ["f", "a"]}
    assert [told[1] for told in world.told] == [["root"], ["a"], ["f"]]


async def test_what_follows_a_lost_answer_is_committed_once(world: Any) -> None:
    """The resent head of the queue is an echo, not a foreign edit that shifts what follows it."""
    await world.create({"list": []})

    def add(value: str) -> list[Any]:
        return [{"op": "add", "path": "/list/-", "value": value}]

    insert = [{"op": "add", "path": "/list/0", "value": "a"}]
    await world.commit(world.change("a", insert, base_rev=1, rev=2), client="socket-1")
    again = await world.commit(
        world.change("a", insert, base_rev=1, rev=2),
        world.change("b", [{"op": "replace", "path": "/list/0", "value": "A"}], base_rev=1, rev=3),
        world.change("c", add("c"), base_rev=1, rev=4),
        client="socket-2",
    )
    assert [(c.id, c.rev) for c in again.changes] == [("a", 2), ("b", 3), ("c", 4)]
    assert await world.state() == {"list": ["A", "c"]}


async def test_a_clamped_time_is_still_that_of_the_same_change(world: Any) -> None:
    await world.create()
    future = world.now + 5_000
    await world.commit(world.change("a", base_rev=1, created_at=future), client="socket-1")
    world.now += 60_000
    again = await world.commit(world.change("a", base_rev=1, created_at=future), client="socket-2")
    assert [(c.id, c.rev) for c in again.changes] == [("a", 2)]


async def test_a_change_of_somebody_else_with_the_same_id_is_not_an_echo(world: Any) -> None:
    await world.create()
    await world.commit(world.change("a", base_rev=1), client="u2")
    world.now += 1_000
    mine = world.change("a", [{"op": "replace", "path": "/mine", "value": 1}], base_rev=1)
    result = await world.commit(mine)
    assert [c.id for c in result.changes] == ["a"], "as foreign catch-up"
    assert result.changes[0].client_id == "u2"
    assert await world.state() == {"a": "a"}


async def test_an_upload_resumes_over_a_new_connection(world: Any) -> None:
    root = [{"op": "replace", "path": "", "value": {}}]
    batch: dict[str, Any] = {"base_rev": 0, "batch_id": "up"}
    first = world.change("r", root, rev=1, **batch)
    await world.commit(first, client="socket-1")
    result = await world.commit(first, world.change("a", rev=2, **batch), client="socket-2")
    assert [(c.id, c.rev) for c in result.changes] == [("r", 1), ("a", 2)]
    result = await world.commit(world.change("b", rev=3, **batch), client="socket-2")
    assert [(c.id, c.rev) for c in result.changes] == [("b", 3)]


async def test_the_same_id_twice_in_a_submission_counts_once(world: Any) -> None:
    await world.create()
    second = world.change("a", [{"op": "replace", "path": "/z", "value": 1}], base_rev=1)
    await world.commit(world.change("a", base_rev=1), world.change("b", base_rev=1), second)
    assert await world.ids() == ["root", "a", "b"]
    assert await world.state() == {"a": "a", "b": "b"}


async def test_operations_with_timestamps_are_of_another_algorithm(world: Any) -> None:
    await world.create()
    timed = [{"op": "replace", "path": "/a", "value": 1, "ts": 5}]
    with pytest.raises(InvalidRequestError, match="last-write-wins") as raised:
        await world.commit(world.change("a", timed, base_rev=1))
    assert raised.value.data == {"scope": "doc"}
    absent = [{"op": "replace", "path": "/a", "value": 1, "ts": None}]
    await world.commit(world.change("b", absent, base_rev=1))
    assert await world.ids() == ["root", "b"]


@pytest.mark.parametrize(
    "op",
    [
        {"op": "explode", "path": "/a"},
        {"op": "replace", "path": "a", "value": 1},
        {"op": "replace", "path": "/__proto__/x", "value": 1},
        {"op": "replace", "path": "/a", "value": float("nan")},
        {"op": "@txt", "path": "/a", "value": [{"retain": -1}]},
        "no object",
    ],
)
async def test_a_malformed_change_stores_nothing(world: Any, op: Any) -> None:
    await world.create()
    good = world.change("good", base_rev=1)
    with pytest.raises(ChangeRefusedError) as raised:
        await world.commit(good, world.change("bad", [op], base_rev=1))
    assert raised.value.data == {"changeId": "bad", "scope": "change"}
    assert await world.ids() == ["root"]


async def test_operations_that_are_no_list_are_refused(world: Any) -> None:
    for ops in (None, {"op": "replace"}, "text"):
        bad = ChangeInput(id="bad", ops=ops)  # type: ignore[arg-type]  # what an outsider may give
        with pytest.raises(ChangeRefusedError, match="expected a list of operations"):
            await world.commit(bad)


async def test_a_large_commit_keeps_its_place(world: Any) -> None:
    await world.create()
    many = [world.change(f"c{n}", base_rev=1) for n in range(800)]
    large = asyncio.create_task(world.commit(*many))
    await asyncio.sleep(0)
    small = asyncio.create_task(world.commit(world.change("small", base_rev=1), client="u2"))
    await asyncio.gather(large, small)
    assert (await world.ids())[-1] == "small"


async def test_a_document_of_another_algorithm_is_refused(world: Any) -> None:
    world.backend.documents.require_writable("d", "lww", now=world.now)
    with pytest.raises(AlgorithmMismatchError):
        await world.commit(world.change("a"))
    with pytest.raises(AlgorithmMismatchError):
        await world.server.delete_doc("d")


async def test_a_transform_beyond_the_limit_asks_for_a_reload(world: Any) -> None:
    server = world.serve(limits=Limits(max_transform_steps=10))
    await world.create()
    for n in range(6):
        await world.commit(world.change(f"f{n}", base_rev=n + 1), client="u2")
    two = [{"op": "replace", "path": f"/x{n}", "value": n} for n in range(2)]
    for who in (server, world.another(limits=Limits(max_transform_steps=10))):
        with pytest.raises(StaleSubmissionError, match="moved on too far") as raised:
            await world.commit(world.change("late", two, base_rev=1), server=who)
        assert raised.value.data == {"scope": "doc"}
    result = await world.commit(world.change("late", two, base_rev=2))
    assert result.changes[-1].rev == 8


async def test_a_large_transform_runs_in_a_thread(world: Any) -> None:
    threaded: list[Any] = []

    async def run_blocking(fn: Any) -> Any:
        threaded.append(fn)
        return fn()

    world.runtime = type(world.runtime)(
        wall_ms=lambda: world.now, random=world.runtime.random, run_blocking=run_blocking
    )
    world.serve()
    await world.create()
    for start in range(1, 101):
        await world.commit(world.change(f"f{start}", base_rev=start), client="u2")
    assert not threaded
    ops = [{"op": "replace", "path": f"/x{n}", "value": n} for n in range(50)]
    await world.commit(world.change("late", ops, base_rev=1))
    assert threaded
    assert len(await world.state()) == 150


async def test_a_copy_bomb_is_refused_before_it_is_stored(world: Any) -> None:
    world.serve(limits=Limits(max_doc_bytes=100_000))
    await world.create({"a": {"x": "y" * 100}})
    refused: list[StatusError] = []
    for n in range(24):
        ops = [{"op": "copy", "from": "/a", "path": f"/a/k{n}"}]
        rev = len(await world.ids())
        try:
            await world.commit(world.change(f"c{n}", ops, base_rev=rev))
        except StatusError as exc:
            refused.append(exc)
    assert len(refused) > 10
    assert {exc.code for exc in refused} == {413}
    assert refused[0].data == {
        "changeId": refused[0].change_id,
        "scope": "change",
        "limit": "max_doc_bytes",
        "final": True,
    }
    assert 20_000 < len(repr(await world.state())) < 120_000


async def test_many_copies_in_one_change_are_refused_without_building_them(world: Any) -> None:
    await world.create({"a": {"x": "y"}})
    ops = [{"op": "copy", "from": "/a", "path": f"/a/k{n}"} for n in range(200)]
    with pytest.raises(StatusError) as raised:
        await world.commit(world.change("bomb", ops, base_rev=1))
    assert raised.value.code == 413


async def test_a_document_does_not_grow_deeper_than_the_limit(world: Any) -> None:
    await world.create({"a": {}})
    deep: dict[str, Any] = {}
    for _ in range(50):
        deep = {"d": deep}
    await world.commit(world.change("b", [{"op": "add", "path": "/b", "value": deep}], base_rev=1))
    down = "/d" * 40
    await world.commit(
        world.change("c", [{"op": "copy", "from": "/b", "path": "/a/c"}], base_rev=2)
    )
    await world.commit(
        world.change("e", [{"op": "copy", "from": "/b", "path": f"/a/c{down}/e"}], base_rev=3)
    )
    with pytest.raises(ChangeRefusedError, match="levels deep") as raised:
        await world.commit(
            world.change("f", [{"op": "copy", "from": "/a", "path": f"/b{down}/f"}], base_rev=4)
        )
    assert raised.value.data == {
        "changeId": "f",
        "scope": "change",
        "limit": "max_doc_depth",
        "final": True,
    }
    assert await world.ids() == ["root", "b", "c", "e"]


async def test_a_document_over_a_lowered_limit_may_shrink(world: Any) -> None:
    await world.create({"a": "x" * 600, "b": "x" * 600})
    server = world.serve(limits=Limits(max_doc_bytes=1_000))
    with pytest.raises(StatusError) as raised:
        await world.commit(world.change("more", base_rev=1))
    assert raised.value.code == 413
    remove = [{"op": "remove", "path": "/a"}]
    await world.commit(world.change("less", remove, base_rev=1), server=server)
    await world.commit(world.change("more", base_rev=2))
    assert list(await world.state()) == ["b", "more"]


async def test_overwriting_again_and_again_is_not_growing(world: Any) -> None:
    world.serve(limits=Limits(max_doc_bytes=2_000))
    await world.create({"a": ""})
    for n in range(40):
        ops = [{"op": "replace", "path": "/a", "value": "x" * 500}]
        await world.commit(world.change(f"c{n}", ops, base_rev=n + 1))
    head = await world.backend.open_store(OT_STORES).get_head("d")
    assert head.rev == 41
    assert head.bounds.size <= 2_000


async def test_commits_to_one_document_wait_for_each_other(sqlite_world: Any) -> None:
    world = sqlite_world
    await world.create({"list": []})

    def add(n: int) -> ChangeInput:
        ops = [{"op": "add", "path": "/list/0", "value": n}]
        change: ChangeInput = world.change(f"c{n}", ops, base_rev=1)
        return change

    await asyncio.gather(*(world.commit(add(n), client=f"u{n}") for n in range(10)))
    assert await world.ids() == ["root", *(f"c{n}" for n in range(10))]
    assert [told[1] for told in world.told] == [["root"], *([f"c{n}"] for n in range(10))]
    assert len((await world.state())["list"]) == 10


async def test_two_servers_on_one_file_never_lose_or_double_a_change(sqlite_world: Any) -> None:
    world = sqlite_world
    servers = [world.server, world.another()]
    await world.create({"list": []})

    async def write(n: int) -> None:
        ops = [{"op": "add", "path": "/list/0", "value": n}]
        for server in servers:  # the second time it is a resend, to the other process
            await world.commit(
                world.change(f"c{n}", ops, base_rev=1), client=f"u{n}", server=server
            )

    await asyncio.gather(*(write(n) for n in range(8)))
    assert sorted(await world.ids()) == sorted(["root", *(f"c{n}" for n in range(8))])
    assert sorted((await world.state())["list"]) == list(range(8))


class LosingStore(OTMemoryServerStore):
    """A store in which another writer is always first."""

    async def save_changes(self, doc_id: str, changes: Any, **options: Any) -> None:
        head = await self.get_head(doc_id)
        rev = head.rev + 1
        ops = [{"op": "replace", "path": f"/r{rev}", "value": rev}]
        racer = Change(id=f"race{rev}", ops=ops, base_rev=head.rev, rev=rev, created_at=1)
        await super().save_changes(doc_id, [racer], expected=head, now=1)
        await super().save_changes(doc_id, changes, **options)


async def test_a_commit_that_always_loses_gives_up_with_a_retryable_error(world: Any) -> None:
    server = OTServer(LosingStore(), runtime=world.runtime)
    with pytest.raises(RevConflictError):
        await world.commit(world.change("a"), server=server)
    assert len(await server.get_changes_since("d", 0)) == 5


async def test_an_id_that_stays_taken_is_told(world: Any) -> None:
    class Stubborn(OTMemoryServerStore):
        async def save_changes(self, doc_id: str, changes: Any, **options: Any) -> None:
            raise DuplicateChangeIdsError(doc_id, ["another"])

    server = OTServer(Stubborn(), runtime=world.runtime)
    with pytest.raises(DuplicateChangeIdsError):
        await world.commit(world.change("a"), server=server)


async def test_a_listener_that_fails_does_not_fail_the_commit(
    world: Any, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_args: object) -> None:
        raise RuntimeError("listener")

    world.server.on_changes_committed(fail)
    await world.create()
    assert await world.ids() == ["root"]
    assert "listener" in caplog.text


async def test_a_listener_may_edit_the_same_document(world: Any) -> None:
    async def answer(doc_id: str, changes: Any, _options: Any, origin: Any) -> None:
        if origin is not None:
            await world.server.change(doc_id, lambda patch: patch.replace("/seen", changes[0].id))

    world.server.on_changes_committed(answer)
    async with asyncio.timeout(5):
        await world.create()
    assert await world.state() == {"seen": "root"}


async def test_the_others_are_told_although_the_caller_is_gone(sqlite_world: Any) -> None:
    world = sqlite_world
    await world.create()
    told = asyncio.Event()
    world.server.on_changes_committed(lambda *_: told.set())
    begun = asyncio.Event()
    begin_save = world.backend.open_store(OT_STORES).begin_save

    def noted(*args: Any, **options: Any) -> asyncio.Future[None]:
        begun.set()
        saved: asyncio.Future[None] = begin_save(*args, **options)
        return saved

    world.server._committer._begin_save = noted
    commit = asyncio.create_task(world.commit(world.change("a", base_rev=1), client="gone"))
    async with asyncio.timeout(5):
        await begun.wait()
        commit.cancel()
        with pytest.raises(asyncio.CancelledError):
            await commit
        await told.wait()
    assert world.told[-1] == ("d", ["a"], "gone")
    assert await world.ids() == ["root", "a"]
    result = await world.commit(world.change("a", base_rev=1), client="back")
    assert [(c.id, c.rev) for c in result.changes] == [("a", 2)]


async def test_of_a_commit_that_was_cut_and_lost_nobody_is_told(world: Any) -> None:
    """The caller is cancelled while the store works; another process writes in between."""
    await world.create()
    store = world.backend.open_store(OT_STORES)
    gate = asyncio.Event()
    stored: list[str] = []

    class Slow(CountingStore):
        async def save_changes(self, doc_id: str, changes: Any, **options: Any) -> None:
            if not gate.is_set():
                gate.set()
                await asyncio.Event().wait()  # until cancelled, with nothing stored
            stored.append(changes[0].id)
            await store.save_changes(doc_id, changes, **options)

    server = world.another(Slow(store))
    commit = asyncio.create_task(world.commit(world.change("a", base_rev=1), server=server))
    async with asyncio.timeout(5):
        await gate.wait()
        await world.commit(world.change("b", base_rev=1), client="u2")
        commit.cancel()
        with pytest.raises(asyncio.CancelledError):
            await commit
        await world.commit(world.change("c", base_rev=2), server=server)  # after what was cut
    assert stored == ["a", "c"]
    assert await world.ids() == ["root", "b", "c"]
    assert [told[1] for told in world.told] == [["root"], ["b"], ["c"]]


async def test_server_edits_go_the_same_way_and_to_everybody(world: Any) -> None:
    await world.create({"n": 1})

    def edit(patch: JSONPatch) -> None:
        patch.increment("/n", 2)
        patch.replace("/by", "job")

    with call_context(CallContext(client_id="u9", connection_id="s9")):
        change = await world.server.change("d", edit, {"author": "nightly"})
    assert change is not None
    assert (change.rev, change.client_id, change.metadata) == (2, None, {"author": "nightly"})
    assert world.told[-1] == ("d", [change.id], None)
    assert await world.state() == {"n": 3, "by": "job"}
    assert await world.server.change("d", lambda patch: None) is None
    with pytest.raises(ChangeRefusedError, match="already exists"):
        await world.server.change("d", lambda patch: patch.replace("", {}))


async def test_a_server_edit_is_checked_like_any_other(world: Any) -> None:
    with pytest.raises(ChangeRefusedError, match="__proto__"):
        await world.server.change("d", lambda patch: patch.replace("/__proto__/x", 1))


async def test_a_deleted_document_is_barred_on_every_path(world: Any) -> None:
    await world.create()
    await world.server.delete_doc("d")
    calls: tuple[Any, ...] = (
        lambda: world.server.get_doc("d"),
        lambda: world.server.get_changes_since("d", 0),
        lambda: world.commit(world.change("a", base_rev=1)),
        lambda: world.commit(world.change("a", base_rev=0, rev=1)),
        lambda: world.commit(world.change("root", base_rev=0, rev=1)),
        lambda: world.commit(world.change("a")),
        lambda: world.server.change("d", lambda patch: patch.replace("/a", 1)),
        lambda: world.server.capture_current_version("d"),
        lambda: world.another().commit_changes("d", [world.change("a")]),
    )
    for call in calls:
        with pytest.raises(DocDeletedError) as raised:
            await call()
        assert raised.value.code == 410
        assert raised.value.data == {"deletedAt": world.now, "lastRev": 1}
    assert [told[1] for told in world.told] == [["root"]]


async def test_a_deletion_is_told_with_its_origin(world: Any) -> None:
    await world.create()
    with call_context(CallContext(client_id="u2", connection_id="s2")):
        await world.server.delete_doc("d")
    tombstone = await world.backend.open_store(OT_STORES).get_tombstone("d")
    assert tombstone.deleted_by_client_id == "u2"
    assert world.deleted == [("d", "s2")]
    assert await world.server.undelete_doc("d") is True
    assert await world.server.undelete_doc("d") is False
    await world.create({"again": True})
    assert await world.state() == {"again": True}


async def test_a_deletion_between_reading_and_saving_wins(world: Any) -> None:
    await world.create()
    store = world.backend.open_store(OT_STORES)

    class Deleting(CountingStore):
        async def save_changes(self, doc_id: str, changes: Any, **options: Any) -> None:
            await world.another().delete_doc(doc_id)
            await store.save_changes(doc_id, changes, **options)

    with pytest.raises(DocDeletedError):
        await world.commit(world.change("a", base_rev=1), server=world.another(Deleting(store)))
    assert await world.server.undelete_doc("d")
    assert await world.ids() == []


async def test_a_document_made_anew_between_reading_and_saving_asks_for_a_reload(
    world: Any,
) -> None:
    await world.create()
    await world.commit(world.change("a", base_rev=1))
    store = world.backend.open_store(OT_STORES)

    class Replacing(CountingStore):
        async def save_changes(self, doc_id: str, changes: Any, **options: Any) -> None:
            await store.delete_doc(doc_id, None, now=world.now)
            await store.save_changes(doc_id, changes, **options)

    with pytest.raises(StaleSubmissionError):
        await world.commit(world.change("b", base_rev=2), server=world.another(Replacing(store)))
    assert await world.ids() == []


async def test_time_never_runs_backwards_over_a_restart(sqlite_world: Any) -> None:
    world = sqlite_world
    await world.create()
    stamped = world.now
    world.now -= 24 * 60 * MINUTE
    result = await world.commit(world.change("a", base_rev=1), server=world.another())
    assert result.changes[0].committed_at == stamped


async def test_a_historical_import_keeps_revisions_dense(world: Any) -> None:
    await world.create()
    past: dict[str, Any] = {"base_rev": 1, "created_at": 1_000, "committed_at": 2_000}
    for wrong in ((3, 4), (2, 4)):
        changes = [world.change(f"h{rev}", rev=rev, **past) for rev in wrong]
        with pytest.raises(InvalidRequestError, match="without holes"):
            await world.commit(*changes, client=None, historical_import=True)
    changes = [world.change(f"h{rev}", rev=rev, **past) for rev in (2, 3)]
    result = await world.commit(*changes, client=None, historical_import=True)
    assert [(c.rev, c.committed_at) for c in result.changes] == [(2, 2_000), (3, 2_000)]


async def test_options_are_told_with_the_commit(world: Any) -> None:
    heard: list[CommitOptions | None] = []
    world.server.on_changes_committed(lambda _d, _c, options, _o: heard.append(options))
    await world.commit(world.change("a", []), force_commit=True)
    assert heard == [CommitOptions(force_commit=True)]
    assert await world.ids() == ["a"]


async def test_a_store_write_carries_the_bounds(world: Any) -> None:
    await world.create({"a": 1})
    head = await world.backend.open_store(OT_STORES).get_head("d")
    assert head != NO_DOC
    assert head.bounds != Bounds()
