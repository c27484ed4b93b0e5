"""A whole client inside of the server's process."""

from __future__ import annotations

from typing import Any

import pytest

from patches.documents.undo import UndoManager
from patches.errors import PatchesError
from patches_server import Principal, allow_all, create_server
from patches_server.documents.authors import author_of


@pytest.mark.parametrize("doc_id", ["report", "lww/report"])
async def test_a_document_is_open_and_its_edits_are_committed(doc_id: str) -> None:
    async with create_server(auth=allow_all) as server:
        await server.edit(doc_id, lambda draft: draft.update(title="A"))
        async with server.open(doc_id, author="ai:summariser") as doc:
            assert doc.state == {"title": "A"}
            doc.change(lambda draft: draft.update(summary="short"))
        assert await server.read(doc_id) == {"title": "A", "summary": "short"}
        if doc_id == "report":
            changes = await server.router.services["ot"].documents.get_changes_since(doc_id, 1)
            assert [author_of(change) for change in changes] == ["ai:summariser"]


async def test_edits_made_inside_can_be_undone() -> None:
    async with create_server(auth=allow_all) as server, server.open("d") as doc:
        undo = UndoManager(doc)
        doc.change(lambda draft: draft.update(a=1))
        undo.undo()
        assert doc.state == {}


async def test_it_has_all_rights_or_those_of_a_principal() -> None:
    def only_ann(principal: Any, *_: object) -> bool:
        return getattr(principal, "id", None) == "ann"

    async with create_server(auth=only_ann) as server:
        async with server.open("d") as doc:
            doc.change(lambda draft: draft.update(a=1))
        async with server.open("d", principal=Principal(id="ann")) as doc:
            doc.change(lambda draft: draft.update(b=1))
        with pytest.raises(PatchesError):
            async with server.open("d", principal=Principal(id="bob")):
                pass
        assert await server.read("d") == {"a": 1, "b": 1}
