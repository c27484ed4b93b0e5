"""`ThreadSafe`: a document's edits for threads other than its own."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol

from patches.aio.threads import call_on, wait_on
from patches.documents.owner import Owner
from patches.errors import PatchesError
from patches.model.json_values import Json


class _Edited(Protocol):
    """What is needed of a document."""

    @property
    def raw(self) -> Json:
        """What the document shows, as plain JSON."""

    def edit(self) -> AbstractContextManager[Any]:
        """Edit it by a block."""

    def change(self, fn: Callable[[Any], object]) -> None:
        """Edit it by a function."""

    def apply(self, ops: Any) -> None:
        """Apply operations."""

    def set(self, state: Json) -> None:
        """Replace its state."""

    def flush(self) -> Awaitable[None]:
        """Wait until the edits so far are stored."""


class ThreadSafe:
    """`doc.threadsafe`: each call runs on the document's event loop, and returns when it is done.

    What it raises there is raised here. Raises `WrongLoopError` when the loop has ended.
    """

    def __init__(self, doc: _Edited, owner: Owner | None) -> None:
        if owner is None:
            raise PatchesError("a document that nobody owns has no event loop")
        self._doc = doc
        self._loop = owner.loop

    def change(self, fn: Callable[[Any], object]) -> None:
        """`doc.change`. `fn` runs on the event loop, which waits for it."""
        call_on(self._loop, lambda: self._doc.change(fn))

    def apply(self, ops: Any) -> None:
        """`doc.apply`."""
        call_on(self._loop, lambda: self._doc.apply(ops))

    def set(self, state: Json) -> None:
        """`doc.set`."""
        call_on(self._loop, lambda: self._doc.set(state))

    @contextmanager
    def edit(self) -> Iterator[Any]:
        """`doc.edit`: the block runs in this thread, over the state as it is now.

        Raises `PatchError` if the document was changed meanwhile: nothing of the block is applied.
        """
        editing = call_on(self._loop, self._begun)
        draft = call_on(self._loop, editing.__enter__)
        try:
            yield draft
        except BaseException as exc:
            kind, error, traceback = type(exc), exc, exc.__traceback__
            call_on(self._loop, lambda: editing.__exit__(kind, error, traceback))
            raise
        call_on(self._loop, lambda: editing.__exit__(None, None, None))

    def flush(self) -> None:
        """`await doc.flush()`."""

        async def flush() -> None:
            await self._doc.flush()

        wait_on(self._loop, flush)

    def _begun(self) -> AbstractContextManager[Any]:
        self._doc.raw  # noqa: B018  # handed out: nothing writes into it from now on
        return self._doc.edit()
