"""Changes that an LWW server makes up from rows, joined from the rows' bytes.

The rules: `docs/internals/lww.md` 7.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from patches.model import codec
from patches.model.change import Change
from patches.model.json_values import Json
from patches.runtime import Millis
from patches_server.lww.rows import Row
from patches_server.lww.store import LoadedRows


def change_of_rows(
    id: str,
    rows: Sequence[bytes] | codec.Encoded,
    base_rev: int,
    rev: int,
    created_at: Millis,
    committed_at: Millis | None = None,
    *,
    extra: Mapping[str, Json] | None = None,
) -> Change:
    """One change whose ops are rows that are encoded already; they are parsed on first use.

    `committed_at` is `created_at` unless it is given. `extra` are members of our own.
    """
    if committed_at is None:
        committed_at = created_at
    encoded = codec.encode(
        {
            "id": id,
            "ops": rows if isinstance(rows, codec.Encoded) else join_rows(rows),
            "baseRev": base_rev,
            "rev": rev,
            "createdAt": created_at,
            "committedAt": committed_at,
            **(extra or {}),
        }
    )
    return Change.from_encoded(
        encoded,
        id=id,
        base_rev=base_rev,
        rev=rev,
        created_at=created_at,
        committed_at=committed_at,
        batch_id=None,
        client_id=None,
        metadata=dict(extra or {}),
    )


def join_rows(rows: Sequence[bytes]) -> codec.Encoded:
    """Encoded rows as a JSON list."""
    return codec.Encoded(codec.encode_array(rows))


def reset_row(loaded: LoadedRows) -> bytes:
    """What a reader that cannot catch up by rows alone applies before them: the whole document.

    A write of the root replaces everything, at a client of any version; the rows follow in the same
    change. Its revision and time are lower than any row's, so that it stays the first wherever they
    are sorted.
    """
    state: Json = {}
    if loaded.snapshot is not None:
        state = codec.Encoded(loaded.snapshot.state)
    return codec.encode({"op": "replace", "path": "", "value": state, "ts": 1, "rev": 0})


def newest(rows: Sequence[Row]) -> Millis:
    """The greatest time of the rows, 0 if there are none."""
    return int(max((row.ts for row in rows), default=0))
