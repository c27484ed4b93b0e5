"""`Shape`: how a document is read and edited as values of a type. Implemented in `patches/typed`.

A document without a shape shows plain JSON, for the cost of reading one attribute.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from patches.documents.draft import DraftTyping
from patches.errors import PatchesError
from patches.model.json_values import Json, Op

if TYPE_CHECKING:
    from typing_extensions import TypeVar

    #: What a document's state is read as; plain JSON if nothing is said.
    T = TypeVar("T", default=Any)
else:
    from typing import TypeVar

    T = TypeVar("T")


class Shape(DraftTyping, Protocol):
    """Owned by one document. Values that it gives out are shared: they are not to be changed."""

    #: The type; `None` for plain JSON.
    type: Any

    def read(self, raw: Json) -> Any:
        """The state as a value of the type; the same object for the same state.

        Raises `StateTypeError` if it does not fit, `ShapeTooNewError` if it cannot be known.
        """
        ...

    def misfit_of(self, raw: Json) -> PatchesError | None:
        """What `read` raises."""
        ...

    def base_of(self, raw: Json) -> Json:
        """The state that a draft begins from: with what its missing members read as."""
        ...

    def checked(self, raw: Json, ops: list[Op]) -> list[Op]:
        """The operations of an edit of `raw`, made on its base. Raises `StateTypeError` if a value
        does not fit its place.
        """
        ...

    def encode_state(self, value: Any, raw: Json) -> Json:
        """A whole new state as JSON, with the members of `raw` that the type does not know."""
        ...

    def migration_of(self, raw: Json) -> tuple[list[Op], dict[str, Json]] | None:
        """The operations that bring an older state up to date, and the metadata of that change."""
        ...


#: Called with what does not fit, if nobody subscribes to `on_misfit`.
ReportMisfit = Callable[[PatchesError], None]
