"""The commands `patches-server backup` and `patches-server doctor`."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from patches.model.change import ChangeInput
from patches.model.json_values import Op
from patches_server.algorithms import services_on
from patches_server.cli.main import main
from patches_server.stores.sqlite.backend import SqliteBackend
from patches_server.stores.url import sqlite_path, sqlite_url


@pytest.fixture
async def path(tmp_path: Path) -> Path:
    """A server's file with an OT document of five changes and a version, and an LWW document."""
    path = tmp_path / "documents.db"
    backend = SqliteBackend(path)
    services = services_on(backend)
    for rev in range(5):
        ops: list[Op] = [{"op": "replace", "path": f"/f{rev}", "value": rev}]
        change = ChangeInput(id=f"c{rev}", ops=ops, base_rev=rev)
        await services["ot"].documents.commit_changes("plan", [change])
        await services["lww"].documents.commit_changes("lww/board", [change])
    await services["ot"].documents.capture_current_version("plan")
    await backend.close()
    return path


def damage(path: Path, statement: str) -> None:
    with closing(sqlite3.connect(path)) as conn, conn:
        conn.execute(statement)


def test_a_backup_is_a_file_of_its_own(
    path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "copy.db"
    assert main(["backup", "--store", sqlite_url(path), str(copy)]) == 0
    assert f"2 documents, {copy.stat().st_size:,} bytes" in capsys.readouterr().out
    assert main(["doctor", "--store", sqlite_url(copy)]) == 0
    assert "no problems" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("store", "target", "message"),
    [
        ("documents.db", "taken.db", "exists"),
        ("documents.db", "documents.db", "exists"),
        ("nothing.db", "copy.db", "there is no file"),
        ("documents.db", "no/such/folder.db", "there is no folder"),
        ("taken.db", "copy.db", "not a database"),
    ],
)
def test_a_backup_that_cannot_be_is_one_line_and_leaves_nothing(
    path: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    store: str,
    target: str,
    message: str,
) -> None:
    taken = tmp_path / "taken.db"
    taken.write_text("this is mine, and it is no database " * 100)
    before = taken.read_bytes()
    assert main(["backup", "--store", f"sqlite:///{tmp_path / store}", str(tmp_path / target)]) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert taken.read_bytes() == before
    assert sorted(each.name for each in tmp_path.iterdir()) == ["documents.db", "taken.db"]


def test_the_doctor_lists_what_is_wrong_and_mends_it(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = ("--store", sqlite_url(path))
    damage(path, "UPDATE ot_changes SET change = x'7b7d' WHERE rev = 2")
    assert main(["doctor", *store]) == 1
    told = capsys.readouterr().out
    assert "checksum: document 'plan': revision 2 is damaged" in told
    assert "1 problems" not in told
    assert main(["doctor", "--repair", *store]) == 0
    assert "starts from its version at revision 5" in capsys.readouterr().out
    assert main(["doctor", "--replay", *store]) == 0


async def test_the_doctor_does_not_mend_a_file_that_a_server_has_open(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    backend = SqliteBackend(path)
    await backend.epoch()
    assert main(["doctor", "--repair", "--store", sqlite_url(path)]) == 1
    assert "is in use: stop the server first" in capsys.readouterr().err
    assert main(["doctor", "--store", sqlite_url(path)]) == 0, "looking is allowed"
    await backend.close()


def test_only_files_can_be_looked_at(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--store", "memory:"]) == 1
    assert "only SQLite stores" in capsys.readouterr().err


@pytest.mark.parametrize("path", ["a.db", "/srv/a b/100%/ü?.db", "C:\\data\\a.db"])
def test_a_path_and_its_url_lead_to_each_other(path: str) -> None:
    assert sqlite_path(sqlite_url(path)) == path
