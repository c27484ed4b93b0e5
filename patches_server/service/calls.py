"""`Calls`: carries out one call of a peer: rights, rules, its turn, and then what it is for.

A peer gets each answer as bytes. The methods of a connection are not carried out here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from time import perf_counter
from typing import Any, TypeAlias

from patches.errors import (
    AlgorithmMismatchError,
    ChangeRefusedError,
    ForbiddenError,
    NotFoundError,
    PatchesError,
)
from patches.limits import Limits
from patches.model.change import ChangeInput
from patches.model.json_values import Json
from patches_server.auth.access import Access
from patches_server.documents.authors import id_of, signed_by
from patches_server.documents.concurrency_limit import ConcurrencyLimit
from patches_server.documents.context import CallContext, call_context
from patches_server.documents.document_server import Begun
from patches_server.documents.offload import BYTES_PER_STEP, Offloader
from patches_server.documents.records import CommitResult
from patches_server.documents.services import Services
from patches_server.service.commits_under_way import CommitsUnderWay, key_of
from patches_server.service.methods import Method, encoded, steps_to_encode
from patches_server.service.parameters import Given
from patches_server.service.router import Router
from patches_server.service.stats import ServerStats
from patches_server.service.validation import Validation
from patches_server.wire import checks as wire_checks
from patches_server.wire.frames import Answer

#: Told what a begun commit has come to: its answer, an error, or `None`: nothing was done, and the
#: call has to be carried out as any other.
Ended: TypeAlias = Callable[[bytes | Exception | None], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A call of a method in the table. `size`: of its frame, in bytes."""

    name: str
    method: Method
    params: Sequence[Json]
    size: int
    context: CallContext


class Calls:
    """The calls of one server process. `hide_existence`: see `PatchesServer`."""

    def __init__(
        self,
        router: Router,
        access: Access,
        validation: Validation | None,
        *,
        limits: Limits,
        offload: Offloader,
        stats: ServerStats,
        hide_existence: bool,
        stamp_author: bool = True,
    ) -> None:
        self._router, self._access, self._validation = router, access, validation
        self._limits, self._offload, self._stats = limits, offload, stats
        self._hide_existence, self._stamp_author = hide_existence, stamp_author
        self._snapshots = ConcurrencyLimit.of_snapshots(limits)
        self._commits = CommitsUnderWay[Any]()
        #: Called for each commit that is refused: document, error, principal.
        self.on_refused: Callable[[str, PatchesError, Any], object] = lambda *_: None

    async def run(self, call: Call) -> Answer:
        """Carry a call out. What it raises is sent as the error."""
        try:
            return await self._run_again_if_replaced(call)
        except ChangeRefusedError as exc:
            if call.method.is_commit:
                self.on_refused(str(call.params[0]), exc, call.context.principal)
            raise

    async def _run_again_if_replaced(self, call: Call) -> Answer:
        subject = wire_checks.param(call.params, 0)
        was_known = self._router.known(subject) is not None
        try:
            return await self._run(call)
        except AlgorithmMismatchError:
            if not was_known:
                raise
            # Another process has deleted the document and made one of another algorithm.
            self._router.forget(subject)
            return await self._run(call)

    async def _run(self, call: Call) -> Answer:
        subject = wire_checks.doc_id(wire_checks.param(call.params, 0), self._limits)
        arguments = await self._read(call, subject)
        doc_id = await self._permitted(call, subject, arguments)
        services = await self._router.find(doc_id)
        options = call.method.options_of(call.params)
        _check_algorithm(doc_id, options, services)
        if call.method.is_commit and call.context.principal is not None:
            arguments = (self._signed(call.context.principal, arguments[0]), *arguments[1:])
        if call.method.is_commit and self._validation is not None:
            await self._validation.require(call.context.principal, doc_id, arguments[0])
        review = None
        if self._validation is not None and call.method.commits:
            review = self._validation.review_for(call.context.principal, doc_id)
        context = replace(call.context, options=options, review=review)
        if call.method.target == "branch":
            # A merge is broadcast to its caller too: one that does not apply the answer relies on
            # that (`docs/protocol.md`).
            context = replace(context, connection_id=None)

        async def carry_out(context: CallContext) -> Any:
            context.require_waiting()
            with call_context(context):
                return await call.method.run(services, subject, *arguments)

        if call.method.is_commit:
            begun = asyncio.get_running_loop().time()
            key = key_of(subject, arguments[0], context)
            result = await self._commits.run(key, context, carry_out)
            took_s = asyncio.get_running_loop().time() - begun
            self._stats.committed(services.documents.name, took_s)
            return await self._offload(steps_to_encode(result), lambda: call.method.encoded(result))
        async with self._snapshots() if call.method.is_expensive else nullcontext():
            result = await carry_out(context)
            return await self._offload(steps_to_encode(result), lambda: call.method.encoded(result))

    def commit_at_once(
        self, params: Sequence[Json], context: CallContext, size: int, then: Ended
    ) -> bytes | Begun | None:
        """Carry out a commit that can be decided without waiting for anything.

        Its answer, or `BEGUN`: `then` gets its outcome. `None`: nothing was done, and the
        call has to be carried out as any other. That goes for every refusal, too, so there is one
        place that says why.
        """
        services = self._router.known(params[0]) if 2 <= len(params) <= 3 else None
        if services is None:
            return None
        doc_id, changes = params[0], params[1]
        options = params[2] if len(params) > 2 else None
        if options is not None:
            if not isinstance(options, dict) or not options.keys() <= wire_checks.OPEN_OPTIONS:
                return None
            context = context.with_options(options)
        access, principal = self._access, context.principal
        if not access.open:
            shown = dict(zip(("docId", "changes", "options"), params, strict=False))
            if not access.allows_now(principal, doc_id, "write", "commitChanges", shown):
                return None
            if not access.allows_now(principal, doc_id, "read", "commitChanges"):
                return None
        try:
            given = wire_checks.changes(changes, self._limits, frame_bytes=size)
            _check_algorithm(doc_id, context.options, services)
        except PatchesError:
            return None
        if principal is not None:
            given = self._signed(principal, given)
        validation = self._validation
        if validation is not None and not validation.accepts_now(principal, doc_id, given):
            return None
        begun = perf_counter()
        done = partial(self._committed, services.documents.name, begun, then)
        result = services.documents.commit_at_once(context, doc_id, given, done) if given else None
        if isinstance(result, CommitResult):
            self._stats.committed(services.documents.name, perf_counter() - begun)
            return encoded(result)
        return result

    def _signed(self, principal: object, changes: list[ChangeInput]) -> list[ChangeInput]:
        """Changes with their author, where sign-in says who it is."""
        author = id_of(principal) if self._stamp_author else None
        return changes if author is None else signed_by(author, changes)

    def _committed(
        self, algorithm: str, begun: float, then: Ended, result: CommitResult | Exception | None
    ) -> None:
        if isinstance(result, CommitResult):
            self._stats.committed(algorithm, perf_counter() - begun)
            then(encoded(result))
        else:
            then(result)

    async def _read(self, call: Call, subject: str) -> tuple[Any, ...]:
        capabilities = (
            await self._access.capabilities(call.context.principal, subject)
            if _has_options(call.params)
            else ()
        )
        given = Given(call.params, self._limits, call.size, frozenset(capabilities))
        return await self._offload(call.size // BYTES_PER_STEP, lambda: call.method.read(given))

    async def _permitted(self, call: Call, subject: str, arguments: Sequence[Any]) -> str:
        """The document that the call is judged on. Raises unless its sender may do it."""
        principal = call.context.principal
        if call.method.target == "branch":
            doc_id = await self._writable_source(call, subject)
        else:
            doc_id, shown = subject, _shown(call)
            await self._access.require(principal, doc_id, call.method.kind, call.name, shown)
        if call.method.also_reads:
            try:
                await self._access.require(principal, doc_id, "read", call.name)
            except ForbiddenError:
                raise ForbiddenError(f"READ_FORBIDDEN:{subject}") from None
        other = call.method.also_writes(*arguments) if call.method.also_writes else None
        if other is not None:
            await self._access.require(principal, other, "write", call.name)
        return doc_id

    async def _writable_source(self, call: Call, branch_id: str) -> str:
        """The document that a branch came from, on which its calls are judged (T7).

        A stranger learns neither that document's id nor whether there is a branch: an unknown id is
        judged by itself, a deleted branch still on its source, and a refusal names the branch.
        """
        manager = self._router.branch_manager()
        source = None if manager is None else await manager.find_source(branch_id)
        try:
            await self._access.require(
                call.context.principal, source or branch_id, "write", call.name
            )
            if manager is None or source is None:
                raise NotFoundError(f"Branch {branch_id} not found")
            return await manager.get_source_doc_id(branch_id)
        except ForbiddenError:
            raise ForbiddenError(f"WRITE_FORBIDDEN:{branch_id}") from None
        except NotFoundError:
            if self._hide_existence:
                raise ForbiddenError(f"WRITE_FORBIDDEN:{branch_id}") from None
            raise


def _check_algorithm(doc_id: str, options: Mapping[str, Json], services: Services) -> None:
    """Refuse a caller who says that the document has another algorithm than it has."""
    used, kept = options.get(wire_checks.ALGORITHM_OPTION), services.documents.name
    if isinstance(used, str) and used != kept:
        raise AlgorithmMismatchError(doc_id, expected=kept, got=used)


def _has_options(params: Sequence[Json]) -> bool:
    """True if a call has options that need a capability."""
    return any(
        isinstance(value, dict) and not value.keys() <= wire_checks.OPEN_OPTIONS
        for value in params[1:]
    )


def _shown(call: Call) -> Mapping[str, Any] | None:
    """What an access provider is shown: the parameters of a commit, absent ones left out."""
    if not call.method.is_commit:
        return None
    return dict(zip(("docId", "changes", "options"), call.params, strict=False))
