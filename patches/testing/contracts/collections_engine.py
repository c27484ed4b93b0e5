"""`CollectionsEngineContract`: what every engine of collections documents does.

Subclass it, and give a fixture `engine` and a method `write_outside`, which writes to a document as
another program does. The tables are those of `DECLARED`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final, TypeVar

import pytest

from patches.algorithms.collections.declaration import Collections, DeclaredTable
from patches.rows import F
from patches.rows.row_ops import Row
from patches_server.collections.engines.engine import (
    Commit,
    Deleted,
    Engine,
    Touched,
    Transaction,
    Where,
)

T = TypeVar("T")

DOC: Final = "a/doc"
DECLARED: Final = Collections("contract")


@DECLARED.table("notes")
class Note:
    """A row with a column of each kind."""

    id: str
    text: str
    votes: int = 0
    weight: float | None = None
    done: bool = False
    tags: list[str] = []  # noqa: RUF012  # read once, and copied


@DECLARED.table("others")
class Other:
    """A second table."""

    id: str


NOTES: Final[DeclaredTable] = DECLARED.tables["notes"]
OTHERS: Final[DeclaredTable] = DECLARED.tables["others"]


def note(key: str, **columns: Any) -> Row:
    """A whole row."""
    return NOTES.table.complete({"id": key, "text": "t", **columns})


class CollectionsEngineContract:
    """Every engine passes these. `keeps_nul`: its strings may have NUL characters."""

    keeps_nul = True

    async def write_outside(self, engine: Engine, *statements: str) -> None:
        """Write to `DOC` as another program does, in one transaction."""
        raise NotImplementedError

    async def _number(self, engine: Engine, work: Callable[[Transaction], object]) -> Touched:
        def run(tx: Transaction) -> Touched:
            work(tx)
            return tx.number(1_000)

        return await engine.begin(DOC, run)

    # ---- rows ------------------------------------------------------------------------------------

    async def test_a_row_is_read_as_it_was_written(self, engine: Engine) -> None:
        text = "nul \x00 🙂" if self.keeps_nul else "🙂"
        row = note("n", votes=3, weight=0.5, done=True, tags=["a", "é"], text=text)
        await engine.begin(DOC, lambda tx: tx.insert(NOTES, row))
        assert await engine.read(DOC, lambda tx: tx.get(NOTES, "n")) == row
        await engine.begin(DOC, lambda tx: tx.update(NOTES, "n", {"weight": None, "done": False}))
        found = await engine.read(DOC, lambda tx: tx.get(NOTES, "n"))
        assert found == {**row, "weight": None, "done": False}
        assert found is not None
        assert found["done"] is False
        await engine.begin(DOC, lambda tx: tx.delete(NOTES, "n"))
        assert await engine.read(DOC, lambda tx: tx.get(NOTES, "n")) is None

    async def test_rows_are_selected_in_order(self, engine: Engine) -> None:
        rows = [
            note("a", weight=2.0),
            note("b", weight=None),
            note("c", weight=1.0, votes=5),
            note("d", weight=2.0),
        ]

        def fill(tx: Transaction) -> None:
            for row in rows:
                tx.insert(NOTES, row)

        await engine.begin(DOC, fill)

        async def keys(where: Where, **options: Any) -> list[Any]:
            found = await engine.read(DOC, lambda tx: tx.select(where, **options))
            return [row["id"] for row in found]

        everything = Where(NOTES)
        assert await keys(everything) == ["a", "b", "c", "d"]
        assert await keys(everything, order=[("weight", False)]) == ["c", "a", "d", "b"]
        assert await keys(everything, order=[("weight", True)], limit=3) == ["a", "d", "c"]
        assert await keys(everything, order=[("weight", True)], limit=3, after=2) == ["c", "b"]
        assert await keys(Where(NOTES, (F.votes > 3,))) == ["c"]
        assert await keys(Where(NOTES, (F.votes == 0, F.weight > 1.5))) == ["a", "d"]

    # ---- numbering -------------------------------------------------------------------------------

    async def test_a_transaction_is_one_revision(self, engine: Engine) -> None:
        def write(tx: Transaction) -> None:
            tx.insert(NOTES, note("a"))
            tx.insert(NOTES, note("b"))
            tx.insert(OTHERS, {"id": "o"})

        touched = await self._number(engine, write)
        assert touched.rows == {
            "notes": {"a": note("a"), "b": note("b")},
            "others": {"o": {"id": "o"}},
        }
        assert touched.born == {("notes", "a"), ("notes", "b"), ("others", "o")}
        assert set(touched.revs.values()) == {1}
        assert await engine.read(DOC, lambda tx: tx.rev) == 1
        assert not (await self._number(engine, lambda tx: None)).rows
        assert await engine.read(DOC, lambda tx: tx.rev) == 1
        assert await engine.begin(DOC, lambda tx: tx.next_rev()) == 2

    async def test_each_row_is_told_once_as_it_is(self, engine: Engine) -> None:
        await self._number(engine, lambda tx: tx.insert(NOTES, note("a")))
        await self._number(engine, lambda tx: tx.update(NOTES, "a", {"votes": 1}))
        touched = await self._number(engine, lambda tx: tx.update(NOTES, "a", {"votes": 2}))
        assert touched.rows == {"notes": {"a": note("a", votes=2)}}
        assert not touched.born
        await self._number(engine, lambda tx: tx.insert(NOTES, note("b")))
        await self._number(engine, lambda tx: tx.delete(NOTES, "a"))

        def changed(after: int, upto: int) -> Callable[[Transaction], Touched | None]:
            return lambda tx: tx.changed(after, upto, limit=10)

        found = await engine.read(DOC, changed(0, 5))
        assert found is not None
        assert found.rows == {"notes": {"a": None, "b": note("b")}}
        assert found.revs == {("notes", "a"): 5, ("notes", "b"): 4}
        found = await engine.read(DOC, changed(4, 5))
        assert found is not None
        assert found.rows == {"notes": {"a": None}}
        assert await engine.read(DOC, lambda tx: tx.changed(0, 5, limit=1)) is None

    async def test_an_emptied_table_is_named(self, engine: Engine) -> None:
        def fill(tx: Transaction) -> None:
            for number in range(1_200):  # more than are looked up with one statement
                tx.insert(NOTES, note(f"n{number:04}"))

        assert len(await self._number(engine, fill)) == 1_200
        touched = await self._number(engine, lambda tx: tx.sql("DELETE FROM notes"))
        assert touched.emptied == {"notes"}
        assert set(touched.rows["notes"].values()) == {None}

    async def test_what_fails_leaves_nothing(self, engine: Engine) -> None:
        await self._number(engine, lambda tx: tx.insert(NOTES, note("a")))

        def fail(tx: Transaction) -> None:
            tx.insert(NOTES, note("b"))
            tx.number(1_000)
            raise ValueError("stop")

        with pytest.raises(ValueError, match="stop"):
            await engine.begin(DOC, fail)

        def attempt(tx: Transaction) -> int:
            with pytest.raises(ValueError, match="stop"):
                tx.attempt(lambda: fail(tx))
            tx.insert(NOTES, note("c"))
            tx.number(1_000)
            return tx.rev

        assert await engine.begin(DOC, attempt) == 2
        found = await engine.read(DOC, lambda tx: tx.select(Where(NOTES)))
        assert [row["id"] for row in found] == ["a", "c"]

    async def test_functions_run_and_end_in_the_order_in_which_they_began(
        self, engine: Engine
    ) -> None:
        ended: list[int] = []
        futures = []
        for number in range(20):
            key = f"n{number}"

            def write(tx: Transaction, key: str = key) -> int:
                tx.insert(NOTES, note(key))
                tx.number(1_000)
                return tx.rev

            future = engine.begin(DOC, write)
            future.add_done_callback(lambda done: ended.append(done.result()))
            futures.append(future)
        assert [await future for future in futures] == list(range(1, 21))
        await asyncio.sleep(0)  # so that all have been called
        assert ended == list(range(1, 21))

    # ---- other programs --------------------------------------------------------------------------

    async def test_the_writes_of_others_are_noticed(self, engine: Engine) -> None:
        await self._number(engine, lambda tx: tx.insert(NOTES, note("a")))
        assert await engine.has_unnumbered([DOC]) == []
        await self.write_outside(
            engine,
            "INSERT INTO notes (id, text) VALUES ('b', 't')",
            "UPDATE notes SET votes = 7 WHERE id = 'a'",
            "INSERT INTO others VALUES ('o')",
            "UPDATE others SET id = 'p' WHERE id = 'o'",
        )
        assert await engine.has_unnumbered([DOC]) == [DOC]
        touched = await self._number(engine, lambda tx: None)
        assert touched.rows == {
            "notes": {"a": note("a", votes=7), "b": note("b")},
            "others": {"o": None, "p": {"id": "p"}},
        }
        assert await engine.has_unnumbered([DOC]) == []

    # ---- records ---------------------------------------------------------------------------------

    async def test_changes_are_remembered_with_their_authors(self, engine: Engine) -> None:
        def write(tx: Transaction) -> None:
            tx.put_commit(Commit("c1", tx.next_rev(), "ann"), 1_000)
            tx.put_commit(Commit("c2", tx.next_rev(), None), 2_000)

        await engine.begin(DOC, write)
        found = await engine.read(DOC, lambda tx: tx.commits(["c1", "c2", "c3"]))
        assert found == {"c1": Commit("c1", 1, "ann"), "c2": Commit("c2", 2, None)}
        assert await engine.read(DOC, lambda tx: tx.commits_after(1)) == {2: Commit("c2", 2, None)}
        await engine.begin(DOC, lambda tx: tx.sweep(deleted_before=0, committed_before=1_500))
        assert set(await engine.read(DOC, lambda tx: tx.commits(["c1", "c2"]))) == {"c2"}

    async def test_forgetting_deletions_raises_the_floor(self, engine: Engine) -> None:
        for work in (
            lambda tx: tx.insert(NOTES, note("a")),
            lambda tx: tx.delete(NOTES, "a"),
            lambda tx: tx.insert(NOTES, note("b")),
        ):
            await self._number(engine, work)
        swept = await engine.begin(
            DOC, lambda tx: tx.sweep(deleted_before=1_000, committed_before=0)
        )
        assert swept == 0
        swept = await engine.begin(
            DOC, lambda tx: tx.sweep(deleted_before=1_001, committed_before=0)
        )
        assert swept == 1
        assert await engine.read(DOC, lambda tx: (tx.rev, tx.floor)) == (3, 2)

    async def test_cursors_are_kept(self, engine: Engine) -> None:
        assert await engine.begin(DOC, lambda tx: tx.consumers()) == {}
        await engine.begin(DOC, lambda tx: tx.put_consumer("indexer", 4))
        await engine.begin(DOC, lambda tx: tx.put_consumer("indexer", 6))
        assert await engine.read(DOC, lambda tx: tx.consumers()) == {"indexer": 6}

    async def test_a_touched_table_is_told_whole(self, engine: Engine) -> None:
        await self._number(engine, lambda tx: tx.insert(NOTES, note("a")))
        touched = await self._number(engine, lambda tx: tx.touch(NOTES))
        assert touched.rows == {"notes": {"a": note("a")}}

    async def test_another_history_has_another_epoch(self, engine: Engine) -> None:
        first = await engine.begin(DOC, lambda tx: tx.epoch)
        await engine.begin(DOC, lambda tx: tx.new_epoch("other"))
        assert first != "other"
        assert await engine.read(DOC, lambda tx: tx.epoch) == "other"

    async def test_a_deleted_document_is_gone(self, engine: Engine) -> None:
        await self._number(engine, lambda tx: tx.insert(NOTES, note("a")))
        first = await engine.read(DOC, lambda tx: tx.epoch)
        assert await engine.list_docs() == [DOC]
        record = Deleted(deleted_at=5, last_rev=1, client_id="ann")
        await engine.delete(DOC, record)
        assert await engine.deleted(DOC) == record
        assert await engine.list_docs() == []
        assert await engine.undelete(DOC) is True
        assert await engine.undelete(DOC) is False
        assert await engine.deleted(DOC) is None
        found = await engine.begin(DOC, lambda tx: (tx.rev, tx.select(Where(NOTES)), tx.epoch))
        assert found[:2] == (0, [])
        assert found[2] != first
