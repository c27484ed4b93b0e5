"""First states of documents, made when somebody first subscribes."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from patches.errors import InvalidRequestError
from patches_server import create_server
from tests.support.raw_peer import RawPeer


def reader_or_writer(principal: Any, _doc_id: str, kind: str, *_: object) -> bool:
    return kind == "read" or principal == "writer"


@pytest.mark.parametrize("doc_id", ["plan/1", "lww/plan/1"])
async def test_scenario_23_a_template_is_used_once_under_50_first_subscribers(doc_id: str) -> None:
    made: list[str] = []

    def template(doc_id: str) -> Any:
        made.append(doc_id)
        return {"title": f"Plan {doc_id}"}

    async with create_server(auth=reader_or_writer, templates={"*plan/*": template}) as server:
        reader = RawPeer(server.connect("reader"))
        assert await reader.result("subscribe", doc_id) == [doc_id]
        assert await server.read(doc_id) == {}
        peers = [RawPeer(server.connect("writer")) for _ in range(50)]
        await asyncio.gather(*(peer.result("subscribe", [doc_id, "other"]) for peer in peers))
        assert await server.read(doc_id) == {"title": f"Plan {doc_id}"}
        documents = (await server.router.find(doc_id)).documents
        assert (await documents.read(doc_id))[1] == 1
        assert await server.read("other") == {}
        await server.delete(doc_id)
        assert await peers[0].result("subscribe", doc_id) == []


def test_templates_are_functions() -> None:
    with pytest.raises(InvalidRequestError, match="templates"):
        create_server(templates={"plan/*": {"title": "Plan"}})  # type: ignore[dict-item]  # the mistake
