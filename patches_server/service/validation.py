"""Validation: an application's own rules about changes, asked before anything is stored.

`validate(principal, doc_id, changes)`, a function or a coroutine function, accepts by returning
`None`. It refuses one change by returning or raising `ChangeRefusedError(change.id, reason)`; a
returned text is the reason for the first change. The refused change reaches its author's quarantine
with the reason (`spec/reliability.md` 2); nothing of the submission is stored.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, TypeAlias

from patches.errors import ChangeRefusedError, OpsRefusedError, UnavailableError
from patches.limits import Limits
from patches.model.change import Change, ChangeInput
from patches.model.checks import check_ops
from patches_server.documents.offload import Aside, steps_of

Verdict: TypeAlias = ChangeRefusedError | str | None
Validate: TypeAlias = Callable[
    [Any, str, Sequence[Change | ChangeInput]], Verdict | Awaitable[Verdict]
]


class Validation:
    """Asks the hook, with a time limit; what is not accepted is refused."""

    def __init__(self, validate: Validate, limits: Limits, aside: Aside) -> None:
        self._validate: Final = validate
        self._limits: Final = limits
        self._aside: Final = aside

    async def require(
        self, principal: object, doc_id: str, changes: Sequence[Change | ChangeInput]
    ) -> None:
        """Raise unless the hook accepts: 400 for one change, 503 when it takes too long.

        The hook sees operations that are well-formed.
        """
        if not changes:
            return
        await self._aside(steps_of(changes), lambda: self._check(changes))
        try:
            async with asyncio.timeout(self._limits.hook_timeout_s):
                verdict: object = self._validate(principal, doc_id, changes)
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
            raise ChangeRefusedError(changes[0].id, reason, final=True)

    def _check(self, changes: Sequence[Change | ChangeInput]) -> None:
        for change in changes:
            try:
                check_ops(change.ops, self._limits, where=f"change {change.id!r}: ops")
            except OpsRefusedError as exc:
                raise ChangeRefusedError(change.id, str(exc), code=exc.code) from exc


def _final(refusal: ChangeRefusedError) -> ChangeRefusedError:
    change_id = refusal.change_id
    assert change_id is not None  # it cannot be made without one
    return ChangeRefusedError(change_id, str(refusal), code=refusal.code, final=True)
