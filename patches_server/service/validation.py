"""Validation: an application's own rules, checked before anything of a commit is stored.

`validate(principal, doc_id, changes)` sees what a client has sent: operations, which say what is
written and not always what comes of it. `validate_state(principal, doc_id, change, before, after)`
sees the document without and with each change as it is to be stored, so an increment or a move gets
around no rule; it is called for merges of branches, too. It costs the building of the state.

Both are functions or coroutine functions and accept by returning `None`. They refuse one change by
returning or raising `ChangeRefusedError(change.id, reason)`; a returned string is the reason for
the change that is judged, or the first one. The refused change reaches its author's quarantine with
the reason; nothing of the submission is stored.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, Final, TypeAlias

from patches.errors import ChangeRefusedError, OpsRefusedError
from patches.limits import Limits
from patches.model.change import Change, ChangeInput
from patches.model.checks import check_ops
from patches.model.json_values import Json
from patches_server.documents.context import Reviewer
from patches_server.documents.offload import Offloader, steps_of
from patches_server.documents.verdicts import Verdict, require_accepted

Validate: TypeAlias = Callable[
    [Any, str, Sequence[Change | ChangeInput]], Verdict | Awaitable[Verdict]
]


ValidateState: TypeAlias = Callable[
    [Any, str, Change | ChangeInput, Any, Any], Verdict | Awaitable[Verdict]
]


class Validation:
    """Asks the hooks, with a time limit; what is not accepted is refused."""

    def __init__(
        self,
        validate: Validate | None,
        limits: Limits,
        offload: Offloader,
        *,
        validate_state: ValidateState | None = None,
    ) -> None:
        self._validate: Final = validate
        self._validate_state: Final = validate_state
        self._limits: Final = limits
        self._offload: Final = offload
        self._is_plain = not inspect.iscoroutinefunction(validate)

    async def require(
        self, principal: object, doc_id: str, changes: Sequence[Change | ChangeInput]
    ) -> None:
        """Raise unless the hook accepts: 400 for one change, 503 when it takes too long.

        The hook sees operations that are well-formed.
        """
        if self._validate is None or not changes:
            return
        await self._offload(steps_of(changes), lambda: self._check(changes))
        await self._run_hook(changes[0].id, self._validate, principal, doc_id, changes)

    def accepts_now(
        self, principal: object, doc_id: str, changes: Sequence[Change | ChangeInput]
    ) -> bool:
        """Whether a hook that is a plain function accepts small changes, asked in this turn.

        `False` decides nothing: `require` has to be awaited, which asks again and says why.
        """
        validate = self._validate
        if self._validate_state is not None or not self._is_plain or validate is None:
            return False
        try:
            self._check(changes)
            verdict: object = validate(principal, doc_id, changes)
        except Exception:  # boundary: `require` calls it again, and reports
            return False
        if inspect.isawaitable(verdict):
            self._is_plain = False
            if isinstance(verdict, Coroutine):
                verdict.close()
            return False
        return verdict is None

    def review_for(self, principal: object, doc_id: str) -> Reviewer | None:
        """What judges the states that a commit of `principal` makes; `None`: nobody asks."""
        validate = self._validate_state
        if validate is None:
            return None

        async def review(change: Change | ChangeInput, before: Json, after: Json) -> None:
            await self._run_hook(change.id, validate, principal, doc_id, change, before, after)

        return review

    async def _run_hook(
        self, change_id: str, hook: Callable[..., Verdict | Awaitable[Verdict]], *arguments: Any
    ) -> None:
        await require_accepted(change_id, self._limits.hook_timeout_s, hook, *arguments)

    def _check(self, changes: Sequence[Change | ChangeInput]) -> None:
        for change in changes:
            try:
                check_ops(change.ops, self._limits, where=f"change {change.id!r}: ops")
            except OpsRefusedError as exc:
                raise ChangeRefusedError(change.id, str(exc), code=exc.code) from exc
