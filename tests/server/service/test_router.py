"""Which document server a document belongs to."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from patches.errors import InvalidRequestError
from patches_server.documents.services import Services
from patches_server.service.router import Router, parse_route


@pytest.fixture
def services(documents: Any) -> dict[str, Services]:
    return {"ot": Services(documents), "lww": Services(type(documents)("lww"))}


@pytest.mark.parametrize(
    ("routes", "doc_id", "algorithm"),
    [
        ([], "lww/a", "lww"),
        ([], "lww/a/b", "lww"),
        ([], "lww", "ot"),
        ([], "a", "ot"),
        (["*/board=lww"], "a/b/board", "lww"),
        (["a*=lww", "ab*=ot"], "abc", "lww"),
        (["lww/*=ot"], "lww/a", "ot"),
        (["a.c=lww"], "abc", "ot"),
        (["*=lww"], "line\nbreak", "lww"),
        ({"a=b": "lww"}, "a=b", "lww"),
    ],
)
async def test_the_first_route_that_matches_decides(
    services: Any, routes: Any, doc_id: str, algorithm: str
) -> None:
    assert await Router(services, routes=routes).find(doc_id) is services[algorithm]


async def test_one_algorithm_alone_has_all_documents(services: Any) -> None:
    alone = {"lww": services["lww"]}
    assert await Router(alone).find("any/id") is alone["lww"]


async def test_the_record_wins_over_the_routes_and_says_so_once(
    services: Any, caplog: pytest.LogCaptureFixture
) -> None:
    records: dict[str, str] = {}
    reads: list[str] = []

    async def algorithm_of(doc_id: str) -> str | None:
        reads.append(doc_id)
        return records.get(doc_id)

    router = Router(services, algorithm_of=algorithm_of)
    assert await router.find("board") is services["ot"]
    records["board"] = "lww"
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            assert await router.find("board") is services["lww"]
    assert len(caplog.records) == 1
    assert reads == ["board"] * 2, "a record is read once"
    router.forget("board")
    del records["board"]
    assert await router.find("board") is services["ot"]


async def test_a_deletion_forgets_the_record(serve: Any, services: Any, documents: Any) -> None:
    records = {"d": "ot"}

    async def algorithm_of(doc_id: str) -> str | None:
        return records.get(doc_id)

    connect = await serve(services=services, algorithm_of=algorithm_of, routes=["d=lww"])
    peer = connect()
    await peer.result("commitChanges", "d", [{"id": "c1", "ops": []}])
    assert documents.entered == ["c1"]
    await peer.result("deleteDoc", "d")
    records.clear()
    await peer.result("commitChanges", "d", [{"id": "c2", "ops": []}])
    assert services["lww"].documents.entered == ["c2"]


def test_the_last_equals_sign_divides_a_route() -> None:
    assert parse_route("a=b=lww") == ("a=b", "lww")
    for bad in ("lww", "=lww", "a=", ""):
        with pytest.raises(InvalidRequestError, match="PATTERN=ALGORITHM"):
            parse_route(bad)


def test_a_route_to_an_algorithm_that_is_not_served_is_an_error(services: Any) -> None:
    with pytest.raises(InvalidRequestError, match="no algorithm 'crdt'; there are lww, ot"):
        Router(services, routes=["a=crdt"])
