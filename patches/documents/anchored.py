"""`Anchored`: the part of a document that gives out positions that hold."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar, Final, Literal

from patches.documents.anchors import Anchor, Feed, Span
from patches.documents.anchors.anchor import text_at
from patches.documents.anchors.positions import By, Place, Stick, follow
from patches.documents.draft.marks import marked_runs
from patches.documents.shape import T
from patches.documents.typed import Typed
from patches.errors import (
    AnchorExpiredError,
    DocumentClosedError,
    NetworkError,
    PatchError,
    UnsupportedOperationError,
)
from patches.json_patch import ABSENT, apply_patch, pointer
from patches.json_patch.reverse import reverse_each
from patches.model.change import Change
from patches.model.json_values import Json, Op
from patches.text import python_index, text_ops_of, utf16_index
from patches.text.ops import is_length

if TYPE_CHECKING:
    from jsonpointer import JsonPointer

#: An anchor of another client is followed over so many changes.
_MAX_CHANGES: Final = 10_000


class Anchored(Typed[T]):
    """A document whose texts and lists have anchors."""

    #: How the algorithm knows where things go: by the operations of others; by comparing states,
    #: which is a guess; or not at all.
    follows: ClassVar[Literal["operations", "states"] | None] = None

    #: Fetches what was committed after a revision; set by the owner.
    fetcher: Callable[[int], Awaitable[Sequence[Change]]] | None
    committed_rev: int

    def __init__(self) -> None:
        super().__init__()
        self.fetcher = None
        self._feed: Feed | None = None

    @property
    def feed(self) -> Feed:
        """What moves the anchors of this document."""
        if self._feed is None:
            if self.follows is None:
                raise UnsupportedOperationError(
                    f"document {self.id!r}: a document of the algorithm {self.algorithm!r} has no "
                    f"anchors"
                )
            self._feed = Feed(self)
        return self._feed

    def anchor(
        self,
        path: str | JsonPointer,
        index: int | None = None,
        *,
        stick: Stick = "left",
        key: str | None = None,
    ) -> Anchor:
        """A position that holds: before the character at `index` of the text at `path`.

        Without `index`: the element of a list, or a member. `stick="left"`: text that is inserted
        exactly there goes after it, `"right"`: before it. `key`: the element is found by this
        member, which an LWW document needs. Raises `IndexError`, `PatchError` if there is no such
        text or element, `UnsupportedOperationError`, `DocumentClosedError`.
        """
        path = pointer.text_of(path)
        self._check_anchors(stick)
        if index is None:
            return self._element(path, stick, key)
        if key is not None:
            raise PatchError("an anchor has an index in a text, or the key of an element")
        text = self._text_of(path)
        if isinstance(index, bool) or not isinstance(index, int):
            raise TypeError(f"an index is an int, not {type(index).__name__}")
        return Anchor(self, Place(path, utf16_index(text, index), stick))

    def marks(self, path: str | JsonPointer) -> dict[str, list[Span]]:
        """The marks of the text at `path`: for each id its runs. Raises `PatchError`.

        A mark of which the text was deleted is not among them.
        """
        path = pointer.text_of(path)
        self._check_anchors("left")
        self._text_of(path)
        ops = text_ops_of(pointer.value_at(self.plain_state, path)) or ()
        return {
            mark_id: [
                Span(
                    self.anchor_at_utf16(path, start, stick="right"),
                    self.anchor_at_utf16(path, end),
                )
                for start, end in runs
            ]
            for mark_id, runs in marked_runs(ops).items()
        }

    def stream_start(
        self, path: str | JsonPointer, at: Anchor | int | None, *, whole: bool
    ) -> Anchor:
        """Where a stream begins: at an anchor, at an index, or at the end of the text."""
        path = pointer.text_of(path)
        self._check_anchors("left")
        if self.follows == "states" and not whole:
            raise UnsupportedOperationError(
                f"document {self.id!r}: an LWW document replaces a text as a whole; use "
                f"stream_text({path!r}, whole=True)"
            )
        if isinstance(at, Anchor):
            if at.utf16 is None or at.path is None:
                raise PatchError(f"document {self.id!r}: the anchor's text is gone")
            return self.anchor_at_utf16(at.path, at.utf16)
        value = pointer.value_at(self.plain_state, path)
        if value is ABSENT:  # an empty text begins
            empty = "" if whole else {"ops": [{"insert": "\n"}]}
            # Softly: it yields to one that another client begins at the same time.
            self.apply([{"op": "replace", "path": path, "value": empty, "soft": True}])
        text = self._text_of(path)
        if at is None:
            at = len(text) - (text.endswith("\n") and not isinstance(value, str))
        return self.anchor(path, at)

    def anchor_at_utf16(
        self, path: str | JsonPointer, utf16: int, *, stick: Stick = "left"
    ) -> Anchor:
        """As `anchor`, for a position as browsers count. Beyond the end it is the end."""
        path = pointer.text_of(path)
        self._check_anchors(stick)
        return self.anchor(path, python_index(self._text_of(path), utf16), stick=stick)

    def span(self, path: str | JsonPointer, start: int, end: int) -> Span:
        """The characters from `start` to `end` of a text. Raises as `anchor`."""
        if start > end:
            raise IndexError(f"a span ends at {end}, before its start {start}")
        return Span(self.anchor(path, start, stick="right"), self.anchor(path, end))

    async def anchor_from(self, wire: Mapping[str, Json]) -> Anchor:
        """The place that an anchor of another client had, from its `to_json()`.

        What was committed since is fetched from the server. Raises `AnchorExpiredError` if it is
        not there any more or more than 10,000 changes, `NetworkError` without a connection,
        `PatchError` for what is no anchor.
        """
        place, rev, key = _read(wire)
        self._check_anchors(place.stick)
        if self.follows == "operations":
            for change in await self._committed_since(rev):
                for op in change.ops:
                    follow(place, op, By.OTHERS, ABSENT)
            _committed, edits = self.unsent()
            for ops in edits:
                for op in ops:
                    follow(place, op, By.OTHERS, ABSENT)
        if not place.is_gone and place.at is not None:
            length = utf16_index(text := self._text_of(place.path), len(text))
            place.at = min(place.at, length)
        return Anchor(self, place, key)

    def committed_place(self, place: Place) -> Place:
        """A place of the shown state in the committed state."""
        found = Place(place.path, place.at, place.stick)
        if self.follows != "operations":
            return found
        state, edits = self.unsent()
        inverses: list[list[Op]] = []
        for ops in edits:
            inverses += reverse_each(state, ops)
            state = apply_patch(state, ops, strict=True)
        for back in reversed(inverses):
            for op in back:
                follow(found, op, By.OTHERS, ABSENT)
        return found

    def unsent(self) -> tuple[Json, Sequence[Sequence[Op]]]:
        """The committed state, and the edits on it that the server has not confirmed."""
        raise NotImplementedError

    # ---- inside ----------------------------------------------------------------------------------

    def _check_anchors(self, stick: object) -> None:
        if self._closed:
            raise DocumentClosedError(f"document {self.id!r} is closed; open it again")
        if stick not in ("left", "right"):
            raise PatchError(f'stick is "left" or "right", not {stick!r}')
        assert self.feed is not None

    def _text_of(self, path: str) -> str:
        text = text_at(self.plain_state, path)
        if text is None:
            raise PatchError(f"document {self.id!r}: there is no text at {path!r}")
        return text

    def _element(self, path: str, stick: Stick, key: str | None) -> Anchor:
        value = pointer.value_at(self.plain_state, path)
        if value is ABSENT or not path:
            raise PatchError(f"document {self.id!r}: there is nothing at {path!r}")
        if key is not None:
            if not isinstance(value, dict) or key not in value:
                raise PatchError(f"document {self.id!r}: {path!r} has no member {key!r}")
            return Anchor(self, Place(pointer.parent(path), None, stick), (key, value[key]))
        above = pointer.value_at(self.plain_state, pointer.parent(path))
        if self.follows == "states" and isinstance(above, list):
            raise UnsupportedOperationError(
                f"document {self.id!r}: an element of a list in an LWW document is found again by "
                f'a member alone: anchor({path!r}, key="id")'
            )
        return Anchor(self, Place(path, None, stick))

    async def _committed_since(self, rev: int) -> list[Change]:
        if rev > self.committed_rev:
            raise AnchorExpiredError(self.id, rev=rev, committed_rev=self.committed_rev)
        found: list[Change] = []
        while rev + len(found) < self.committed_rev:  # it may move while we wait
            if self.committed_rev - rev > _MAX_CHANGES:
                raise AnchorExpiredError(self.id, rev=rev, committed_rev=self.committed_rev)
            if self.fetcher is None:
                raise NetworkError(f"document {self.id!r}: no server to ask what followed {rev}")
            found = list(await self.fetcher(rev))
            if [each.rev for each in found] != list(range(rev + 1, rev + 1 + len(found))):
                raise AnchorExpiredError(self.id, rev=rev, committed_rev=self.committed_rev)
            if rev + len(found) < self.committed_rev and not found:
                raise AnchorExpiredError(self.id, rev=rev, committed_rev=self.committed_rev)
        return [change for change in found if change.rev <= self.committed_rev]


def _read(wire: Mapping[str, Json]) -> tuple[Place, int, tuple[str, Json] | None]:
    """An anchor of another client, checked."""
    if not isinstance(wire, Mapping):
        raise PatchError(f"an anchor is an object, not {type(wire).__name__}")
    path, at, key, rev = wire.get("path"), wire.get("at"), wire.get("key"), wire.get("rev")
    is_key = key is None or (isinstance(key, list) and len(key) == 2 and isinstance(key[0], str))
    is_at = at is None or is_length(at)
    if not (isinstance(path, str) and isinstance(rev, int) and rev >= 0 and is_key and is_at):
        raise PatchError(f"not an anchor: {dict(wire)!r}"[:200])
    pointer.parse(path)
    place = Place(path, at, wire.get("stick", "left"))
    return place, rev, None if key is None else (key[0], key[1])
