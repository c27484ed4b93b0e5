"""The past of LWW documents as far as there is one: versions, and the newest writes of fields."""

from __future__ import annotations

from collections.abc import Sequence

from patches.errors import PatchError
from patches.history import Entry, Moment, Run
from patches.history.moments import summary_of
from patches.model import codec
from patches_server.documents.records import Version
from patches_server.lww.rows import Row
from patches_server.lww.store import LoadedRows


def moments_of_rows(
    loaded: LoadedRows, versions: Sequence[Version], before: int | None, limit: int
) -> list[Moment]:
    """Moments, newest first: what led to each version, and what was written since the newest.

    Only the newest write of each field is known, so a moment has those that still hold.
    """
    ends = {version.end_rev: version for version in sorted(versions, key=lambda each: each.end_rev)}
    marks = sorted({*ends, loaded.rev} - {0})
    moments = []
    first = 1
    for end in marks:
        rows = [row for row in loaded.rows if first <= row.rev <= end and not row.hidden]
        version = ends.get(end)
        if rows or version is not None:
            moments.append(_moment(first, end, rows, version))
        first = end + 1
    shown = [each for each in reversed(moments) if before is None or each.to_rev < before]
    return shown[:limit]


def blame_of_rows(loaded: LoadedRows, path: str) -> list[Run]:
    """One run for each field at or below a path, and the field above that holds it.

    Raises `PatchError` if nothing was written there.
    """
    rows = [row for row in loaded.rows if not row.hidden and not row.is_removal]
    found = [row for row in rows if row.path == path or row.path.startswith(path + "/")]
    if not any(row.path == path for row in found):
        above = [row for row in rows if path.startswith(row.path + "/") or not row.path]
        found = [*sorted(above, key=lambda row: len(row.path))[-1:], *found]
    if not found:
        raise PatchError(f"nothing was written at {path!r}")
    return [
        Run(
            text=_shown(row),
            author=row.author,
            at=int(row.ts),
            rev=row.rev,
            path=row.path,
        )
        for row in sorted(found, key=lambda row: row.path)
    ]


def _shown(row: Row) -> str:
    value = row.op.get("value")
    return value if isinstance(value, str) else codec.encode(value).decode("utf-8", "replace")


def _moment(first: int, end: int, rows: Sequence[Row], version: Version | None) -> Moment:
    times = [int(row.ts) for row in rows]
    at = version.ended_at if version is not None else max(times)
    name = version.metadata.get("name") if version is not None else None
    entries = [Entry(rev=row.rev, at=int(row.ts), author=row.author, ops=[row.op]) for row in rows]
    return Moment(
        from_rev=first,
        to_rev=end,
        started_at=min([at, *times]),
        at=at,
        authors=tuple(sorted({row.author for row in rows if row.author is not None})),
        changes=len({row.rev for row in rows}),
        summary=summary_of(entries),
        version=name if isinstance(name, str) else None,
    )
