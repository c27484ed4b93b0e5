"""Looking after a server's SQLite file: a copy while it is in use, and a check of what it holds."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final
from urllib.parse import quote, unquote

from patches.errors import InvalidRequestError, StorageError

_PREFIX: Final = "sqlite:///"
_GAPS: Final = """
    SELECT doc_id, min(rev), max(rev), count(*) FROM ot_changes
    GROUP BY doc_id HAVING max(rev) - min(rev) + 1 <> count(*)
"""
_HEADS: Final = """
    SELECT h.doc_id, h.rev, coalesce(max(c.rev), 0) FROM ot_heads h
    LEFT JOIN ot_changes c ON c.doc_id = h.doc_id GROUP BY h.doc_id
    HAVING count(c.rev) > 0 AND max(c.rev) <> h.rev
"""


def sqlite_path(url: str) -> Path:
    """The file of a store URL. Raises `InvalidRequestError` for stores that are no file."""
    if not url.startswith(_PREFIX) or url == _PREFIX:
        raise InvalidRequestError(f"{url!r} is no SQLite file: use sqlite:///path/to/file.db")
    return Path(unquote(url.removeprefix(_PREFIX)))


def sqlite_url(path: str | os.PathLike[str]) -> str:
    """The store URL of a file, which `sqlite_path` reads back."""
    return _PREFIX + quote(os.fspath(path), safe="/ \\:~()")


def backup(url: str, target: Path) -> int:
    """Copy a store to a new file, also while a server writes to it; the copy's bytes.

    The copy is of one moment. Raises `StorageError`; a file that exists is left alone.
    """
    if target.exists():
        raise StorageError(f"{target} exists; a backup is a new file")
    unfinished = target.with_name(target.name + ".unfinished")
    try:
        with _opened(url) as source, contextlib.closing(sqlite3.connect(unfinished)) as copy:
            source.backup(copy)
        os.replace(unfinished, target)
    except (sqlite3.Error, OSError) as exc:
        unfinished.unlink(missing_ok=True)
        raise StorageError(f"cannot copy {url} to {target}: {exc}") from exc
    return target.stat().st_size


def find_faults(url: str) -> list[str]:
    """What is wrong with a store, a line each: broken pages, gaps in a log, rows that differ from
    their checksum. Raises `StorageError` when it cannot be read at all."""
    try:
        with _opened(url) as conn:
            return list(_faults(conn))
    except sqlite3.Error as exc:
        raise StorageError(f"cannot read {url}: {exc}") from exc


def _faults(conn: sqlite3.Connection) -> Iterator[str]:
    for (text,) in conn.execute("PRAGMA integrity_check"):
        if text != "ok":
            yield f"file: {text}"
    tables = {name for (name,) in conn.execute("SELECT name FROM sqlite_master")}
    if "ot_changes" in tables:
        for doc_id, first, last, count in conn.execute(_GAPS):
            yield f"document {doc_id!r}: {count} changes between revisions {first} and {last}"
        for doc_id, head, last in conn.execute(_HEADS):
            yield f"document {doc_id!r}: the head is {head}, the last change {last}"
        rows = conn.execute("SELECT doc_id, rev, crc, change FROM ot_changes")
        for doc_id, rev, crc, change in rows:
            if zlib.crc32(change) != crc:
                yield f"document {doc_id!r}: the change of revision {rev} is damaged"
    if "lww_rows" in tables:
        rows = conn.execute(
            "SELECT d.doc_id, r.path, r.crc, r.op FROM lww_rows r JOIN lww_docs d USING (doc)"
        )
        for doc_id, path, crc, op in rows:
            if zlib.crc32(op) != crc:
                yield f"document {doc_id!r}: the field {bytes(path)!r} is damaged"


@contextlib.contextmanager
def _opened(url: str) -> Iterator[sqlite3.Connection]:
    path = sqlite_path(url)
    if not path.is_file():
        raise StorageError(f"there is no file {path}")
    uri = f"file:{quote(str(path.absolute()))}?mode=ro"
    with contextlib.closing(sqlite3.connect(uri, uri=True, timeout=5)) as conn:
        yield conn
