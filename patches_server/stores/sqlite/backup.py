"""A copy of a server's SQLite file, made while the server runs."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from patches.errors import InvalidRequestError
from patches.stores.sqlite.file_kind import make_private
from patches_server.stores.sqlite import documents


@dataclass(frozen=True, slots=True)
class Backup:
    """What was copied."""

    documents: int
    size: int
    epoch: str


def backup(source: str | os.PathLike[str], target: str | os.PathLike[str], *, epoch: str) -> Backup:
    """Copy a server's file as it is at this moment, while readers and writers go on.

    The copy is complete, checked and on disk before it has its name. It gets an epoch of its own,
    so that a server restored from it differs from the one it was made of. Raises
    `InvalidRequestError` when there is no source, no folder or something at `target`,
    `sqlite3.Error`, `OSError`.
    """
    source, target = Path(source), Path(target)
    if not source.is_file():
        raise InvalidRequestError(f"there is no file {source}")
    if not target.parent.is_dir():
        raise InvalidRequestError(f"there is no folder {target.parent}")
    if target.exists():
        raise InvalidRequestError(f"{target} exists; a backup is a new file")
    unfinished = target.with_name(f"{target.name}.unfinished")
    unfinished.unlink(missing_ok=True)
    make_private(os.fspath(unfinished))
    try:
        copied = _copied(source, unfinished, epoch)
        os.replace(unfinished, target)
    finally:
        unfinished.unlink(missing_ok=True)
    _sync_folder(target.parent)
    return copied


def _copied(source: Path, unfinished: Path, epoch: str) -> Backup:
    with (
        closing(sqlite3.connect(source, timeout=5.0)) as conn,
        closing(sqlite3.connect(unfinished)) as copy,
    ):
        conn.backup(copy)  # in one step: a reader's view of a moment
        copy.execute("PRAGMA journal_mode=DELETE")  # one file, no log beside it
        with copy:
            documents.put_epoch(copy, epoch)
        check = copy.execute("PRAGMA quick_check").fetchone()[0]
        if check != "ok":
            raise sqlite3.DatabaseError(f"{source} is damaged ({check}); run patches-server doctor")
        count = copy.execute("SELECT count(*) FROM server_documents").fetchone()[0]
    return Backup(documents=count, size=unfinished.stat().st_size, epoch=epoch)


def _sync_folder(folder: Path) -> None:
    if os.name != "posix":  # elsewhere a folder cannot be opened
        return
    number = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
