"""`OwnCalls`: what a program asks of its own server, without a connection.

Edits made here are ordinary changes: the same checks, rules, broadcasts and history.
`PatchesServer` has these methods.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from patches.documents.draft import ops_to_reach, record
from patches.errors import InvalidRequestError, NotFoundError
from patches.limits import Limits
from patches.model.change import Change
from patches.model.json_values import Json, Op
from patches_server.documents.context import CallContext, call_context
from patches_server.documents.document_server import DocumentServer
from patches_server.documents.rules import Rule, RuleBook
from patches_server.service.router import Router
from patches_server.wire import checks as wire_checks

R = TypeVar("R", bound=Rule)

_SERVER = CallContext()
_NOT_PLAIN = (
    inspect.iscoroutinefunction,
    inspect.isgeneratorfunction,
    inspect.isasyncgenfunction,
)


class OwnCalls:
    """The calls of a server's own program."""

    def __init__(self, router: Router, limits: Limits) -> None:
        self.router = router
        self.limits = limits
        self._rules = RuleBook(timeout_s=limits.hook_timeout_s)

    def rule(self, pattern: str) -> Callable[[R], R]:
        """Judge every change of documents whose ids match `pattern` by the decorated function.

        It gets a `Review`, and accepts by returning `None`. A string, or a `ChangeRefusedError`
        that it returns or raises, refuses the change. It may be a coroutine function. Rules are
        about OT and LWW documents.
        """
        if not isinstance(pattern, str):
            raise InvalidRequestError(
                f"rule() takes a pattern of ids, such as 'task/*': {pattern!r}"
            )

        def add(rule: R) -> R:
            if not callable(rule):
                raise InvalidRequestError(f"a rule is a function of a Review, not {rule!r}")
            self._rules.add(pattern, rule)
            for each in self.router.services.values():
                each.documents.content_rules = self._rules
            return rule

        return add

    async def edit(
        self,
        doc_id: str,
        fn: Callable[[Any], object],
        *,
        author: str | None = None,
        metadata: Mapping[str, Json] | None = None,
        algorithm: str | None = None,
        create: bool = True,
    ) -> Change | None:
        """Edit a document: `fn` gets a draft of its state, as in `doc.change(fn)`.

        `None`: nothing changed. `fn` is called again when another process wrote meanwhile, so it
        must be repeatable. If it raises, nothing is stored, and that is raised. `author` is kept
        with the change, and so is `metadata`. `algorithm` is that of a document which does not
        exist yet; with `create=False` there has to be one.

        Raises `InvalidRequestError` for a function that is async or a generator, `NotFoundError`,
        `DocDeletedError`, `AlgorithmMismatchError`, `RevConflictError` after five attempts,
        `ChangeRefusedError` when a rule refuses.
        """
        given: object = fn
        if not callable(given) or any(is_kind(given) for is_kind in _NOT_PLAIN):
            raise InvalidRequestError(
                f"edit() takes a plain function of a draft, which may be called again: {fn!r}"
            )
        documents = await self._documents(doc_id, algorithm)

        def make_ops(state: Json, rev: int) -> list[Op]:
            if not rev and not create:
                raise NotFoundError(f"document {doc_id!r} does not exist")
            return record(state if rev else {}, fn, max_depth=self.limits.max_value_depth)

        return await documents.edit(doc_id, make_ops, _with_author(metadata, author))

    async def ensure(
        self,
        doc_id: str,
        state: Json,
        *,
        author: str | None = None,
        algorithm: str | None = None,
    ) -> bool:
        """Create a document with `state` unless it exists; whether this call did.

        Of calls at one time, in any number of processes, one creates it.
        """

        def make_ops(_state: Json, rev: int) -> list[Op]:
            if rev:
                return []
            ops = ops_to_reach({}, state, max_depth=self.limits.max_doc_depth, text=False)
            return ops or [{"op": "replace", "path": "", "value": state}]

        documents = await self._documents(doc_id, algorithm)
        return await documents.edit(doc_id, make_ops, _with_author(None, author)) is not None

    async def read(self, doc_id: str, *, rev: int | None = None) -> Any:
        """The state of a document, now or at a revision; `{}` if there is none. Do not change it.

        LWW documents can be read at the revisions of their versions. Raises `DocDeletedError`,
        `VersionError`, `InvalidRequestError` for a revision that does not exist.
        """
        if rev is not None:
            wire_checks.revision(rev)
        state, at = await (await self._documents(doc_id)).read(doc_id, rev)
        if rev is not None and at != rev:
            raise InvalidRequestError(f"document {doc_id!r} has no revision {rev}; it is at {at}")
        return state if at else {}

    async def delete(self, doc_id: str) -> None:
        """Delete a document for everybody. An unknown or deleted one is no error."""
        documents = await self._documents(doc_id)
        with call_context(_SERVER):
            await documents.delete_doc(doc_id)

    async def undelete(self, doc_id: str) -> bool:
        """Let a deleted id be used again; whether it was deleted. The data does not come back."""
        return await (await self._documents(doc_id)).undelete_doc(doc_id)

    async def _documents(self, doc_id: str, algorithm: str | None = None) -> DocumentServer:
        wire_checks.doc_id(doc_id, self.limits)
        return (await self.router.find(doc_id, algorithm=algorithm)).documents


def _with_author(
    metadata: Mapping[str, Json] | None, author: str | None
) -> Mapping[str, Json] | None:
    if author is not None and not isinstance(author, str):
        raise InvalidRequestError(f"author= is a name, not {author!r}")
    return metadata if author is None else {**(metadata or {}), "author": author}
