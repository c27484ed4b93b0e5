"""`Hint`: what a process says to the others, and how it travels.

A hint is a line of JSON, followed by one line for each change that goes along. JSON has no line
breaks of its own, so any number of hints can follow each other.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from patches.model import codec
from patches.model.json_values import Json

VERSION: Final = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Hint:
    """One hint. `process` sent it.

    Kinds: `c`ommitted, `d`eleted, `r`evoked, a `s`ignal to a connection, a connection that has
    `j`oined or is `g`one, a `h`eartbeat.

    Of a commit: `token` names the document's history (`None`: not at hand), `base` and `rev` the
    revisions before and after, and `changes` are the encoded changes, if they go along.
    """

    kind: str
    process: str
    doc_id: str | None = None
    token: str | None = None
    base: int = 0
    rev: int = 0
    options: Mapping[str, Json] | None = None
    changes: tuple[bytes, ...] = ()
    data: Mapping[str, Any] = field(default_factory=dict)

    def encode(self) -> bytes:
        """As it travels."""
        return b"\n".join((codec.encode(self._header()), *self.changes))

    def without_changes(self) -> Hint:
        """The same, for a bus that has no room for the changes."""
        return Hint(
            kind=self.kind,
            process=self.process,
            doc_id=self.doc_id,
            token=self.token,
            base=self.base,
            rev=self.rev,
        )

    @property
    def size(self) -> int:
        """About how many bytes it takes."""
        return 200 + sum(map(len, self.changes))

    def _header(self) -> dict[str, Any]:
        members = {
            "d": self.doc_id,
            "t": self.token,
            "b": self.base,
            "r": self.rev,
            "x": self.options,
            "n": len(self.changes),
            "a": self.data,
        }
        given = {name: value for name, value in members.items() if value}
        return {"v": VERSION, "k": self.kind, "p": self.process, **given}


def decode_hints(lines: bytes) -> Iterator[Hint]:
    """The hints in a message. What is no hint of this version and names a document says at least
    that the document is to be read."""
    parts = iter(lines.split(b"\n"))
    for line in parts:
        try:
            header = codec.decode(line)
        except ValueError:
            continue
        if not isinstance(header, dict):
            continue
        count = _number(header.get("n"))
        changes = tuple(part for _, part in zip(range(count), parts, strict=False))
        hint = _hint(header, changes if len(changes) == count else ())
        if hint is not None:
            yield hint


def _hint(header: Mapping[str, Any], changes: Iterable[bytes]) -> Hint | None:
    kind, process, doc_id = header.get("k"), header.get("p"), header.get("d")
    if not isinstance(kind, str) or not isinstance(process, str):
        return None
    doc_id = doc_id if isinstance(doc_id, str) else None
    if header.get("v") != VERSION:
        return None if doc_id is None else Hint(kind="c", process=process, doc_id=doc_id)
    token, options, data = header.get("t"), header.get("x"), header.get("a")
    return Hint(
        kind=kind,
        process=process,
        doc_id=doc_id,
        token=token if isinstance(token, str) else None,
        base=_number(header.get("b")),
        rev=_number(header.get("r")),
        options=options if isinstance(options, dict) else None,
        changes=tuple(changes),
        data=data if isinstance(data, dict) else {},
    )


def _number(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0
