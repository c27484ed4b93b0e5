"""`OTAlgorithm`: sending, receiving, reloading, two processes on one store, refused changes."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from patches.algorithms.ot import Conflict, OTAlgorithm, PendingQueue, QueuePosition
from patches.algorithms.ot.stores.memory import OTMemoryStore
from patches.algorithms.ot.stores.sqlite import OTSqliteStore
from patches.errors import (
    AlgorithmMismatchError,
    ApplyChangesError,
    ConvergenceError,
    ErrorContext,
    MissingChangesError,
    OutdatedAnswerError,
    PatchesError,
    PendingChangeError,
    UnsplittableChangeError,
    UnstoredPendingError,
)
from patches.model.change import Change, Snapshot
from patches.model.json_values import Op
from patches.options import DocOptions
from patches.stores.memory.backend import MemoryBackend
from patches.stores.sqlite.database import SqliteDatabase
from patches.testing.contracts.ot_client_steps import drop, save
from tests.support.ot_scene import DOC, Client, Server, lose


def put(key: str, value: Any = 1) -> Op:
    return {"op": "replace", "path": f"/{key}", "value": value}


def ids(changes: Sequence[Change]) -> list[str]:
    return [change.id for change in changes]


@pytest.fixture
def server() -> Server:
    return Server().make({"list": ["a", "b", "c"]})


@pytest.fixture
async def client(server: Server) -> Client:
    client = await Client().open()
    await client.pull(server)
    return client


# ---- life ----------------------------------------------------------------------------------------
async def test_without_a_store_every_call_says_so() -> None:
    with pytest.raises(PatchesError, match="no store"):
        await OTAlgorithm().list_docs()


async def test_the_store_is_the_backends_unless_one_was_given() -> None:
    backend, own = MemoryBackend(), OTMemoryStore()
    without, having = OTAlgorithm(), OTAlgorithm(own)
    without.open_store(backend)
    having.open_store(backend)
    assert without.store is backend.stores["ot"]
    assert having.store is own


# ---- local edits ---------------------------------------------------------------------------------
async def test_an_edit_is_stored_on_the_committed_revision_and_shown_once(client: Client) -> None:
    states: list[Any] = []
    client.doc.subscribe(states.append)
    (change,) = await client.edit(put("x"))
    assert (change.id, change.base_rev, change.rev, change.created_at) == ("me1", 1, 2, 5_000)
    assert client.doc.state == {"list": ["a", "b", "c"], "x": 1}
    assert len(states) == 2
    assert list(client.doc.pending) == [change]
    assert not client.doc.unsaved
    assert (await client.stored()).changes == [change]


async def test_metadata_goes_with_a_change_but_does_not_say_what_it_is(client: Client) -> None:
    metadata = {"user": "ada", "id": "other", "ops": [], "rev": 77, "createdAt": 123}
    ops = client.write(put("x"))
    (change,) = await client.algorithm.handle_doc_change(DOC, ops, client.doc, metadata, "mine")
    assert (change.id, change.rev, change.created_at) == ("mine", 2, 123)
    assert change.metadata == {"user": "ada"}
    assert change.ops == [put("x")]


async def test_an_edit_that_a_rebase_emptied_is_not_stored(client: Client, server: Server) -> None:
    ops = client.write({"op": "remove", "path": "/list/0"})
    await client.receive(server.edit({"op": "remove", "path": "/list/0"}))
    assert ops == []
    assert await client.save(ops) == []
    assert not await client.algorithm.has_pending(DOC)


async def test_an_edit_that_comes_to_nothing_when_split_leaves_the_document(
    server: Server,
) -> None:
    client = await Client(max_storage_bytes=90).open()
    await client.pull(server)
    long_path = "/" + "t" * 60
    assert await client.edit({"op": "@txt", "path": long_path, "value": []}) == []
    assert not client.doc.unsaved


@pytest.mark.parametrize("when", ["stored", "sent"])
async def test_a_document_shows_what_the_pieces_of_a_cut_edit_come_to(
    server: Server, when: str
) -> None:
    client = await Client(max_storage_bytes=250 if when == "stored" else None).open()
    await client.pull(server)
    text = {"ops": [{"insert": "x" * 300}]}  # not in order: it does not end in a newline
    await client.edit(put("doc", {"text": text, "pad": "y" * 50}))
    await client.push(server, DocOptions(max_payload_bytes=250))
    assert not client.doc.has_pending
    assert client.doc.state["doc"]["text"] == {"ops": [{"insert": "x" * 300 + "\n"}]}
    assert client.doc.state == server.state


# ---- sending -------------------------------------------------------------------------------------
async def test_nothing_pending_is_nothing_to_send(client: Client) -> None:
    assert await client.batch() == []


async def test_a_small_queue_goes_out_whole_and_without_a_batch_id(
    client: Client, server: Server
) -> None:
    await client.edit(put("x"))
    await client.edit(put("y"))
    batch = await client.batch()
    assert ids(batch) == ["me1", "me2"]
    assert {change.batch_id for change in batch} == {None}
    assert await client.push(server) == 1
    assert server.state == client.doc.state == {"list": ["a", "b", "c"], "x": 1, "y": 1}
    assert not client.doc.has_pending


async def test_a_large_queue_is_stored_as_it_is_sent(client: Client, server: Server) -> None:
    for at in range(4):
        await client.edit(put(f"k{at}", "v" * 300))
    options = DocOptions(max_payload_bytes=1_000)
    batch = await client.batch(options)
    stored = (await client.stored()).changes
    assert ids(batch) == ["me1", "me2"]
    assert {change.batch_id for change in stored} == {"me1"}
    assert list(client.doc.pending) == list(stored)
    assert await client.batch(options) == batch  # asked again: the same
    await client.edit(put("later"))
    assert await client.push(server, options) == 3
    assert client.doc.state == server.state
    assert [change.batch_id for change in server.log[1:]] == ["me1"] * 4 + [None]


async def test_a_text_too_large_for_one_commit_arrives_whole(
    client: Client, server: Server
) -> None:
    text = "word 😀 " * 400
    await client.edit({"op": "@txt", "path": "/t", "value": [{"insert": text}]})
    options = DocOptions(max_payload_bytes=1_000)
    first = await client.batch(options)
    assert await client.batch(options) == first
    assert await client.push(server, options) > 3
    assert server.state["t"]["ops"] == [{"insert": text + "\n"}]
    assert client.doc.state == server.state
    assert len({change.id for change in server.log}) == len(server.log)


async def test_a_lost_answer_commits_nothing_twice(client: Client, server: Server) -> None:
    await client.edit({"op": "@txt", "path": "/t", "value": [{"insert": "x" * 3_000}]})
    options = DocOptions(max_payload_bytes=1_000)
    server.commit(await client.batch(options))  # no answer
    await client.edit({"op": "add", "path": "/list/0", "value": "new"})
    server.edit({"op": "add", "path": "/list/0", "value": "theirs"})
    await client.pull(server)
    await client.push(server, options)
    assert server.state["t"]["ops"] == [{"insert": "x" * 3_000 + "\n"}]
    assert client.doc.state == server.state


async def test_an_unsplittable_change_is_refused_with_its_name(client: Client) -> None:
    await client.edit(put("x", [1] * 200))
    options = DocOptions(max_storage_bytes=100, max_unsplittable_bytes=200)
    with pytest.raises(UnsplittableChangeError) as refused:
        await client.batch(options)
    assert refused.value.change_id == "me1"
    assert ids((await client.stored()).changes) == ["me1"]


async def test_a_commit_holds_at_most_what_a_server_takes(server: Server) -> None:
    from patches.limits import Limits

    client = await Client().open()
    client.algorithm = OTAlgorithm(client.store, limits=Limits(max_changes_per_commit=2))
    await client.pull(server)
    for at in range(5):
        await client.edit(put(f"k{at}"))
    assert await client.push(server) == 3
    assert client.doc.state == server.state


async def test_changes_made_on_different_revisions_go_out_apart(
    client: Client, server: Server
) -> None:
    server.edit({"op": "add", "path": "/list/0", "value": "theirs"})
    lagging = Change(id="lag", ops=[put("list/0", "B")], base_rev=1, rev=2, created_at=1)
    await client.pull(server)
    await save(client.store, lagging)
    await client.edit(put("x"))
    assert ids(await client.batch()) == ["lag"]
    assert await client.push(server) == 2
    assert server.state["list"] == ["theirs", "B", "b", "c"]
    client.doc.update_sync_status("synced")
    assert client.doc.state == server.state


async def test_what_the_server_dropped_is_dropped_here(client: Client, server: Server) -> None:
    root: Op = {"op": "replace", "path": "", "value": {"mine": 1}}
    await client.edit(put("list/0", "mine"), put("list/1", "mine"))
    await client.edit(put("y"))
    sent = await client.batch()
    server.edit(root, change_id="root2")
    answer = server.commit(sent)
    assert ids(answer) == ["root2"]
    new = await client.algorithm.receive_answer(DOC, sent, answer, client.doc)
    assert ids(new) == ["root2"]
    assert client.doc.state == server.state == {"mine": 1}
    assert not await client.algorithm.has_pending(DOC)


async def test_an_empty_answer_drops_what_was_sent(client: Client) -> None:
    await client.edit(put("x"))
    sent = await client.batch()
    assert await client.algorithm.receive_answer(DOC, sent, [], client.doc) == []
    assert not client.doc.has_pending
    assert "x" not in client.doc.state
    assert not (await client.stored()).changes


async def test_an_answer_with_a_hole_confirms_nothing(client: Client, server: Server) -> None:
    await client.edit(put("x"))
    sent = await client.batch()
    server.edit(put("y"))
    answer = server.commit(sent)
    with pytest.raises(MissingChangesError):
        await client.algorithm.receive_answer(DOC, sent, answer[1:], client.doc)
    assert ids(await client.batch()) == ["me1"]


# ---- receiving -----------------------------------------------------------------------------------
async def test_an_echo_tells_no_subscriber(client: Client, server: Server) -> None:
    await client.edit(put("x"))
    shown = client.doc.state
    updates: list[Any] = []
    client.doc.on_update(updates.append)
    await client.push(server)
    assert client.doc.state is shown
    assert updates == []
    assert client.doc.committed_state == server.state


async def test_an_echo_that_the_server_changed_is_shown_as_committed(
    client: Client, server: Server
) -> None:
    (mine,) = await client.edit(put("list/0", "mine"))
    changed = mine.replace(ops=[put("list/1", "mine")], rev=2, committed_at=9)
    await client.receive(changed)
    assert client.doc.state == {"list": ["a", "mine", "c"]}


async def test_what_is_known_already_is_not_applied_again(client: Client, server: Server) -> None:
    one = server.edit({"op": "add", "path": "/list/0", "value": "one"})
    two = server.edit({"op": "add", "path": "/list/0", "value": "two"})
    await client.receive(one)
    await client.receive(one, two)
    await client.receive(one, two)
    assert client.doc.state == server.state
    assert (await client.stored()).state == server.state


async def test_a_received_change_loads_nothing_from_the_store(
    client: Client, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(doc_id: str) -> Snapshot | None:
        raise AssertionError("a document was loaded")

    monkeypatch.setattr(client.store, "get_doc", refuse)
    known = server.log[-1]
    await client.edit(put("x"))
    await client.receive(known, server.edit({"op": "add", "path": "/list/0", "value": "theirs"}))
    await client.push(server)
    assert client.doc.state == server.state


async def test_a_change_that_cannot_be_applied_is_not_stored(
    client: Client, server: Server
) -> None:
    await client.edit(put("x"))
    before = await client.stored()
    bad = server.edit({"op": "remove", "path": "/list/77"})
    with pytest.raises(ApplyChangesError):
        await client.receive(bad)
    assert await client.stored() == before
    assert client.doc.committed_rev == 1
    assert client.doc.state["x"] == 1


async def test_lww_operations_are_refused_and_nothing_is_applied(
    client: Client, server: Server
) -> None:
    lww = server.edit({**put("x"), "ts": 5})
    with pytest.raises(AlgorithmMismatchError):
        await client.receive(lww)
    with pytest.raises(AlgorithmMismatchError):
        await client.algorithm.install_snapshot(
            DOC, Snapshot(state={}, rev=1, changes=[lww]), client.doc
        )
    assert await client.algorithm.get_committed_rev(DOC) == 1


async def test_a_root_replace_may_skip_revisions(client: Client, server: Server) -> None:
    root = Change(
        id="r",
        ops=[{"op": "replace", "path": "", "value": {"new": 1}}],
        base_rev=8,
        rev=9,
        created_at=1,
        committed_at=2,
    )
    await client.receive(root)
    assert (client.doc.committed_rev, client.doc.state) == (9, {"new": 1})


async def test_a_document_that_is_not_open_receives_too(client: Client, server: Server) -> None:
    await client.edit({"op": "add", "path": "/list/0", "value": "mine"})
    theirs = server.edit({"op": "add", "path": "/list/0", "value": "theirs"})
    await client.algorithm.apply_server_changes(DOC, [theirs], None)
    await client.open()
    assert client.doc.state["list"] == ["mine", "theirs", "a", "b", "c"]
    await client.push(server)
    assert client.doc.state == server.state


# ---- two processes on one store ------------------------------------------------------------------
async def test_processes_that_share_a_store_converge(client: Client, server: Server) -> None:
    other = await Client("other", client.store).open()
    await client.edit({"op": "add", "path": "/list/0", "value": "mine"})
    await other.edit({"op": "add", "path": "/list/3", "value": "other"})  # at the end
    theirs = server.edit({"op": "add", "path": "/list/0", "value": "theirs"})
    await client.receive(theirs)
    await other.receive(theirs)  # the store stands on it already: nothing moves twice
    assert [c.ops[0]["path"] for c in (await client.stored()).changes] == ["/list/0", "/list/5"]
    await client.push(server)
    await other.pull(server)
    await other.push(server)
    assert client.doc.state == other.doc.state == server.state
    assert len(server.log) == 4


async def test_what_another_process_made_is_sent_and_shown(client: Client, server: Server) -> None:
    other = await Client("other", client.store).open()
    await other.edit(put("theirs"))
    await client.push(server)
    assert client.doc.state == server.state
    assert "theirs" in client.doc.state


async def test_processes_that_share_a_file_lose_and_double_nothing(
    server: Server, tmp_path: Path
) -> None:
    databases = [SqliteDatabase(tmp_path / "shared.db") for _ in range(2)]
    one, two = [
        await Client(name, OTSqliteStore(database)).open()
        for name, database in zip(("one", "two"), databases, strict=True)
    ]
    rng = random.Random(4)
    for client in (one, two):
        await client.pull(server)
    for turn in range(40):
        client, place = rng.choice([one, two]), rng.randrange(3)
        await client.edit({"op": "add", "path": f"/list/{place}", "value": f"{client.name}{turn}"})
        if turn % 5 == 0:
            theirs = server.edit({"op": "add", "path": "/list/1", "value": f"theirs{turn}"})
            if client.doc.committed_rev == theirs.rev - 1:
                await client.receive(theirs)
        if turn % 7 == 0:
            await client.pull(server)
            await client.push(server)
    for client in (one, two, one):
        await client.pull(server)
        await client.push(server)
        client.doc.update_sync_status("synced")
    assert one.doc.state == two.doc.state == server.state
    assert len(server.state["list"]) == 3 + 40 + 8
    assert not (await one.stored()).changes
    for database in databases:
        await database.close()


@pytest.mark.parametrize("count", [30, 300])
async def test_an_unsaved_edit_moves_behind_all_that_another_process_has_received(
    server: Server, tmp_path: Path, count: int
) -> None:
    databases = [SqliteDatabase(tmp_path / "shared.db") for _ in range(2)]
    one, two = [
        await Client(name, OTSqliteStore(database)).open()
        for name, database in zip(("one", "two"), databases, strict=True)
    ]
    for client in (one, two):
        await client.pull(server)
    for at in range(count):
        server.edit({"op": "add", "path": "/list/0", "value": at})
    unsaved = one.write({"op": "add", "path": "/list/3", "value": "mine"})
    await two.pull(server)  # folds the first 200
    (saved,) = await one.save(unsaved)
    assert saved.ops[0]["path"] == f"/list/{3 + count}"
    assert one.doc.state["list"][-1] == "mine"
    assert one.doc.committed_rev == server.rev
    for database in databases:
        await database.close()


async def test_a_document_that_hears_nothing_new_takes_over_what_another_process_has_stored(
    client: Client, server: Server
) -> None:
    other = await Client("other", client.store).open()
    await client.edit(put("mine"))
    other.doc.take_ops([put("theirs")])
    await other.save(other.doc.unsaved[0])
    await other.push(server)
    await client.receive()  # the answer to `getChangesSince` the store's revision
    assert client.doc.state == server.state
    assert (client.doc.committed_rev, client.doc.has_pending) == (server.rev, False)


class MovingStore(OTMemoryStore):
    """Another process writes before every write, `moves` times."""

    moves = 0

    async def _move(self, doc_id: str) -> None:
        if self.moves:
            self.moves -= 1
            name = f"moved{self.moves}"
            made = Change(id=name, ops=[put(name)], base_rev=1, rev=1, created_at=1)
            position = await self.load_position(doc_id)
            await super().save_pending_edits(doc_id, [[made]], position)

    async def apply_server_changes(
        self,
        doc_id: str,
        server_changes: Sequence[Change],
        rebased_pending: Sequence[Change],
        read: PendingQueue,
    ) -> Conflict | None:
        await self._move(doc_id)
        return await super().apply_server_changes(doc_id, server_changes, rebased_pending, read)

    async def save_pending_edits(
        self, doc_id: str, edits: Sequence[Sequence[Change]], read: QueuePosition
    ) -> list[list[Change]] | Conflict:
        await self._move(doc_id)
        return await super().save_pending_edits(doc_id, edits, read)


async def test_a_step_is_done_again_when_another_process_was_first(server: Server) -> None:
    store = MovingStore()
    client = await Client(store=store).open()
    await client.pull(server)
    store.moves = 9
    await client.receive(server.edit(put("x")))
    await client.edit(put("y"))
    assert len((await client.stored()).changes) == 10
    assert (await client.stored()).rev == 2
    store.moves = 9
    await client.edit(put("z"))
    assert [change.id for change in (await client.stored()).changes][-1] == "me2"
    assert client.doc.pending == (await client.stored()).changes


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("applyServerChanges", lambda client, c: client.receive(c)),
        ("handleDocChange", lambda client, _: client.edit(put("mine"))),
    ],
    ids=["receive", "edit"],
)
async def test_a_step_that_loses_too_often_says_so(
    server: Server, name: str, call: Callable[[Client, Change], Any]
) -> None:
    store = MovingStore()
    client = await Client(store=store).open()
    await client.pull(server)
    store.moves = 1_000
    with pytest.raises(ConvergenceError, match=f"{name} for doc did not converge after"):
        await call(client, server.edit(put("x")))


# ---- reload --------------------------------------------------------------------------------------
async def test_a_snapshot_keeps_unsent_work_in_its_place(client: Client, server: Server) -> None:
    await client.edit({"op": "add", "path": "/list/1", "value": "mine"})
    client.write({"op": "add", "path": "/list/2", "value": "unsaved"})
    server.edit({"op": "add", "path": "/list/0", "value": "theirs"})
    snapshot = Snapshot(state=server.state, rev=server.rev)
    assert await client.algorithm.needs_tail(DOC)
    await client.algorithm.install_snapshot(DOC, snapshot, client.doc, tail=server.since(1))
    assert client.doc.state["list"] == ["theirs", "a", "mine", "unsaved", "b", "c"]
    await client.save(client.doc.unsaved[0])
    await client.push(server)
    assert client.doc.state == server.state


async def test_a_snapshot_does_not_double_what_was_committed(
    client: Client, server: Server
) -> None:
    await client.edit({"op": "add", "path": "/list/0", "value": "mine"})
    await client.edit(put("kept"))
    server.commit((await client.batch())[:1])
    server.edit(put("more"))
    snapshot = Snapshot(state=server.state, rev=server.rev)
    await client.algorithm.install_snapshot(DOC, snapshot, client.doc, tail=server.since(1))
    assert ids(client.doc.pending) == ["me2"]
    assert client.doc.state["list"] == ["mine", "a", "b", "c"]
    await client.push(server)
    assert client.doc.state == server.state


async def test_resolved_changes_leave_with_the_snapshot(client: Client, server: Server) -> None:
    (sent,) = await client.edit(put("x"))
    await client.algorithm.install_snapshot(
        DOC, Snapshot(state={"x": "server"}, rev=6), client.doc, resolved=[sent]
    )
    assert client.doc.state == {"x": "server"}
    assert await client.stored() == Snapshot(state={"x": "server"}, rev=6)


async def test_work_on_a_revision_that_the_server_lost_is_kept(
    client: Client, server: Server
) -> None:
    server.edit(put("lost"))
    await client.pull(server)
    await client.edit(put("mine"))
    await client.algorithm.install_snapshot(DOC, Snapshot(state={"list": []}, rev=1), client.doc)
    (left,) = client.doc.pending
    assert (left.base_rev, client.doc.committed_rev) == (1, 1)
    assert client.doc.state == {"list": [], "mine": 1}


async def test_a_snapshot_that_cannot_be_built_is_not_stored(
    client: Client, server: Server
) -> None:
    before = await client.stored()
    bad = server.edit({"op": "remove", "path": "/nothing/5"}, put("nothing"))
    bad = bad.replace(ops=[{"op": "remove", "path": "/list/9"}])
    with pytest.raises(ApplyChangesError):
        await client.algorithm.install_snapshot(
            DOC, Snapshot(state={"list": []}, rev=1, changes=[bad]), client.doc
        )
    assert await client.stored() == before


async def test_a_document_without_work_needs_no_tail(client: Client) -> None:
    assert not await client.algorithm.needs_tail(DOC)


# ---- refused changes -----------------------------------------------------------------------------
async def test_a_refused_change_leaves_the_queue_and_the_view(
    client: Client, server: Server
) -> None:
    await client.edit({"op": "add", "path": "/list/0", "value": "bad"})
    await client.edit({"op": "add", "path": "/list/2", "value": "good"})
    entry = await client.algorithm.eject_pending_change(DOC, "me1", "no", client.doc)
    assert entry is not None
    assert (entry.change_id, entry.reason) == ("me1", "no")
    assert client.doc.state["list"] == ["a", "good", "b", "c"]
    await client.push(server)
    assert client.doc.state == server.state


async def test_what_another_process_ejected_does_not_come_back(
    client: Client, server: Server
) -> None:
    await client.edit(put("good"))
    await client.edit(put("bad"))
    other = await Client("other", client.store).open()
    assert await other.algorithm.eject_pending_change(DOC, "me2", "no", other.doc) is not None
    server.edit(put("z"))
    await client.pull(server)
    await client.push(server)
    assert client.doc.state == server.state
    assert "good" in server.state
    assert "bad" not in server.state


async def test_a_text_edit_in_the_middle_of_the_queue_can_be_ejected(
    client: Client, server: Server
) -> None:
    server.edit(put("t", {"ops": [{"insert": "base\n"}]}))
    await client.pull(server)
    await client.edit({"op": "@txt", "path": "/t", "value": [{"insert": "bad "}]})
    await client.edit({"op": "@txt", "path": "/t", "value": [{"retain": 8}, {"insert": " good"}]})
    assert await client.algorithm.eject_pending_change(DOC, "me1", "no", client.doc) is not None
    assert client.doc.state["t"] == {"ops": [{"insert": "base good\n"}]}
    await client.push(server)
    assert client.doc.state == server.state


async def test_a_change_that_applies_is_not_ejected_if_only_broken_ones_should_be(
    client: Client,
) -> None:
    await client.edit(put("fine"))
    assert await client.algorithm.verify_pending_change(DOC, "me1")
    ejected = await client.algorithm.eject_pending_change(
        DOC, "me1", "no", client.doc, only_if_unappliable=True
    )
    assert ejected is None
    assert ids(client.doc.pending) == ["me1"]


async def test_a_broken_change_with_successors_cannot_be_ejected(client: Client) -> None:
    broken = Change(
        id="bad", ops=[{"op": "remove", "path": "/list/9"}], base_rev=1, rev=2, created_at=1
    )
    await save(client.store, broken, broken.replace(id="next", ops=[put("y")]))
    assert not await client.algorithm.verify_pending_change(DOC, "bad")
    with pytest.raises(PendingChangeError, match="Cannot eject change bad"):
        await client.algorithm.eject_pending_change(DOC, "bad", "no", client.doc)
    assert ids((await client.stored()).changes) == ["bad", "next"]


async def test_a_quarantined_change_is_tried_again_under_its_id(
    client: Client, server: Server
) -> None:
    await client.edit({"op": "add", "path": "/list/0", "value": "again"})
    await client.algorithm.eject_pending_change(DOC, "me1", "no", client.doc)
    client.write({"op": "add", "path": "/list/1", "value": "unsaved"})
    made = await client.algorithm.retry_quarantined_change(DOC, "me1", client.doc)
    assert ids(made) == ["me1"]
    assert client.doc.state["list"] == ["again", "a", "unsaved", "b", "c"]
    assert await client.algorithm.list_quarantined_changes() == []
    with pytest.raises(PendingChangeError, match="no change 'me1' in quarantine"):
        await client.algorithm.retry_quarantined_change(DOC, "me1", client.doc)
    await client.save(client.doc.unsaved[0])
    await client.push(server)
    assert client.doc.state == server.state


@pytest.mark.parametrize("by", ["itself", "another process"])
async def test_unsaved_edits_move_when_a_change_below_them_is_set_aside(
    client: Client, server: Server, by: str
) -> None:
    await client.edit({"op": "add", "path": "/list/0", "value": "refused"})
    client.write({"op": "replace", "path": "/list/3", "value": "C"})
    algorithm, doc = client.algorithm, client.doc
    if by == "another process":
        algorithm = OTAlgorithm(client.store)
        await algorithm.eject_pending_change(DOC, "me1", "no", None)
        await client.receive(server.edit(put("theirs")))
    else:
        await algorithm.eject_pending_change(DOC, "me1", "no", doc)
    assert doc.state["list"] == ["a", "b", "C"]
    await client.save(doc.unsaved[0])
    await client.push(server)
    assert doc.state == server.state
    assert server.state["list"] == ["a", "b", "C"]


async def test_a_quarantined_change_that_no_longer_applies_stays_there(
    client: Client, server: Server
) -> None:
    await client.edit({"op": "add", "path": "/list/3", "value": "end"})
    await client.algorithm.eject_pending_change(DOC, "me1", "no", client.doc)
    await client.receive(server.edit(put("list", [])))
    with pytest.raises(PendingChangeError, match="does not apply"):
        await client.algorithm.retry_quarantined_change(DOC, "me1", client.doc)
    assert ids([entry.change for entry in await client.algorithm.list_quarantined_changes()]) == [
        "me1"
    ]
    await client.algorithm.discard_quarantined_change(DOC, "me1")
    assert await client.algorithm.list_quarantined_changes() == []


async def test_what_another_process_took_out_of_the_queue_is_not_stored_again(
    client: Client,
) -> None:
    """It came to nothing there: back in the queue it would be sent, and shown, for good."""
    told: list[Exception] = []
    client.algorithm.on_error(lambda error, context: told.append(error))
    await client.edit(put("kept"))
    await client.edit(put("nothing"))
    await drop(client.store, "me2")
    assert ids(await client.batch()) == ["me1"]
    assert client.doc.state == {"list": ["a", "b", "c"], "kept": 1}
    assert ids((await client.stored()).changes) == ["me1"]
    assert told == []


async def test_changes_that_the_store_lost_are_told_once_and_not_sent(client: Client) -> None:
    told: list[tuple[Exception, ErrorContext]] = []
    client.algorithm.on_error(lambda error, context: told.append((error, context)))
    await client.edit(put("lost"))
    await client.edit(put("kept"))
    lose(client.store, "me1")
    assert ids(await client.batch()) == ["me2"]
    assert ids(await client.batch()) == ["me2"]
    ((error, context),) = told
    assert isinstance(error, UnstoredPendingError)
    assert (error.change_ids, context) == (("me1",), ErrorContext(doc_id=DOC))


async def test_the_end_of_a_queue_that_the_store_lost_is_stored_again_and_sent(
    client: Client, server: Server
) -> None:
    told: list[Exception] = []
    client.algorithm.on_error(lambda error, context: told.append(error))
    await client.edit(put("kept"))
    await client.edit(put("lost"))
    lose(client.store, "me2")
    assert ids(await client.batch()) == ["me1", "me2"]
    assert ids((await client.stored()).changes) == ["me1", "me2"]
    await client.push(server)
    assert server.state == client.doc.state == {"list": ["a", "b", "c"], "kept": 1, "lost": 1}
    assert told == []


async def test_work_made_on_nothing_behind_a_first_revision_stands_on_the_next_snapshot(
    server: Server,
) -> None:
    # opened, and edited, while another task or process stored the first revision
    client = await Client().open()
    snapshot = Snapshot(state=server.state, rev=server.rev)
    await client.algorithm.install_snapshot(DOC, snapshot, None)
    (late,) = await client.edit(put("late"))
    assert (late.base_rev, late.rev) == (1, 2)  # at 0 a server takes it for the rest of an upload
    server.edit(put("theirs"))
    snapshot = Snapshot(state=server.state, rev=server.rev)
    await client.algorithm.install_snapshot(DOC, snapshot, client.doc, tail=server.since(1))
    (sent,) = await client.batch()
    assert (sent.id, sent.base_rev, sent.rev) == (late.id, 2, 3)
    await client.push(server)
    assert server.state == client.doc.state == {"list": ["a", "b", "c"], "theirs": 1, "late": 1}


# ---- weaknesses of the original that ours has not ------------------------------------------------
async def test_a_list_of_documents_has_the_committed_revision_not_the_snapshots(
    client: Client, server: Server
) -> None:
    await client.algorithm.install_snapshot(DOC, Snapshot(state={"list": []}, rev=1), client.doc)
    await client.receive(server.edit(put("x")))
    (tracked,) = await client.algorithm.list_docs()
    assert tracked.committed_rev == 2


async def test_texts_taken_out_of_a_large_value_land_where_they_were(server: Server) -> None:
    client = await Client(max_storage_bytes=300).open()
    await client.pull(server)
    text = {"ops": [{"insert": "long text " * 40 + "\n"}]}
    await client.edit(put("notes", {"a/b": {"c~d": text}, "n": 1}))
    assert len(client.doc.pending) > 2
    await client.push(server)
    left = server.state["notes"]["a/b"]["c~d"]["ops"]
    assert "".join(part["insert"] for part in left).startswith("long text " * 40)
    assert set(server.state) == {"list", "notes"}


async def test_a_snapshot_does_not_set_back_what_another_process_has_stored_meanwhile() -> None:
    backend = MemoryBackend()
    fast, slow = OTAlgorithm(), OTAlgorithm()
    for algorithm in (fast, slow):
        algorithm.open_store(backend)
    docs = [fast.create_doc(DOC), slow.create_doc(DOC)]
    await fast.install_snapshot(DOC, Snapshot(state={"n": 2}, rev=2), docs[0])
    with pytest.raises(OutdatedAnswerError):
        await slow.install_snapshot(DOC, Snapshot(state={"n": 1}, rev=1), docs[1])
    assert [(doc.state, doc.committed_rev) for doc in docs] == [({"n": 2}, 2)] * 2
    assert await slow.get_committed_rev(DOC) == 2
    await slow.install_snapshot(DOC, Snapshot(state={}, rev=1), docs[1], is_new_history=True)
    assert (docs[1].state, await slow.get_committed_rev(DOC)) == ({}, 1)


@pytest.mark.parametrize("rev", [2, 1])
async def test_a_document_takes_over_the_other_history_that_another_process_has_installed(
    rev: int,
) -> None:
    store = OTMemoryStore()
    first, second = OTAlgorithm(store), OTAlgorithm(store)
    await first.install_snapshot(DOC, Snapshot(state={"lost": 1}, rev=2), None)
    await second.sync_options(DOC)
    docs = [each.create_doc(DOC, await each.load_doc(DOC)) for each in (first, second)]
    other = Snapshot(state={"n": 0}, rev=rev, metadata={"token": "new"})
    await first.install_snapshot(DOC, other, docs[0], is_new_history=True)
    committed = [Change(id="c", ops=[put("n", rev)], base_rev=rev, rev=rev + 1, created_at=1)]
    await first.apply_server_changes(DOC, committed, docs[0])
    with pytest.raises(OutdatedAnswerError):  # it was asked about the history that is gone
        await second.apply_server_changes(DOC, committed, docs[1])
    assert [doc.state for doc in docs] == [{"n": rev}] * 2
    assert [doc.committed_rev for doc in docs] == [rev + 1] * 2
    options = await second.sync_options(DOC)
    assert options is not None
    assert (options["token"], options["last"]) == ("new", [rev + 1, "c"])
