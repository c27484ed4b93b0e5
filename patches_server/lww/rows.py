"""`Row`: what an LWW server keeps for one path, encoded once.

A row's bytes are the stored value and the element of every answer, broadcast and catch-up that it
appears in; its op is decoded only when a commit has to read it (`docs/decisions.md`).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence

from patches.algorithms.lww.consolidate import value_inside
from patches.model import codec
from patches.model.json_values import Op
from patches_server.lww.holdings import Spans, after_removal, after_write, decode_spans, held_at


class Row:
    """The op that holds at one path, immutable. `held` may be given as stored bytes.

    `ts` decides who wins the path, `rev` is the revision that wrote it (both are in the op too),
    `pos` its place among the rows of that revision.

    `hidden`: a removal under which something was written since. It takes part in nothing any more,
    but a reader who holds what it removed must still receive it, or would keep that beside what was
    written. `pinned`: a removal of what a row above, or the snapshot, still holds: it must stay.
    `author`: who wrote it, as far as its commit said; it is kept here and not sent.
    """

    __slots__ = (
        "_held",
        "_op",
        "author",
        "encoded",
        "hidden",
        "path",
        "pinned",
        "pos",
        "rev",
        "ts",
    )

    def __init__(
        self,
        path: str,
        *,
        rev: int,
        pos: int,
        ts: float,
        encoded: bytes,
        held: Spans | bytes,
        hidden: bool = False,
        pinned: bool = False,
        op: Op | None = None,
        author: str | None = None,
    ) -> None:
        self.path: str = path
        self.rev: int = rev
        self.pos: int = pos
        self.ts: float = ts
        self.encoded: bytes = encoded
        self._held = held
        self.hidden: bool = hidden
        self.pinned: bool = pinned
        self._op = op
        self.author: str | None = author

    @classmethod
    def from_op(
        cls,
        op: Op,
        *,
        rev: int,
        pos: int,
        held: Spans | None = None,
        pinned: bool = False,
        author: str | None = None,
    ) -> Row:
        """The row that a commit at `rev` stores for `op`, which has a `ts`.

        `held` is that of a path where nothing was before, unless it is given.
        """
        op = {**op, "rev": rev}
        if held is None:
            held = after_removal((), rev) if op["op"] == "remove" else after_write((), rev)
        return cls(
            op["path"],
            rev=rev,
            pos=pos,
            ts=op["ts"],
            encoded=codec.encode(op),
            held=held,
            pinned=pinned,
            op=op,
            author=author,
        )

    @property
    def op(self) -> Op:
        """The op with its `ts` and `rev`. Shared: do not change it."""
        if self._op is None:
            self._op = codec.decode(self.encoded)
        return self._op

    @property
    def held(self) -> Spans:
        """The revisions at which there was something at or below the path."""
        if isinstance(self._held, bytes):
            self._held = decode_spans(self._held)
        return self._held

    @property
    def is_removal(self) -> bool:
        """True if the row removes what was at its path."""
        return bool(self.op["op"] == "remove")

    def concerns(self, reader_rev: int) -> bool:
        """Whether a hidden row says something to a reader who has `reader_rev`."""
        return held_at(self.held, reader_rev)

    def as_hidden(self) -> Row:
        """The same row, hidden."""
        return Row(
            self.path,
            rev=self.rev,
            pos=self.pos,
            ts=self.ts,
            encoded=self.encoded,
            held=self._held,
            hidden=True,
            pinned=self.pinned,
            op=self._op,
            author=self.author,
        )

    def __repr__(self) -> str:
        return f"Row({self.path!r}, rev={self.rev}, ts={self.ts}, hidden={self.hidden})"


class RowTable:
    """Rows by path, for consolidation: the part of a document that a commit has read.

    The rows come in the order in which they were stored; hidden ones are left out unless asked for.
    """

    def __init__(self, rows: Iterable[Row], *, with_hidden: bool = False) -> None:
        self._rows = {
            row.path: (order, row)
            for order, row in enumerate(rows)
            if with_hidden or not row.hidden
        }
        self._paths = sorted(self._rows)

    def get(self, path: str) -> Op | None:
        """The op at exactly this path."""
        found = self._rows.get(path)
        return found[1].op if found else None

    def row(self, path: str) -> Row | None:
        """The row at exactly this path."""
        found = self._rows.get(path)
        return found[1] if found else None

    def rows(self) -> list[Row]:
        """All of them, in the order in which they were stored."""
        return [row for _, row in self._rows.values()]

    def below(self, path: str) -> list[str]:
        """The paths of all children, in the order in which they were stored."""
        found = self._paths[bisect_left(self._paths, path + "/") : self._end(path)]
        if len(found) > 1:
            found.sort(key=lambda name: self._rows[name][0])
        return found

    def has_below(self, path: str) -> bool:
        """Whether there is a child."""
        return bisect_left(self._paths, path + "/") < self._end(path)

    def _end(self, path: str) -> int:
        return bisect_left(self._paths, path + "0")  # "0" is the character after "/"


def holds(op: Op, path: str) -> bool:
    """Whether the value that `op` writes has something at `path`, which is below its own."""
    segments = path[len(op["path"]) + 1 :].split("/")
    return path != op["path"] and value_inside(op.get("value"), segments)[0]


def commit_order(rows: Iterable[Row]) -> list[Row]:
    """Rows as everyone applies them: by revision, then time, then as stored.

    The rules: `docs/internals/lww.md` 7.
    """
    return sorted(rows, key=lambda row: (row.rev, row.ts, row.pos))


def stored_order(rows: Iterable[Row]) -> list[Row]:
    """Rows in the order in which they were stored."""
    return sorted(rows, key=lambda row: (row.rev, row.pos))


def rows_after(rows: Iterable[Row], written: Sequence[Row]) -> list[Row]:
    """A document's rows once some are written, which replace what is at their paths and below."""
    paths = {row.path for row in written}
    return [*(row for row in rows if not _is_within(row.path, paths)), *written]


def _is_within(path: str, paths: set[str]) -> bool:
    while path not in paths:
        if not path:
            return False
        path = path.rpartition("/")[0]
    return True
