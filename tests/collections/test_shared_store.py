"""Two processes that share a store: each document follows what the other has stored."""

from __future__ import annotations

from patches.algorithms.collections import CollectionsAlgorithm
from patches.algorithms.collections.stores.memory import CollectionsMemoryStore
from patches.model.change import Change
from patches.options import DocOptions
from patches.rows.row_ops import insert_op
from tests.support.board import board, task

DOC = "d"


def committed(rev: int) -> Change:
    """A change of somebody else."""
    key = f"t{rev}"
    return Change(
        id=f"c{rev}",
        ops=[insert_op("tasks", key, task(key))],
        base_rev=rev - 1,
        rev=rev,
        created_at=1,
        committed_at=1,
    )


async def test_a_document_that_was_left_behind_takes_what_is_stored() -> None:
    store = CollectionsMemoryStore()
    one, other = CollectionsAlgorithm(board, store), CollectionsAlgorithm(board, store)
    await one.track_docs([DOC])
    ours = one.create_doc(DOC, await one.load_doc(DOC))
    theirs = other.create_doc(DOC, await other.load_doc(DOC))
    await one.apply_server_changes(DOC, [committed(1)], ours)
    await other.apply_server_changes(DOC, [committed(1), committed(2)], theirs)
    assert theirs.state["tasks"].keys() == {"t1", "t2"}
    await one.apply_server_changes(DOC, [committed(2), committed(3)], ours)
    assert ours.state["tasks"].keys() == {"t1", "t2", "t3"}
    assert ours.committed_rev == 3


async def test_a_write_of_one_is_seen_and_confirmed_by_the_other() -> None:
    store = CollectionsMemoryStore()
    one, other = CollectionsAlgorithm(board, store), CollectionsAlgorithm(board, store)
    await one.track_docs([DOC])
    ours = one.create_doc(DOC, await one.load_doc(DOC))
    ops = ours.take_ops([insert_op("tasks", "a", task("a"))])
    await one.handle_doc_change(DOC, ops, ours, {}, "w1")
    theirs = other.create_doc(DOC, await other.load_doc(DOC))
    (sent,) = await other.next_batch(DOC, theirs, DocOptions())
    (write,) = ours.writes
    assert write.id == sent.id
    done = sent.replace(rev=1, base_rev=0, committed_at=1)
    await other.receive_answer(DOC, [sent], [done], theirs)
    assert not theirs.has_pending
    await one.apply_server_changes(DOC, [committed(2)], ours)
    assert write.status == "confirmed"
    assert ours.state["tasks"].keys() == theirs.state["tasks"].keys() | {"t2"}
    assert not ours.has_pending
