"""`Row`: what an LWW server keeps for one path, encoded once.

A row's bytes are the stored value and the element of every answer, broadcast and catch-up that it
appears in; its op is decoded only when a commit has to look at it (`bench/README.md` 1).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable

from patches import codec
from patches.json_values import Op


class Row:
    """The op that holds at one path, immutable.

    `ts` decides who wins the path, `rev` is the revision that wrote it (both are in the op too),
    `pos` its place among the rows of that revision. `hidden`: a removal under which something was
    written since. It takes part in nothing any more, but whoever missed it must still hear of it,
    or would keep what it removed beside what was written.
    """

    __slots__ = ("_op", "encoded", "hidden", "path", "pos", "rev", "ts")

    def __init__(
        self,
        path: str,
        *,
        rev: int,
        pos: int,
        ts: float,
        encoded: bytes,
        hidden: bool = False,
        op: Op | None = None,
    ) -> None:
        self.path = path
        self.rev = rev
        self.pos = pos
        self.ts = ts
        self.encoded = encoded
        self.hidden = hidden
        self._op = op

    @classmethod
    def from_op(cls, op: Op, *, rev: int, pos: int) -> Row:
        """The row that a commit at `rev` stores for `op`, which has a `ts`."""
        op = {**op, "rev": rev}
        return cls(op["path"], rev=rev, pos=pos, ts=op["ts"], encoded=codec.encode(op), op=op)

    @property
    def op(self) -> Op:
        """The op with its `ts` and `rev`. Shared: do not change it."""
        if self._op is None:
            self._op = codec.decode(self.encoded)
        return self._op

    @property
    def is_removal(self) -> bool:
        """Whether the row says that there is nothing at its path."""
        return bool(self.op["op"] == "remove")

    def as_hidden(self) -> Row:
        """The same row, hidden."""
        return Row(
            self.path,
            rev=self.rev,
            pos=self.pos,
            ts=self.ts,
            encoded=self.encoded,
            hidden=True,
            op=self._op,
        )

    def __repr__(self) -> str:
        return f"Row({self.path!r}, rev={self.rev}, ts={self.ts}, hidden={self.hidden})"


class RowTable:
    """Rows by path, for consolidation: the part of a document that a commit has read.

    The rows come in the order in which they were stored; hidden ones are left out.
    """

    def __init__(self, rows: Iterable[Row]) -> None:
        self._rows = {row.path: (order, row) for order, row in enumerate(rows) if not row.hidden}
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


def commit_order(rows: Iterable[Row]) -> list[Row]:
    """Rows as everyone applies them: by revision, then time, then as stored (`spec/lww.md` 7)."""
    return sorted(rows, key=lambda row: (row.rev, row.ts, row.pos))


def stored_order(rows: Iterable[Row]) -> list[Row]:
    """Rows in the order in which they were stored."""
    return sorted(rows, key=lambda row: (row.rev, row.pos))
