"""The commands beside the server, such as `patches-server backup`."""

from __future__ import annotations

import argparse
import sqlite3
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Final

from patches.errors import InvalidRequestError
from patches.model.ids import random_id
from patches.runtime import Runtime
from patches_server.algorithms import CHECKUPS
from patches_server.cli.databases import run_migrate, run_new_epoch
from patches_server.cli.tokens import run_token
from patches_server.cli.transfer import run_export, run_import
from patches_server.collections.engines.sqlite_files import (
    backup_folder,
    problems_in,
    repair_folder,
)
from patches_server.documents.checkup import Problem
from patches_server.stores.sqlite.backup import backup
from patches_server.stores.sqlite.doctor import problems_of
from patches_server.stores.sqlite.repair import repair
from patches_server.stores.url import sqlite_path


def run_backup(argv: Sequence[str], default_store: str) -> int:
    """Copy the file of a server, which may be running."""
    parser = argparse.ArgumentParser(
        prog="patches-server backup",
        description="Copy a server's SQLite file to a new one, also while the server runs.",
    )
    _add_store(parser)
    parser.add_argument("dest", metavar="DEST", type=Path, help="the copy's path")
    options = parser.parse_args(argv)
    epoch = random_id(Runtime().random, 12)
    if options.collections is not None:
        made = backup_folder(options.collections, options.dest, epoch=epoch)
    else:
        store = default_store if options.store is None else options.store
        made = backup(_file(store), options.dest, epoch=epoch)
    sys.stdout.write(
        f"{_counted(made.documents, 'document')}, {made.size:,} bytes, "
        f"in {options.dest} (epoch {made.epoch})\n"
    )
    return 0


def run_doctor(argv: Sequence[str], default_store: str) -> int:
    """List what is wrong with a server's file, and repair it on request; 1 if anything is left."""
    parser = argparse.ArgumentParser(
        prog="patches-server doctor",
        description="Look for damage in a server's SQLite file: SQLite's own check, the checksum "
        "of every row, holes in revisions, rows of no document. Exit status 1 if there is any.",
    )
    _add_store(parser)
    parser.add_argument(
        "--replay", action="store_true", help="also apply all changes, to find any that cannot be"
    )
    parser.add_argument(
        "--repair",
        action="store_true",
        help="mend what can be mended from versions and logs; stop the server, copy the file first",
    )
    options = parser.parse_args(argv)
    if options.collections is not None:
        return _examine_folder(options.collections, is_repaired=options.repair)
    path = _file(default_store if options.store is None else options.store)
    with closing(sqlite3.connect(path, timeout=1.0, isolation_level=None)) as conn:
        if options.repair:
            for line in _repaired(conn, path):
                sys.stdout.write(f"mended: {line}\n")
        left = _show(problems_of(conn, CHECKUPS, replay=options.replay))
    sys.stdout.write(f"{path}: {_counted(left, 'problem')}\n")
    return 1 if left else 0


#: Commands by name; each gets its arguments and the default store's URL.
COMMANDS: Final[dict[str, Callable[[Sequence[str], str], int]]] = {
    "backup": run_backup,
    "doctor": run_doctor,
    "export": run_export,
    "import": run_import,
    "migrate": run_migrate,
    "new-epoch": run_new_epoch,
    "token": run_token,
}


def _examine_folder(folder: Path, *, is_repaired: bool) -> int:
    if not folder.is_dir():
        raise InvalidRequestError(f"there is no folder {folder}")
    if is_repaired:
        for line in repair_folder(folder):
            sys.stdout.write(f"mended: {line}\n")
    left = _show(problems_in(folder))
    sys.stdout.write(f"{folder}: {_counted(left, 'problem')}\n")
    return 1 if left else 0


def _repaired(conn: sqlite3.Connection, path: str) -> list[str]:
    conn.execute("PRAGMA locking_mode=EXCLUSIVE")
    try:
        return repair(conn, CHECKUPS)
    except sqlite3.OperationalError as exc:
        if "locked" in str(exc):
            raise InvalidRequestError(f"{path} is in use: stop the server first") from exc
        raise


def _counted(count: int, noun: str) -> str:
    return f"{count or 'no'} {noun}{'' if count == 1 else 's'}"


def _show(problems: Iterable[Problem]) -> int:
    count = 0
    for problem in problems:
        sys.stdout.write(f"{problem}\n")
        count += 1
    return count


def _add_store(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--collections",
        metavar="FOLDER",
        type=Path,
        help="the folder of a SQLiteEngine, with documents of collections, in place of a store",
    )
    parser.add_argument(
        "--store", metavar="URL", help="sqlite:///path of the file (the one in your data directory)"
    )


def _file(url: str) -> str:
    path = sqlite_path(url)
    if path is None:
        raise InvalidRequestError(f"only SQLite stores are supported, sqlite:///path: {url!r}")
    if not Path(path).is_file():
        raise InvalidRequestError(f"there is no file {path}")
    return path
