"""Texts that are streamed into a document while people type (`docs/streams.md`)."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest

from patches import Document, Patches, PatchesSync, UndoManager
from patches.errors import PatchError, StreamTargetGoneError, UnsupportedOperationError
from patches.limits import Limits
from patches.testing.local_server import LocalServer
from patches.testing.virtual_time import idle, virtual_time


class Room:
    """An agent and two people on one document."""

    def __init__(self, docs: list[Document], syncs: list[PatchesSync]) -> None:
        self.agent, self.ann, self.bob = docs
        self.syncs = syncs

    async def settled(self) -> None:
        for _ in range(2):
            for sync in self.syncs:
                await sync.settled(60)
            await idle()

    @property
    def text(self) -> str:
        return text_of(self.agent)


@asynccontextmanager
async def room(text: str = "", **options: Any) -> AsyncIterator[Room]:
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(LocalServer())
        docs, syncs = [], []
        for _ in range(3):
            patches = await stack.enter_async_context(Patches(**options))
            syncs.append(await stack.enter_async_context(PatchesSync(patches, server.connection())))
            docs.append(await patches.open_doc("d"))
        found = Room(docs, syncs)
        if text:
            typed(found.ann, 0, text)
        await found.settled()
        yield found


def text_of(doc: Document) -> str:
    return "".join(op["insert"] for op in doc.raw["body"]["ops"])


def typed(doc: Document, index: int, text: str) -> None:
    doc.change(lambda draft: draft.text("body").insert(index, text))


def test_s16_s17_an_agent_streams_while_people_type() -> None:
    tokens = [f"w{at} " for at in range(2_000)]

    @virtual_time
    async def run() -> None:
        async with room("before|after") as all_:
            undo = UndoManager(all_.agent)
            dice = random.Random(1)
            first_rev = all_.agent.committed_rev
            loop = asyncio.get_running_loop()
            done = asyncio.Event()

            async def person(doc: Document, letter: str) -> None:
                while not done.is_set():
                    typed(doc, dice.randrange(len(text_of(doc))), letter)
                    await asyncio.sleep(0.31)

            async def agent() -> None:
                at = all_.agent.anchor("/body", 6)
                async with all_.agent.stream_text("/body", at=at, label="Summary") as out:
                    for token in tokens:
                        await out.write(token)
                        await asyncio.sleep(0.01)
                assert out.span is not None
                assert without(out.span.text or "", "XY") == "".join(tokens)
                done.set()

            began = loop.time()
            await asyncio.gather(agent(), person(all_.ann, "X"), person(all_.bob, "Y"))
            seconds = loop.time() - began
            await all_.settled()
            assert text_of(all_.agent) == text_of(all_.ann) == text_of(all_.bob)
            assert without(all_.text, "XY") == "before" + "".join(tokens) + "|after\n"
            people = sum(all_.text.count(letter) for letter in "XY")
            streamed = all_.agent.committed_rev - first_rev - people
            assert streamed <= 12 * seconds
            assert [step.label for step in undo.steps] == ["Summary"]
            assert undo.undo()
            await all_.settled()
            assert without(all_.text, "XY") == "before|after\n"
            assert sum(all_.text.count(letter) for letter in "XY") == people
            assert not undo.can_undo

    run()


def without(text: str, letters: str) -> str:
    return "".join(letter for letter in text if letter not in letters)


@virtual_time
async def test_what_others_type_behind_it_stays_behind_and_inside_stays_inside() -> None:
    async with room("one|two") as all_:
        async with all_.agent.stream_text("/body", at=3) as out:
            await out.write("abc")
            await all_.settled()
            typed(all_.ann, 6, "BEHIND")
            typed(all_.bob, 4, "in")
            typed(all_.ann, 3, "BEFORE")
            await all_.settled()
            await asyncio.sleep(1)
            await out.write("def")
            assert out.span is not None
            assert out.span.text == "ainbcdef"
        await all_.settled()
        assert all_.text == "oneBEFOREainbcdefBEHIND|two\n"


@virtual_time
async def test_the_first_piece_goes_at_once_and_the_others_together() -> None:
    async with room() as all_:
        async with all_.agent.stream_text("/body", every=0.5) as out:
            await out.write("a")
            assert all_.text == "a\n"
            await out.write("b")
            await out.write("c")
            assert all_.text == "a\n"
            await asyncio.sleep(0.6)  # the rest goes without another call
            assert all_.text == "abc\n"
            await out.write("x" * 2_000)
            assert len(all_.text) == 2_004
            await out.write("end")
        assert all_.text.endswith("xend\n")


@virtual_time
async def test_s18_deleting_what_was_streamed_stops_the_agent() -> None:
    async with room("one|two") as all_:

        async def stream() -> None:
            async with all_.agent.stream_text("/body", at=3) as out:
                await out.write("streamed")
                await all_.settled()
                all_.ann.change(lambda draft: draft.text("body").delete(2, 10))
                await all_.settled()
                await out.write("more")

        with pytest.raises(StreamTargetGoneError):
            await stream()
        await asyncio.sleep(1)
        assert all_.text == "ontwo\n"

        async with all_.agent.stream_text("/body", at=0, if_deleted="continue") as out:
            await out.write("streamed")
            await all_.settled()
            all_.ann.change(lambda draft: draft.text("body").delete(0, 8))
            await all_.settled()
            await out.write("more")
        assert all_.text == "moreontwo\n"

        async def go_on() -> None:
            async with all_.agent.stream_text("/body", if_deleted="continue") as out:
                await out.write("streamed")
                all_.agent.change(lambda draft: draft.pop("body"))
                await out.write("more")

        with pytest.raises(StreamTargetGoneError):
            await go_on()


@virtual_time
async def test_s19_streaming_offline_beyond_the_limit_pauses_and_completes() -> None:
    limits = Limits(max_pending_bytes_per_doc=20_000)
    async with room("start", limits=limits) as all_:
        sync = all_.syncs[0]
        await sync.disconnect()
        written: list[int] = []

        async def agent() -> None:
            async with all_.agent.stream_text("/body") as out:
                for at in range(40):
                    await out.write("x" * 1_000)
                    written.append(at)

        task = asyncio.create_task(agent())
        await asyncio.sleep(60)
        assert 5 < len(written) < 15
        assert not task.done()
        await sync.connect()
        await asyncio.wait_for(task, 60)
        await all_.settled()
        assert text_of(all_.ann) == "start" + "x" * 40_000 + "\n"


@virtual_time
async def test_an_exception_keeps_what_was_written_or_takes_it_back() -> None:
    async with room("text") as all_:

        async def stream(on_error: Any) -> None:
            async with all_.agent.stream_text("/body", on_error=on_error) as out:
                await out.write("one ")
                await out.write("two")
                raise ValueError("the model has failed")

        for on_error in ("keep", "undo"):
            with pytest.raises(ValueError, match="model"):
                await stream(on_error)
            assert all_.text == "textone two\n"
        async with all_.agent.stream_text("/body") as out:
            await out.write("three")
            out.cancel()
            with pytest.raises(PatchError, match="has ended"):
                await out.write("four")
        assert all_.text == "textone two\n"


@virtual_time
async def test_what_was_cancelled_leaves_what_people_typed() -> None:
    async with room("word") as all_:
        undo = UndoManager(all_.agent, group_within=0)
        async with all_.agent.stream_text("/body", every=0) as out:
            for at in range(5):
                await out.write(f"{at}")
                await all_.settled()
                typed(all_.ann, len(text_of(all_.ann)) - 2, "x")
                typed(all_.agent, 0, "y")  # the same document is edited in between
                await all_.settled()
            out.cancel()
        assert without(all_.text, "xy") == "word\n"
        assert (all_.text.count("x"), all_.text.count("y")) == (5, 5)
        for _ in range(5):
            assert undo.undo()
        assert all_.text.count("y") == 0
        assert all_.text.count("x") == 5


async def test_attributes_and_absent_texts_and_lww() -> None:
    async with Patches() as patches:
        doc = await patches.open_doc("d")
        async with doc.stream_text("/note", attributes={"bold": True}) as out:
            assert out.span is None
            await out.write("hot")
        assert doc.raw["note"]["ops"][0] == {"insert": "hot", "attributes": {"bold": True}}
        lww = await patches.open_doc("l", algorithm="lww")
        with pytest.raises(UnsupportedOperationError, match="whole=True"):
            lww.stream_text("/note")
        async with lww.stream_text("/note", whole=True) as out:
            await out.write("a")
            await out.write("b")
        async with lww.stream_text("/note", at=1, whole=True) as out:
            await out.write("-")
        assert lww.state == {"note": "a-b"}
        with pytest.raises(IndexError):
            doc.stream_text("/note", at=9)
