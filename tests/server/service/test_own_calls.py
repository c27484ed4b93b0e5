"""What a program asks of its own server: edits, reads and first states, without a connection."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from patches import Patches, PatchesSync
from patches.errors import (
    AlgorithmMismatchError,
    DocDeletedError,
    InvalidRequestError,
    NotFoundError,
    RevConflictError,
    VersionError,
)
from patches.testing.local_server import LocalServer
from patches_server import MemoryBackend, allow_all, create_server

DOCS = ["report", "lww/report"]


@pytest.fixture
async def server() -> AsyncIterator[Any]:
    async with create_server(auth=allow_all) as server:
        yield server


@pytest.mark.parametrize("doc_id", DOCS)
async def test_an_edit_creates_and_changes_a_document(server: Any, doc_id: str) -> None:
    assert await server.read(doc_id) == {}

    def start(draft: Any) -> None:
        draft["items"] = ["a"]
        draft["n"] = 1

    change = await server.edit(doc_id, start, author="job:nightly")
    assert (change.rev, change.metadata["author"]) == (1, "job:nightly")

    def more(draft: Any) -> None:
        draft["items"].append("b")
        draft.increment("n", 2)
        draft["m"] = {"x": []}

    assert (await server.edit(doc_id, more, metadata={"why": "test"})).metadata["why"] == "test"
    assert await server.read(doc_id) == {"items": ["a", "b"], "n": 3, "m": {"x": []}}


@pytest.mark.parametrize("doc_id", DOCS)
async def test_an_edit_that_changes_nothing_is_none(server: Any, doc_id: str) -> None:
    assert await server.edit(doc_id, lambda draft: None) is None
    await server.edit(doc_id, lambda draft: draft.update(a=1))
    assert await server.edit(doc_id, lambda draft: draft["a"] and None) is None
    assert await server.read(doc_id) == {"a": 1}


@pytest.mark.parametrize("doc_id", DOCS)
async def test_clients_get_edits_of_the_server_and_their_authors(doc_id: str) -> None:
    async with LocalServer() as local, Patches() as patches:
        async with PatchesSync(patches, local.connection()) as sync:
            algorithm = doc_id.partition("/")[0] if "/" in doc_id else "ot"
            doc = await patches.open_doc(doc_id, algorithm=algorithm)
            doc.change(lambda draft: draft.update(mine=1))
            await sync.settled(timeout=5)
            await local.server.edit(doc_id, lambda draft: draft.update(title="Plan"))
            async for state in doc:
                if "title" in state:
                    break
            assert doc.state == {"mine": 1, "title": "Plan"}


@pytest.mark.parametrize("doc_id", DOCS)
async def test_scenario_22_an_edit_whose_draft_raises_changes_nothing(
    server: Any, doc_id: str
) -> None:
    def fails(draft: Any) -> None:
        draft["a"] = 1
        raise KeyError("b")

    with pytest.raises(KeyError):
        await server.edit(doc_id, fails)
    assert await server.read(doc_id) == {}


@pytest.mark.parametrize("doc_id", DOCS)
async def test_scenario_22_a_conflict_runs_an_edit_again_and_commits_once(
    doc_id: str,
) -> None:
    backend = MemoryBackend()
    async with (
        create_server(backend, auth=allow_all) as server,
        create_server(backend, auth=allow_all) as other,
    ):
        await server.edit(doc_id, lambda draft: draft.update(n=1))
        seen: list[int] = []

        def add(draft: Any) -> None:
            seen.append(draft["n"])
            draft["n"] = draft["n"] + 1

        async with conflicts_before_save(server, other, doc_id, times=1):
            change = await server.edit(doc_id, add)
        assert seen == [1, 10]
        assert change is not None
        assert change.rev == 3
        assert await server.read(doc_id) == {"n": 11}


@pytest.mark.parametrize("doc_id", DOCS)
async def test_five_conflicts_are_an_error(doc_id: str) -> None:
    backend = MemoryBackend()
    async with (
        create_server(backend, auth=allow_all) as server,
        create_server(backend, auth=allow_all) as other,
    ):
        await server.edit(doc_id, lambda draft: draft.update(n=1))
        runs: list[int] = []
        async with conflicts_before_save(server, other, doc_id, times=9):

            def count(draft: Any) -> None:
                runs.append(1)
                draft["n"] = 2

            with pytest.raises(RevConflictError):
                await server.edit(doc_id, count)
        assert len(runs) == 5


@asynccontextmanager
async def conflicts_before_save(
    server: Any, other: Any, doc_id: str, *, times: int
) -> AsyncIterator[None]:
    """Let another process write right before a store saves what was decided."""
    store = (await server.router.find(doc_id)).documents.store
    name = "save_rows" if doc_id.startswith("lww") else "save_changes"
    save = getattr(store, name)
    values: Iterator[int] = iter(range(10, 10 + times))

    async def slow(*args: Any, **options: Any) -> Any:
        setattr(store, name, save)  # the other process shares this store
        value = next(values, None)
        if value is not None:
            await other.edit(doc_id, lambda draft: draft.update(n=value))
        setattr(store, name, slow)
        return await save(*args, **options)

    setattr(store, name, slow)
    try:
        yield
    finally:
        setattr(store, name, save)


async def test_functions_that_are_not_plain_are_refused(server: Any) -> None:
    async def slow(draft: Any) -> None: ...

    def generates(draft: Any) -> Iterator[int]:
        yield 1

    for fn in (slow, generates, {"a": 1}):
        with pytest.raises(InvalidRequestError, match="plain function"):
            await server.edit("d", fn)
    assert await server.read("d") == {}


@pytest.mark.parametrize("doc_id", DOCS)
async def test_a_document_that_must_exist(server: Any, doc_id: str) -> None:
    with pytest.raises(NotFoundError):
        await server.edit(doc_id, lambda draft: draft.update(a=1), create=False)
    await server.edit(doc_id, lambda draft: draft.update(a=1))
    assert await server.edit(doc_id, lambda draft: draft.update(a=2), create=False)


async def test_an_algorithm_is_of_new_documents(server: Any) -> None:
    await server.edit("board", lambda draft: draft.update(a=1), algorithm="lww")
    assert (await server.router.find("board")).documents.name == "lww"
    with pytest.raises(AlgorithmMismatchError):
        await server.edit("board", lambda draft: draft.update(a=2), algorithm="ot")
    with pytest.raises(InvalidRequestError, match="no algorithm 'xyz'"):
        await server.edit("new", lambda draft: draft.update(a=2), algorithm="xyz")


@pytest.mark.parametrize("doc_id", DOCS)
async def test_a_deleted_document(server: Any, doc_id: str) -> None:
    await server.edit(doc_id, lambda draft: draft.update(a=1))
    await server.delete(doc_id)
    with pytest.raises(DocDeletedError):
        await server.read(doc_id)
    with pytest.raises(DocDeletedError):
        await server.edit(doc_id, lambda draft: draft.update(a=2))
    assert await server.undelete(doc_id)
    assert await server.read(doc_id) == {}


async def test_the_past_of_ot_documents_can_be_read(server: Any) -> None:
    for n in range(3):
        await server.edit("d", lambda draft, n=n: draft.update(n=n))
    assert await server.read("d", rev=2) == {"n": 1}
    assert await server.read("d", rev=0) == {}
    with pytest.raises(InvalidRequestError, match="no revision 9"):
        await server.read("d", rev=9)


async def test_lww_documents_are_read_at_their_versions(server: Any) -> None:
    await server.edit("lww/d", lambda draft: draft.update(n=1))
    await server.router.services["lww"].documents.capture_current_version("lww/d")
    await server.edit("lww/d", lambda draft: draft.update(n=2))
    assert await server.read("lww/d", rev=1) == {"n": 1}
    with pytest.raises(VersionError):
        await server.read("lww/d", rev=2)


@pytest.mark.parametrize("doc_id", DOCS)
async def test_scenario_23_concurrent_calls_of_ensure_create_one_revision(
    doc_id: str, tmp_path: Path
) -> None:
    url = f"sqlite:///{tmp_path}/server.db"
    async with create_server(url, auth=allow_all) as one, create_server(url) as two:
        state = {"title": "New", "tags": []}
        made = await asyncio.gather(
            *(server.ensure(doc_id, state) for server in [one, two] for _ in range(25))
        )
        assert sorted(made) == [False] * 49 + [True]
        assert await two.read(doc_id) == state
        documents = (await one.router.find(doc_id)).documents
        assert (await documents.read(doc_id))[1] == 1


@pytest.mark.parametrize("doc_id", DOCS)
async def test_an_empty_first_state_creates_a_document_too(server: Any, doc_id: str) -> None:
    assert await server.ensure(doc_id, {})
    assert not await server.ensure(doc_id, {"a": 1})
    assert await server.read(doc_id) == {}
