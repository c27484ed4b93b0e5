"""A server's file with one bit flipped or one row dropped: nothing wrong is served or committed on.

Every answer of a server over a damaged copy is the answer over the whole file, or an error. In the
suite a few copies are tried; `PATCHES_DAMAGED_FILES=200 pytest -s tests/durability -k damaged_file`
tries more and prints the figures.
"""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import sqlite3
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from patches.algorithms.ot import apply_changes_for_reconstruction
from patches.errors import CorruptDataError, PatchesError
from patches.model.change import ChangeInput
from patches.model.json_values import Json
from patches_server.algorithms import CHECKUPS, services_on
from patches_server.documents.context import CallContext, call_context
from patches_server.stores.sqlite.backend import SqliteBackend
from patches_server.stores.sqlite.doctor import problems_of
from patches_server.stores.sqlite.repair import repair

Damage: TypeAlias = Callable[[Path, random.Random], str]
FILES = int(os.environ.get("PATCHES_DAMAGED_FILES", "24"))
#: Tables whose rows the server needs to answer; the doctor finds what is missing of all of them.
TABLES = (
    "ot_heads", "ot_changes", "ot_change_ids", "lww_docs", "lww_rows", "lww_change_ids",
    "server_documents", "server_tombstones", "server_versions", "server_branches", "server_time",
    "server_file", "server_sums",
)  # fmt: skip
#: What only the doctor, or the log at the start, tells of: no answer rests on it alone.
TOLD_ELSEWHERE = ("server_tombstones", "ot_change_ids")


async def fill(path: Path) -> None:
    """Documents of both algorithms with versions, a branch, and one that is deleted."""
    backend = SqliteBackend(path)
    services = services_on(backend)
    ot, lww = services["ot"], services["lww"]
    for rev in range(1, 31):
        op = {"op": "replace", "path": f"/f{rev}", "value": {"text": "x" * 200, "n": rev}}
        for doc_id in ("plan", "gone", "log"):
            await ot.documents.commit_changes(
                doc_id, [ChangeInput(id=f"c{rev}", ops=[op], base_rev=rev - 1)]
            )
        await lww.documents.commit_changes(
            "lww/board", [ChangeInput(id=f"c{rev}", ops=[op], base_rev=rev - 1)]
        )
        if rev in (10, 20):
            await ot.documents.capture_current_version("plan")
            await lww.documents.capture_current_version("lww/board")
    await ot.documents.delete_doc("gone")
    assert ot.branches is not None
    await ot.branches.create_branch("log", 20, {"id": "branch"})
    await backend.close()


async def answers(path: Path) -> dict[str, Json]:
    """What a server over the file says to each of some calls, an error by its class."""
    backend = SqliteBackend(path)
    try:
        await backend.epoch()
        services = services_on(backend)
        calls: dict[str, Callable[[], Awaitable[Any]]] = {}
        for doc_id in ("plan", "log", "gone", "branch", "lww/board"):
            each = services["lww" if doc_id.startswith("lww/") else "ot"]
            documents, history, branches = each.documents, each.history, each.branches
            assert history is not None
            assert branches is not None
            calls[f"get {doc_id}"] = partial(documents.get_doc, doc_id)
            for rev in (0, 12, 29):
                calls[f"since {rev} {doc_id}"] = partial(documents.get_changes_since, doc_id, rev)
            calls[f"versions {doc_id}"] = partial(history.list_versions, doc_id)
            calls[f"branches {doc_id}"] = partial(branches.list_branches, doc_id)
            calls[f"again {doc_id}"] = partial(commit, documents, doc_id, "c30", 29)
            calls[f"commit {doc_id}"] = partial(commit, documents, doc_id, "new", 20)
            calls[f"after {doc_id}"] = partial(documents.get_doc, doc_id)
        return {name: await said(call) for name, call in calls.items()}
    except (PatchesError, sqlite3.Error) as exc:
        return {"all": type(exc).__name__}
    finally:
        await backend.close()


async def commit(documents: Any, doc_id: str, change_id: str, base_rev: int) -> Any:
    op = {"op": "@inc", "path": "/count", "value": 1}
    with call_context(CallContext()):
        return (
            await documents.commit_changes(
                doc_id, [ChangeInput(id=change_id, ops=[op], base_rev=base_rev, created_at=1)]
            )
        ).changes


async def said(call: Callable[[], Awaitable[Any]]) -> Json:
    try:
        return plain(await call())
    except PatchesError as exc:
        return type(exc).__name__


def plain(value: Any) -> Any:
    """Without what differs from run to run: times, and ids that are made for an answer."""
    if isinstance(value, (list, tuple)):
        return [plain(each) for each in value]
    if hasattr(value, "to_wire"):
        wire = value.to_wire()
        if "changes" in wire:  # a state may be told as an older one and more changes
            return [apply_changes_for_reconstruction(value.state, value.changes), value.head]
        return plain({k: v for k, v in wire.items() if k not in ("id", "createdAt", "committedAt")})
    if isinstance(value, dict):
        return {key: plain(each) for key, each in value.items() if key not in ("ts",)}
    return value


def damaged(whole: Path, copy: Path, damage: Damage, chance: random.Random) -> str:
    """Put a damaged copy in the place of the one before."""
    for left in copy.parent.glob(f"{copy.name}*"):
        left.unlink()
    shutil.copy(whole, copy)
    return damage(copy, chance)


def flip_a_bit(path: Path, chance: random.Random) -> str:
    data = bytearray(path.read_bytes())
    at, bit = chance.randrange(len(data)), chance.randrange(8)
    data[at] ^= 1 << bit
    path.write_bytes(data)
    return f"bit {bit} of byte {at}"


def drop_a_row(path: Path, chance: random.Random) -> str:
    with closing(sqlite3.connect(path)) as conn, conn:
        full = [table for table in TABLES if conn.execute(f"SELECT 1 FROM {table}").fetchone()]
        table = chance.choice(full)
        columns = [row[1] for row in conn.execute(f"PRAGMA table_info({table})")]
        row = chance.choice(conn.execute(f"SELECT * FROM {table}").fetchall())
        test = " AND ".join(f"{name} IS ?" for name in columns)
        conn.execute(f"DELETE FROM {table} WHERE {test}", row)
    return f"a row of {table}"


def found_by_doctor(path: Path) -> bool:
    with closing(sqlite3.connect(path)) as conn:
        return any(True for _ in problems_of(conn, CHECKUPS))


@pytest.mark.parametrize("damage", [flip_a_bit, drop_a_row], ids=lambda damage: damage.__name__)
async def test_nothing_wrong_is_served_from_a_damaged_file(tmp_path: Path, damage: Damage) -> None:
    whole = tmp_path / "whole.db"
    await fill(whole)
    assert not await asyncio.to_thread(found_by_doctor, whole)
    copy = tmp_path / "copy.db"
    shutil.copy(whole, copy)
    expected = await answers(copy)
    assert "all" not in expected
    wrong: list[str] = []
    figures: Counter[str] = Counter()
    for number in range(FILES):
        what = damaged(whole, copy, damage, random.Random(number))
        is_found = await asyncio.to_thread(found_by_doctor, copy)
        got, right = await answers(copy), expected
        for name in got:  # what was refused is not there afterwards
            kind, _, doc_id = name.partition(" ")
            if kind == "after" and str(got[f"commit {doc_id}"]).endswith("Error"):
                right = {**right, name: right[f"get {doc_id}"]}
        errors = [name for name, answer in got.items() if answer != right.get(name)]
        silent = [name for name in errors if not str(got[name]).endswith("Error")]
        figures["noticed" if errors else "no answer differs"] += 1
        figures["found by the doctor"] += is_found
        if damage is drop_a_row and not is_found:
            wrong.append(f"{number}: {what}: the doctor finds nothing")
        if silent and not any(table in what for table in TOLD_ELSEWHERE):
            wrong.append(f"{number}: {what}: {silent}")
    print(f"\n{damage.__name__}: {FILES} files, {dict(figures)}")  # noqa: T201 -- the figures
    assert wrong == []


def cells(path: Path) -> list[tuple[str, str]]:
    """Every column of every table of a file that has a row."""
    with closing(sqlite3.connect(path)) as conn:
        names = [
            name
            for (name,) in conn.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
            if not name.startswith("sqlite_")
        ]
        return [
            (table, column[1])
            for table in names
            if conn.execute(f"SELECT 1 FROM {table}").fetchone()
            for column in conn.execute(f"PRAGMA table_info({table})")
        ]


def change_a_value(path: Path, _chance: random.Random, *, table: str, column: str) -> str:
    """Give one row another value: a larger number, a longer text, another last byte."""
    with closing(sqlite3.connect(path)) as conn, conn:
        conn.execute("PRAGMA ignore_check_constraints=ON")
        key = [row[1] for row in conn.execute(f"PRAGMA table_info({table})") if row[5]]
        order = ", ".join(key or ["rowid"])
        found = conn.execute(
            f"SELECT {order}, {column} FROM {table} ORDER BY {order} LIMIT 1"
        ).fetchone()
        *row, value = found
        test = " AND ".join(f"{name} = ?" for name in (key or ["rowid"]))
        if isinstance(value, int | float):
            other: object = value + 1_000_003
        elif isinstance(value, bytes):
            other = value[:-1] + bytes([value[-1] ^ 1]) if value else b"x"
        else:
            other = f"{value or ''}x"
        conn.execute(f"UPDATE {table} SET {column} = ? WHERE {test}", (other, *row))
    return f"{column} of {table}"


async def test_the_doctor_finds_a_changed_value_in_every_column(tmp_path: Path) -> None:
    whole, copy = tmp_path / "whole.db", tmp_path / "copy.db"
    await fill(whole)
    unseen = []
    # Numbers of rows, which nothing is read by, and which only order those of one revision.
    numbers = {"server_versions.seq", "server_branches.seq"}
    for table, column in cells(whole):
        change = partial(change_a_value, table=table, column=column)
        damaged(whole, copy, change, random.Random(0))
        if not await asyncio.to_thread(found_by_doctor, copy):
            unseen.append(f"{table}.{column}")
    assert set(unseen) <= numbers
    assert {table for table, _ in cells(whole)} >= {
        "file_parts",
        "server_file",
        "server_lives",
        "server_time",
    }


@pytest.mark.parametrize("table", ["server_file", "server_lives", "server_time"])
async def test_what_a_file_says_of_itself_is_refused_damaged_and_mended(
    tmp_path: Path, table: str
) -> None:
    path = tmp_path / "server.db"
    await fill(path)
    column = "epoch" if table == "server_file" else "last"
    change_a_value(path, random.Random(0), table=table, column=column)
    backend = SqliteBackend(path)
    with pytest.raises(CorruptDataError, match=table):
        await backend.epoch()
    await backend.close()
    with closing(sqlite3.connect(path, isolation_level=None)) as conn:
        assert len(repair(conn, CHECKUPS)) == 1
        assert list(problems_of(conn, CHECKUPS)) == []
    backend = SqliteBackend(path)
    documents = services_on(backend)["ot"].documents
    assert await documents.change("new", lambda patch: patch.replace("/a", 1)) is not None
    await backend.close()


async def test_a_file_whose_recorded_version_is_damaged_is_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "server.db"
    await fill(path)
    with closing(sqlite3.connect(path)) as conn, conn:
        conn.execute("UPDATE file_parts SET version = 1 WHERE name = 'documents'")
    before = path.read_bytes()
    backend = SqliteBackend(path)
    with pytest.raises(CorruptDataError, match="the version of documents in the file is damaged"):
        await backend.epoch()
    await backend.close()
    assert path.read_bytes() == before
