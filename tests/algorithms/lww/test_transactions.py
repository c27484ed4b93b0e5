"""Each transaction over one document's tables: in memory and in a file."""

from __future__ import annotations

from typing import Any

import pytest

from patches.algorithms.lww import transactions
from patches.algorithms.lww.reading import load, version_of
from patches.algorithms.lww.tables import DocTables, LWWStore
from patches.errors import AlgorithmMismatchError, MissingChangesError
from patches.model.change import Change, QuarantinedChange, Snapshot
from patches.model.history import History
from patches.model.json_values import Op

DOC = "d"


def op(path: str, value: Any, ts: int = 5, **fields: Any) -> Op:
    return {"op": "replace", "path": path, "value": value, "ts": ts, **fields}


def piece(change_id: str, *ops: Op, rev: int = 0) -> Change:
    return Change(id=change_id, ops=list(ops), base_rev=rev, rev=rev + 1, created_at=1)


def server_change(rev: int, *ops: Op, id: str = "", **fields: Any) -> Change:
    rows = [{**each, "rev": rev} for each in ops]
    change_id = id or f"s{rev}"
    return Change(
        id=change_id, ops=rows, base_rev=rev - 1, rev=rev, created_at=1, committed_at=1, **fields
    )


def a_document(tables: DocTables) -> None:
    """At revision 1 with a row, a piece that is being sent, and a pending op."""
    transactions.track(tables)
    tables.committed.write(op("/title", "old", rev=1))
    tables.put_head(committed_rev=1)
    tables.put_sending([piece("p1", op("/title", "mine", 9), rev=1)])
    tables.pending.put(op("/note", "later", 10))


def shown(tables: DocTables) -> tuple[Any, list[str], list[str]]:
    """The committed state, what is being sent, and where ops are pending."""
    work = load(tables)
    assert work is not None
    return work.state, [each.id for each in work.sending], [each["path"] for each in work.pending]


async def test_confirming_makes_rows_of_a_piece(store: LWWStore) -> None:
    await store.change(DOC, a_document)
    step = await store.change(
        DOC, lambda tables: transactions.confirm(tables, [piece("p1")], known=None)
    )
    assert step.after > step.before
    assert step.corrections == []
    assert await store.read(DOC, shown) == ({"title": "mine"}, [], ["/note"])


async def test_a_row_that_beats_a_sent_op_is_a_correction(store: LWWStore) -> None:
    def newer(tables: DocTables) -> None:
        a_document(tables)
        tables.committed.write(op("/title", "newer", 20, rev=1))

    await store.change(DOC, newer)
    step = await store.change(DOC, lambda tables: transactions.confirm(tables, [piece("p1")], 0))
    assert [each["value"] for each in step.corrections] == ["newer"]
    assert step.work is not None
    assert await store.read(DOC, shown) == ({"title": "newer"}, [], ["/note"])


async def test_confirming_what_is_not_being_sent_writes_nothing(store: LWWStore) -> None:
    await store.change(DOC, a_document)
    step = await store.change(DOC, lambda tables: transactions.confirm(tables, [piece("x")], None))
    assert (step.before, step.committed_rev) == (step.after, 1)


async def test_an_answer_confirms_and_applies_in_one(store: LWWStore) -> None:
    await store.change(DOC, a_document)
    answer = [server_change(2, op("/title", "mine", 9), op("/by", "others"), id="p1")]
    step = await store.change(
        DOC, lambda tables: transactions.fold_answer(tables, DOC, [piece("p1")], answer, None)
    )
    assert [each.id for each in step.accepted] == ["p1"]
    assert [each.id for each in step.confirmed] == ["p1"]
    assert (step.before_rev, step.committed_rev) == (1, 2)
    state, sending, pending = await store.read(DOC, shown)
    assert (state, sending, pending) == ({"title": "mine", "by": "others"}, [], ["/note"])


async def test_an_answer_without_the_sent_change_makes_rows_of_it(store: LWWStore) -> None:
    await store.change(DOC, a_document)
    await store.change(
        DOC, lambda tables: transactions.fold_answer(tables, DOC, [piece("p1")], [], None)
    )
    assert await store.read(DOC, shown) == ({"title": "mine"}, [], ["/note"])


async def test_a_change_that_was_ejected_and_committed_leaves_quarantine(store: LWWStore) -> None:
    def ejected(tables: DocTables) -> None:
        a_document(tables)
        tables.put_sending([])
        tables.put_quarantined(
            QuarantinedChange(
                doc_id=DOC, change_id="p1", change=piece("p1"), reason="why", quarantined_at=1
            )
        )

    await store.change(DOC, ejected)
    answer = [server_change(2, op("/title", "mine", 9), id="p1")]
    await store.change(
        DOC, lambda tables: transactions.fold_answer(tables, DOC, [piece("p1")], answer, None)
    )
    assert await store.list_quarantined(DOC) == []


async def test_a_gap_and_rows_without_a_time_leave_the_tables_alone(store: LWWStore) -> None:
    await store.change(DOC, a_document)
    before = await store.read(DOC, version_of)
    with pytest.raises(MissingChangesError):
        await store.change(
            DOC,
            lambda tables: transactions.fold_changes(
                tables, DOC, [server_change(3, op("/a", 1))], (), None
            ),
        )
    untimed = server_change(2, {"op": "replace", "path": "/a", "value": 1})
    with pytest.raises(AlgorithmMismatchError):
        await store.change(
            DOC, lambda tables: transactions.fold_changes(tables, DOC, [untimed], (), None)
        )
    assert await store.read(DOC, version_of) == before
    assert await store.read(DOC, shown) == ({"title": "old"}, ["p1"], ["/note"])


async def test_a_document_that_has_missed_a_write_takes_all_of_the_tables(store: LWWStore) -> None:
    await store.change(DOC, a_document)
    known = await store.read(DOC, version_of)
    change = [server_change(2, op("/a", 1))]
    step = await store.change(
        DOC, lambda tables: transactions.fold_changes(tables, DOC, change, (), known)
    )
    assert step.work is None, "it follows by the rows"
    missed = await store.change(
        DOC, lambda tables: transactions.fold_changes(tables, DOC, change, (), known)
    )
    assert missed.work is not None
    assert missed.accepted == ()
    assert missed.work.state == {"title": "old", "a": 1}


async def test_a_snapshot_replaces_the_rows_and_keeps_unsent_work(store: LWWStore) -> None:
    await store.change(DOC, a_document)
    snapshot = Snapshot(state={"base": 1}, rev=5)
    await store.change(DOC, lambda tables: transactions.install(tables, DOC, snapshot))
    assert await store.read(DOC, shown) == ({"base": 1}, ["p1"], ["/note"])
    await store.change(DOC, lambda tables: transactions.install(tables, DOC, snapshot, {"p1"}))
    assert await store.read(DOC, shown) == ({"base": 1}, [], ["/note"])


async def test_on_a_new_history_pieces_stand_on_the_snapshot(store: LWWStore) -> None:
    await store.change(DOC, a_document)
    snapshot = Snapshot(state={"base": 1}, rev=7)
    await store.change(
        DOC, lambda tables: transactions.install(tables, DOC, snapshot, is_new_history=True)
    )
    (sending,) = await store.read(DOC, lambda tables: tables.sending())
    assert (sending.base_rev, sending.rev) == (7, 8)


@pytest.mark.parametrize(
    ("change", "is_answer", "expected"),
    [
        (server_change(1), False, "s1"),
        (server_change(1), True, None),
        (server_change(1, metadata={"head": "c7"}), True, "c7"),
        (server_change(1, metadata={"head": None}), False, None),
    ],
)
def test_who_made_a_revision(change: Change, is_answer: bool, expected: str | None) -> None:
    assert transactions.made_by(change, is_answer=is_answer) == expected


async def test_the_token_is_put_beside_what_is_known(store: LWWStore) -> None:
    await store.change(DOC, lambda tables: transactions.put_token(tables, "ignored"))
    await store.change(DOC, a_document)
    await store.change(DOC, lambda tables: tables.put_history(History("old", 1, "s1")))
    await store.change(DOC, lambda tables: transactions.put_token(tables, "new"))
    assert await store.read(DOC, lambda tables: tables.history()) == History("new", 1, "s1")


async def test_a_deletion_leaves_a_record_until_it_is_confirmed(store: LWWStore) -> None:
    await store.change(DOC, a_document)
    await store.change(DOC, transactions.confirm_deleted)
    assert await store.read(DOC, shown), "a document that lives is left alone"
    await store.change(DOC, transactions.mark_deleted)
    assert await store.read(DOC, load) is None
    assert [each.deleted for each in await store.list_docs(True)] == [True]
    await store.change(DOC, transactions.confirm_deleted)
    assert await store.list_docs(True) == []


async def test_tracking_a_deleted_document_starts_it_again(store: LWWStore) -> None:
    await store.change(DOC, a_document)
    await store.change(DOC, transactions.mark_deleted)
    await store.change(DOC, transactions.track)
    assert await store.read(DOC, shown) == ({}, [], [])
    await store.change(DOC, transactions.untrack)
    assert await store.list_docs(True) == []
