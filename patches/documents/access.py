"""`HasAccess`: the part of a document that knows whether its user may write to it."""

from __future__ import annotations

from collections.abc import Callable

from patches.aio.signals import Signal
from patches.errors import ReadOnlyError


class HasAccess:
    """A document whose rights its server knows. The server is asked once somebody wants to know."""

    id: str
    #: Asks the server for the rights; set by the owner.
    ask_access: Callable[[str], None] | None = None
    #: Whether somebody wants to know.
    wants_access: bool = False
    _can_write: bool | None = None
    _on_access_change: Signal[[bool | None]] | None = None

    @property
    def can_write(self) -> bool | None:
        """Whether edits would be accepted; `None` while that is not known.

        The first use asks the server; `on_access_change` says what it answers. A server of
        @dabble/patches does not say. While it is `False`, `change` raises `ReadOnlyError`.
        """
        self._want_access()
        return self._can_write

    @property
    def on_access_change(self) -> Signal[[bool | None]]:
        """`can_write` has another value: the new one."""
        if self._on_access_change is None:
            self._on_access_change = Signal("on_access_change")
        self._want_access()
        return self._on_access_change

    def set_access(self, can_write: bool | None) -> None:
        """Set by the coordinator."""
        if can_write != self._can_write:
            self._can_write = can_write
            if self._on_access_change is not None:
                self._on_access_change.emit(can_write)

    # ---- inside ----------------------------------------------------------------------------------

    def _want_access(self) -> None:
        if not self.wants_access:
            self.wants_access = True
            if self.ask_access is not None:
                self.ask_access(self.id)

    def _check_writable(self) -> None:
        if self._can_write is False:
            raise ReadOnlyError(self.id)
