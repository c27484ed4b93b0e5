"""`NeedsClosing`: what a `Patches` says when it is not closed, or entered the wrong way."""

from __future__ import annotations

import warnings
from abc import abstractmethod
from collections.abc import Callable, Iterator
from typing import NoReturn


class NeedsClosing:
    """A part of `Patches`: an object that must be closed in a running event loop."""

    #: Off in simulated processes, which are killed at will.
    _warns_when_left_open = True
    _started = False
    _closed = False

    @abstractmethod
    def _unsaved_work(self) -> Iterator[str]:
        """What would be lost: `"1 edit of 'plan'"`."""

    def __enter__(self) -> NoReturn:
        raise TypeError("use 'async with Patches(...)'")

    def __exit__(self, *_raised: object) -> NoReturn:
        raise TypeError("use 'async with Patches(...)'")

    def __del__(self, _warn: Callable[..., None] = warnings.warn) -> None:
        if self._warns_when_left_open and self._started and not self._closed:
            lost = ", ".join(self._unsaved_work())
            _warn(
                f"{self!r} was not closed{f' and lost {lost}' if lost else ''}; use 'async with', "
                f"or await patches.close()",
                ResourceWarning,
                source=self,
            )
