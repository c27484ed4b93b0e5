"""`Opening`: what `open_doc` returns, which says so when it is used without `await`."""

from __future__ import annotations

from collections.abc import Coroutine, Generator
from typing import TYPE_CHECKING, Any, Generic, NoReturn, TypeVar

from patches.errors import PatchesError

T = TypeVar("T")


class Opening(Coroutine[Any, Any, T], Generic[T]):
    """A coroutine that opens a document. Its members that a document would have raise."""

    __slots__ = ("_coroutine", "_doc_id")

    def __init__(self, coroutine: Coroutine[Any, Any, T], doc_id: str) -> None:
        self._coroutine = coroutine
        self._doc_id = doc_id

    def __await__(self) -> Generator[Any, Any, T]:
        return self._coroutine.__await__()

    def send(self, value: Any) -> Any:
        """One step."""
        return self._coroutine.send(value)

    def throw(self, *error: Any) -> Any:
        """One step that begins with an error: a cancellation."""
        return self._coroutine.throw(*error)

    def close(self) -> None:
        """End it where it is."""
        self._coroutine.close()

    if not TYPE_CHECKING:  # type checkers report these names themselves

        def __getattr__(self, name: str) -> NoReturn:
            # Reached only for a name that is no attribute.
            if name.startswith(("_", "cr_")):  # what libraries ask of any coroutine
                raise AttributeError(name)
            self._coroutine.close()
            raise PatchesError(
                f"open_doc was not awaited; write: doc = await patches.open_doc({self._doc_id!r})"
            )
