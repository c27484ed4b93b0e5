"""`TextStream`: writes a text into a document piece by piece, while others edit around it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Literal, Self, cast

from patches.documents.anchored import Anchored
from patches.documents.anchors import Anchor, Span
from patches.documents.draft.marks import marks_between
from patches.documents.shape import T
from patches.documents.undo import UndoManager
from patches.documents.watchers import EditGroup
from patches.errors import PatchError, StreamTargetGoneError
from patches.json_patch import pointer
from patches.model.codec import json_size
from patches.model.json_values import Json, Op
from patches.text import text_ops_of, utf16_length

if TYPE_CHECKING:
    from jsonpointer import JsonPointer

    from patches.documents.document import Document

#: A change holds at most so many characters of a stream.
_MAX_CHARACTERS: Final = 2_000


class Streaming(Anchored[T]):
    """A document that texts are streamed into."""

    unsaved: deque[list[Op]]

    def measure_pending(self) -> int:
        """Bytes of what waits for the server. Asked when the running estimate reaches the limit."""
        return 0

    def unsent_bytes(self) -> int:
        """Bytes of all edits that the server has not confirmed."""
        return self.measure_pending() + sum(map(json_size, self.unsaved))

    def stream_text(
        self,
        path: str | JsonPointer,
        *,
        at: Anchor | int | None = None,
        label: str = "",
        every: float = 0.1,
        attributes: Mapping[str, Json] | None = None,
        on_error: Literal["keep", "undo"] = "keep",
        if_deleted: Literal["raise", "continue"] = "raise",
        whole: bool = False,
    ) -> TextStream:
        """Write into the text at `path` piece by piece: `async with ... as out: await out.write()`.

        `at`: an anchor or an index, else the end. `every`: seconds between two changes. `whole`:
        replace the string with each, as an LWW document needs. Raises `UnsupportedOperationError`.
        """
        path = pointer.text_of(path)
        start = self.stream_start(path, at, whole=whole)
        return TextStream(
            self,
            start.path or path,
            start,
            label=label,
            every=every,
            attributes=attributes,
            on_error=on_error,
            if_deleted=if_deleted,
            whole=whole,
            max_unsent=cast("Document", self).limits.max_pending_bytes_per_doc,
        )


class TextStream:
    """`async with doc.stream_text("/body") as out: await out.write(token)`.

    One task writes it. Its own text is one step of every undo manager of the document, unless the
    same document object is edited otherwise in between.
    """

    def __init__(
        self,
        doc: Streaming[Any],
        path: str,
        start: Anchor,
        *,
        label: str,
        every: float,
        attributes: Mapping[str, Json] | None,
        on_error: Literal["keep", "undo"],
        if_deleted: Literal["raise", "continue"],
        whole: bool,
        max_unsent: int | None,
    ) -> None:
        self._doc, self._path, self._every, self._whole = doc, path, every, whole
        self._max_unsent = max_unsent
        self._attributes = dict(attributes or {})
        self._undoes_errors, self._goes_on = on_error == "undo", if_deleted == "continue"
        #: Text that others insert exactly where the stream is goes behind it.
        self._end = start
        self._start: Anchor | None = None  # made with the first piece, behind what is before it
        self._group = EditGroup(label)
        self._undo = UndoManager(cast("Document", doc), only=self._group, limit=1_000_000)
        self._buffer: list[str] = []
        self._buffered = 0
        self._timer: asyncio.TimerHandle | None = None
        self._written_at = -every
        self._failure: Exception | None = None
        self._ended = False

    @property
    def span(self) -> Span | None:
        """What was written, with what others have typed inside; `None` before the first piece."""
        return None if self._start is None else Span(self._start, self._end)

    async def write(self, text: str) -> None:
        """Write the next piece. The first one goes out at once, then several together.

        Waits while half of what the document may hold is unsent. Raises `StreamTargetGoneError` if
        others have deleted everything that was written, or the text itself.
        """
        self._check()
        await self._room()
        self._check()
        self._buffer.append(text)
        self._buffered += len(text)
        now = asyncio.get_running_loop().time()
        due = self._written_at + self._every
        if self._start is None or self._buffered >= _MAX_CHARACTERS or now >= due:
            self._flush()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_at(due, self._flush_later)
        await asyncio.sleep(0)  # a producer that never waits leaves others their turns

    def cancel(self) -> None:
        """Take back what was written, and end."""
        self._drop_buffer()
        while self._undo.undo():
            pass
        self._ended = True

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if exc is not None and self._undoes_errors:
                self.cancel()
            elif exc is None:
                self._check_failure()
                self._flush()
            elif not self._is_gone() and not self._doc.is_closed:
                self._flush()
        finally:
            self._drop_buffer()
            self._ended = True
            self._undo.close()

    # ---- inside ----------------------------------------------------------------------------------

    def _check(self) -> None:
        self._check_failure()
        if self._ended:
            raise PatchError(f"document {self._doc.id!r}: this stream has ended")
        if self._is_gone():
            self._drop_buffer()
            raise StreamTargetGoneError(
                f"document {self._doc.id!r}: what was streamed to {self._path!r} has been deleted"
            )

    def _check_failure(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _is_gone(self) -> bool:
        """Whether the text is gone, or everything that was written."""
        if self._start is None:
            return self._end.path is None
        text = Span(self._start, self._end).text
        return text is None or (text == "" and not self._goes_on)

    async def _room(self) -> None:
        most = self._max_unsent
        # There is no event for work of ours that was confirmed.
        while most is not None and self._doc.unsent_bytes() > most // 2:  # none
            await asyncio.sleep(max(self._every, 0.02))
            self._check()

    def _flush_later(self) -> None:
        self._timer = None
        try:
            if not self._ended and not self._is_gone():
                self._flush()
        except Exception as exc:  # boundary: called by the loop; the next `write` raises it
            self._failure = exc

    def _flush(self) -> None:
        text = "".join(self._buffer)
        self._drop_buffer()
        if not text:
            return
        self._written_at = asyncio.get_running_loop().time()
        at = self._end.utf16
        if at is None:
            raise StreamTargetGoneError(f"document {self._doc.id!r}: {self._path!r} was deleted")
        path = self._end.path
        assert path is not None
        self._doc.edit_group = self._group
        try:
            self._doc.apply([self._op(path, at, text)])
        finally:
            self._doc.edit_group = None
        if self._start is None:
            self._start = self._doc.anchor_at_utf16(path, at, stick="right")
        # The end stays before what others insert there, but not before this piece.
        self._end = self._doc.anchor_at_utf16(path, at + utf16_length(text))

    def _op(self, path: str, at: int, text: str) -> Op:
        value: Any = pointer.value_at(self._doc.plain_state, path)
        if self._whole:
            index = self._end.index or 0
            return {"op": "replace", "path": path, "value": value[:index] + text + value[index:]}
        marks = marks_between(text_ops_of(value) or (), at, at)
        attributes = {**marks, **self._attributes}
        insert: Op = {"insert": text}
        if attributes:
            insert["attributes"] = attributes
        return {"op": "@txt", "path": path, "value": [{"retain": at}, insert] if at else [insert]}

    def _drop_buffer(self) -> None:
        self._buffer.clear()
        self._buffered = 0
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
