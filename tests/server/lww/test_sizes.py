"""LWW documents are kept within `max_doc_bytes`."""

from __future__ import annotations

from typing import Any

import pytest

from patches.errors import ChangeRefusedError, StatusError
from patches.limits import Limits
from patches.model.change import ChangeInput
from patches_server.lww.server import LWWServer
from patches_server.lww.sizes import DocRoom
from patches_server.stores.memory.backend import MemoryBackend

MOST = 20_000


def change(number: int, path: str, value: Any, op: str = "replace") -> ChangeInput:
    ops = [{"op": op, "path": path, "value": value}]
    return ChangeInput.from_wire({"id": f"c{number}", "ops": ops})


async def filled(limits: Limits) -> tuple[LWWServer, MemoryBackend]:
    """A server with a document that has been filled until it was refused."""
    backend = MemoryBackend()
    server = LWWServer(backend, limits=limits)
    fitting = MOST // 560
    for number in range(fitting):
        await server.commit_changes("d", [change(number, f"/k{number}", "x" * 500)])
    with pytest.raises(StatusError) as refused:
        await server.commit_changes("d", [change(99, "/last", "x" * MOST)])
    assert refused.value.code == 413
    assert refused.value.data == {
        "changeId": "c99",
        "scope": "change",
        "limit": "max_doc_bytes",
        "final": True,
    }
    return server, backend


async def test_a_document_grows_to_its_limit_and_not_beyond() -> None:
    server, _ = await filled(Limits(max_doc_bytes=MOST))
    [rows] = (await server.get_doc("d")).changes
    assert MOST * 0.9 < len(rows.encoded) < MOST * 1.1


async def test_a_full_document_may_be_changed_and_shrink() -> None:
    server, backend = await filled(Limits(max_doc_bytes=MOST))
    for each in (server, LWWServer(backend, limits=Limits(max_doc_bytes=MOST // 2))):
        await each.commit_changes("d", [change(200, "/k1", "y" * 500)])
        with pytest.raises(StatusError):
            await each.commit_changes("d", [change(201, "/more", "y" * 5_000)])
    await server.commit_changes("d", [change(202, "/k2", 0)])
    await server.commit_changes("d", [change(203, "", {"small": 1})])
    await server.commit_changes("d", [change(204, "/more", "y" * 5_000)])
    [rows] = (await server.get_doc("d")).changes
    assert len(rows.encoded) < 6_000


async def test_a_full_document_shrinks_by_a_removal_inside_a_value() -> None:
    server = LWWServer(MemoryBackend(), limits=Limits(max_doc_bytes=MOST))
    fields = {f"k{number}": "x" * 600 for number in range(30)}
    await server.commit_changes("d", [change(1, "/a", fields)])
    [rows] = (await server.get_doc("d")).changes
    size = len(rows.ops[0]["path"]) + len(rows.encoded)
    await server.commit_changes("d", [change(2, "/b", "y" * (MOST - size - 100))])
    for number in range(30):
        remove = {"op": "remove", "path": f"/a/k{number}"}
        await server.commit_changes(
            "d", [ChangeInput.from_wire({"id": f"r{number}", "ops": [remove]})]
        )
    # What is not there adds a row, and rows count.
    removes = [{"op": "remove", "path": f"/none{number}"} for number in range(400)]
    more = ChangeInput.from_wire({"id": "more", "ops": removes})
    with pytest.raises(ChangeRefusedError):
        await server.commit_changes("d", [more])


async def test_of_several_changes_the_one_that_does_not_fit_is_named() -> None:
    server = LWWServer(MemoryBackend(), limits=Limits(max_doc_bytes=MOST))
    await server.commit_changes("d", [change(1, "/a", "x" * (MOST - 2_000))])
    several = [change(n, f"/k{n}", "y" * 600) for n in range(2, 8)]
    with pytest.raises(ChangeRefusedError) as refused:
        await server.commit_changes("d", several)
    assert refused.value.change_id == "c4"
    await server.commit_changes("d", several[:2])
    await server.commit_changes("d", [change(9, "/a", 0)])
    await server.commit_changes("d", several[2:])


async def test_other_documents_and_a_new_one_of_that_name_have_room() -> None:
    server, _ = await filled(Limits(max_doc_bytes=MOST))
    await server.commit_changes("e", [change(1, "/a", "x" * 2_000)])
    await server.delete_doc("d", skip_tombstone=True)
    await server.commit_changes("d", [change(300, "/a", "x" * 2_000)])


async def test_none_switches_it_off() -> None:
    server = LWWServer(MemoryBackend(), limits=Limits(max_doc_bytes=None))
    for number in range(20):
        await server.commit_changes("d", [change(number, f"/k{number}", "x" * 50_000)])


def test_what_is_remembered_is_bounded() -> None:
    room = DocRoom(1_000)
    for number in range(10_050):
        room.wrote(f"d{number}", 100)
    assert len(room) == 10_000
    assert not room.suffices("d10049", 50)
    assert room.suffices("d0", 125)
