"""LWW documents as records of an export, and the rows of a document made of such records."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from patches.model import codec
from patches.model.json_values import Json
from patches_server.lww.holdings import decode_spans
from patches_server.lww.rows import Row
from patches_server.lww.store import LoadedRows, SavedSnapshot


def records_of(loaded: LoadedRows) -> Iterator[dict[str, Json]]:
    """The snapshot, if there is one, and the newest write of each field."""
    if loaded.snapshot is not None:
        yield {"base": {"rev": loaded.snapshot.rev, "state": codec.decode(loaded.snapshot.state)}}
    for row in loaded.rows:
        yield {
            "row": {
                "op": dict(row.op),
                "pos": row.pos,
                "hidden": row.hidden,
                "pinned": row.pinned,
                "author": row.author,
            }
        }


def loaded_of(records: Sequence[Mapping[str, Any]]) -> LoadedRows:
    """What records say of a document."""
    snapshot = None
    rows = []
    for each in records:
        if "base" in each:
            base = each["base"]
            snapshot = SavedSnapshot(rev=base["rev"], state=codec.encode(base["state"]))
        elif "row" in each:
            rows.append(_row(each["row"]))
    rev = max([row.rev for row in rows], default=0)
    return LoadedRows(rev=rev, rows=rows, snapshot=snapshot)


def _row(wire: Mapping[str, Any]) -> Row:
    op = wire["op"]
    return Row(
        op["path"],
        rev=op["rev"],
        pos=wire["pos"],
        ts=op["ts"],
        encoded=codec.encode(op),
        held=decode_spans(b"[]"),
        hidden=wire["hidden"],
        pinned=wire["pinned"],
        author=wire.get("author"),
    )
