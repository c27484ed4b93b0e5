"""`Described`: what a document shows when it is printed, in a log or a notebook."""

from __future__ import annotations

from abc import abstractmethod
from collections import deque
from collections.abc import Iterator
from html import escape
from typing import ClassVar, Final

from patches.model.change import DocSyncStatus
from patches.model.json_values import Json, Op

#: A notebook shows at most so many values.
_MAX_NODES: Final = 200
_MAX_TEXT: Final = 200


class Described:
    """A part of a document. `repr` names it and its status, and shows nothing of its content."""

    algorithm: ClassVar[str]
    id: str
    unsaved: deque[list[Op]]

    @property
    @abstractmethod
    def raw(self) -> Json:
        """The state as plain JSON."""

    @property
    @abstractmethod
    def committed_rev(self) -> int:
        """The last server revision that the state contains."""

    @property
    @abstractmethod
    def sync_status(self) -> DocSyncStatus:
        """Where its sync is."""

    @property
    @abstractmethod
    def pending_count(self) -> int:
        """How much of what is stored waits for the server."""

    def __repr__(self) -> str:
        unsent = len(self.unsaved) + self.pending_count
        return (
            f"<Document {self.id!r} {self.algorithm} rev {self.committed_rev}, {self.sync_status}, "
            f"{unsent} unsent>"
        )

    def _repr_html_(self) -> str:
        """What a notebook shows: the status, and the state as a tree that can be opened."""
        shown = _Tree(_MAX_NODES)
        tree = "".join(shown.node(None, self.raw))
        return f"<div><code>{escape(repr(self))}</code>{tree}</div>"


class _Tree:
    """Writes nested values as HTML, until there were enough of them."""

    def __init__(self, room: int) -> None:
        self._room = room

    def node(self, name: str | int | None, value: Json) -> Iterator[str]:
        self._room -= 1
        label = "" if name is None else f"<b>{escape(str(name))}</b>: "
        if not isinstance(value, (dict, list)):
            yield f"<div>{label}{escape(_short(value))}</div>"
            return
        kind = f"{{{len(value)}}}" if isinstance(value, dict) else f"[{len(value)}]"
        yield f'<details style="margin-left: 1em"><summary>{label}{kind}</summary>'
        for member, inner in value.items() if isinstance(value, dict) else enumerate(value):
            if self._room <= 0:
                yield "<div>…</div>"
                break
            yield from self.node(member, inner)
        yield "</details>"


def _short(value: Json) -> str:
    text = repr(value)
    return text if len(text) <= _MAX_TEXT else f"{text[:_MAX_TEXT]}…"
