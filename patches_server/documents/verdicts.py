"""Asking an application's hook about a change, with a time limit, and what its answer means."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

from patches.errors import ChangeRefusedError, UnavailableError

#: `None` accepts; a string is the reason of a refusal.
Verdict: TypeAlias = ChangeRefusedError | str | None


async def require_accepted(
    change_id: str,
    timeout_s: float | None,
    hook: Callable[..., Verdict | Awaitable[Verdict]],
    *arguments: Any,
) -> None:
    """Raise unless the hook accepts: 400 for one change, 503 when it takes too long."""
    try:
        async with asyncio.timeout(timeout_s):
            verdict: object = hook(*arguments)
            if inspect.isawaitable(verdict):
                verdict = await verdict
    except TimeoutError:
        raise UnavailableError("validation timed out", {"reason": "VALIDATION"}) from None
    except ChangeRefusedError as exc:
        raise _final(exc) from exc
    if isinstance(verdict, ChangeRefusedError):
        raise _final(verdict)
    if verdict is not None:
        reason = verdict if isinstance(verdict, str) else "refused by the server"
        raise ChangeRefusedError(change_id, reason, final=True)


def _final(refusal: ChangeRefusedError) -> ChangeRefusedError:
    change_id = refusal.change_id
    assert change_id is not None  # it cannot be made without one
    return ChangeRefusedError(change_id, str(refusal), code=refusal.code, final=True)
