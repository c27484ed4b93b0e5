"""How changes get into PostgreSQL: statements that save only on the head they were decided on.

A statement locks the rows of its documents, tests each against the head that is expected, and
writes nothing for those that do not stand there. So of two processes that commit upon one head, one
takes effect. Ids that were committed before are looked up in the same statement: whoever knows the
head began after everything before it was committed, so the statement sees all of these ids.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from patches.errors import PatchesError, RevConflictError
from patches.model.change import Change
from patches.runtime import Millis
from patches.stores.sqlite.keys import from_key, to_key
from patches_server.documents.measure import Bounds
from patches_server.documents.tombstones import require_algorithm
from patches_server.ot.rows import ALGORITHM, check_follows, check_ids_new
from patches_server.ot.store import DocHead
from patches_server.stores.checksums import row_crc
from patches_server.stores.postgres.database import Connection, Record
from patches_server.stores.postgres.documents import (
    HEAD,
    require_not_deleted,
    split_token,
    token_in,
)

#: A size bound grows by doubling and may be larger than what a bigint holds.
LARGEST: Final = 2**62

_WANT: Final = """
WITH want AS MATERIALIZED (
    SELECT * FROM unnest($1::int[], $2::text[], $3::bigint[], $4::text[], $5::bigint[], $6::bytea[],
        $7::bigint[], $8::bytea[], $9::bigint[], $10::bigint[], $11::bigint[], $12::bigint[])
    AS w(n, doc_id, life, epoch, old_rev, old_id, rev, head_id, head_at, server_time,
        size_bound, depth_bound)
), change AS MATERIALIZED (
    SELECT * FROM unnest($13::int[], $14::bigint[], $15::bigint[], $16::bytea[], $17::bigint[],
        $18::bytea[], $19::bytea[], $20::bigint[], $21::bytea[])
    AS c(n, rev, prev, change_id, created_at, batch_id, client_id, crc, change)
)"""
_WRITE: Final = """
, saved AS (
    INSERT INTO ot_changes
        (life, rev, prev, change_id, created_at, batch_id, client_id, crc, change)
    SELECT m.life, c.rev, c.prev, c.change_id, c.created_at, c.batch_id, c.client_id, c.crc,
        c.change
    FROM change c JOIN moved m ON m.n = c.n
), ids AS (
    INSERT INTO ot_change_ids (life, change_id)
    SELECT m.life, c.change_id FROM change c JOIN moved m ON m.n = c.n
)
SELECT n FROM moved"""
#: Rows are locked in the order of ids, so that two processes cannot wait for each other.
APPEND: Final = f"""{_WANT}, locked AS (
    SELECT w.*, d.life AS found_life FROM want w JOIN docs d ON d.doc_id = w.doc_id
    WHERE d.rev = w.old_rev AND d.head_id = w.old_id AND d.algorithm = 'ot'
        AND (w.life IS NULL OR d.life = w.life)
        AND (w.epoch IS NULL OR w.epoch = (SELECT epoch FROM meta))
    ORDER BY d.doc_id FOR UPDATE OF d
), taken AS (
    SELECT l.n FROM locked l JOIN change c ON c.n = l.n
    JOIN ot_change_ids i ON i.life = l.found_life AND i.change_id = c.change_id
), moved AS (
    UPDATE docs d SET rev = l.rev, head_id = l.head_id, head_at = l.head_at,
        server_time = greatest(d.server_time, l.server_time),
        size_bound = coalesce(l.size_bound, d.size_bound),
        depth_bound = coalesce(l.depth_bound, d.depth_bound)
    FROM locked l WHERE d.doc_id = l.doc_id AND l.n NOT IN (SELECT n FROM taken)
    RETURNING l.n, d.life
){_WRITE}"""  # noqa: S608 -- fixed text
#: One document, which is made by it: it has no row, or the row of one that was deleted.
CREATE: Final = f"""{_WANT}, moved AS (
    INSERT INTO docs AS d
        (doc_id, algorithm, rev, head_id, head_at, server_time, size_bound, depth_bound)
    SELECT doc_id, 'ot', rev, head_id, head_at, server_time, coalesce(size_bound, 0),
        coalesce(depth_bound, 0) FROM want WHERE epoch IS NULL
    ON CONFLICT (doc_id) DO UPDATE SET algorithm = 'ot', rev = excluded.rev,
        head_id = excluded.head_id, head_at = excluded.head_at,
        server_time = greatest(d.server_time, excluded.server_time),
        size_bound = excluded.size_bound, depth_bound = excluded.depth_bound
    WHERE d.algorithm IS NULL AND d.deleted_at IS NULL
    RETURNING 1 AS n, d.life
){_WRITE}"""  # noqa: S608 -- fixed text
_IDS: Final = "SELECT change_id FROM ot_change_ids WHERE life = $1 AND change_id = ANY ($2)"
_STORED: Final = "SELECT change_id FROM ot_changes WHERE life = $1 AND rev = ANY ($2) ORDER BY rev"


@dataclass(frozen=True, slots=True)
class Append:
    """A save: see `OTServerStore.save_changes`."""

    doc_id: str
    changes: Sequence[Change]
    expected: DocHead
    now: Millis
    bounds: Bounds | None

    @property
    def size(self) -> int:
        """Its bytes."""
        return sum(len(change.encoded) for change in self.changes)


def follows(before: Append, save: Append) -> bool:
    """Whether a save was decided upon what another one leaves."""
    last = before.changes[-1]
    return (save.expected.rev, save.expected.change_id) == (last.rev, last.id)


def joined(chain: Sequence[Append]) -> Append:
    """One save that does what those of a chain do, one after the other."""
    if len(chain) == 1:
        return chain[0]
    changes = [change for each in chain for change in each.changes]
    bounds = next((each.bounds for each in reversed(chain) if each.bounds is not None), None)
    now = max(each.now for each in chain)
    return Append(chain[0].doc_id, changes, chain[0].expected, now, bounds)


def is_sound(save: Append) -> bool:
    """Whether its revisions go up and its ids differ, which no statement has to find out."""
    rev = save.expected.rev
    for change in save.changes:
        if change.rev <= rev:
            return False
        rev = change.rev
    return len({change.id for change in save.changes}) == len(save.changes)


async def append(conn: Connection, saves: Sequence[Append]) -> set[int]:
    """Save what stands where it should, all in one statement; the places of those in `saves`.

    The saves are sound, of different documents that exist, or one of one that does not.
    """
    makes = not saves[0].expected.rev
    rows = await conn.fetch(CREATE if makes else APPEND, *_arguments(saves))
    return {row["n"] - 1 for row in rows}


def _arguments(saves: Sequence[Append]) -> list[list[Any]]:
    wants: list[tuple[Any, ...]] = []
    changes: list[tuple[Any, ...]] = []
    for number, save in enumerate(saves, start=1):
        last, bounds, expected = save.changes[-1], save.bounds, save.expected
        epoch, life = split_token(expected.token)
        wants.append(
            (
                number,
                save.doc_id,
                life,
                epoch,
                expected.rev,
                None if expected.change_id is None else to_key(expected.change_id),
                last.rev,
                to_key(last.id),
                last.created_at,
                save.now,
                None if bounds is None else min(bounds.size, LARGEST),
                None if bounds is None else min(bounds.depth, LARGEST),
            )
        )
        prev = expected.rev
        for change in save.changes:
            changes.append((number, *row_of(save.doc_id, change, prev)))
            prev = change.rev
    columns = [list(column) for column in zip(*wants, strict=True)]
    return columns + [list(column) for column in zip(*changes, strict=True)]


def row_of(doc_id: str, change: Change, prev: int) -> tuple[Any, ...]:
    """A change as a row; `prev` is the revision of the one before."""
    columns = (
        change.rev,
        prev,
        to_key(change.id),
        change.created_at,
        None if change.batch_id is None else to_key(change.batch_id),
        None if change.client_id is None else to_key(change.client_id),
    )
    return (*columns, row_crc(doc_id, *columns, change.encoded), change.encoded)


async def refusal_of(conn: Connection, save: Append) -> PatchesError:
    """Why a save took no effect, as the stores say it, in their order."""
    doc_id = save.doc_id
    row = await conn.fetchrow(f"SELECT * FROM {HEAD}", doc_id)  # noqa: S608 -- fixed text
    try:
        require_not_deleted(doc_id, row)
        assert row is not None, "there is a row of meta"
        require_algorithm(doc_id, row["algorithm"], ALGORITHM)
        check_follows(save.changes, expected=save.expected, head=head_of(row))
        ids = [to_key(change.id) for change in save.changes]
        known = await conn.fetch(_IDS, row["life"], ids)
        check_ids_new(doc_id, save.changes, {from_key(each[0]) for each in known})
    except PatchesError as exc:
        return exc
    return RevConflictError()  # it could be saved by now: decide again


async def is_stored(conn: Connection, save: Append) -> bool:
    """Whether a save that was cut off has taken effect after all."""
    row = await conn.fetchrow(f"SELECT life FROM {HEAD}", save.doc_id)  # noqa: S608 -- fixed text
    if row is None or row["life"] is None:
        return False
    revs = [change.rev for change in save.changes]
    found = await conn.fetch(_STORED, row["life"], revs)
    return [each[0] for each in found] == [to_key(change.id) for change in save.changes]


def head_of(row: Record) -> DocHead:
    """The head in a row of a document; `NO_DOC` where there is none of this algorithm."""
    if row["algorithm"] != ALGORITHM:
        return DocHead()
    return DocHead(
        rev=row["rev"],
        change_id=from_key(row["head_id"]),
        created_at=row["head_at"],
        bounds=Bounds(row["size_bound"], row["depth_bound"]),
        token=token_in(row),
    )
