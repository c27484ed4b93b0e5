"""`Anchor` and `Span`: positions that users hold."""

from __future__ import annotations

from typing import Any, Final, Protocol

from patches.documents.anchors.feed import Feed, Placed
from patches.documents.anchors.positions import Place, Stick
from patches.errors import PatchError
from patches.json_patch import ABSENT
from patches.json_patch.pointer import value_at
from patches.model.json_values import Json, json_equal
from patches.text import python_index, text_ops_of

_EMBED: Final = "\ufffc"


class AnchoredDocument(Protocol):
    """What is needed of a document."""

    id: str

    @property
    def plain_state(self) -> Json:
        """The shown state."""

    @property
    def feed(self) -> Feed:
        """What moves its anchors."""

    def committed_place(self, place: Place) -> Place:
        """A place of the shown state in the committed state."""

    @property
    def committed_rev(self) -> int:
        """The revision of the committed state."""


class Anchor(Placed):
    """A place in a document that follows every edit. It needs no closing.

    In a text: `index` and `utf16`. Of a list's element or a member: `path`. They are `None` when
    the place is gone.
    """

    __slots__ = ("_doc", "_key")

    def __init__(
        self, doc: AnchoredDocument, place: Place, key: tuple[str, Json] | None = None
    ) -> None:
        """`key`: the place is the list of the element that has this member with this value."""
        self._doc, self._key = doc, key
        doc.feed.place(self, place)

    @property
    def path(self) -> str | None:
        """The JSON Pointer of the text, or of the element."""
        place = self._now()
        if place.is_gone:
            return None
        if self._key is None:
            return place.path
        name, value = self._key
        items = value_at(self._doc.plain_state, place.path)
        for index, item in enumerate(items if isinstance(items, list) else ()):
            if isinstance(item, dict) and json_equal(item.get(name, ABSENT), value):
                return f"{place.path}/{index}"
        return None

    @property
    def index(self) -> int | None:
        """The position in the text, as Python counts: an emoji is 1."""
        text = self._text()
        return None if text is None else python_index(text, self._now().at or 0)

    @property
    def utf16(self) -> int | None:
        """The position in UTF-16 units, as browsers count: an emoji is 2."""
        return None if self._text() is None else self._now().at

    @property
    def is_collapsed(self) -> bool | None:
        """Whether the text around it was deleted; `None` when the text itself is gone."""
        place = self._now()
        return None if place.is_gone else place.is_collapsed

    @property
    def stick(self) -> Stick:
        """Whether text that is inserted exactly here goes after it (`"left"`) or before it."""
        return self._place.stick

    def to_json(self) -> dict[str, Json]:
        """The place as others find it by `anchor_from`, in the newest committed revision.

        In text of ours that was not sent yet, it is where that text begins. Raises `PatchError` for
        a place that is gone, or in a part of the document that was not sent yet.
        """
        place = self._now()
        if place.is_gone:
            raise PatchError(f"document {self._doc.id!r}: the place of this anchor is gone")
        committed = self._doc.committed_place(place)
        if committed.is_gone:
            raise PatchError(
                f"document {self._doc.id!r}: {place.path!r} was not sent yet; share the anchor "
                f"when the server has confirmed it"
            )
        wire: dict[str, Json] = {
            "path": committed.path,
            "rev": self._doc.committed_rev,
            "stick": place.stick,
        }
        if committed.at is not None:
            wire["at"] = committed.at
        if self._key is not None:
            wire["key"] = list(self._key)
        return wire

    def __repr__(self) -> str:
        place = self._now()
        what = "gone" if place.is_gone else f"{self.path!r}, {place.at}"
        return f"<Anchor {what}>"

    # ---- inside ----------------------------------------------------------------------------------

    def _now(self) -> Place:
        return self._doc.feed.current(self)

    def _text(self) -> str | None:
        place = self._now()
        if place.is_gone or place.at is None:
            return None
        return text_at(self._doc.plain_state, place.path)


class Span:
    """A piece of a text: two anchors. Text inserted exactly at its ends stays outside."""

    __slots__ = ("end", "start")

    def __init__(self, start: Anchor, end: Anchor) -> None:
        self.start: Anchor = start
        self.end: Anchor = end

    @property
    def text(self) -> str | None:
        """What stands in it now; `None` when its text is gone."""
        whole = self.start._text()
        start, end = self.start.index, self.end.index
        if whole is None or start is None or end is None:
            return None
        return whole[start:end]

    @property
    def path(self) -> str | None:
        """The JSON Pointer of the text."""
        return self.start.path

    def to_json(self) -> list[dict[str, Json]]:
        """Both ends, as `Anchor.to_json`."""
        return [self.start.to_json(), self.end.to_json()]

    def __repr__(self) -> str:
        return f"<Span {self.text!r}>"


def text_at(state: Json, path: str) -> str | None:
    """The characters of a text, where an embed is one U+FFFC; `None` if there is no text."""
    value: Any = value_at(state, path)
    if isinstance(value, str):
        return value
    try:
        ops = text_ops_of(value)
    except PatchError:
        return None
    if ops is None:
        return None
    pieces = (op.get("insert") for op in ops)
    return "".join(piece if isinstance(piece, str) else _EMBED for piece in pieces)
