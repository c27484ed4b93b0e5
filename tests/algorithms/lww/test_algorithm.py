"""`LWWAlgorithm`: saving, sending in pieces, answers, received changes, quarantine, processes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from patches.algorithms.lww import LWWAlgorithm, LWWDoc
from patches.algorithms.lww.stores.memory import LWWMemoryStore
from patches.algorithms.lww.stores.sqlite import LWWSqliteStore
from patches.algorithms.lww.tables import LWWStore
from patches.errors import (
    AlgorithmMismatchError,
    MissingChangesError,
    PatchesError,
    PendingChangeError,
    UnsplittableChangeError,
)
from patches.model.change import Change, Snapshot
from patches.model.json_values import Json, Op
from patches.options import DocOptions
from patches.runtime import Runtime
from patches_server.lww import LWWServer
from patches_server.lww.stores.memory import LWWMemoryServerStore

DOC = "lww/doc"
SMALL = DocOptions(max_payload_bytes=260)
ANY = DocOptions()


def put(path: str, value: Json = 1, **fields: Json) -> Op:
    return {"op": "replace", "path": path, "value": value, **fields}


def inc(path: str, by: float = 1) -> Op:
    return {"op": "@inc", "path": path, "value": by}


def committed(rev: int, *rows: Op, base_rev: int | None = None, change_id: str = "") -> Change:
    return Change(
        id=change_id or f"s{rev}",
        ops=[{"ts": 500, "rev": rev, **row} for row in rows],
        base_rev=rev - 1 if base_rev is None else base_rev,
        rev=rev,
        created_at=500,
        committed_at=500,
    )


def answer(sent: list[Change], rev: int, *rows: Op) -> list[Change]:
    """The server's answer to a commit."""
    return [committed(rev, *rows, base_rev=sent[0].base_rev, change_id=sent[0].id)]


class Client:
    """An algorithm on a store, with the document open."""

    def __init__(self, store: LWWStore, runtime: Runtime) -> None:
        self.store = store
        self.algorithm = LWWAlgorithm(store, runtime=runtime)
        self.doc = self.algorithm.create_doc(DOC)
        self.updates: list[Json] = []
        self.doc.on_update(self.updates.append)

    async def edit(self, *ops: Op) -> None:
        self.doc.take_ops(list(ops))
        self.updates.clear()
        await self.algorithm.handle_doc_change(DOC, self.doc.unsaved[0], self.doc, {})

    async def send(self, options: DocOptions = ANY) -> list[Change]:
        return await self.algorithm.next_batch(DOC, self.doc, options)

    async def answered(self, sent: list[Change], changes: list[Change]) -> list[Change]:
        return await self.algorithm.receive_answer(DOC, sent, changes, self.doc)

    async def receive(self, *changes: Change) -> list[Change]:
        return await self.algorithm.apply_server_changes(DOC, changes, self.doc)

    async def reopened(self) -> LWWDoc:
        return self.algorithm.create_doc(DOC, await self.algorithm.load_doc(DOC))

    async def committed(self) -> Json:
        stored = await self.algorithm.load_doc(DOC)
        return None if stored is None else stored.state


@pytest.fixture
def client(store: LWWStore, runtime: Runtime) -> Client:
    return Client(store, runtime)


# ---- saving ------------------------------------------------------------------------------------


async def test_an_edit_is_stored_at_one_time_and_shown_once(client: Client, clock: Any) -> None:
    clock.now = 77
    await client.edit(put("/a", 1, ts=5), inc("/n", 2))
    stored = await client.algorithm.load_doc(DOC)
    assert stored is not None
    assert stored.changes[0].ops == [put("/a", 1, ts=77), {**inc("/n", 2), "ts": 77}]
    assert client.doc.state == {"a": 1, "n": 2}
    assert client.updates == []  # it was shown when it was made
    assert client.doc.has_pending
    assert not client.doc.unsaved


async def test_the_change_for_listeners_has_metadata_and_what_is_sent_has_not(
    client: Client,
) -> None:
    changes = await client.algorithm.handle_doc_change(DOC, [put("/a")], None, {"by": "me"})
    assert changes[0].metadata == {"by": "me"}
    assert (changes[0].base_rev, changes[0].rev, changes[0].committed_at) == (0, 1, 0)
    assert (await client.send())[0].metadata == {}


async def test_an_edit_that_was_rolled_back_meanwhile_is_skipped(client: Client) -> None:
    client.doc.take_ops([put("/a")])
    ops = client.doc.unsaved[0]
    client.doc.rollback_unsaved()
    assert await client.algorithm.handle_doc_change(DOC, ops, client.doc, {}) == []
    assert not await client.algorithm.has_pending(DOC)
    assert client.doc.state == {}


async def test_an_edit_that_is_tried_again_counts_once(client: Client) -> None:
    client.doc.take_ops([inc("/n", 2)])
    ops = client.doc.unsaved[0]
    # a try that stored it, whose caller was told that it failed
    await client.algorithm.handle_doc_change(DOC, list(ops), None, {}, "edit1")
    stored = await client.algorithm.handle_doc_change(DOC, ops, client.doc, {}, "edit1")
    assert [change.id for change in stored] == ["edit1"]
    assert client.doc.state == (await client.reopened()).state == {"n": 2}
    assert not client.doc.unsaved


async def test_a_clock_that_was_set_back_does_not_lose_an_edit(client: Client, clock: Any) -> None:
    clock.now = 2_000
    await client.edit(put("/a", "first"))
    clock.now = 1_000
    await client.edit(put("/a", "second"))
    assert client.doc.state == {"a": "second"}
    assert (await client.send())[0].ops == [put("/a", "second", ts=2_000)]


async def test_a_pending_removal_stays_when_a_child_is_written(client: Client) -> None:
    await client.receive(committed(1, put("/a", {"old": 1})))
    await client.edit({"op": "remove", "path": "/a"})
    await client.edit({"op": "add", "path": "/a", "value": {}}, put("/a/new", 2))
    sent = await client.send()
    assert [(op["op"], op["path"]) for op in sent[0].ops] == [
        ("remove", "/a"),
        ("replace", "/a/new"),
    ]
    assert client.doc.state == (await client.reopened()).state == {"a": {"new": 2}}


async def test_a_parent_stands_before_its_children_in_what_is_sent(client: Client) -> None:
    await client.edit(put("/a/b"))
    await client.edit(put("/a", {}), put("/a/b", 2))
    assert [op["path"] for op in (await client.send())[0].ops] == ["/a", "/a/b"]


# ---- sending -----------------------------------------------------------------------------------


async def test_nothing_pending_sends_nothing(client: Client) -> None:
    assert await client.send() == []


async def test_asked_again_it_sends_the_same_bytes(client: Client) -> None:
    await client.edit(put("/a"))
    first = await client.send()
    await client.edit(put("/b"))
    again = await Client(client.store, Runtime()).send()
    assert [change.encoded for change in again] == [change.encoded for change in first]


async def test_edits_during_a_flight_go_out_next_without_another_edit(client: Client) -> None:
    await client.edit(inc("/n"))
    first = await client.send()
    await client.edit(inc("/n", 10))
    await client.answered(first, answer(first, 1, put("/n", 1)))
    second = await client.send()
    assert second[0].id != first[0].id
    assert (second[0].base_rev, second[0].ops[0]["value"]) == (1, 10)
    await client.answered(second, answer(second, 2, put("/n", 11)))
    assert await client.send() == []
    assert client.doc.state == {"n": 11}
    assert not client.doc.has_pending


async def test_a_large_edit_goes_out_in_stored_pieces(client: Client) -> None:
    await client.edit(*(put(f"/key{i}", "x" * 40) for i in range(6)))
    first = await client.send(SMALL)
    pieces = await client.store.read(DOC, lambda tables: tables.sending())
    assert len(pieces) > 2
    assert pieces[0].id == first[0].id
    assert len({piece.id for piece in pieces}) == len(pieces)
    assert all(len(piece.encoded) + 2 <= 260 for piece in pieces)
    assert [op["path"] for piece in pieces for op in piece.ops] == [f"/key{i}" for i in range(6)]


async def test_a_break_between_two_pieces_loses_nothing(client: Client) -> None:
    await client.edit(*(inc(f"/key{i}", i + 1) for i in range(8)))
    sent: dict[str, Change] = {}
    rev = 0
    while pieces := await client.send(SMALL):
        piece = pieces[0]
        again = Client(client.store, Runtime())  # a new process, after the connection broke
        assert [change.id for change in await again.send(SMALL)] == [piece.id]
        assert piece.id not in sent, "a piece of its own never goes out under a used id"
        sent[piece.id] = piece
        rev += 1
        rows = [put(op["path"], op["value"]) for op in piece.ops]
        await client.answered([piece], answer([piece], rev, *rows))
    assert len(sent) > 2
    assert client.doc.state == {f"key{i}": i + 1 for i in range(8)}
    assert await client.committed() == client.doc.state


async def test_a_piece_that_was_not_sent_yet_asks_for_no_more_than_it_must(client: Client) -> None:
    await client.edit(*(put(f"/key{i}", "x" * 90) for i in range(3)))
    first = await client.send(SMALL)
    await client.answered(first, answer(first, 7, first[0].ops[0]))
    second = await client.send(SMALL)
    assert (second[0].base_rev, second[0].rev) == (7, 8)


async def test_a_smaller_budget_divides_what_the_server_refused(client: Client) -> None:
    await client.edit(*(put(f"/key{i}", "x" * 40) for i in range(6)))
    whole = await client.send()
    part = await client.send(SMALL)
    assert part[0].id == whole[0].id
    assert len(part[0].ops) < 6
    pieces = await client.store.read(DOC, lambda tables: tables.sending())
    assert sum(len(piece.ops) for piece in pieces) == 6


async def test_an_op_beyond_the_ceiling_stays_pending(client: Client) -> None:
    await client.edit(put("/big", "x" * 500))
    options = DocOptions(max_payload_bytes=260, max_unsplittable_bytes=400)
    with pytest.raises(UnsplittableChangeError) as caught:
        await client.send(options)
    assert (caught.value.path, caught.value.doc_id) == ("/big", DOC)
    assert await client.algorithm.has_pending(DOC)
    assert len(await client.send(SMALL)) == 1  # without a ceiling it goes out alone


async def test_a_size_calculator_measures_what_is_stored(client: Client) -> None:
    await client.edit(*(put(f"/key{i}") for i in range(8)))
    options = DocOptions(max_storage_bytes=3, size_calculator=lambda change: len(change["ops"]))
    assert len((await client.send(options))[0].ops) <= 3


@pytest.mark.parametrize("path", ["/stats/n", "/stats/a~1b", "/stats/deep/n"])
async def test_an_increment_starts_from_the_number_in_a_larger_object(
    client: Client, clock: Any, runtime: Runtime, path: str
) -> None:
    server = LWWServer(LWWMemoryServerStore(), runtime=runtime)
    stats = {"n": 5, "a/b": 5, "deep": {"n": 5}}
    first = Change(id="c1", ops=[put("/stats", stats)], base_rev=0, rev=1, created_at=900)
    await server.commit_changes(DOC, [first])
    other = Client(LWWMemoryStore(), runtime)
    for one in (client, other):
        await one.receive(*await server.get_changes_since(DOC, 0))
        clock.now += 10
        await one.edit(inc(path, 1))
    for one in (client, other):
        sent = await one.send()
        await one.answered(sent, list((await server.commit_changes(DOC, sent)).changes))
    await client.receive(*await server.get_changes_since(DOC, client.doc.committed_rev))
    for one in (client, other):
        keys = [key.replace("~1", "/") for key in path[1:].split("/")]
        value = one.doc.state
        for key in keys:
            value = value[key]
        assert value == 7


# ---- answers -----------------------------------------------------------------------------------


async def test_the_servers_value_stands_when_ours_lost(client: Client) -> None:
    await client.receive(committed(1, put("/a", "theirs", ts=9_000)))
    await client.edit(put("/a", "mine"))
    sent = await client.send()
    assert client.doc.state == {"a": "mine"}
    applied = await client.answered(sent, answer(sent, 1, put("/a", "theirs", ts=9_000, rev=1)))
    assert client.doc.state == {"a": "theirs"}
    assert await client.committed() == {"a": "theirs"}
    assert applied == []  # no new revision


async def test_a_pure_echo_tells_nobody(client: Client) -> None:
    await client.edit(put("/a", {"b": [1, 2]}))
    sent = await client.send()
    shown = client.doc.state
    assert await client.answered(sent, answer(sent, 1, put("/a", {"b": [1, 2]})))
    assert client.updates == []
    assert client.doc.state is shown
    assert client.doc.committed_rev == 1


async def test_an_answer_with_a_gap_confirms_nothing(client: Client) -> None:
    await client.edit(put("/a"))
    sent = await client.send()
    strange = [*answer(sent, 1, put("/a")), committed(9, put("/b"))]
    with pytest.raises(MissingChangesError):
        await client.answered(sent, strange)
    assert await client.send() == sent
    assert await client.committed() == {}


async def test_an_older_row_of_an_answer_never_replaces_a_newer_one(client: Client) -> None:
    await client.receive(committed(1, put("/n", 38)))
    await client.edit(put("/m", 1))
    sent = await client.send()
    # the answer was made at revision 2; before it is applied, a broadcast of revision 3 is
    late = answer(sent, 2, put("/n", 39, rev=2), put("/m", 1, rev=2))
    await client.receive(committed(3, put("/n", 40), base_rev=1))
    await client.answered(sent, late)
    assert client.doc.state == await client.committed() == {"n": 40, "m": 1}
    assert client.doc.committed_rev == await client.algorithm.get_committed_rev(DOC) == 3


async def test_a_row_below_a_newer_parent_is_outdated(client: Client) -> None:
    await client.edit(put("/a/b", "mine"))
    sent = await client.send()
    await client.receive(committed(2, put("/a", {"c": 1}), base_rev=0))
    await client.answered(sent, answer(sent, 1, put("/a/b", "mine", rev=1)))
    assert client.doc.state == await client.committed() == {"a": {"c": 1}}


async def test_an_older_parent_keeps_newer_children(client: Client) -> None:
    await client.edit(put("/z"))
    sent = await client.send()
    await client.receive(committed(3, put("/a/b", "new"), base_rev=0))
    await client.answered(sent, answer(sent, 1, put("/a", {"b": "old", "c": 1}, rev=1)))
    assert client.doc.state == await client.committed() == {"a": {"b": "new", "c": 1}}


async def test_an_answer_for_a_row_that_a_parent_has_wiped_brings_nothing_back(
    client: Client,
) -> None:
    # committed, then its answer lost; a parent write came by broadcast; the retry is a duplicate
    await client.edit(put("/a/b", 1))
    sent = await client.send()
    await client.receive(committed(2, put("/a", {"c": 1}), base_rev=0))
    await client.answered(sent, answer(sent, 2))
    assert client.doc.state == await client.committed() == {"a": {"c": 1}}


async def test_an_increment_is_counted_once_whatever_arrives(client: Client) -> None:
    await client.receive(committed(1, put("/n", 5), put("/other", 0)))
    await client.edit(inc("/n", 5))
    await client.receive(committed(2, put("/other", 1)))
    assert client.doc.state == {"n": 10, "other": 1}
    assert (await client.reopened()).state == {"n": 10, "other": 1}
    sent = await client.send()
    await client.edit(inc("/n", 3))
    await client.receive(committed(3, put("/n", 7)))
    assert client.doc.state == {"n": 15, "other": 1}
    assert (await client.reopened()).state == client.doc.state
    await client.answered(sent, answer(sent, 4, put("/n", 12)))
    assert client.doc.state == {"n": 15, "other": 1}


# ---- receiving ---------------------------------------------------------------------------------


async def test_stale_changes_are_dropped_and_gaps_raise(client: Client) -> None:
    await client.receive(committed(1, put("/a", 1)), committed(2, put("/a", 2)))
    assert await client.receive(committed(1, put("/a", "old"))) == []
    with pytest.raises(MissingChangesError) as caught:
        await client.receive(committed(3, put("/b", 3)), committed(9, put("/c", 9)))
    assert (caught.value.expected_rev, caught.value.got_rev, caught.value.since_rev) == (4, 9, 3)
    assert client.doc.state == await client.committed() == {"a": 2}
    assert await client.receive(committed(5, put("/d", 5), base_rev=1)) != []
    assert client.doc.committed_rev == 5


async def test_a_soft_row_of_the_server_is_no_softer_than_others(client: Client) -> None:
    await client.receive(committed(1, put("/a", "mine")))
    await client.receive(committed(2, put("/a", "correction", soft=True)))
    assert client.doc.state == await client.committed() == {"a": "correction"}


async def test_a_write_below_the_scalar_of_another_never_wedges_the_document(
    client: Client,
) -> None:
    await client.edit(put("/p/x", 1))
    sent = await client.send()
    await client.receive(committed(1, put("/p", 5)))
    assert client.doc.state == (await client.reopened()).state == {"p": 5}
    await client.edit(put("/q", 1))
    await client.answered(sent, answer(sent, 1, put("/p", 5, rev=1)))
    assert client.doc.state == {"p": 5, "q": 1}
    assert await client.committed() == {"p": 5}


async def test_committed_ops_without_a_time_are_refused(client: Client) -> None:
    foreign = committed(1, put("/a")).replace(ops=[put("/a")])
    with pytest.raises(AlgorithmMismatchError):
        await client.receive(foreign)
    with pytest.raises(AlgorithmMismatchError):
        await client.algorithm.install_snapshot(
            DOC, Snapshot(state={}, rev=1, changes=[foreign]), client.doc
        )
    await client.edit(put("/b"))
    sent = await client.send()
    with pytest.raises(AlgorithmMismatchError):
        await client.answered(sent, [foreign])
    assert await client.committed() == {}
    assert await client.send() == sent


async def test_what_is_returned_is_as_the_server_sent_it(client: Client) -> None:
    await client.edit(inc("/n", 2))
    change = committed(1, put("/n", 5))
    assert await client.receive(change) == [change]


async def test_a_reset_leaves_what_the_server_has_and_what_is_unsent(client: Client) -> None:
    await client.receive(committed(1, put("/a", 1)), committed(2, put("/gone", 1)))
    await client.edit(put("/mine", 1))
    reset = put("", {"base": True}, rev=0, ts=1)
    await client.receive(committed(9, reset, put("/a", 1, rev=1), put("/b", 2, rev=8), base_rev=2))
    assert await client.committed() == {"base": True, "a": 1, "b": 2}
    assert client.doc.state == {"base": True, "a": 1, "b": 2, "mine": 1}


async def test_a_late_reset_keeps_rows_that_are_newer(client: Client) -> None:
    await client.edit(put("/mine", 1))
    sent = await client.send()
    await client.receive(committed(5, put("/new", 1), base_rev=0))
    reset = put("", {}, rev=0, ts=1)
    await client.answered(sent, answer(sent, 3, reset, put("/mine", 1, rev=3)))
    assert client.doc.state == await client.committed() == {"new": 1, "mine": 1}


async def test_who_was_away_for_longer_than_removals_are_kept_catches_up(
    client: Client, clock: Any, runtime: Runtime
) -> None:
    server = LWWServer(LWWMemoryServerStore(), runtime=runtime, removal_ttl=10)

    async def commit(*ops: Op) -> None:
        clock.now += 100
        change = Change(id=f"c{clock.now}", ops=list(ops), base_rev=0, rev=1, created_at=1)
        await server.commit_changes(DOC, [change])

    await commit(put("/gone", 1, ts=1), put("/kept", 1, ts=1))
    await client.receive(*await server.get_changes_since(DOC, 0))
    await client.edit(inc("/n"))
    await commit({"op": "remove", "path": "/gone", "ts": 200})
    for number in range(600):
        await commit(put("/busy", number, ts=500 + 100 * number))
    changes = await server.get_changes_since(DOC, client.doc.committed_rev)
    assert changes[0].ops[0]["path"] == "", "the removal is still remembered"
    await client.receive(*changes)
    assert client.doc.state == {"kept": 1, "busy": 599, "n": 1}
    assert await client.committed() == {"kept": 1, "busy": 599}


# ---- snapshots ---------------------------------------------------------------------------------


async def test_a_snapshot_replaces_what_is_committed_and_keeps_unsent_work(
    client: Client,
) -> None:
    await client.receive(committed(1, put("/gone", 1)))
    await client.edit(inc("/n", 1))
    sent = await client.send()
    await client.edit(put("/p", 2))
    rows = committed(9, put("/n", 10), base_rev=4)
    await client.algorithm.install_snapshot(
        DOC, Snapshot(state={"n": 3, "old": True}, rev=9, changes=[rows]), client.doc
    )
    assert client.doc.state == {"n": 11, "old": True, "p": 2}
    assert (await client.reopened()).state == client.doc.state
    assert client.doc.committed_rev == await client.algorithm.get_committed_rev(DOC) == 9
    assert await client.send() == sent


async def test_a_row_that_the_snapshot_covers_changes_nothing(client: Client) -> None:
    await client.algorithm.install_snapshot(DOC, Snapshot(state={"a": "new"}, rev=8), client.doc)
    await client.edit(put("/b"))
    sent = await client.send()
    await client.answered(sent, answer(sent, 8, put("/a", "old", rev=3)))
    assert client.doc.state == await client.committed() == {"a": "new"}


async def test_resolved_changes_leave_the_queue_with_the_snapshot(client: Client) -> None:
    await client.edit(inc("/n", 1))
    sent = await client.send()
    await client.algorithm.install_snapshot(
        DOC, Snapshot(state={"n": 1}, rev=1), client.doc, resolved=sent
    )
    assert client.doc.state == {"n": 1}
    assert await client.send() == []


# ---- tracking ----------------------------------------------------------------------------------


async def test_a_deleted_document_is_tracked_again_from_nothing(client: Client) -> None:
    await client.receive(committed(4, put("/a"), base_rev=0))
    await client.algorithm.delete_doc(DOC)
    assert await client.algorithm.load_doc(DOC) is None
    listed = await client.algorithm.list_docs(include_deleted=True)
    assert [(doc.doc_id, doc.deleted) for doc in listed] == [(DOC, True)]
    assert await client.algorithm.list_docs() == []
    await client.algorithm.track_docs([DOC])
    assert [doc.committed_rev for doc in await client.algorithm.list_docs()] == [0]
    assert await client.committed() == {}


async def test_a_confirmed_deletion_leaves_nothing_and_a_tracked_document_stays(
    client: Client,
) -> None:
    await client.algorithm.track_docs([DOC])
    await client.algorithm.confirm_delete_doc(DOC)
    assert len(await client.algorithm.list_docs()) == 1
    await client.algorithm.delete_doc(DOC)
    await client.algorithm.confirm_delete_doc(DOC)
    assert await client.algorithm.list_docs(include_deleted=True) == []


async def test_without_a_store_it_says_what_is_missing(runtime: Runtime) -> None:
    with pytest.raises(PatchesError, match="no store"):
        await LWWAlgorithm(runtime=runtime).list_docs()


# ---- quarantine --------------------------------------------------------------------------------


async def test_only_a_change_that_does_not_apply_is_ejected_on_suspicion(client: Client) -> None:
    await client.edit(put("/p/x", 1))
    sent = await client.send()
    change_id = sent[0].id
    assert await client.algorithm.verify_pending_change(DOC, change_id)
    eject = client.algorithm.eject_pending_change
    assert await eject(DOC, change_id, "no", client.doc, only_if_unappliable=True) is None
    await client.receive(committed(1, put("/p", 5)))
    assert not await client.algorithm.verify_pending_change(DOC, change_id)
    await client.edit(put("/q", 1))
    ejected = await eject(DOC, change_id, "no", client.doc, only_if_unappliable=True)
    assert ejected is not None
    assert ejected.change.ops[0]["path"] == "/p/x"
    assert client.doc.state == {"p": 5, "q": 1}
    assert [op["path"] for op in (await client.send())[0].ops] == ["/q"]
    assert await eject(DOC, change_id, "no", client.doc) is None


async def test_a_quarantined_change_is_retried_or_discarded(client: Client) -> None:
    await client.edit(inc("/n", 4))
    sent = await client.send()
    await client.algorithm.eject_pending_change(DOC, sent[0].id, "no", client.doc)
    assert client.doc.state == {}
    retried = await client.algorithm.retry_quarantined_change(DOC, sent[0].id, client.doc)
    assert retried == sent
    assert client.doc.state == {"n": 4}
    assert await client.algorithm.list_quarantined_changes() == []
    assert await client.send() == sent
    with pytest.raises(PendingChangeError):
        await client.algorithm.retry_quarantined_change(DOC, sent[0].id, client.doc)
    await client.algorithm.discard_quarantined_change(DOC, "unknown")


async def test_a_retried_increment_is_still_one(client: Client) -> None:
    await client.receive(committed(1, put("/stats", {"n": 5})))
    await client.edit(inc("/stats/n", 1))
    sent = await client.send()
    assert [op["op"] for op in sent[0].ops] == ["replace", "@inc"]
    await client.receive(committed(2, put("/stats/n", 7)))
    assert client.doc.state == {"stats": {"n": 8}}
    await client.algorithm.eject_pending_change(DOC, sent[0].id, "no", client.doc)
    await client.algorithm.retry_quarantined_change(DOC, sent[0].id, client.doc)
    assert client.doc.state == {"stats": {"n": 8}}
    assert (await client.send())[0].ops == sent[0].ops


async def test_quarantine_survives_untracking_and_not_deletion(client: Client) -> None:
    await client.edit(put("/a"))
    sent = await client.send()
    await client.algorithm.eject_pending_change(DOC, sent[0].id, "no", client.doc)
    await client.algorithm.untrack_docs([DOC])
    assert len(await client.algorithm.list_quarantined_changes(DOC)) == 1
    await client.algorithm.delete_doc(DOC)
    assert await client.algorithm.list_quarantined_changes(DOC) == []


# ---- processes that share a file -----------------------------------------------------------------


@pytest.fixture
def processes(sqlite_store: Callable[[], LWWSqliteStore], runtime: Runtime) -> list[Client]:
    return [Client(sqlite_store(), runtime) for _ in range(2)]


async def test_a_document_left_behind_by_another_process_takes_what_is_stored(
    processes: list[Client],
) -> None:
    leader, follower = processes
    change = committed(1, put("/a", 1))
    await leader.receive(change)
    await leader.edit(put("/b", 2))
    assert await follower.receive(change) == []  # stale for the store
    assert follower.doc.state == {"a": 1, "b": 2}
    assert follower.doc.committed_rev == 1


async def test_two_processes_lose_none_of_each_others_edits(processes: list[Client]) -> None:
    first, second = processes
    for number in range(5):
        await asyncio.gather(
            first.edit(inc("/n"), put(f"/a{number}", {"x": 1})),
            second.edit(inc("/n"), put(f"/b{number}", 1)),
        )
    await first.edit(put("/last", 1))
    await second.edit(put("/end", 1))
    sent = await first.send()
    assert await second.send() == sent
    assert next(op["value"] for op in sent[0].ops if op["path"] == "/n") == 10
    assert second.doc.state == (await first.reopened()).state
    rows = [put(op["path"], op["value"]) for op in sent[0].ops]
    await first.answered(sent, answer(sent, 1, *rows))
    await second.answered(sent, answer(sent, 1, *rows))
    assert first.doc.state == second.doc.state == await first.committed()
    assert await first.send() == await second.send() == []
    assert not second.doc.has_pending


async def test_an_unsaved_edit_stays_on_top_of_what_another_process_stored(
    processes: list[Client],
) -> None:
    first, second = processes
    second.doc.take_ops([put("/mine", 1)])
    await first.edit(put("/theirs", 1))
    await second.receive(committed(1, put("/c", 1)))
    assert second.doc.state == {"theirs": 1, "c": 1, "mine": 1}
    await second.algorithm.handle_doc_change(DOC, second.doc.unsaved[0], second.doc, {})
    assert second.doc.state == {"theirs": 1, "c": 1, "mine": 1}
    assert (await first.reopened()).state == second.doc.state
