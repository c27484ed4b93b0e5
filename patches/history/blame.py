"""Who wrote which part of a text: its changes replayed with their authors as the only formatting.

Text belongs to the change that brought it in: what comes back by undo or by a restored revision
belongs to whoever brought it back. Formatting changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, Self

from patches.errors import PatchError
from patches.history.moments import Entry
from patches.json_patch import ABSENT, apply_patch, pointer
from patches.model.json_values import Json, Op, json_equal
from patches.runtime import Millis
from patches.text import Delta, text_ops_of
from patches.text.algebra import compose

#: What an embed counts as.
EMBED: Final = "\ufffc"
_BY: Final = "by"


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """Consecutive text of one change. `author` is `None` where nobody is known, `rev` 0 for text
    that is older than what was replayed."""

    text: str
    author: str | None
    at: Millis
    rev: int
    path: str = ""

    def to_wire(self) -> dict[str, Json]:
        """The wire object."""
        return {
            "text": self.text,
            "author": self.author,
            "at": self.at,
            "rev": self.rev,
            "path": self.path,
        }

    @classmethod
    def from_wire(cls, wire: Mapping[str, Any]) -> Self:
        """From a server's answer."""
        return cls(
            text=wire["text"],
            author=wire["author"],
            at=wire["at"],
            rev=wire["rev"],
            path=wire.get("path", ""),
        )


def blame_of(
    path: str,
    base: Json,
    entries: Iterable[Entry],
    checkpoint: Callable[[], object] | None = None,
) -> list[Run]:
    """The runs of the text, or the string, at `path` after all changes; `base` is the state before.

    A change that cannot be applied is left out, as in every state. Raises `PatchError` if there is
    no text in the end.
    """
    state, by = base, {0: Entry(rev=0, at=0, author=None, ops=())}
    text = _signed(_plain(_at(state, path)) or [], 0)
    for entry in entries:
        if checkpoint is not None:
            checkpoint()
        before = state
        with suppress(PatchError):
            for op in entry.ops:
                state = apply_patch(state, [op], strict=True)
                if _concerns(op, path):
                    text = _followed(text, op, path, _at(state, path), entry.rev)
                    by[entry.rev] = entry
            continue
        state = before
        text = _matched(text, _plain(_at(state, path)) or [], 0)
    if _plain(_at(state, path)) is None:
        raise PatchError(f"there is no text at {path!r}")
    runs: list[Run] = []
    for op in text:
        rev = (op.get("attributes") or {}).get(_BY, 0)
        piece, entry = op["insert"], by[rev]
        piece = piece if isinstance(piece, str) else EMBED
        if runs and runs[-1].rev == rev:
            piece = runs.pop().text + piece
        runs.append(Run(text=piece, author=entry.author, at=entry.at, rev=rev, path=path))
    return runs


def _followed(text: list[Any], op: Op, path: str, value: Json, rev: int) -> list[Any]:
    """The signed text after an operation; `value` is what is at its path then."""
    now = _plain(value)
    if now is None:
        return []
    if op["op"] == "@txt" and op["path"] == path:
        change = op.get("value")
        ops = change.get("ops", []) if isinstance(change, dict) else change or []
        followed = compose(text, _signed([_bare(each) for each in ops], rev))
        if json_equal(_unsigned(followed), now):
            return followed
    return _matched(text, now, rev)


def _matched(text: list[Any], now: Sequence[Any], rev: int) -> list[Any]:
    """The signed text with what differs from `now` written by a change."""
    change = Delta(_unsigned(text)).diff(Delta(list(now))).ops
    return compose(text, _signed([_bare(each) for each in change], rev))


def _at(state: Json, path: str) -> Json:
    try:
        return pointer.value_at(state, path)
    except PatchError:
        return ABSENT


def _plain(value: Json) -> list[Any] | None:
    """A text, or a string, without its formatting, in as few pieces as there can be."""
    if isinstance(value, str):
        return [{"insert": value}] if value else []
    ops = text_ops_of(value) if isinstance(value, dict) else None
    return None if ops is None else compose([], [_bare(each) for each in ops])


def _bare(op: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in op.items() if key != "attributes"}


def _signed(ops: Iterable[Mapping[str, Any]], rev: int) -> list[Any]:
    return [{**op, "attributes": {_BY: rev}} if "insert" in op else dict(op) for op in ops]


def _unsigned(ops: Iterable[Mapping[str, Any]]) -> list[Any]:
    return compose([], [_bare(each) for each in ops])


def _concerns(op: Op, path: str) -> bool:
    """Whether an operation may change what is at a path: it is at, above or below it, or moves
    the elements of a list above it."""
    for name in (op["path"], op.get("from")):
        if name is None:
            continue
        above = name.rpartition("/")[0]
        if path == name or pointer.is_under(path, above) or pointer.is_under(name, path):
            return True
    return not op["path"]
