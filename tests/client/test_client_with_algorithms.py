"""`Patches` with OT and LWW, in memory and in a file."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from patches import Patches, PatchesError
from patches.documents.document import Document
from patches.errors import (
    AlgorithmMismatchError,
    CorruptDataError,
    InvalidRequestError,
    PatchError,
    StorageError,
    UnsupportedOperationError,
)


@pytest.fixture(params=["memory", "file"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Path | None:
    return tmp_path / "notes.db" if request.param == "file" else None


@pytest.fixture(params=["ot", "lww"])
def algorithm(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


def edit_everything(doc: Document) -> None:
    doc.change(lambda draft: draft.update(title="Plan", tags=["b", "a"], done=False))

    def more(draft: Any) -> None:
        draft.tags.sort()
        draft.tags.append({})
        draft.tags[2].id = 1
        draft.setdefault("settings", {})["dark"] = True
        draft.increment("views", 2)
        draft.set_max("last", 5)
        draft.set_bit("flags", 3, True)
        draft.move("title", "name")
        draft.copy("settings", "old_settings")
        del draft["done"]

    doc.change(more)
    with doc.edit() as draft:
        draft.tags[0] = "first"
    doc.apply([{"op": "add", "path": "/tags/0", "value": []}])
    doc.set({**doc.state, "views": 3, "added": None})


EDITED = {
    "tags": [[], "first", "b", {"id": 1}],
    "settings": {"dark": True},
    "views": 3,
    "last": 5,
    "flags": 8,
    "name": "Plan",
    "old_settings": {"dark": True},
    "added": None,
}


async def test_every_kind_of_edit_shows_at_once_and_is_there_when_it_is_opened_again(
    store: Path | None, algorithm: str
) -> None:
    async with Patches(store) as patches:
        doc = await patches.open_doc("notes", algorithm=algorithm)
        edit_everything(doc)
        assert doc.state == EDITED
        await doc.flush()
        assert doc.state == EDITED
        assert doc.has_pending
        assert not doc.unsaved
        assert not patches.write_latched_docs
        await patches.close_doc("notes")
        again = await patches.open_doc("notes")
        assert again.state == EDITED
        assert again.algorithm == algorithm


async def test_a_file_keeps_documents_their_algorithms_and_tombstones(
    tmp_path: Path, algorithm: str
) -> None:
    path = tmp_path / "notes.db"
    async with Patches(path) as patches:
        doc = await patches.open_doc("kept", algorithm=algorithm)
        edit_everything(doc)  # stored by leaving the block
        await patches.open_doc("gone", algorithm=algorithm)
        await patches.delete_doc("gone")
    async with Patches(path) as patches:
        assert patches.tracked_docs == {"kept"}
        other = "lww" if algorithm == "ot" else "ot"
        with pytest.raises(AlgorithmMismatchError):
            await patches.open_doc("kept", algorithm=other)
        assert (await patches.open_doc("kept")).state == EDITED
        listed = await patches.algorithms[algorithm].list_docs(include_deleted=True)
        assert {(doc.doc_id, doc.deleted) for doc in listed} == {("kept", False), ("gone", True)}


async def test_texts_are_typed_into_under_ot_and_set_under_lww(store: Path | None) -> None:
    async with Patches(store) as patches:
        ot = await patches.open_doc("ot")
        ot.change(lambda draft: draft.text("body").insert(0, "Dear 😀, "))
        ot.change(lambda draft: draft.text("body").append("all"))
        ot.set({"body": {"ops": [{"insert": "Dear 😀, one and all\n"}]}})
        assert ot.unsaved[-1][0]["op"] == "@txt"
        await ot.flush()
        assert ot.state == {"body": {"ops": [{"insert": "Dear 😀, one and all\n"}]}}

        lww = await patches.open_doc("lww", algorithm="lww")
        with pytest.raises(UnsupportedOperationError):
            lww.change(lambda draft: draft.text("body").insert(0, "x"))
        assert lww.state == {}
        lww.set({"body": {"ops": [{"insert": "a\n"}]}})
        lww.set({"body": {"ops": [{"insert": "b\n"}]}})
        await lww.flush()
        assert lww.state == {"body": {"ops": [{"insert": "b\n"}]}}


async def test_a_refused_edit_leaves_document_and_store_as_they_were(
    store: Path | None, algorithm: str
) -> None:
    def set_bad(value: Any) -> Any:
        return lambda draft: draft.update(n=2, bad=value)

    async with Patches(store) as patches:
        doc = await patches.open_doc("a", algorithm=algorithm)
        doc.change(lambda draft: draft.update(n=1))
        await doc.flush()
        before = doc.state
        for value in (float("nan"), b"x", {1}, 2**53, {"__proto__": 1}):
            with pytest.raises(PatchError):
                doc.change(set_bad(value))
        assert doc.state is before
        await doc.flush()
        await patches.close_doc("a")
        assert (await patches.open_doc("a")).state == {"n": 1}


async def test_metadata_of_the_client_and_the_document_is_on_every_change() -> None:
    async with Patches(metadata={"app": "x"}) as patches:
        doc = await patches.open_doc("a", metadata={"user": "me"})
        doc.change(lambda draft: draft.update(n=1))
        await doc.flush()
        snapshot = await patches.algorithms["ot"].load_doc("a")
        assert snapshot is not None
        assert snapshot.changes[0].metadata == {"app": "x", "user": "me"}


async def test_many_edits_of_one_turn_are_stored_in_order(
    store: Path | None, algorithm: str
) -> None:
    def append(n: int) -> Any:
        return lambda draft: draft.setdefault("l", []).append(n)

    async with Patches(store) as patches:
        docs = [await patches.open_doc(f"d{n}", algorithm=algorithm) for n in range(5)]
        for n in range(40):
            for doc in docs:
                doc.change(append(n))
        for doc in docs:
            await doc.flush()
            await patches.close_doc(doc.id)
            assert (await patches.open_doc(doc.id)).state == {"l": list(range(40))}


async def test_changes_submitted_without_opening_are_seen_when_it_is_opened(
    store: Path | None, algorithm: str
) -> None:
    async with Patches(store) as patches:
        await patches.track_docs(["a"], algorithm)
        await patches.submit_doc_change("a", [{"op": "replace", "path": "/n", "value": 1}])
        doc = await patches.open_doc("a")
        assert doc.state == {"n": 1}
        await patches.submit_doc_change("a", [{"op": "@inc", "path": "/n", "value": 2}])
        assert doc.state == {"n": 3}


async def test_an_edit_may_have_more_operations_than_one_change(
    store: Path | None, algorithm: str
) -> None:
    large = {f"k{n}": n for n in range(20_001)}
    async with Patches(store) as patches:
        doc = await patches.open_doc("a", algorithm=algorithm)
        doc.change(lambda draft: draft.update(old=1))
        doc.change(lambda draft: draft.update(large))
        assert doc.state == {"old": 1, **large}
        doc.set(large)
        assert doc.state == large
        await doc.flush()
        doc.change(lambda draft: draft.update(k0=-1))
        await patches.close_doc("a")
        assert (await patches.open_doc("a")).state == {**large, "k0": -1}


async def test_a_change_of_a_document_that_never_was_on_a_server_can_be_ejected_and_retried(
    store: Path | None,
) -> None:
    async with Patches(store) as patches:
        doc = await patches.open_doc("a")
        doc.change(lambda draft: draft.update(n=1))
        doc.change(lambda draft: draft.update(m=2))
        await doc.flush()
        snapshot = await patches.algorithms["ot"].load_doc("a")
        assert snapshot is not None
        change_id = snapshot.changes[0].id
        assert await patches.eject_pending_change("a", change_id) is not None
        assert doc.state == {"m": 2}
        await patches.retry_quarantined_change("a", change_id)
        assert doc.state == {"m": 2, "n": 1}
        await patches.close_doc("a")
        assert (await patches.open_doc("a")).state == {"m": 2, "n": 1}


@pytest.mark.parametrize(
    ("content", "error"),
    [(None, StorageError), (b"this is a letter and not a database" * 99, CorruptDataError)],
    ids=["a folder that is not there", "not a database"],
)
async def test_a_store_that_cannot_be_opened_says_so_when_entered(
    tmp_path: Path, content: bytes | None, error: type[Exception]
) -> None:
    path = tmp_path / "no" / "notes.db" if content is None else tmp_path / "notes.db"
    if content is not None:
        with open(path, "wb") as file:  # noqa: ASYNC230  # a small file, and nobody else waits
            file.write(content)
    with pytest.raises(error, match=r"notes\.db"):
        async with Patches(path):
            raise AssertionError("entered")


async def test_a_subscriber_may_close_its_own_client(tmp_path: Path) -> None:
    patches = Patches(tmp_path / "notes.db")
    doc = await patches.open_doc("a")

    closed = asyncio.Event()

    @doc.on_update
    async def close(state: Any) -> None:
        try:
            await patches.close()
        finally:
            closed.set()

    doc.change(lambda draft: draft.update(n=1))
    async with asyncio.timeout(5):
        await closed.wait()
    with pytest.raises(PatchesError, match="closed"):
        await patches.open_doc("a")
    async with Patches(tmp_path / "notes.db") as again:
        assert (await again.open_doc("a")).state == {"n": 1}


async def test_a_burst_of_edits_is_stored_in_few_transactions(tmp_path: Path) -> None:
    async with Patches(tmp_path / "client.db") as patches:
        doc = await patches.open_doc("doc", algorithm="ot")
        saves = 0
        store: Any = patches.algorithms["ot"].store  # type: ignore[attr-defined]  # OT's own
        save = store.save_pending_edits

        async def counted(*arguments: Any) -> Any:
            nonlocal saves
            saves += 1
            return await save(*arguments)

        store.save_pending_edits = counted
        for number in range(300):
            doc.set({"n": number})
        await doc.flush()
        assert saves <= 4
    async with Patches(tmp_path / "client.db") as patches:
        doc = await patches.open_doc("doc")
        assert doc.state == {"n": 299}
        queue = await patches.algorithms["ot"].store.load_queue("doc")  # type: ignore[attr-defined]  # OT's own
        assert len(queue.pending) == 300


async def test_a_burst_of_lww_edits_is_stored_in_few_transactions(tmp_path: Path) -> None:
    async with Patches(tmp_path / "client.db") as patches:
        doc = await patches.open_doc("doc", algorithm="lww")
        saves = 0
        store: Any = patches.algorithms["lww"]._store  # type: ignore[attr-defined]  # LWW's own
        change = store.change

        async def counted(*arguments: Any) -> Any:
            nonlocal saves
            saves += 1
            return await change(*arguments)

        store.change = counted
        for number in range(256):
            doc.set({"n": number})
        await doc.flush()
        assert saves <= 5
    async with Patches(tmp_path / "client.db") as patches:
        assert (await patches.open_doc("doc")).state == {"n": 255}


def test_a_store_that_is_none_is_refused_by_name() -> None:
    with pytest.raises(InvalidRequestError, match="store= takes a path"):
        Patches(store=3)


async def test_a_document_that_was_opened_twice_takes_no_edits_once_untracked() -> None:
    async with Patches() as patches:
        doc = await patches.open_doc("a")
        assert await patches.open_doc("a") is doc
        await patches.untrack_docs(["a"])
        assert patches.get_open_doc("a") is None
        with pytest.raises(PatchesError, match="closed"):
            doc.change(lambda draft: draft.update(n=1))
        again = await patches.open_doc("a")
        assert (again is doc, again.state) == (False, {})
