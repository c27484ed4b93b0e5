"""The past of an open document, by way of a server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest

from patches import Patches, PatchesSync
from patches.documents.undo import UndoManager
from patches.errors import HistoryUnavailableError, JSONRPCError, NetworkError, VersionError
from patches.runtime import Runtime
from patches.testing.local_server import LocalServer
from patches_server.auth.access import Principal

MINUTE = 60_000


class Clock:
    def __init__(self) -> None:
        self.now = 1_800_000_000_000

    def runtime(self) -> Runtime:
        async def inline(fn: Any) -> Any:
            return fn()

        return Runtime(wall_ms=lambda: self.now, run_blocking=inline)


@asynccontextmanager
async def people(clock: Clock, *names: str, doc_id: str = "d") -> AsyncIterator[Any]:
    """A server, and for each name a signed-in client with the document open."""
    async with AsyncExitStack() as stack:
        local = await stack.enter_async_context(LocalServer(runtime=clock.runtime()))
        opened = []
        for name in names:
            local._accept = signed_in(local, name)  # type: ignore[method-assign]  # who connects
            local.network._accept = local._accept
            patches = await stack.enter_async_context(Patches(runtime=clock.runtime()))
            sync = await stack.enter_async_context(PatchesSync(patches, local.connection()))
            opened.append((await patches.open_doc(doc_id), sync))
        yield local, opened


def signed_in(local: LocalServer, name: str) -> Any:
    from patches.testing.local_server import serve_stream

    def accept(stream: Any) -> None:
        session = local.server.connect(Principal(id=name))
        local._scope.spawn(serve_stream(session, stream), name="local session")

    return accept


async def settled(opened: Any) -> None:
    for _doc, sync in opened:
        await sync.settled(5)


async def test_scenario_34_moments_of_two_authors_are_equal_under_every_page_size() -> None:
    clock = Clock()
    async with people(clock, "ann", "bob") as (_local, opened):
        (ann, _), (bob, _) = opened
        expected: list[tuple[str, int]] = []
        for minute in range(60):
            clock.now += MINUTE
            if minute % 7 == 3:
                continue  # a pause that is short
            name, doc = ("ann", ann) if minute % 20 < 12 else ("bob", bob)
            doc.change(lambda draft, n=minute: draft.update({f"n{n}": n}))
            await settled(opened)
            if expected and expected[0][0] == name:
                expected[0] = (name, expected[0][1] + 1)
            else:
                expected.insert(0, (name, 1))
        whole = [moment async for moment in ann.history()]
        assert [(each.authors[0], each.changes) for each in whole] == expected
        assert whole[0].to_rev == ann.committed_rev
        for older, newer in zip(whole[1:], whole, strict=False):
            assert older.to_rev == newer.from_rev - 1
            assert older.authors != newer.authors
        for size in (1, 2, 5):
            paged: list[Any] = []
            before = None
            while True:
                page = [moment async for moment in bob.history(limit=size, before=before)]
                paged += page
                if len(page) < size:
                    break
                before = page[-1].from_rev
            assert paged == whole


async def test_scenario_36_restoring_keeps_what_others_type_and_can_be_undone() -> None:
    clock = Clock()
    async with people(clock, "ann", "bob") as (_local, opened):
        (ann, _), (bob, bob_sync) = opened
        manager = UndoManager(ann)
        ann.change(lambda draft: draft.text("body").insert(0, "One. "))
        await settled(opened)
        first = ann.committed_rev
        ann.change(lambda draft: draft.text("body").insert(5, "Two. "))
        await settled(opened)
        clock.now += 10 * MINUTE
        bob_sync.set_online(False)
        bob.change(lambda draft: draft.text("body").insert(0, "Bob. "))
        await ann.restore(first, note="before import")
        bob_sync.set_online(True)
        await settled(opened)
        assert text_of(ann) == text_of(bob) == "Bob. One. \n"
        manager.undo()
        await settled(opened)
        assert text_of(ann) == text_of(bob) == "Bob. One. Two. \n"
        moments = [moment async for moment in ann.history()]
        summaries = " | ".join(moment.summary for moment in moments)
        assert "revision 1 restored" in summaries
        assert "5 characters in body" in summaries
        assert "before import" in {moment.version for moment in moments}
        assert {name for moment in moments for name in moment.authors} == {"ann", "bob"}
        runs = await ann.blame("/body")
        assert next((run.author, run.text) for run in runs) == ("bob", "Bob. ")


def text_of(doc: Any) -> str:
    return "".join(op["insert"] for op in doc.raw["body"]["ops"])


async def test_the_past_can_be_read_and_compared() -> None:
    clock = Clock()
    async with people(clock, "ann") as (_local, opened):
        ((ann, _),) = opened
        for n in range(4):
            ann.change(lambda draft, n=n: draft.update(n=n))
            await settled(opened)
        assert await ann.at(2) == {"n": 1}
        assert await ann.at(0) == {}
        diff = await ann.diff(2)
        assert [(each.path, each.before, each.after) for each in diff.fields] == [("/n", 1, 3)]
        assert (await ann.diff(1, 3)).after == {"n": 2}
        with pytest.raises(VersionError, match="no revision 99"):
            await ann.at(99)


async def test_an_lww_document_has_its_versions_and_newest_writes() -> None:
    clock = Clock()
    async with people(clock, "ann", "bob", doc_id="lww/d") as (_local, opened):
        (ann, _), (bob, _) = opened
        ann.change(lambda draft: draft.update(title="A", n=1))
        await settled(opened)
        assert await ann.save_version("first")
        first = ann.committed_rev
        clock.now += MINUTE
        bob.change(lambda draft: draft.update(n=2))
        await settled(opened)
        runs = await ann.blame("/n")
        assert [(run.author, run.text, run.at) for run in runs] == [("bob", "2", clock.now)]
        assert (await ann.blame("/title"))[0].author == "ann"
        moments = [moment async for moment in ann.history()]
        assert [(each.version, each.authors) for each in moments] == [
            (None, ("bob",)),
            ("first", ("ann",)),
        ]
        assert await ann.at(first) == {"title": "A", "n": 1}
        with pytest.raises(VersionError):
            await ann.at(ann.committed_rev)
        await bob.restore(first)
        await settled(opened)
        assert ann.state == bob.state == {"title": "A", "n": 1}


async def test_without_a_server_or_its_history() -> None:
    async with Patches() as patches:
        doc = await patches.open_doc("d")
        with pytest.raises(NetworkError):
            await doc.at(1)

        async def unknown(method: str, *_params: Any) -> Any:
            raise JSONRPCError(-32601, f"Unknown method '{method}'.")

        doc.call_server = unknown
        with pytest.raises(HistoryUnavailableError):
            await doc.blame("/body")
