"""Moments: the changes that one author made together, as people remember a history.

A moment ends where the author changes, after a pause, at a named version, and at every revision
that is a multiple of `BLOCK`. So the changes of one block are enough to know its moments, and pages
of any size show the same ones.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

from patches.json_patch import pointer
from patches.model.json_values import Json, Op
from patches.runtime import Millis
from patches.text import op_length

#: A moment holds at most so many changes.
BLOCK: Final = 200
#: A pause of so long ends a moment.
PAUSE_MS: Final = 5 * 60_000
_MOST_PHRASES: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A change as a moment is made of it. `restored`: the revision that it went back to."""

    rev: int
    at: Millis
    author: str | None
    ops: Sequence[Op]
    restored: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """Changes made together: revisions `from_rev` to `to_rev`, from `started_at` to `at`.

    `authors` is empty where nobody is known. `version` is the name of the version at its end.
    """

    from_rev: int
    to_rev: int
    started_at: Millis
    at: Millis
    authors: tuple[str, ...]
    changes: int
    summary: str
    version: str | None = None

    def to_wire(self) -> dict[str, Json]:
        """The wire object."""
        wire: dict[str, Json] = {
            "fromRev": self.from_rev,
            "toRev": self.to_rev,
            "startedAt": self.started_at,
            "at": self.at,
            "authors": list(self.authors),
            "changes": self.changes,
            "summary": self.summary,
        }
        if self.version is not None:
            wire["version"] = self.version
        return wire

    @classmethod
    def from_wire(cls, wire: Mapping[str, Any]) -> Self:
        """From a server's answer."""
        return cls(
            from_rev=wire["fromRev"],
            to_rev=wire["toRev"],
            started_at=wire["startedAt"],
            at=wire["at"],
            authors=tuple(wire["authors"]),
            changes=wire["changes"],
            summary=wire["summary"],
            version=wire.get("version"),
        )


def moments_of(entries: Iterable[Entry], versions: Mapping[int, str]) -> list[Moment]:
    """The moments of consecutive changes that begin a block, oldest first.

    `versions` are the names of named versions by the revision that they end at.
    """
    moments: list[Moment] = []
    group: list[Entry] = []
    for entry in entries:
        if group and _ends(group[-1], entry, versions):
            moments.append(_moment(group, versions))
            group = []
        group.append(entry)
    if group:
        moments.append(_moment(group, versions))
    return moments


def block_of(rev: int) -> tuple[int, int]:
    """The first and the last revision of the block that a revision is in."""
    first = (rev - 1) // BLOCK * BLOCK + 1
    return first, first + BLOCK - 1


def _ends(last: Entry, entry: Entry, versions: Mapping[int, str]) -> bool:
    return (
        last.author != entry.author
        or entry.at - last.at >= PAUSE_MS
        or last.rev in versions
        or last.rev % BLOCK == 0
    )


def _moment(group: Sequence[Entry], versions: Mapping[int, str]) -> Moment:
    author, last = group[0].author, group[-1]
    return Moment(
        from_rev=group[0].rev,
        to_rev=last.rev,
        started_at=group[0].at,
        at=last.at,
        authors=() if author is None else (author,),
        changes=len(group),
        summary=summary_of(group),
        version=versions.get(last.rev),
    )


def summary_of(entries: Iterable[Entry]) -> str:
    """What changes did, in a few words: "title changed; 3 tasks added; 214 characters in body"."""
    counted: Counter[tuple[str, str]] = Counter()
    for entry in entries:
        if entry.restored is not None:
            counted["", f"revision {entry.restored} restored"] += 1
            continue
        for op in entry.ops:
            what, kind, number = _phrase(op)
            counted[what, kind] += number
    phrases = [_words(what, kind, number) for (what, kind), number in counted.items()]
    if len(phrases) > _MOST_PHRASES:
        more = len(phrases) - _MOST_PHRASES
        phrases = [*phrases[:_MOST_PHRASES], f"{more} more"]
    return "; ".join(phrases)


def _phrase(op: Op) -> tuple[str, str, int]:
    """What an operation is about, what it did, and how much of it counts."""
    keys = pointer.parse(op["path"])
    name = op["op"]
    if not keys:
        return "the document", "replaced", 1
    if name == "@txt":
        value = op.get("value")
        delta = value.get("ops", ()) if isinstance(value, dict) else value or ()
        inserted = sum(op_length(each) for each in delta if "insert" in each)
        names = [key for key in keys if not key.isdigit()]
        return names[-1] if names else keys[-1], "text", inserted
    in_list = len(keys) > 1 and (keys[-1].isdigit() or keys[-1] == "-")
    if in_list and name in ("add", "remove", "move"):
        done = {"add": "added", "remove": "removed", "move": "moved"}[name]
        return keys[-2], done, 1
    if name == "remove":
        return keys[0], "removed" if len(keys) == 1 else "changed", 1
    return keys[0], "changed", 1


def _words(what: str, kind: str, number: int) -> str:
    if not what:
        return kind
    if kind == "text":
        if not number:
            return f"{what} edited"
        return f"{number} character{'s' if number != 1 else ''} in {what}"
    if kind in ("added", "moved") or (kind == "removed" and number > 1):
        return f"{number} {what} {kind}"
    return f"{what} {kind}"
