"""`NeedsClosing`: what a `Patches` says when it is not closed, or entered the wrong way."""

from __future__ import annotations

import logging
import warnings
from abc import abstractmethod
from collections.abc import Callable, Iterator
from typing import Final, NoReturn

_log = logging.getLogger("patches.client")

_USE_ASYNC_WITH: Final = (
    "use 'async with Patches(...)'; without asyncio: from patches.blocking import connect"
)


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
        raise TypeError(_USE_ASYNC_WITH)

    def __exit__(self, *_raised: object) -> NoReturn:
        raise TypeError(_USE_ASYNC_WITH)

    def __del__(self, _warn: Callable[..., None] = warnings.warn) -> None:
        if self._warns_when_left_open and self._started and not self._closed:
            lost = ", ".join(self._unsaved_work())
            message = (
                f"{self!r} was not closed{f' and lost {lost}' if lost else ''}; use 'async with', "
                f"or await patches.close()"
            )
            if lost:  # warnings of this kind are off by default
                _log.error(message)
            _warn(message, ResourceWarning, source=self)
