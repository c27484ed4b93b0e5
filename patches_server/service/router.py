"""`Router`: which document server a document belongs to.

A document keeps the algorithm of its first commit; until then the first route that matches its id
decides (`docs/decisions.md`).
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Final, TypeAlias

from patches.errors import AlgorithmMismatchError, InvalidRequestError, NotFoundError
from patches_server.documents.patterns import pattern_of
from patches_server.documents.services import BranchManager, Services

_log = logging.getLogger("patches_server.service.router")

#: Recorded algorithms that are remembered; a record does not change while its document lives.
_REMEMBERED: Final = 10_000

Routes: TypeAlias = Mapping[str, str] | Iterable[str | tuple[str, str]]
AlgorithmOf: TypeAlias = Callable[[str], Awaitable[str | None]]


def parse_route(text: str) -> tuple[str, str]:
    """`PATTERN=ALGORITHM`, the last `=` being the one that divides."""
    pattern, mark, algorithm = text.rpartition("=")
    if not mark or not pattern or not algorithm:
        raise InvalidRequestError(f"a route is PATTERN=ALGORITHM, such as 'lww/*=lww': {text!r}")
    return pattern, algorithm


def parse_routes(routes: Routes | None) -> list[tuple[str, str]]:
    """Routes in any of their forms, as pairs; in order, the first that matches counts."""
    if routes is None:
        return []
    if isinstance(routes, Mapping):
        return [_checked_route(route) for route in routes.items()]
    if isinstance(routes, str) or not isinstance(routes, Iterable):
        raise InvalidRequestError(f"routes must be a mapping or a list, not {routes!r}")
    return [
        parse_route(route) if isinstance(route, str) else _checked_route(route) for route in routes
    ]


def _checked_route(route: object) -> tuple[str, str]:
    match route:
        case (str() as pattern, str() as algorithm) if pattern and algorithm:
            return pattern, algorithm
    raise InvalidRequestError(f"a route is a pattern and an algorithm, not {route!r}")


class Router:
    """Finds the services of a document, by its record or else by its id."""

    def __init__(
        self,
        services: Mapping[str, Services],
        *,
        routes: Routes | None = None,
        algorithm_of: AlgorithmOf | None = None,
    ) -> None:
        self._services = dict(services)
        self._algorithm_of = algorithm_of
        self._recorded: OrderedDict[str, str] = OrderedDict()
        given = parse_routes(routes)
        for pattern, algorithm in given:
            if algorithm not in self._services:
                raise InvalidRequestError(
                    f"route {pattern!r}: no algorithm {algorithm!r}; there are "
                    f"{', '.join(sorted(self._services))}"
                )
        self._routes = [
            (pattern_of(text), name) for text, name in [*given, *_default_routes(self._services)]
        ]

    @property
    def services(self) -> Mapping[str, Services]:
        """All services, by algorithm."""
        return self._services

    async def find(self, doc_id: str, *, algorithm: str | None = None) -> Services:
        """The services that a document belongs to; with `algorithm`, those of a new one, too.

        Raises `AlgorithmMismatchError` for a document that is kept with another.
        """
        if algorithm is not None and algorithm not in self._services:
            raise InvalidRequestError(
                f"no algorithm {algorithm!r}; there are {', '.join(sorted(self._services))}"
            )
        wanted = doc_id
        passed: set[str] = set()
        while (name := self._recorded.get(doc_id)) is None:
            passed.add(doc_id)
            recorded = await self._algorithm_of(doc_id) if self._algorithm_of else None
            source = await self._source_of(doc_id)
            if recorded is not None:
                self._remember(doc_id, recorded, may_differ=source is not None)
            elif source is None or source in passed:  # records in a circle lead nowhere
                return self._services[algorithm or self._by_route(doc_id)]
            else:  # a branch that its client fills is of its source's algorithm, whatever its id
                doc_id = source
        if algorithm is not None and algorithm != name:
            raise AlgorithmMismatchError(wanted, expected=name, got=algorithm)
        return self._services[name]

    def known(self, doc_id: object) -> Services | None:
        """The services of a document whose record is at hand."""
        name = self._recorded.get(doc_id) if isinstance(doc_id, str) else None
        return None if name is None else self._services[name]

    def forget(self, doc_id: str) -> None:
        """The document was deleted, and its record with it."""
        self._recorded.pop(doc_id, None)

    def branch_manager(self) -> BranchManager | None:
        """One that can look up any branch: they share their records."""
        managers = (services.branches for services in self._services.values())
        return next((manager for manager in managers if manager is not None), None)

    async def _source_of(self, doc_id: str) -> str | None:
        manager = self.branch_manager()
        if manager is None:
            return None
        try:
            return await manager.get_source_doc_id(doc_id)
        except NotFoundError:
            return None

    def _remember(self, doc_id: str, recorded: str, *, may_differ: bool) -> None:
        if recorded not in self._services:
            raise InvalidRequestError(
                f"document {doc_id!r} is kept with the algorithm {recorded!r}, which is not served"
            )
        by_route = self._by_route(doc_id)
        if by_route != recorded and not may_differ:
            _log.warning(
                "document %.128r keeps the algorithm %s, though its route says %s",
                doc_id,
                recorded,
                by_route,
            )
        self._recorded[doc_id] = recorded
        if len(self._recorded) > _REMEMBERED:
            self._recorded.popitem(last=False)

    def _by_route(self, doc_id: str) -> str:
        for pattern, name in self._routes:
            if pattern.fullmatch(doc_id):
                return name
        raise InvalidRequestError(f"no route for document {doc_id!r}")


def _default_routes(services: Mapping[str, Services]) -> list[tuple[str, str]]:
    """The routes that algorithms bring, the more specific ones first; one alone takes all ids."""
    if len(services) == 1:
        return [("*", name) for name in services]
    routes = [
        (pattern, name)
        for name, each in services.items()
        for pattern in each.documents.default_routes
    ]
    return sorted(routes, key=lambda route: -len(route[0]))
