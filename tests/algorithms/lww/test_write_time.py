"""LWW: a write is later than what its author has seen, and counts once under the id of its edit."""

from __future__ import annotations

import random
from typing import Any

import pytest

from patches.algorithms.base import LocalEdit
from patches.algorithms.lww import LWWAlgorithm, LWWDoc
from patches.algorithms.lww.stores.memory import LWWMemoryStore
from patches.errors import OutdatedAnswerError
from patches.model.change import Change, Snapshot
from patches.options import DocOptions
from patches.runtime import Runtime

DOC = "doc"
OPTIONS = DocOptions(max_payload_bytes=1_000_000)
SERVER_TIME = 9_000_000


def theirs(rev: int, value: Any, ts: int) -> Change:
    """Somebody else's write of `/x`, committed."""
    op = {"op": "replace", "path": "/x", "value": value, "ts": ts, "rev": rev}
    return Change(
        id=f"theirs{rev}", ops=[op], base_rev=rev - 1, rev=rev, created_at=ts, committed_at=ts
    )


class Client:
    """One algorithm over a store, its clock far behind, and an open document."""

    def __init__(self, store: LWWMemoryStore | None = None, *, now: int = 5_000) -> None:
        runtime = Runtime(wall_ms=lambda: now, random=random.Random(1))
        self.algorithm = LWWAlgorithm(store or LWWMemoryStore(), runtime=runtime)
        self.doc = LWWDoc(DOC)
        self.edits = 0

    async def open(self) -> Client:
        await self.algorithm.track_docs([DOC])
        self.doc = self.algorithm.create_doc(DOC, await self.algorithm.load_doc(DOC))
        return self

    async def edit(self, *ops: dict[str, Any], change_id: str | None = None) -> None:
        self.edits += 1
        self.doc.apply(list(ops))
        await self.algorithm.handle_doc_change(
            DOC, self.doc.unsaved[-1], self.doc, {}, change_id or f"edit{self.edits}"
        )

    async def batch(self) -> list[Change]:
        return await self.algorithm.next_batch(DOC, self.doc, OPTIONS)


SET = {"op": "replace", "path": "/x", "value": "second"}


async def test_a_write_is_later_than_the_row_that_its_author_has_read() -> None:
    client = await Client().open()
    await client.algorithm.apply_server_changes(DOC, [theirs(1, "first", SERVER_TIME)], client.doc)
    await client.edit(SET)
    (sent,) = await client.batch()
    assert sent.ops[0]["ts"] == SERVER_TIME + 1


async def test_a_row_of_a_snapshot_was_read_too() -> None:
    client = await Client().open()
    snapshot = Snapshot(state={}, rev=1, changes=[theirs(1, "first", SERVER_TIME)])
    await client.algorithm.install_snapshot(DOC, snapshot, client.doc)
    await client.edit(SET)
    (sent,) = await client.batch()
    assert sent.ops[0]["ts"] == SERVER_TIME + 1


async def test_a_clock_that_is_ahead_of_all_rows_tells_the_time() -> None:
    client = await Client(now=SERVER_TIME + 7).open()
    await client.algorithm.apply_server_changes(DOC, [theirs(1, "first", SERVER_TIME)], client.doc)
    await client.edit(SET)
    (sent,) = await client.batch()
    assert sent.ops[0]["ts"] == SERVER_TIME + 7


@pytest.mark.parametrize("path", ["/x", "/x/y"])
async def test_a_write_over_what_another_process_is_sending_is_not_earlier(path: str) -> None:
    store = LWWMemoryStore()
    ahead, behind = await Client(store, now=9_000).open(), await Client(store, now=5_000).open()
    await ahead.edit({"op": "replace", "path": "/x", "value": {}})
    (sent,) = await ahead.batch()
    await behind.edit({"op": "replace", "path": path, "value": "later"}, change_id="later")
    await behind.algorithm.receive_answer(
        DOC, [sent], [sent.replace(rev=1, committed_at=1)], behind.doc
    )
    (then,) = await behind.batch()
    assert then.ops[0]["ts"] >= sent.ops[0]["ts"]


async def test_pending_edits_are_sent_under_the_id_of_the_first() -> None:
    client = await Client().open()
    await client.edit({"op": "@inc", "path": "/n", "value": 1}, change_id="one")
    await client.edit({"op": "@inc", "path": "/n", "value": 1}, change_id="two")
    (sent,) = await client.batch()
    assert sent.id == "one"
    await client.edit({"op": "@inc", "path": "/n", "value": 1}, change_id="three")
    committed = sent.replace(rev=1, committed_at=1)
    await client.algorithm.receive_answer(DOC, [sent], [committed], client.doc)
    (then,) = await client.batch()
    assert then.id == "three"


async def test_the_pieces_of_one_change_have_the_same_ids_whenever_it_is_cut() -> None:
    ids = []
    for _ in range(2):
        client = await Client().open()
        for name in "abc":
            op = {"op": "replace", "path": f"/{name}", "value": "x" * 200}
            await client.edit(op, change_id=f"of {name}")
        options = DocOptions(max_payload_bytes=400)
        (first,) = await client.algorithm.next_batch(DOC, client.doc, options)
        snapshot = await client.algorithm.load_doc(DOC)
        assert snapshot is not None
        ids.append([change.id for change in snapshot.changes])
        assert first.id == "of a"
    assert ids[0] == ids[1] == ["of a", "of a.1", "of a.2"]


async def test_a_write_that_another_process_sent_is_confirmed_by_its_broadcast() -> None:
    store = LWWMemoryStore()
    one, two = await Client(store).open(), await Client(store).open()
    await one.edit({"op": "@inc", "path": "/n", "value": 1})
    (sent,) = await two.batch()
    row = {"op": "replace", "path": "/n", "value": 1, "ts": 5_000, "rev": 1}
    committed = sent.replace(ops=[row], rev=1, committed_at=5_000)
    await one.algorithm.apply_server_changes(DOC, [committed], one.doc)
    assert one.doc.state == {"n": 1}
    assert not one.doc.has_pending
    await two.algorithm.receive_answer(DOC, [sent], [committed], two.doc)
    assert two.doc.state == {"n": 1}


async def test_a_document_sees_at_its_next_send_what_another_process_has_done() -> None:
    store = LWWMemoryStore()
    one, two = await Client(store).open(), await Client(store).open()
    await one.edit({"op": "@inc", "path": "/n", "value": 1})
    (sent,) = await one.batch()
    row = {"op": "replace", "path": "/n", "value": 1, "ts": 5_000, "rev": 1}
    committed = sent.replace(ops=[row], rev=1, committed_at=5_000)
    await two.algorithm.receive_answer(DOC, [sent], [committed], two.doc)
    assert await one.batch() == []
    assert one.doc.state == {"n": 1}
    assert (one.doc.committed_rev, one.doc.has_pending) == (1, False)


async def test_a_document_that_hears_nothing_new_takes_over_what_another_process_has_stored() -> (
    None
):
    store = LWWMemoryStore()
    one, two = await Client(store).open(), await Client(store).open()
    await two.algorithm.apply_server_changes(DOC, [theirs(1, "first", 100)], two.doc)
    assert await one.algorithm.apply_server_changes(DOC, [], one.doc) == []
    assert (one.doc.state, one.doc.committed_rev) == ({"x": "first"}, 1)


async def test_edits_stored_together_behind_those_of_another_process_show_once() -> None:
    store = LWWMemoryStore()
    one, two = await Client(store).open(), await Client(store).open()
    await one.edit({"op": "@inc", "path": "/n", "value": 10}, change_id="other")
    edits = []
    for number in range(3):
        two.doc.apply([{"op": "@inc", "path": "/n", "value": 1}])
        edits.append(LocalEdit(two.doc.unsaved[-1], {}, f"mine{number}"))
    stored = await two.algorithm.handle_doc_changes(DOC, edits, two.doc)
    assert [len(changes) for changes in stored] == [1, 1, 1]
    assert two.doc.state == {"n": 13}
    assert not two.doc.unsaved
    again = [LocalEdit([{"op": "@inc", "path": "/n", "value": 1}], {}, "mine2")]
    await two.algorithm.handle_doc_changes(DOC, again, two.doc)
    assert two.doc.state == {"n": 13}


async def test_an_older_snapshot_leaves_what_another_process_has_stored() -> None:
    store = LWWMemoryStore()
    one, two = await Client(store).open(), await Client(store).open()
    changes = [theirs(1, "first", 100), theirs(2, "second", 200)]
    await two.algorithm.apply_server_changes(DOC, changes, two.doc)
    snapshot = Snapshot(state={}, rev=1, changes=changes[:1])  # asked for before that
    with pytest.raises(OutdatedAnswerError):
        await one.algorithm.install_snapshot(DOC, snapshot, one.doc)
    await one.algorithm.apply_server_changes(DOC, [], one.doc)
    assert (one.doc.state, one.doc.committed_rev) == ({"x": "second"}, 2)
    assert await one.algorithm.get_committed_rev(DOC) == 2
    await one.algorithm.install_snapshot(DOC, snapshot, one.doc)  # it was ahead: it is set back
    assert (one.doc.state, one.doc.committed_rev) == ({"x": "first"}, 1)
