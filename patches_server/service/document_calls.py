"""`DocumentCalls`: listing, copying, exporting and importing whole documents."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Iterable, Mapping
from typing import Any, Final, Literal

from patches.documents.draft import ops_to_reach
from patches.errors import (
    DocDeletedError,
    ForbiddenError,
    InvalidRequestError,
    NotFoundError,
    StatusError,
)
from patches.limits import Limits
from patches.model.exports import export_lines, read_export
from patches.model.json_values import Json, Op
from patches_server.documents.listing import (
    DocInfo,
    ListedDoc,
    ListsDocuments,
    Page,
    cursor_of,
    place_of,
)
from patches_server.service.own_calls import OwnCalls
from patches_server.service.router import Router
from patches_server.wire import checks as wire_checks

#: A page holds no more.
MAX_PAGE: Final = 1_000


class DocumentCalls(OwnCalls):
    """The calls about whole documents. `lister` is the backend, if it can list."""

    def __init__(self, router: Router, limits: Limits, lister: ListsDocuments | None) -> None:
        super().__init__(router, limits)
        self._lister = lister

    async def list(
        self,
        prefix: str = "",
        *,
        limit: int = 100,
        after: str | None = None,
        deleted: bool = False,
    ) -> Page:
        """Documents whose ids begin with `prefix`, in the order of ids. `after` is the `next` of
        the page before. With `deleted`, those that were deleted."""
        if not 0 < limit <= MAX_PAGE:
            raise InvalidRequestError(f"limit must be from 1 to {MAX_PAGE}, not {limit!r}")
        at = None if after is None else place_of(after)
        found = await self._lists.list_docs(prefix, after=at, limit=limit + 1, deleted=deleted)
        items = [await self._info(each) for each in found[:limit]]
        more = len(found) > limit
        return Page(items=items, next=cursor_of(found[limit - 1].doc_id) if more else None)

    async def count(self, prefix: str = "") -> int:
        """How many documents have ids that begin with `prefix`."""
        return await self._lists.count_docs(prefix)

    async def copy(
        self, source: str, target: str, *, rev: int | None = None, history: bool = False
    ) -> None:
        """Make `target` a copy of `source`, at a revision, or with all its history.

        Raises `NotFoundError` without a source, `StatusError` 409 if there is a target.
        """
        if history:
            if rev is not None:
                raise InvalidRequestError("a copy has its history, or begins at a revision")
            await self.import_doc(self.export(source), doc_id=target)
            return
        documents = await self._documents(source)
        if not (await documents.read(source))[1]:
            raise NotFoundError(f"document {source!r} does not exist")
        state = await self.read(source, rev=rev)
        if not await self.ensure(target, state, algorithm=documents.name):
            raise _exists(target)

    async def rename(self, source: str, target: str) -> None:
        """Copy a document with its history, then delete it: its clients are sent `docDeleted`."""
        await self.copy(source, target, history=True)
        await self.delete(source)

    async def export(self, doc_id: str, *, history: bool = True) -> AsyncIterator[bytes]:
        """The lines of an export. Without `history`: the state alone.

        Raises `NotFoundError`, `DocDeletedError`.
        """
        documents = await self._documents(doc_id)
        state, rev = await documents.read(doc_id)
        if not rev:
            raise NotFoundError(f"document {doc_id!r} does not exist")
        header: dict[str, Json] = {
            "docId": doc_id,
            "algorithm": documents.name,
            "rev": rev,
            "history": history,
        }

        async def records() -> AsyncIterator[Mapping[str, Json]]:
            yield {"state": state}
            if history:
                async for record in documents.export_records(doc_id):
                    yield record

        async for line in export_lines(header, records()):
            yield line

    async def import_doc(
        self,
        source: bytes | Iterable[bytes] | AsyncIterable[bytes],
        *,
        doc_id: str | None = None,
        on_exists: Literal["error", "restore"] = "error",
    ) -> str:
        """Make a document of an export; its id, that of the export unless another is given.

        With `on_exists="restore"` a document that exists gets the exported state by an ordinary
        edit. The rules about the document judge its state. Raises `ImportFileError` for a file that
        was cut, altered or is newer, before anything is stored, `StatusError` 409 for a document
        that exists.
        """
        imported = await read_export(source)
        header, records = imported.header, imported.records
        target = header["docId"] if doc_id is None else doc_id
        documents = await self._documents(target, None)
        _, rev = await documents.read(target)
        if not rev:
            documents = await self._documents(target, header["algorithm"])
        state = next((each["state"] for each in records if "state" in each), None)
        if rev:
            if on_exists != "restore":
                raise _exists(target)
            await documents.edit(target, _reaching(state), {"restored": 0})
        elif header.get("history"):
            await documents.import_records(target, state, records)
        elif not await self.ensure(target, state, algorithm=header["algorithm"]):
            raise _exists(target)
        return target

    async def list_for(self, connection: Any, params: Any, _size: int) -> Json:
        """`listDocs`: what a peer may see of a list, if it may list at all."""
        prefix = wire_checks.param(params, 0)
        options = wire_checks.options(wire_checks.param(params, 1))
        if not isinstance(prefix, str):
            raise InvalidRequestError(f"expected a prefix of ids, got {prefix!r:.60}")
        principal = connection.context.principal
        if not await self.access.may_list(principal, prefix):
            raise ForbiddenError(f"LIST_FORBIDDEN:{prefix}")
        limit = wire_checks.revision(options.get("limit", 100), "limit")
        after = options.get("after")
        if after is not None and not isinstance(after, str):
            raise InvalidRequestError(f"{after!r:.60} is no cursor of a list")
        page = await self.list(prefix, limit=min(max(1, limit), MAX_PAGE), after=after)
        items = []
        for item in page.items:
            try:
                await self.access.require(principal, item.doc_id, "read", "listDocs")
            except ForbiddenError:
                continue
            items.append(item.to_wire())
        return {"items": items, "next": page.next}

    access: Any

    @property
    def _lists(self) -> ListsDocuments:
        if self._lister is None:
            raise InvalidRequestError("the documents of this backend cannot be listed")
        return self._lister

    async def _info(self, listed: ListedDoc) -> DocInfo:
        rev, modified_at, size = 0, listed.deleted_at, None
        services = self.router.services.get(listed.algorithm or "")
        if services is not None and listed.deleted_at is None:
            try:
                summary = await services.documents.summary(listed.doc_id)
                rev, modified_at, size = summary.rev, summary.modified_at, summary.bytes
            except DocDeletedError:  # since the list was read
                pass
        return DocInfo(
            doc_id=listed.doc_id,
            algorithm=listed.algorithm,
            rev=rev,
            created_at=listed.created_at,
            modified_at=modified_at,
            deleted_at=listed.deleted_at,
            bytes=size,
        )


def _reaching(state: Json) -> Any:
    def make_ops(now: Json, rev: int) -> list[Op]:
        return ops_to_reach(now if rev else {}, state, text=False)

    return make_ops


def _exists(doc_id: str) -> StatusError:
    return StatusError(409, f"document {doc_id!r} exists already")
