"""Writes of one edit stay together: in the pending ops, in pieces, in quarantine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from patches.algorithms.base import LocalEdit
from patches.algorithms.lww import LWWAlgorithm
from patches.algorithms.lww.field_table import FieldTable
from patches.algorithms.lww.stores.memory import LWWMemoryStore
from patches.algorithms.lww.units import as_stored, bare, grouped, halves, in_unit, join
from patches.model.change import Change, Snapshot
from patches.model.json_values import Op
from patches.options import DocOptions

DOC = "doc"


def put(path: str, value: Any = 1) -> Op:
    return {"op": "replace", "path": path, "value": value}


def gone(path: str) -> Op:
    return {"op": "remove", "path": path}


def table(*units: Sequence[Op]) -> FieldTable:
    return FieldTable(in_unit(op, number) for number, ops in enumerate(units, 1) for op in ops)


def paths(ops: Sequence[Op]) -> list[str]:
    return [op["path"] for op in ops]


# ---- the pure functions --------------------------------------------------------------------------


def test_an_edit_that_replaces_nothing_is_a_unit_of_its_own() -> None:
    assert join(table([put("/a")]), [put("/b")], [], 9) == (9, [])


def test_an_edit_that_replaces_a_write_joins_its_unit() -> None:
    pending = table([put("/a"), put("/b")], [put("/c")])
    assert join(pending, [put("/b"), put("/d")], [in_unit(put("/b"), 1)], 9) == (1, [])


def test_an_edit_that_replaces_writes_of_two_units_makes_one_of_them() -> None:
    pending = table([put("/a"), put("/b")], [put("/c"), put("/d")])
    replaced = [in_unit(put("/b"), 1), in_unit(put("/c"), 2)]
    unit, moved = join(pending, [put("/b"), put("/c")], replaced, 9)
    assert (unit, paths(moved)) == (1, ["/d"])


def test_what_stands_above_an_early_write_moves_along() -> None:
    pending = table([put("/x")], [put("/a", {}), put("/y")], [put("/z")])
    unit, moved = join(pending, [put("/x"), put("/a/b")], [in_unit(put("/x"), 1)], 9)
    assert (unit, paths(moved)) == (1, ["/a", "/y"])


def test_and_what_stands_above_that() -> None:
    pending = table([put("/x")], [put("/a", {})], [put("/a/b", {}), put("/y")])
    unit, moved = join(pending, [put("/x"), put("/a/b/c")], [in_unit(put("/x"), 1)], 9)
    assert (unit, set(paths(moved))) == (1, {"/a", "/a/b", "/y"})


def test_writes_of_older_files_are_one_unit() -> None:
    assert grouped([put("/a"), put("/b")]) == [[put("/a"), put("/b")]]
    assert halves([put("/a"), put("/b")]) is None


def test_halves_are_cut_between_units() -> None:
    ops = table([put("/a"), put("/b"), put("/c")], [put("/d")], [put("/e")]).ops()
    parts = halves(ops)
    assert parts is not None
    assert [paths(part) for part in parts] == [["/a", "/b", "/c"], ["/d", "/e"]]
    first, rest = parts
    assert sorted(paths([*first, *rest])) == ["/a", "/b", "/c", "/d", "/e"]


def test_a_unit_that_is_a_piece_carries_no_number() -> None:
    def piece(*ops: Op) -> Change:
        return Change(id="p", ops=list(ops), base_rev=0, rev=1, created_at=1)

    alone, cut = piece(in_unit(put("/a"), 1)), in_unit(put("/b"), 2)
    stored = as_stored([alone, piece(cut), piece(cut)])
    assert [piece.ops for piece in stored] == [[put("/a")], [cut], [cut]]
    assert bare(cut) == put("/b")


# ---- the algorithm -------------------------------------------------------------------------------


class Client:
    """An LWW algorithm over a store, with edits given as operations."""

    def __init__(self) -> None:
        self.algorithm = LWWAlgorithm(LWWMemoryStore())

    async def edit(self, *edits: Sequence[Op]) -> None:
        for ops in edits:
            change = LocalEdit(ops=list(ops), metadata={}, change_id=None)
            await self.algorithm.handle_doc_changes(DOC, [change], None)

    async def load(self, state: Any) -> None:
        await self.algorithm.track_docs([DOC])
        snapshot = Snapshot(state=state, rev=1)
        await self.algorithm.install_snapshot(DOC, snapshot, None)

    async def next(self, *, max_payload_bytes: int | None = None) -> Change:
        options = DocOptions(max_payload_bytes=max_payload_bytes)
        (piece,) = await self.algorithm.next_batch(DOC, None, options)
        return piece

    async def confirm(self, piece: Change) -> None:
        await self.algorithm.receive_answer(DOC, [piece], [], None)

    async def divide(self, piece: Change) -> bool:
        return await self.algorithm.divide_pending_change(DOC, piece.id, None)

    async def eject(self, piece: Change) -> list[str]:
        entry = await self.algorithm.eject_pending_change(DOC, piece.id, "no", None)
        assert entry is not None
        assert not any("unit" in op for op in entry.change.ops)
        return paths(entry.change.ops)


@pytest.fixture
def client() -> Client:
    return Client()


async def test_a_refused_piece_is_divided_between_edits(client: Client) -> None:
    await client.edit([gone("/a"), put("/b")], [put("/c")], [gone("/d"), put("/e")])
    piece = await client.next()
    assert paths(piece.ops) == ["/a", "/b", "/c", "/d", "/e"]
    assert not any("unit" in op for op in piece.ops)
    assert await client.divide(piece)
    first = await client.next()
    assert paths(first.ops) == ["/a", "/b", "/c"]
    assert await client.divide(first)
    move = await client.next()
    assert paths(move.ops) == ["/a", "/b"]
    assert not await client.divide(move)
    assert await client.eject(move) == ["/a", "/b"]
    assert paths((await client.next()).ops) == ["/c"]


async def test_an_edit_that_was_set_aside_is_whole_when_it_is_tried_again(client: Client) -> None:
    await client.edit([gone("/a"), put("/b")])
    piece = await client.next()
    await client.eject(piece)
    await client.algorithm.retry_quarantined_change(DOC, piece.id, None)
    again = await client.next()
    assert (again.id, paths(again.ops)) == (piece.id, ["/a", "/b"])
    assert not await client.divide(again)


async def test_pieces_are_cut_between_edits(client: Client) -> None:
    await client.edit(*[[put(f"/a{n}", "x" * 300), put(f"/b{n}", "x" * 300)] for n in range(4)])
    sizes = []
    for _ in range(2):
        piece = await client.next(max_payload_bytes=1_900)
        sizes.append(paths(piece.ops))
        await client.confirm(piece)
    assert sizes == [["/a0", "/b0", "/a1", "/b1"], ["/a2", "/b2", "/a3", "/b3"]]


async def test_what_is_left_of_an_edit_that_needs_several_pieces_goes_with_it(
    client: Client,
) -> None:
    await client.edit([put(f"/a{n}", "x" * 300) for n in range(3)], [put("/b")])
    piece = await client.next(max_payload_bytes=500)
    assert paths(piece.ops) == ["/a0"]
    assert await client.eject(piece) == ["/a0", "/a1", "/a2"]
    assert paths((await client.next()).ops) == ["/b"]


async def test_a_piece_that_is_cut_later_is_still_one_edit(client: Client) -> None:
    await client.edit([put(f"/a{n}", "x" * 300) for n in range(3)])
    await client.next()
    piece = await client.next(max_payload_bytes=500)  # the server takes less than was thought
    assert paths(piece.ops) == ["/a0"]
    assert await client.eject(piece) == ["/a0", "/a1", "/a2"]
    assert not await client.algorithm.has_pending(DOC)


async def test_what_is_written_into_a_refused_object_goes_with_it(client: Client) -> None:
    await client.load({"there": {}})
    await client.edit([put("/card", {"n": 1}), put("/there", {"n": 1})])
    piece = await client.next()
    await client.edit(
        [put("/card/n", 2), put("/x")],  # of the object that is not made
        [put("/there/n", 2)],  # of one that stays
        [put("/y")],
    )
    assert await client.eject(piece) == ["/card", "/there", "/card/n", "/x"]
    assert paths((await client.next()).ops) == ["/there/n", "/y"]


async def test_not_what_is_written_into_an_object_that_another_edit_makes(client: Client) -> None:
    await client.edit([put("/card", {"n": 1})])
    piece = await client.next()
    await client.edit([put("/card", {"n": 2})], [put("/card/n", 3)])
    assert await client.eject(piece) == ["/card"]
    assert paths((await client.next()).ops) == ["/card", "/card/n"]


async def test_an_increment_takes_what_it_starts_from_along(client: Client) -> None:
    await client.load({"card": {"n": 5}})
    await client.edit([put("/z")], [{"op": "@inc", "path": "/card/n", "value": 1}])
    piece = await client.next()
    assert paths(piece.ops) == ["/z", "/card/n", "/card/n"]
    assert await client.divide(piece)
    await client.eject(await client.next())
    assert paths((await client.next()).ops) == ["/card/n", "/card/n"]
