"""What the doctor finds in a file, and what the repair makes of it."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TypeAlias

import pytest

from patches.errors import CorruptDataError
from patches.model import codec
from patches.model.json_values import Json
from patches_server.algorithms import CHECKUPS, services_on
from patches_server.ot.stores.log import Log, find_log, put_log
from patches_server.stores.sqlite.backend import SqliteBackend
from patches_server.stores.sqlite.checksums import row_crc
from patches_server.stores.sqlite.doctor import problems_of
from patches_server.stores.sqlite.repair import repair

Damage: TypeAlias = Callable[..., None]
PLAN: Json = {f"f{n}": {"n": n} for n in range(1, 9)}
BOARD: Json = {f"f{n}": {"n": n} for n in range(1, 6)}


def problems(path: Path, *, replay: bool = False) -> list[str]:
    with closing(sqlite3.connect(path)) as conn:
        return [str(problem) for problem in problems_of(conn, CHECKUPS, replay=replay)]


def mended(path: Path) -> list[str]:
    with closing(sqlite3.connect(path, isolation_level=None)) as conn:
        return repair(conn, CHECKUPS)


async def state_of(path: Path, doc_id: str) -> Json:
    """What a server shows of a document, and that it can be written to."""
    backend = SqliteBackend(path)
    try:
        documents = services_on(backend)["lww" if doc_id.startswith("lww/") else "ot"].documents
        snapshot = await documents.get_doc(doc_id)
        state = snapshot.state
        for change in snapshot.changes:
            for op in change.ops:
                state = {**(state or {}), op["path"][1:]: op["value"]}
        assert await documents.change(doc_id, lambda patch: patch.replace("/new", 1)) is not None
        return state
    finally:
        await backend.close()


def test_a_whole_file_has_no_problems(path: Path) -> None:
    assert problems(path, replay=True) == []
    assert mended(path) == []


MENDABLE = {
    "a damaged change below a version": (
        "UPDATE ot_changes SET change = x'7b7d' WHERE doc_id = 'plan' AND rev = 2",
        "checksum: document 'plan': revision 2 is damaged",
    ),
    "a hole below a version": (
        "DELETE FROM ot_changes WHERE doc_id = 'plan' AND rev IN (4, 5)",
        "hole: document 'plan': revisions 4 to 5 are missing",
    ),
    "the beginning is missing": (
        "DELETE FROM ot_changes WHERE doc_id = 'log' AND rev < 1 OR doc_id = 'plan' AND rev < 3",
        "hole: document 'plan': revisions 1 to 2 are missing",
    ),
    "the state of a version": (
        "UPDATE server_versions SET state = x'00' WHERE doc_id = 'plan' AND end_rev = 6",
        "version: document 'plan': the state of version",
    ),
    "no head": (
        "DELETE FROM ot_heads WHERE doc_id = 'plan'",
        "orphan: document 'plan': there are rows of it in ot_changes, and no head",
    ),
    "an old head": (
        "UPDATE ot_heads SET rev = 7, change_id = 'c7' WHERE doc_id = 'plan'",
        "head: document 'plan': the log ends at revision 8, the head says 7",
    ),
    "ids that could be taken twice": (
        "DELETE FROM ot_change_ids WHERE doc_id = 'plan' AND change_id = 'c3'",
        "ids: document 'plan': the id 'c3' could be taken twice",
    ),
    "no record": (
        "DELETE FROM server_documents WHERE doc_id = 'plan'",
        "orphan: document 'plan': its algorithm is not recorded",
    ),
    "a damaged LWW row that a version holds": (
        "UPDATE lww_rows SET op = x'7b7d' WHERE doc = 1 AND path = x'2f6632'",
        "checksum: document 'lww/board': the row of '/f2' is damaged",
    ),
    "rows of no document": (
        (
            "INSERT INTO lww_rows (doc, path, rev, pos, ts, held, hidden, pinned, droppable, "
            "stored_at, crc, op) SELECT 99, path, rev, pos, ts, held, hidden, pinned, droppable, "
            "stored_at, crc, op FROM lww_rows WHERE doc = 2"
        ),
        "orphan: document 'number 99': there are rows of it in lww_rows, and no head",
    ),
}


@pytest.mark.parametrize("case", MENDABLE)
async def test_what_can_be_mended_is_mended(path: Path, damage: Damage, case: str) -> None:
    statement, message = MENDABLE[case]
    damage(statement)
    found = problems(path)
    assert any(line.startswith(message) for line in found) if message else found == []
    assert bool(mended(path)) is bool(message)
    assert problems(path, replay=True) == []
    assert await state_of(path, "plan") == PLAN
    assert await state_of(path, "lww/board") == BOARD


LOST = {
    "a row of an LWW document": (
        "DELETE FROM lww_rows WHERE doc = 1 AND path = x'2f6632'",
        "count: document 'lww/board': expected 5 rows by sqlite_autoindex_lww_rows_1, found 4",
    ),
    "a change under another revision": (
        "UPDATE ot_changes SET rev = 6 WHERE doc_id = 'log' AND rev = 5",
        "checksum: document 'log': revision 6 is damaged",
    ),
    "an id of an LWW document": (
        "DELETE FROM lww_change_ids WHERE doc = 1 AND rev = 2",
        "ids: document 'lww/board': change ids are missing or damaged",
    ),
    "a damaged change after the last version": (
        "UPDATE ot_changes SET crc = crc + 1 WHERE doc_id = 'plan' AND rev = 7",
        "checksum: document 'plan': revision 7",
    ),
    "a hole without a version": (
        "DELETE FROM ot_changes WHERE doc_id = 'log' AND rev = 2",
        "hole: document 'log': revisions 2 to 2 are missing",
    ),
    "the newest change": (
        "DELETE FROM ot_changes WHERE doc_id = 'log' AND rev = 5",
        "head: document 'log': the log ends at revision 4, the head says 5",
    ),
    "the whole log": (
        "DELETE FROM ot_changes WHERE doc_id = 'log'",
        "hole: document 'log': the head is at revision 5, the log is empty",
    ),
    "an LWW row that is newer than any version": (
        "UPDATE lww_rows SET op = x'7b7d' WHERE doc = 1 AND path = x'2f6635'",
        "checksum: document 'lww/board': the row of '/f5' is damaged",
    ),
    "an LWW document without a version": (
        "UPDATE lww_rows SET op = x'7b7d' WHERE doc = 2 AND path = x'2f6631'",
        "checksum: document 'lww/other': the row of '/f1' is damaged",
    ),
}


@pytest.mark.parametrize("case", LOST)
def test_what_cannot_be_mended_is_never_made_up(path: Path, damage: Damage, case: str) -> None:
    statement, message = LOST[case]
    damage(statement)
    before = problems(path)
    assert any(line.startswith(message) for line in before)
    assert mended(path) == []
    assert problems(path) == before


def test_a_damaged_state_below_a_damaged_log_stays_a_problem(path: Path, damage: Damage) -> None:
    damage(
        "UPDATE server_versions SET state = x'00' WHERE doc_id = 'plan' AND end_rev = 6",
        "UPDATE ot_changes SET crc = crc + 1 WHERE doc_id = 'plan' AND rev = 5",
    )
    assert mended(path) == []
    assert len(problems(path)) == 2


def test_a_change_that_cannot_be_applied_is_found_by_replaying(path: Path) -> None:
    with closing(sqlite3.connect(path)) as conn, conn:
        (data,) = conn.execute(
            "SELECT change FROM ot_changes WHERE doc_id = 'log' AND rev = 3"
        ).fetchone()
        bad = data.replace(b'"/f3"', b'"/f2/n/below-a-number"')
        columns = conn.execute(
            "SELECT doc_id, rev, prev, change_id, created_at, batch_id, client_id FROM ot_changes "
            "WHERE doc_id = 'log' AND rev = 3"
        ).fetchone()
        conn.execute(
            "UPDATE ot_changes SET change = ?, crc = ? WHERE doc_id = 'log' AND rev = 3",
            (bad, row_crc(*columns, bad)),
        )
    assert problems(path) == []
    assert problems(path, replay=True) == [
        "unappliable: document 'log': change 'c3' (revision 3) cannot be applied"
    ]


def test_a_file_that_is_none_is_one_problem(tmp_path: Path) -> None:
    text = tmp_path / "text.db"
    text.write_text("this is not a database, however long it may go on" * 50)
    assert problems(text) == ["file: reading it failed: file is not a database"]
    empty = tmp_path / "empty.db"
    empty.touch()
    assert problems(empty) == ["file: this is no file of a Patches server"]


def test_a_torn_page_is_found(path: Path, tmp_path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[4096 * 3 : 4096 * 4] = b"\xff" * 4096
    torn = tmp_path / "torn.db"
    torn.write_bytes(data)
    assert any(line.startswith("file: ") for line in problems(torn))


async def test_a_damaged_document_is_refused_and_others_are_served(
    path: Path, damage: Damage
) -> None:
    damage(
        "UPDATE ot_changes SET crc = crc + 1 WHERE doc_id = 'plan' AND rev = 7",
        "UPDATE lww_rows SET crc = crc + 1 WHERE doc = 1",
        "UPDATE server_versions SET state = x'00' WHERE doc_id = 'plan'",
    )
    backend = SqliteBackend(path)
    services = services_on(backend)
    for name, doc_id in (("ot", "plan"), ("lww", "lww/board")):
        with pytest.raises(CorruptDataError) as raised:
            await services[name].documents.get_doc(doc_id)
        assert (raised.value.code, raised.value.data) == (503, {"reason": "CORRUPT"})
    await backend.close()
    assert await state_of(path, "lww/other") == BOARD
    assert await state_of(path, "log") == BOARD


def test_replaying_a_pruned_log_begins_at_the_version_that_covers_it(path: Path) -> None:
    """Also where the log begins before that version ends: its first changes are in the state."""
    with closing(sqlite3.connect(path)) as conn, conn:
        conn.execute("DELETE FROM ot_changes WHERE doc_id = 'plan' AND rev <= 2")
        log = find_log(conn, "plan")
        assert log is not None
        put_log(conn, "plan", Log(log.head, 2, log.ids))
        row = conn.execute(
            "SELECT doc_id, rev, prev, change_id, created_at, batch_id, client_id FROM ot_changes "
            "WHERE doc_id = 'plan' AND rev = 3"
        ).fetchone()
        # It can be applied to the state before it, and not to the one that it is in already.
        test_op = b'[{"op":"test","path":"/f3","value":null}]'
        (data,) = conn.execute(
            "SELECT change FROM ot_changes WHERE doc_id = 'plan' AND rev = 3"
        ).fetchone()
        change = {**codec.decode(data), "ops": codec.decode(test_op)}
        data = codec.encode(change)
        conn.execute(
            "UPDATE ot_changes SET change = ?, crc = ? WHERE doc_id = 'plan' AND rev = 3",
            (data, row_crc(*row, data)),
        )
    assert problems(path, replay=True) == []
