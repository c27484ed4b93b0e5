"""`patches-server backup` and `doctor` on a folder of collections documents."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from patches_server.cli.main import main
from patches_server.collections import CollectionsServer, SQLiteEngine
from tests.server.collections.board import new_declaration


async def _filled(folder: Path) -> None:
    async with CollectionsServer(new_declaration(), engine=SQLiteEngine(folder)) as server:
        for doc_id in ("board/1", "board/2", "board/3"):
            await server.push(doc_id, "labels", id="a", name="n")
            await server.push(doc_id, "labels", id="b", name="n")
        await server.write("board/1", lambda sql: sql("DELETE FROM labels WHERE id = 'b'"))
        await server.delete_doc("board/3")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    asyncio.run(_filled(tmp_path / "boards"))
    return tmp_path / "boards"


def damage(folder: Path, *statements: str) -> None:
    with closing(sqlite3.connect(folder / "board%2f1.sqlite")) as conn:
        for statement in statements:
            conn.execute(statement)
        conn.commit()


def test_a_copy_is_complete_and_of_another_history(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "copy"
    assert main(["backup", "--collections", str(folder), str(copy)]) == 0
    assert "2 documents" in capsys.readouterr().out
    assert main(["doctor", "--collections", str(copy)]) == 0

    async def look(place: Path) -> tuple[object, ...]:
        async with CollectionsServer(new_declaration(), engine=SQLiteEngine(place)) as server:
            found = await server.get_doc("board/1")
            mark = await server.history_of("board/1")
            deleted = await server._engine.deleted("board/3")
            return found.state, found.rev, deleted is not None, mark.token

    before, after = asyncio.run(look(folder)), asyncio.run(look(copy))
    assert before[:3] == after[:3]
    assert before[3] != after[3]
    assert main(["backup", "--collections", str(folder), str(copy)]) == 1
    assert "exists" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("DROP TRIGGER _patches_labels_update", "lost triggers: ['update']"),
        ("DELETE FROM _patches_log WHERE key = 'a'", "1 rows of labels are not in the log"),
        ("UPDATE _patches_log SET gone_at = 5 WHERE key = 'a'", "say other than the rows"),
        ("UPDATE _patches_log SET rev = 99", "above the head"),
        ("DELETE FROM _patches_meta", "lost its head"),
        ("DROP TABLE labels", "the table labels is gone"),
    ],
)
def test_damage_is_found(
    statement: str, said: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["doctor", "--collections", str(folder)]) == 0
    capsys.readouterr()
    damage(folder, statement)
    assert main(["doctor", "--collections", str(folder)]) == 1
    assert said in capsys.readouterr().out


def test_what_the_log_lacks_is_entered_again(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damage(
        folder,
        "DELETE FROM _patches_log WHERE key = 'a'",
        "UPDATE _patches_log SET gone_at = NULL WHERE key = 'b'",
    )
    assert main(["doctor", "--collections", str(folder), "--repair"]) == 0
    assert "2 rows of labels are sent again" in capsys.readouterr().out

    async def changes() -> list[str]:
        async with CollectionsServer(new_declaration(), engine=SQLiteEngine(folder)) as server:
            (change,) = await server.get_changes_since("board/1", 3)
            return sorted(f"{op['op']} {op['path']}" for op in change.ops)

    assert asyncio.run(changes()) == ["add /labels/a", "remove /labels/b"]
