"""Backups and checks of a server's file."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from patches.change import ChangeInput
from patches.errors import InvalidRequestError, StorageError
from patches_server.cli import main
from patches_server.maintenance import backup, find_faults, sqlite_path, sqlite_url
from patches_server.services import services_on
from patches_server.stores.sqlite import SqliteBackend


@pytest.fixture
async def store(tmp_path: Path) -> str:
    """A store with an OT document of five changes and an LWW document."""
    path = tmp_path / "documents.db"
    backend = SqliteBackend(path)
    services = services_on(backend)
    for rev in range(5):
        ops = [{"op": "replace", "path": f"/f{rev}", "value": rev}]
        change = ChangeInput(id=f"c{rev}", ops=ops, base_rev=rev)
        await services["ot"].documents.commit_changes("plan", [change])
        await services["lww"].documents.commit_changes("lww/board", [change])
    await backend.close()
    return f"sqlite:///{path}"


def damage(store: str, statement: str) -> None:
    connection = sqlite3.connect(sqlite_path(store))
    with connection:
        connection.execute(statement)
    connection.close()


async def test_a_backup_holds_everything_while_the_store_is_in_use(
    store: str, tmp_path: Path
) -> None:
    backend = SqliteBackend(sqlite_path(store))
    services = services_on(backend)
    assert len(await services["ot"].documents.get_changes_since("plan", 0)) == 5
    copy = tmp_path / "copy.db"
    assert backup(store, copy) == copy.stat().st_size
    await backend.close()
    restored = SqliteBackend(copy)
    services = services_on(restored)
    assert len(await services["ot"].documents.get_changes_since("plan", 0)) == 5
    assert (await services["lww"].documents.get_doc("lww/board")).head == 5
    await restored.close()


def test_a_backup_overwrites_nothing_and_leaves_nothing_half_made(
    store: str, tmp_path: Path
) -> None:
    taken = tmp_path / "taken.db"
    taken.write_text("mine")
    with pytest.raises(StorageError, match="exists"):
        backup(store, taken)
    assert taken.read_text() == "mine"
    with pytest.raises(StorageError, match="no file"):
        backup(f"sqlite:///{tmp_path}/nothing.db", tmp_path / "copy.db")
    with pytest.raises(StorageError, match="cannot copy"):
        backup(store, tmp_path / "no" / "such" / "folder.db")
    assert {path.name for path in tmp_path.iterdir()} <= {
        "taken.db",
        "documents.db",
        "documents.db-wal",
        "documents.db-shm",
    }


def test_a_sound_store_has_no_faults(store: str) -> None:
    assert find_faults(store) == []


@pytest.mark.parametrize(
    ("statement", "fault"),
    [
        (
            "DELETE FROM ot_changes WHERE rev = 3",
            "document 'plan': 4 changes between revisions 1 and 5",
        ),
        (
            "DELETE FROM ot_changes WHERE rev = 5",
            "document 'plan': the head is 5, the last change 4",
        ),
        (
            "UPDATE ot_changes SET change = x'7b7d' WHERE rev = 2",
            "document 'plan': the change of revision 2 is damaged",
        ),
        (
            "UPDATE lww_rows SET op = x'7b7d' WHERE path = x'2f6631'",
            "document 'lww/board': the field b'/f1' is damaged",
        ),
    ],
    ids=["a gap", "a lost end", "a damaged change", "a damaged field"],
)
def test_faults_are_named(store: str, statement: str, fault: str) -> None:
    damage(store, statement)
    assert find_faults(store) == [fault]


@pytest.mark.parametrize("path", ["a.db", "/srv/a b/100%/ü?.db", "C:\\data\\a.db"])
def test_a_path_and_its_url_lead_to_each_other(path: str) -> None:
    assert str(sqlite_path(sqlite_url(path))) == path


def test_what_is_no_store_cannot_be_read(tmp_path: Path) -> None:
    path = tmp_path / "text.db"
    path.write_text("this is not a database, however long it may go on" * 50)
    with pytest.raises(StorageError, match="cannot read"):
        find_faults(f"sqlite:///{path}")
    with pytest.raises(InvalidRequestError, match="no SQLite file"):
        find_faults("memory:")


@pytest.mark.parametrize("damaged", [False, True], ids=["sound", "damaged"])
def test_the_commands_say_what_they_found(
    store: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], damaged: bool
) -> None:
    copy = tmp_path / "copy.db"
    assert main(["backup", "--store", store, str(copy)]) == 0
    assert str(copy.stat().st_size) in capsys.readouterr().out
    assert main(["backup", "--store", store, str(copy)]) == 1
    assert "exists" in capsys.readouterr().err
    if damaged:
        damage(store, "DELETE FROM ot_changes WHERE rev = 3")
    assert main(["doctor", "--store", store]) == int(damaged)
    found = capsys.readouterr().out
    assert ("document 'plan'" in found) is damaged
