"""A document is used with another algorithm than the server has for it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from patches.documents.document import Document
from patches.errors import AlgorithmMismatchError, JSONRPCError
from patches.testing.fake_connection import FakeConnection
from patches.testing.fixtures import ClientFixture, ServerFixture
from patches.testing.virtual_time import virtual_time
from tests.support.sync_scene import sync_scene


@pytest.fixture
async def server() -> AsyncIterator[ServerFixture]:
    async with ServerFixture() as server:
        yield server


async def wrong(client: ClientFixture, doc: Document) -> AlgorithmMismatchError:
    with pytest.raises(AlgorithmMismatchError) as caught:
        await client.sync.settled(5, docs=[doc.id])
    return caught.value


@pytest.mark.parametrize(
    ("doc_id", "used", "kept"), [("board", "lww", "ot"), ("lww/x", "ot", "lww")]
)
@pytest.mark.parametrize("with_edit", [True, False])
async def test_the_error_names_both_and_what_to_do(
    server: ServerFixture, doc_id: str, used: str, kept: str, with_edit: bool
) -> None:
    ann = await server.client("ann")
    first = await ann.open_doc(doc_id, algorithm=kept)
    first.set({"a": 1})
    await ann.sync.settled(5)
    bob = await server.client("bob")
    other = await bob.open_doc("other")
    other.set({"b": 1})
    doc = await bob.open_doc(doc_id, algorithm=used)
    if with_edit:
        doc.apply([{"op": "replace", "path": "/mine", "value": 1}])
    error = await wrong(bob, doc)
    assert (error.expected, error.got) == (kept, used)
    assert f"algorithm={kept!r}" in str(error)
    assert bob.sync.synced[doc_id].status == "error"
    await bob.sync.settled(5, docs=["other"])
    assert await server.state(doc_id) == {"a": 1}
    # What the message says works.
    await bob.patches.close_doc(doc_id, untrack=True)
    doc = await bob.open_doc(doc_id, algorithm=kept)
    await bob.sync.settled(5)
    assert doc.state == {"a": 1}


async def test_a_document_that_is_new_here_takes_the_server_s_algorithm(
    server: ServerFixture,
) -> None:
    ann = await server.client("ann")
    for doc_id in ("lww/opened", "lww/tracked"):
        doc = await ann.open_doc(doc_id, algorithm="lww")
        doc.set({"a": 1})
    await ann.sync.settled(5)
    bob = await server.client("bob")
    opened = await bob.open_doc("lww/opened")
    await bob.patches.track_docs(["lww/tracked"])
    await bob.sync.settled(5)
    assert (opened.algorithm, opened.state) == ("lww", {"a": 1})
    tracked = await bob.open_doc("lww/tracked")
    assert (tracked.algorithm, tracked.state) == ("lww", {"a": 1})
    tracked.apply([{"op": "replace", "path": "/b", "value": 2}])
    await bob.sync.settled(5)
    assert await server.state("lww/tracked") == {"a": 1, "b": 2}
    assert bob.errors == []


@virtual_time
async def test_a_server_that_does_not_say_is_asked_once_and_the_default_is_taken() -> None:
    connection = FakeConnection(
        getAlgorithm=lambda call: JSONRPCError(-32000, "Unknown method 'getAlgorithm'.")
    )
    async with sync_scene(connection) as scene:
        for doc_id in ("a", "b"):
            doc = await scene.patches.open_doc(doc_id)
            assert doc.algorithm == "small"
        assert connection.count("getAlgorithm") == 1


@virtual_time
async def test_a_server_that_is_slow_to_say_holds_up_no_opening_for_long() -> None:
    connection = FakeConnection(getAlgorithm=lambda call: None)
    async with sync_scene(connection) as scene:
        del connection.replies["getAlgorithm"]
        connection.replies["getDoc"] = lambda call: None
        scene.connection.call = hang  # type: ignore[method-assign]  # arranged
        doc = await scene.patches.open_doc("a")
        assert doc.algorithm == "small"
        assert asyncio.get_running_loop().time() == 2


async def hang(method: str, *_params: object) -> None:
    await asyncio.Event().wait()
