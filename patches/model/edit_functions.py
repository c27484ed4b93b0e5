"""Checks of functions that edit, such as those given to `change()`."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

from patches.errors import PatchError


def check_edits(result: object, what: str) -> None:
    """Refuse the result of a function whose body has not run, so that its edits are missing.

    `what`: whose function it is, for the message. Raises `PatchError`.
    """
    if result is None:
        return
    if inspect.isawaitable(result) or inspect.isasyncgen(result):
        if inspect.iscoroutine(result):
            result.close()
        raise PatchError(
            f"the function given to {what} is async, or returned an awaitable; an edit happens at "
            f"once: await what it needs before, and edit in a plain function"
        )
    if isinstance(result, Iterator):
        raise PatchError(
            f"the function given to {what} is a generator, or returned an iterator such as map(): "
            f"its edits have not run; use a for loop in a plain function"
        )
