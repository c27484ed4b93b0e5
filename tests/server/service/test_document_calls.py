"""Listing, copying, exporting and importing documents."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from patches.errors import (
    ChangeRefusedError,
    ImportFileError,
    InvalidRequestError,
    NotFoundError,
    StatusError,
)
from patches_server import MemoryBackend, Principal, SqliteBackend, allow_all, create_server
from patches_server.documents.authors import author_of
from tests.support.raw_peer import RawPeer

PLACES = ["memory", "sqlite"]
DOCS = ["a", "lww/a"]


def backend_in(place: str, folder: Path) -> Any:
    return MemoryBackend() if place == "memory" else SqliteBackend(folder / "server.db")


async def ids(server: Any, **options: Any) -> list[str]:
    found: list[str] = []
    after = None
    while True:
        page = await server.list(after=after, **options)
        found += [item.doc_id for item in page.items]
        after = page.next
        if after is None:
            return found


@pytest.mark.parametrize("place", PLACES)
async def test_scenario_31_a_list_has_no_gap_and_no_repeat(place: str, tmp_path: Path) -> None:
    backend = backend_in(place, tmp_path)
    async with create_server(backend, auth=allow_all) as server:
        names = [f"n/{number:03}" for number in range(120)]
        for name in names:
            await server.edit(name, lambda draft: draft.update(a=1))
        await server.edit("lww/x", lambda draft: draft.update(a=1), author="ann")
        assert await ids(server, limit=7) == ["lww/x", *names]
        assert await ids(server, prefix="n/", limit=50) == names
        assert await server.count("n/") == 120
        seen, after, step = [], None, 0
        while True:  # others come and go meanwhile
            page = await server.list("n/", limit=10, after=after)
            seen += [item.doc_id for item in page.items]
            await server.edit(f"n/{step:03}-new", lambda draft: draft.update(a=1))
            await server.delete(f"n/{119 - step:03}")
            after, step = page.next, step + 1
            if after is None:
                break
        assert seen == sorted(set(seen))
        assert set(names[:100]) <= set(seen)
        gone = await server.list("n/", deleted=True)
        assert [item.doc_id for item in gone.items] == [f"n/{119 - n:03}" for n in range(step)][
            ::-1
        ]
        assert gone.items[0].deleted_at is not None
        (first,) = (await server.list("lww/")).items
        assert (first.algorithm, first.rev, (first.bytes or 0) > 0) == ("lww", 1, True)
        with pytest.raises(InvalidRequestError):
            await server.list(after="no cursor!")
        with pytest.raises(InvalidRequestError):
            await server.list(limit=0)
    await backend.close()


class ReadsSome:
    """May list below `n/`, and read what ends in an even number."""

    async def authenticate(self, request: object) -> object:
        return Principal(id="ann")

    async def can_access(self, principal: Any, doc_id: str, *_: object) -> bool:
        return doc_id[-1] in "02468"

    def can_list(self, principal: Any, prefix: str) -> bool:
        return prefix.startswith("n/")


async def test_scenario_31_over_the_wire_the_readable_ones_only() -> None:
    async with create_server(auth=ReadsSome()) as server:
        for number in range(10):
            await server.edit(f"n/{number}", lambda draft: draft.update(a=1))
        peer = RawPeer(server.connect(Principal(id="ann")))
        seen: list[str] = []
        after = None
        while True:
            options = {"limit": 3} if after is None else {"limit": 3, "after": after}
            answer = await peer.result("listDocs", "n/", options)
            seen += [item["docId"] for item in answer["items"]]
            after = answer["next"]
            if after is None:
                break
        assert seen == ["n/0", "n/2", "n/4", "n/6", "n/8"]
        assert (await peer.error("listDocs", ""))["code"] == 403
    async with create_server(auth=allow_all) as server:
        assert (await RawPeer(server.connect()).error("listDocs", ""))["code"] == 403


async def filled(server: Any, doc_id: str) -> Any:
    documents = (await server.router.find(doc_id)).documents
    await server.edit(doc_id, lambda draft: draft.update(title="A", n=1), author="ann")
    await server.edit(doc_id, lambda draft: draft.update(n=2), author="bob")
    await documents.capture_current_version(doc_id, {"name": "first"})
    await server.edit(doc_id, lambda draft: draft.update(n=3), author="ann")
    return documents


async def whole(export: Any) -> bytes:
    return b"".join([line async for line in export])


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("doc_id", DOCS)
async def test_scenario_32_an_export_keeps_history_and_authors(
    doc_id: str, place: str, tmp_path: Path
) -> None:
    backend = backend_in(place, tmp_path)
    async with create_server(backend, auth=allow_all) as server:
        documents = await filled(server, doc_id)
        exported = await whole(server.export(doc_id))
        copied = doc_id + "-copy"
        await server.copy(doc_id, copied, history=True)
        async with create_server(auth=allow_all) as other:
            assert await other.import_doc(exported) == doc_id
            assert await other.read(doc_id) == {"title": "A", "n": 3}
        assert await server.read(copied) == {"title": "A", "n": 3}
        if doc_id == "a":
            before = await documents.get_changes_since(doc_id, 0)
            after = await documents.get_changes_since(copied, 0)
            assert before == after
            assert [author_of(change) for change in after] == ["ann", "bob", "ann"]
            named = [m.version for m in await documents.list_history(copied)]
            assert named == [None, "first", None]
            assert await server.read(copied, rev=1) == {"title": "A", "n": 1}
        runs = await documents.blame(copied, "/title")
        assert [run.author for run in runs] == ["ann"]
        await server.edit(copied, lambda draft: draft.update(n=4))
        assert await server.read(doc_id) == {"title": "A", "n": 3}
    await backend.close()


@pytest.mark.parametrize("doc_id", DOCS)
async def test_scenario_32_a_file_that_is_cut_or_altered_imports_nothing(doc_id: str) -> None:
    async with create_server(auth=allow_all) as server:
        await filled(server, doc_id)
        exported = await whole(server.export(doc_id))
        for size in range(len(exported)):
            with pytest.raises(ImportFileError):
                await server.import_doc(exported[:size], doc_id="new")
        for at in range(0, len(exported), 7):
            altered = bytearray(exported)
            altered[at] ^= 1
            with pytest.raises(ImportFileError):
                await server.import_doc(bytes(altered), doc_id="new")
        with pytest.raises(ImportFileError, match="newer"):
            await server.import_doc(
                exported.replace(b'"version":1', b'"version":2', 1), doc_id="new"
            )
        assert await server.read("new") == {}
        assert await server.import_doc(exported, doc_id="new", on_exists="error") == "new"


@pytest.mark.parametrize("doc_id", DOCS)
async def test_an_export_of_a_document_that_exists(doc_id: str) -> None:
    async with create_server(auth=allow_all) as server:
        await filled(server, doc_id)
        exported = await whole(server.export(doc_id, history=False))
        with pytest.raises(StatusError, match="exists already") as caught:
            await server.import_doc(exported)
        assert caught.value.code == 409
        await server.edit(doc_id, lambda draft: draft.update(n=9, more=1))
        await server.import_doc(exported, on_exists="restore")
        assert await server.read(doc_id) == {"title": "A", "n": 3}
        await server.import_doc(exported, doc_id=doc_id + "2")
        assert await server.read(doc_id + "2") == {"title": "A", "n": 3}


@pytest.mark.parametrize("doc_id", DOCS)
@pytest.mark.parametrize("history", [True, False])
async def test_scenario_24_an_import_is_judged(doc_id: str, history: bool) -> None:
    async with create_server(auth=allow_all) as server:
        await filled(server, doc_id)
        exported = await whole(server.export(doc_id, history=history))
        server.rule("*-new")(lambda review: "too much" if review.after["n"] > 2 else None)
        with pytest.raises(ChangeRefusedError, match="too much"):
            await server.import_doc(exported, doc_id=f"{doc_id}-new")
        assert await server.read(f"{doc_id}-new") == {}


@pytest.mark.parametrize("doc_id", DOCS)
async def test_copies_and_new_names(doc_id: str) -> None:
    async with create_server(auth=allow_all) as server:
        await filled(server, doc_id)
        await server.copy(doc_id, "c1")
        assert await server.read("c1") == {"title": "A", "n": 3}
        with pytest.raises(StatusError, match="exists already"):
            await server.copy(doc_id, "c1")
        with pytest.raises(NotFoundError):
            await server.copy("missing", "c2")
        if doc_id == "a":
            await server.copy(doc_id, "c3", rev=1)
            assert await server.read("c3") == {"title": "A", "n": 1}
        await server.rename(doc_id, "moved")
        assert await server.read("moved") == {"title": "A", "n": 3}
        assert [item.doc_id for item in (await server.list(deleted=True)).items] == [doc_id]
