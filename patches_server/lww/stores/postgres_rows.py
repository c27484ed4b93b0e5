"""The rows of `LWWPostgresServerStore`: its statements, and what they are given.

A path may be longer than what an index holds, so rows are found by a *key*: the path, or of a long
one its beginning and its hash. `path` holds a long one whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final

from patches.algorithms.lww.field_table import ancestor_paths
from patches.runtime import Millis
from patches.stores.sqlite.keys import from_key, range_below, to_key
from patches_server.lww.holdings import encode_spans
from patches_server.lww.rows import Row
from patches_server.stores.checksums import require_row, row_crc
from patches_server.stores.postgres.database import Record
from patches_server.stores.postgres.documents import HEAD, split_token

#: Of a path, at most so many bytes are in its key: an entry of an index holds some 2,700.
MAX_KEY: Final = 1_500
_CUT: Final = b"\xff"  # no byte of UTF-8

_COLUMNS: Final = "key, path, rev, pos, ts, held, pinned, droppable, stored_at, author, crc, op"
_TYPES: Final = (
    "bytea[]",
    "bytea[]",
    "bigint[]",
    "int[]",
    "float8[]",
    "bytea[]",
    "bool[]",
    "bool[]",
    "bigint[]",
    "bytea[]",
    "bigint[]",
    "bytea[]",
)
_IN_RANGE: Final = (
    "x.key >= b.low AND x.key < b.high "
    "AND coalesce(x.path, x.key) >= b.first AND coalesce(x.path, x.key) < b.last"
)
_LOAD: Final = f"""
SELECT h.epoch, h.life, h.algorithm, h.rev AS head_rev, h.head_id, h.floor, h.snapshot_rev,
    h.deleted_at, h.deleted_rev, h.deleted_by,
    ARRAY(SELECT i.change_id FROM lww_change_ids i
        WHERE i.life = h.life AND i.change_id = ANY ($2) AND i.expires_at > $3) AS seen,
    r.key, r.path, r.rev, r.pos, r.ts, r.held, r.hidden, r.pinned, r.droppable, r.stored_at,
    r.author, r.crc, r.op
FROM {HEAD} LEFT JOIN LATERAL (%s) r ON h.algorithm = 'lww'
ORDER BY r.rev, r.pos"""  # noqa: S608 -- fixed text
LOAD_ALL: Final = _LOAD % "SELECT * FROM lww_rows x WHERE x.life = h.life"
#: At and above paths by key, below them by range, and what is newer than a revision.
LOAD_NEAR: Final = (
    _LOAD
    % f"""SELECT * FROM lww_rows x WHERE x.life = h.life AND x.key = ANY ($4)
    UNION ALL SELECT y.* FROM unnest($5::bytea[], $6::bytea[], $7::bytea[], $8::bytea[])
        AS b(low, high, first, last),
        LATERAL (SELECT * FROM lww_rows x WHERE x.life = h.life AND {_IN_RANGE} OFFSET 0) y
    UNION ALL SELECT * FROM lww_rows x WHERE x.life = h.life AND x.rev > $9"""  # noqa: S608 -- fixed text
)
_WANT: Final = """
WITH want AS MATERIALIZED (
    SELECT * FROM unnest($1::int[], $2::text[], $3::bigint[], $4::text[], $5::bigint[], $6::bytea[],
        $7::bigint[], $8::bool[])
    AS w(n, doc_id, life, epoch, old_rev, head_id, server_time, has_ids)
), rows AS MATERIALIZED (
    SELECT * FROM unnest($9::int[], $10::bytea[], $11::bytea[], $12::bigint[], $13::int[],
        $14::float8[], $15::bytea[], $16::bool[], $17::bool[], $18::bigint[], $19::bytea[],
        $20::bigint[], $21::bytea[])
    AS r(n, key, path, rev, pos, ts, held, pinned, droppable, stored_at, author, crc, op)
)"""
_WRITE: Final = f"""
, hide AS (
    UPDATE lww_rows r SET hidden = true
    FROM unnest($22::int[], $23::bytea[]) AS k(n, key) JOIN moved m ON m.n = k.n
    WHERE r.life = m.life AND r.key = k.key
), gone AS (
    DELETE FROM lww_rows r USING (
        SELECT y.life, y.key, b.n
        FROM unnest($24::int[], $25::bytea[], $26::bytea[], $27::bytea[], $28::bytea[])
            AS b(n, low, high, first, last) JOIN moved m ON m.n = b.n,
        LATERAL (SELECT x.life, x.key FROM lww_rows x
            WHERE x.life = m.life AND {_IN_RANGE} OFFSET 0) y
    ) g WHERE r.life = g.life AND r.key = g.key
        AND NOT EXISTS (SELECT FROM rows p WHERE p.n = g.n AND p.key = g.key)
), put AS (
    INSERT INTO lww_rows (life, hidden, {_COLUMNS})
    SELECT m.life, false, r.key, r.path, r.rev, r.pos, r.ts, r.held, r.pinned, r.droppable,
        r.stored_at, r.author, r.crc, r.op
    FROM rows r JOIN moved m ON m.n = r.n
    ON CONFLICT (life, key) DO UPDATE SET hidden = false, path = excluded.path,
        rev = excluded.rev, pos = excluded.pos, ts = excluded.ts, held = excluded.held,
        pinned = excluded.pinned, droppable = excluded.droppable, stored_at = excluded.stored_at,
        author = excluded.author, crc = excluded.crc, op = excluded.op
), ids AS (
    INSERT INTO lww_change_ids (life, change_id, expires_at, rev)
    SELECT m.life, i.change_id, i.expires_at, i.rev
    FROM unnest($29::int[], $30::bytea[], $31::bigint[], $32::bigint[])
        AS i(n, change_id, expires_at, rev) JOIN moved m ON m.n = i.n
    ON CONFLICT (life, change_id) DO UPDATE
        SET expires_at = excluded.expires_at, rev = excluded.rev
)
SELECT n FROM moved"""  # noqa: S608 -- fixed text
_FITS: Final = (
    "(w.life IS NULL OR d.life = w.life) "
    "AND (w.epoch IS NULL OR w.epoch = (SELECT epoch FROM meta))"
)
SAVE: Final = f"""{_WANT}, locked AS (
    SELECT w.* FROM want w JOIN docs d ON d.doc_id = w.doc_id
    WHERE d.rev = w.old_rev AND d.algorithm = 'lww' AND {_FITS}
    ORDER BY d.doc_id FOR UPDATE OF d
), moved AS (
    UPDATE docs d SET rev = d.rev + 1, head_id = l.head_id,
        server_time = greatest(d.server_time, l.server_time),
        ids_floor = CASE WHEN l.has_ids THEN d.ids_floor ELSE d.rev + 1 END
    FROM locked l WHERE d.doc_id = l.doc_id RETURNING l.n, d.life
){_WRITE}"""  # noqa: S608 -- fixed text
#: One document without a revision: it has no row, that of a deleted one, or a seed without rows.
CREATE: Final = f"""{_WANT}, moved AS (
    INSERT INTO docs AS d (doc_id, algorithm, rev, head_id, server_time, ids_floor)
    SELECT w.doc_id, 'lww', 1, w.head_id, w.server_time, CASE WHEN w.has_ids THEN 0 ELSE 1 END
    FROM want w WHERE w.life IS NULL
        OR EXISTS (SELECT FROM docs d WHERE d.doc_id = w.doc_id AND {_FITS})
    ON CONFLICT (doc_id) DO UPDATE SET algorithm = 'lww', rev = 1, head_id = excluded.head_id,
        server_time = greatest(d.server_time, excluded.server_time),
        ids_floor = excluded.ids_floor
    WHERE d.rev = 0 AND coalesce(d.algorithm, 'lww') = 'lww' AND d.deleted_at IS NULL
        AND EXISTS (SELECT FROM want w WHERE w.life IS NULL OR w.life = d.life)
    RETURNING 1 AS n, d.life
){_WRITE}"""  # noqa: S608 -- fixed text
#: `$1`: the life; then columns.
PUT: Final = (
    f"INSERT INTO lww_rows (life, hidden, {_COLUMNS}) SELECT $1, false, r.* FROM unnest("  # noqa: S608 -- fixed text
    + ", ".join(f"${place}::{kind}" for place, kind in enumerate(_TYPES, start=2))
    + ") AS r"
)


@dataclass(frozen=True, slots=True)
class Save:
    """See `LWWServerStore.save_rows`."""

    doc_id: str
    rows: Sequence[Row]
    expected_rev: int
    now: Millis
    hide: Sequence[str]
    change_ids: Sequence[str]
    expires_at: Millis
    head_id: str | None
    token: str | None

    @property
    def size(self) -> int:
        """Its bytes."""
        return sum(len(row.encoded) for row in self.rows)


def key_of(path: bytes) -> bytes:
    """The key of a path."""
    if len(path) <= MAX_KEY:
        return path
    return path[:MAX_KEY] + _CUT + sha256(path).digest()


def ranges_below(paths: Iterable[str]) -> list[list[bytes]]:
    """Where the rows below paths are: columns of first and last key, first and last path."""
    columns: list[list[bytes]] = [[], [], [], []]
    for path in paths:
        first, last = range_below(path)
        low, high = first, last
        if len(first) > MAX_KEY:
            low, high = first[:MAX_KEY] + _CUT, first[:MAX_KEY] + _CUT + _CUT * 33
        for column, bound in zip(columns, (low, high, first, last), strict=True):
            column.append(bound)
    return columns


def keys_above(paths: Iterable[str]) -> list[bytes]:
    """The keys of paths and of all that are above them, the root too."""
    names = {name for path in paths for name in ("", path, *ancestor_paths(path))}
    return [key_of(to_key(name)) for name in names]


def written(rows: Iterable[Row]) -> dict[str, Row]:
    """What is left of rows that are written one after the other."""
    left: dict[str, Row] = {}
    for row in rows:
        below = row.path + "/"
        for path in [path for path in left if path == row.path or path.startswith(below)]:
            del left[path]
        left[row.path] = row
    return left


def columns_of(doc_id: str, rows: Iterable[Row], now: Millis) -> list[list[Any]]:
    """Rows as columns, in the order of `PUT`."""
    made = []
    for row in rows:
        path = to_key(row.path)
        key = key_of(path)
        columns = (
            key,
            path if key != path else None,
            row.rev,
            row.pos,
            float(row.ts),
            encode_spans(row.held),
            row.pinned,
            row.is_removal and not row.pinned,
            now,
            None if row.author is None else to_key(row.author),
        )
        made.append((*columns, row_crc(doc_id, *columns, row.encoded), row.encoded))
    return [list(column) for column in zip(*made, strict=True)] or [[] for _ in _TYPES]


def arguments(saves: Sequence[Save]) -> list[list[Any]]:
    """What `SAVE` and `CREATE` are given."""
    wants: list[list[Any]] = [[] for _ in range(8)]
    rows: list[list[Any]] = [[] for _ in range(13)]
    hides: list[list[Any]] = [[], []]
    below: list[list[Any]] = [[] for _ in range(5)]
    ids: list[list[Any]] = [[] for _ in range(4)]
    for n, save in enumerate(saves, start=1):
        epoch, life = split_token(save.token)
        head = None if save.head_id is None else to_key(save.head_id)
        has_ids = bool(save.change_ids)
        want = (n, save.doc_id, life, epoch, save.expected_rev, head, save.now, has_ids)
        _extend(wants, [[cell] for cell in want])
        left = written(save.rows)
        _extend(rows, [[n] * len(left), *columns_of(save.doc_id, left.values(), save.now)])
        # A row is touched once: one that is replaced or goes is not hidden too.
        hidden = [path for path in save.hide if not _is_covered(path, save.rows)]
        _extend(hides, [[n] * len(hidden), [key_of(to_key(path)) for path in hidden]])
        paths = list(dict.fromkeys(row.path for row in save.rows))
        _extend(below, [[n] * len(paths), *ranges_below(paths)])
        keys = list(dict.fromkeys(map(to_key, save.change_ids)))
        count, rev = len(keys), save.expected_rev + 1
        _extend(ids, [[n] * count, keys, [save.expires_at] * count, [rev] * count])
    return [*wants, *rows, *hides, *below, *ids]


def _extend(columns: list[list[Any]], more: Sequence[list[Any]]) -> None:
    for column, cells in zip(columns, more, strict=True):
        column.extend(cells)


def _is_covered(path: str, rows: Iterable[Row]) -> bool:
    return any(path == row.path or path.startswith(row.path + "/") for row in rows)


def rows_in(doc_id: str, records: Sequence[Record]) -> list[Row]:
    """The rows that a load gave, each once. Raises `CorruptDataError`."""
    found: dict[bytes, Row] = {}
    for record in records:
        key = record["key"]
        if key is None or key in found:
            continue
        columns = (*record[11:17], *record[18:22])  # all but `hidden`, which is set in place
        is_whole = row_crc(doc_id, *columns, record["op"]) == record["crc"]
        require_row(is_whole, f"document {doc_id!r}: a row of revision {record['rev']}")
        path = key if record["path"] is None else record["path"]
        found[key] = Row(
            from_key(path),
            rev=record["rev"],
            pos=record["pos"],
            ts=record["ts"],
            encoded=record["op"],
            held=record["held"],
            hidden=record["hidden"],
            pinned=record["pinned"],
            author=None if record["author"] is None else from_key(record["author"]),
        )
    return list(found.values())
