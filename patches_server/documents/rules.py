"""Rules about content: an application's functions that judge what a change makes of a document.

A rule sees the state before and after a change as it is to be stored, so no operation, merge,
import or edit of the server itself gets around it. It is called inside the commit, between deciding
and storing; a document that no rule is about pays nothing.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from re import Pattern
from typing import Any, Final, TypeAlias

from patches.errors import ChangeRefusedError, StatusError, UnavailableError
from patches.model.change import Change, ChangeInput
from patches.model.json_values import Json, Op
from patches_server.documents.authors import author_of
from patches_server.documents.context import CallContext, Reviewer
from patches_server.documents.patterns import pattern_of
from patches_server.documents.verdicts import Verdict, require_accepted

_log = logging.getLogger("patches_server.documents")

#: Documents whose rules are remembered.
_REMEMBERED: Final = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Review:
    """A change that a rule judges.

    `change` and `ops` are what is to be stored. `before` and `after` are the states around it, as
    plain JSON that nobody may change; a document that does not exist yet is `{}` before. `author`
    is who made the change, as far as the change says; `principal` who sent it, `None` for the
    server itself.
    """

    doc_id: str
    principal: Any
    author: str | None
    change: Change | ChangeInput
    ops: Sequence[Op]
    before: Any
    after: Any


Rule: TypeAlias = Callable[[Review], "Verdict | Awaitable[Verdict]"]


class RuleBook:
    """The rules of a server, by the ids of the documents that they are about."""

    def __init__(self, *, timeout_s: float | None) -> None:
        self._timeout_s = timeout_s
        self._rules: list[tuple[Pattern[str], Rule]] = []
        self._of: OrderedDict[str, tuple[Rule, ...]] = OrderedDict()

    def add(self, pattern: str, rule: Rule) -> None:
        """Judge the changes of documents whose ids match `pattern` by `rule`, from now on."""
        self._rules.append((pattern_of(pattern), rule))
        self._of.clear()

    def rules_of(self, doc_id: str) -> tuple[Rule, ...]:
        """The rules about a document, in the order in which they were added."""
        found = self._of.get(doc_id)
        if found is None:
            found = tuple(rule for pattern, rule in self._rules if pattern.fullmatch(doc_id))
            self._of[doc_id] = found
            if len(self._of) > _REMEMBERED:
                self._of.popitem(last=False)
        return found

    def reviewer(self, doc_id: str, caller: CallContext) -> Reviewer | None:
        """What judges a commit of `caller`; `None`: nobody needs the states."""
        rules = self.rules_of(doc_id)
        if not rules:
            return caller.review

        async def review(change: Change | ChangeInput, before: Json, after: Json) -> None:
            if caller.review is not None:
                await caller.review(change, before, after)
            judged = Review(
                doc_id=doc_id,
                principal=caller.principal,
                author=author_of(change),
                change=change,
                ops=change.ops,
                before={} if before is None else before,
                after={} if after is None else after,
            )
            for rule in rules:
                await self._require(rule, judged)

        return review

    async def _require(self, rule: Rule, judged: Review) -> None:
        try:
            await require_accepted(judged.change.id, self._timeout_s, rule, judged)
        except (ChangeRefusedError, StatusError):
            raise
        except Exception:  # boundary: a rule that fails accepts nothing
            _log.exception("document %.128r: a rule failed", judged.doc_id)
            raise UnavailableError("a rule failed", {"reason": "VALIDATION"}) from None
