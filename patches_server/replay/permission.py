"""Whether an application allows a change, asked before it is judged."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from patches.errors import ForbiddenError, StatusError, UnavailableError
from patches_server.documents.context import CallContext
from patches_server.replay.gate import Proposed
from patches_server.replay.judge import AnyChange, refused
from patches_server.replay.live import Submitted

#: `(context, change)`: raises `ForbiddenError`, or returns false, to refuse a change.
Authorize = Callable[[CallContext, AnyChange], bool | Awaitable[bool | None] | None]

_log = logging.getLogger("patches_server.replay")


async def require_allowed(
    authorize: Authorize | None, caller: CallContext, change: AnyChange
) -> None:
    """Raise `ChangeRefusedError` (403) for a change that is not allowed, `UnavailableError` if that
    cannot be decided now.
    """
    if authorize is None:
        return
    try:
        allowed: Any = authorize(caller, change)
        if inspect.isawaitable(allowed):
            allowed = await allowed
    except (ForbiddenError, PermissionError) as error:
        raise refused(change, str(error) or "not allowed", code=403) from error
    except StatusError:
        raise
    except Exception as error:
        _log.exception("authorize failed for change %.64r", change.id)
        raise UnavailableError("nobody could decide whether this is allowed") from error
    if allowed is False:
        raise refused(change, "not allowed", code=403)


def require_single(change: AnyChange, before: Sequence[Submitted | Proposed]) -> None:
    """Raise `ChangeRefusedError` if a change before has the same id."""
    if any(each.id == change.id for each in before):
        raise refused(change, "there are two changes of this id")
