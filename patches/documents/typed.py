"""`Typed`: the part of a document that shows its state, plain or as values of a type."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from patches.aio.signals import Signal
from patches.documents.guard import guarded
from patches.documents.shape import ReportMisfit, Shape, T
from patches.documents.subscribed import Subscribed
from patches.errors import PatchesError
from patches.json_patch import ABSENT, pointer
from patches.model.json_values import Json

if TYPE_CHECKING:
    from jsonpointer import JsonPointer


class Typed(Subscribed[T]):
    """A document as its readers know it."""

    def __init__(self) -> None:
        super().__init__()
        self._debug = False
        self._guarded: tuple[Json, Json] | None = None  # a state, and its guarded copy
        self._report_misfit: ReportMisfit | None = None
        self._misfit_seen: PatchesError | None = None
        self._on_misfit: Signal[[PatchesError]] | None = None  # made when it is asked for

    @property
    def state(self) -> T:
        """Committed, pending and unsaved edits together. Shared: do not change it.

        With a type: a value of it. Raises `StateTypeError` if the document does not fit: then
        `misfit` is the reason. In debug mode a write to plain JSON raises `StateReadOnlyError`,
        and each new state is copied.
        """
        raw = self._shown.handed_out()
        shape = self._shape
        if shape is not None:
            value = shape.read(raw)
            if value is not raw:
                return cast("T", value)
        return cast("T", self._unwritable(raw) if self._debug else raw)

    @property
    def raw(self) -> Json:
        """The state as plain JSON, whatever the document's type. Shared: do not change it."""
        raw = self._shown.handed_out()
        return self._unwritable(raw) if self._debug else raw

    def get(self, path: str | JsonPointer, default: Any = None) -> Any:
        """The plain JSON at a path, or `default` where there is nothing. Do not change it.

        Raises `PatchError` for what is no JSON Pointer.
        """
        found = pointer.value_at(self.raw, pointer.text_of(path))
        return default if found is ABSENT else found

    @property
    def misfit(self) -> PatchesError | None:
        """Why the state cannot be read as the document's type; `None` if it can be."""
        return None if self._shape is None else self._shape.misfit_of(self._shown.handed_out())

    @property
    def on_misfit(self) -> Signal[[PatchesError]]:
        """A state that does not fit the document's type has been received: why it does not."""
        if self._on_misfit is None:
            self._on_misfit = Signal("on_misfit", spawn=self._spawned)
        return self._on_misfit

    @property
    def type(self) -> Any:
        """The type that the document was opened with; `None` for plain JSON."""
        return None if self._shape is None else self._shape.type

    @property
    def is_shaped(self) -> bool:
        """Whether it was given a shape. Asked by the owner."""
        return self._shape is not None

    def take_shape(self, shape: Shape, report: ReportMisfit) -> None:
        """Read and edit the state as `shape` from now on. Called by the owner before first use."""
        self._shape, self._report_misfit = shape, report
        self._arrived()

    # ---- inside ----------------------------------------------------------------------------------

    def _unwritable(self, raw: Json) -> Json:
        if self._guarded is None or self._guarded[0] is not raw:
            self._guarded = (raw, guarded(raw))
        return self._guarded[1]

    def _arrived(self) -> None:
        """A state came from elsewhere: migrate it, and report it if it does not fit."""
        shape = self._shape
        if shape is None or not self._shown.is_loaded or self._closed:
            return
        migration = shape.migration_of(self._shown.handed_out())
        if migration is not None:
            ops, metadata = migration
            self.apply_as(self, ops, metadata)
        misfit = shape.misfit_of(self._shown.handed_out())
        is_new = misfit is not None and self._misfit_seen is None
        self._misfit_seen = misfit
        if misfit is not None and is_new:
            if self._on_misfit:
                self._on_misfit.emit(misfit)
            elif self._report_misfit is not None:
                self._report_misfit(misfit)
