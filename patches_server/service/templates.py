"""`Templates`: first states of documents, made when somebody who may write first subscribes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from re import Pattern
from typing import Any, TypeAlias

from patches.errors import DocDeletedError, ForbiddenError, InvalidRequestError
from patches.limits import Limits
from patches.model.json_values import Json
from patches_server.auth.access import Access
from patches_server.documents.patterns import pattern_of
from patches_server.service.fanout.events import wanted_ids
from patches_server.service.methods import Connection, Method, connection_method
from patches_server.wire import checks as wire_checks

#: `(doc_id)`: the state that a new document begins with.
Template: TypeAlias = Callable[[str], Json]
#: `(doc_id, state)`: creates a document unless it exists.
Ensure: TypeAlias = Callable[[str, Json], Awaitable[bool]]


class Templates:
    """The templates of a server, by patterns of ids; the first that matches counts."""

    def __init__(
        self, templates: Mapping[str, Template], *, access: Access, limits: Limits, ensure: Ensure
    ) -> None:
        for pattern, template in templates.items():
            if not callable(template):
                raise InvalidRequestError(
                    f"templates map patterns of ids to functions of an id: {pattern!r}"
                )
        self._templates: list[tuple[Pattern[str], Template]] = [
            (pattern_of(pattern), template) for pattern, template in templates.items()
        ]
        self._access, self._limits, self._ensure = access, limits, ensure

    def before(self, subscribe: Method) -> Method:
        """`subscribe`, after the documents that it names were made."""

        async def run(connection: Connection, params: Sequence[Json], size: int) -> Any:
            for doc_id in wanted_ids(wire_checks.param(params, 0), self._limits):
                await self._make(connection, doc_id)
            return await subscribe.run(connection, params, size)

        return connection_method(run)

    async def _make(self, connection: Connection, doc_id: str) -> None:
        for pattern, template in self._templates:
            if pattern.fullmatch(doc_id):
                with suppress(ForbiddenError, DocDeletedError):
                    await self._access.require(
                        connection.context.principal, doc_id, "write", "subscribe"
                    )
                    await self._ensure(doc_id, template(doc_id))
                return
