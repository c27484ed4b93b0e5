"""What mistakes print: one line each, with the way out, and nothing is changed by them."""

from __future__ import annotations

import asyncio
import datetime
import logging
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import BaseTestServer, TestServer, unused_port

from patches import Patches, PatchesSync
from patches.errors import (
    AlgorithmMismatchError,
    ForbiddenError,
    InvalidValueError,
    NetworkError,
    OpsRefusedError,
    PatchesError,
    StateReadOnlyError,
    StorageError,
    UnauthorizedError,
    WrongLoopError,
    WrongThreadError,
)
from patches_server import SqliteBackend, allow_all, create_app

FIRST_S = 5.0


class Signed:
    """Refuses everybody who brings no token."""

    async def authenticate(self, request: Any) -> object:
        if request.headers.get("Authorization") != "Bearer right":
            raise UnauthorizedError("please sign in")
        return "ann"

    async def can_access(self, *_asked: object) -> bool:
        return True


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[BaseTestServer]:
    async with TestServer(create_app(auth=allow_all, page=True)) as started:
        yield started


@pytest.fixture
async def plan() -> AsyncIterator[Any]:
    async with Patches(debug=True) as patches:
        doc = await patches.open_doc("plan")
        doc.set({"title": "a", "items": []})
        yield doc
        assert doc.state == {"title": "a", "items": []}


def ws(server: BaseTestServer, path: str = "/ws") -> str:
    return f"ws://{server.host}:{server.port}{path}"


async def dial(url: str, **options: Any) -> None:
    async with Patches() as patches, PatchesSync(patches, url, **options) as sync:
        await asyncio.wait_for(sync.connect(), FIRST_S)


async def settle(url: str, doc_id: str, algorithm: str) -> None:
    async with Patches() as patches, PatchesSync(patches, url) as sync:
        await sync.connect()
        doc = await patches.open_doc(doc_id, algorithm=algorithm)
        doc.change(lambda draft: draft.update(a=1))
        await asyncio.wait_for(sync.settled(), FIRST_S)


def message(error: pytest.ExceptionInfo[BaseException]) -> str:
    return str(error.value)


# ---- connecting ----------------------------------------------------------------------------------


async def test_1_a_wrong_path(server: BaseTestServer) -> None:
    with pytest.raises(NetworkError) as error:
        await dial(ws(server, "/"))
    assert message(error) == (
        f"{ws(server, '/')} answered 200 instead of opening a websocket; the endpoint is usually "
        f"/ws: {ws(server)}"
    )
    with pytest.raises(NetworkError, match=r"/room answered 404 instead.*/ws: ws://.*/room/ws$"):
        await dial(ws(server, "/room"))


async def test_2_no_server() -> None:
    port = unused_port()
    with pytest.raises(NetworkError) as error:
        await dial(f"ws://127.0.0.1:{port}/ws?token=secret")
    assert message(error) == (
        f"nothing listens on 127.0.0.1:{port} (connection refused); start patches-server, or use "
        f"connect(background=True) to keep trying"
    )


async def test_3_not_signed_in() -> None:
    async with TestServer(create_app(auth=Signed())) as started:
        url = ws(started)
        said = (
            f"{url} refused the sign-in (401: please sign in); check the token or cookie; trying "
            f"again in 30 s"
        )
        with pytest.raises(UnauthorizedError) as error:
            await dial(url)
        assert message(error) == said
        errors: list[Exception] = []
        reported = asyncio.Event()

        def report(error: Exception, _context: object) -> None:
            errors.append(error)
            reported.set()

        async with Patches() as patches:
            sync = PatchesSync(patches, url)
            sync.on_error(report)
            await sync.connect(background=True)
            await asyncio.wait_for(reported.wait(), FIRST_S)
            assert [str(each) for each in errors] == [said]
            assert str(sync.state.syncing) == said
            await sync.disconnect()
        await dial(url, websocket={"headers": {"Authorization": "Bearer right"}})


async def test_4_tls_on_a_plain_port(server: BaseTestServer) -> None:
    with pytest.raises(NetworkError) as error:
        await dial(f"wss://{server.host}:{server.port}/ws")
    assert message(error) == (
        f"wss://{server.host}:{server.port} does not speak TLS; use ws://, or the address of the "
        f"TLS proxy"
    )


async def test_5_an_lww_client_of_an_ot_server(server: BaseTestServer) -> None:
    with pytest.raises(AlgorithmMismatchError) as error:
        await settle(ws(server), "board", "lww")
    assert message(error) == (
        "document 'board' is ot on the server; open it with algorithm='ot', choose an id like "
        "'lww/board', or serve it with --route 'board=lww'"
    )


async def test_6_an_ot_client_of_an_lww_server(server: BaseTestServer) -> None:
    with pytest.raises(AlgorithmMismatchError) as error:
        await settle(ws(server), "lww/poll", "ot")
    assert message(error) == (
        "document 'lww/poll' is lww on the server; open it with algorithm='lww'"
    )


# ---- documents -----------------------------------------------------------------------------------


def raised(kind: type[BaseException], call: Callable[[], object]) -> str:
    with pytest.raises(kind) as error:
        call()
    return message(error)


async def test_7_a_write_to_the_state(plan: Any) -> None:
    said = "doc.state is read-only; edit with: with doc.edit() as draft: draft['title'] = …"
    assert raised(StateReadOnlyError, lambda: plan.state.__setitem__("title", "b")) == said
    assert issubclass(StateReadOnlyError, TypeError)


async def test_8_a_document_is_no_dict(plan: Any) -> None:
    said = (
        "a document has no 'title'; read doc.state['title'], edit with: with doc.edit() as draft: "
        "draft['title'] = …"
    )
    assert raised(AttributeError, lambda: setattr(plan, "title", "b")) == said
    assert raised(AttributeError, lambda: plan.title) == said
    assert raised(TypeError, lambda: plan["title"]) == said


async def test_9_no_await() -> None:
    said = "open_doc was not awaited; write: doc = await patches.open_doc('plan')"
    async with Patches() as patches:
        opening: Any = patches.open_doc("plan")
        assert raised(PatchesError, lambda: opening.change(lambda draft: None)) == said
        assert not patches.tracked_docs
        tasks = asyncio.gather(patches.open_doc("a"), asyncio.create_task(patches.open_doc("b")))
        assert [doc.id for doc in await tasks] == ["a", "b"]


def test_10_no_async_with() -> None:
    patches: Any = Patches()
    said = "use 'async with Patches(...)'; without asyncio: from patches.blocking import connect"
    assert raised(TypeError, patches.__enter__) == said


async def test_11_change_without_a_function(plan: Any) -> None:
    assert raised(TypeError, lambda: plan.change({"title": "b"})) == (
        "change takes a function: doc.change(lambda draft: draft.update({…})); to replace the "
        "whole state use doc.set({…})"
    )


async def test_12_a_member_named_like_a_method(plan: Any) -> None:
    said = "'items' is a method of a draft; for the member write draft['items'].append(…)"
    assert raised(AttributeError, lambda: plan.change(lambda d: d.items.append(1))) == said


async def test_13_not_json(plan: Any) -> None:
    due = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    assert raised(InvalidValueError, lambda: plan.change(lambda d: d.update(due=due))) == (
        "/due: datetime is not JSON; store value.isoformat(), or open the document with type="
    )


async def test_14_another_thread(plan: Any) -> None:
    found: list[str] = []

    def edit() -> None:
        found.append(raised(WrongThreadError, lambda: plan.change(lambda d: d.update(a=1))))

    thread = threading.Thread(target=edit)
    thread.start()
    thread.join()
    here = threading.current_thread().name
    [said] = found
    assert said == (
        f"document 'plan' belongs to thread {here!r}; from other threads use "
        f"doc.threadsafe.change(…), or patches.blocking"
    )


def test_15_another_loop() -> None:
    patches = Patches()

    async def use() -> None:
        await patches.open_doc("plan")

    async def use_again() -> str:
        try:
            with pytest.raises(WrongLoopError) as error:
                await use()
        finally:
            patches._closed = True  # its loop is gone
        return message(error)

    runner = asyncio.Runner()
    try:
        runner.run(use())
        assert asyncio.run(use_again()) == (
            "this Patches belongs to another event loop; create it inside the coroutine given to "
            "asyncio.run()"
        )
        patches._closed = False
        runner.run(patches.close())
    finally:
        runner.close()


async def test_16_dropped_with_unsaved_work(caplog: pytest.LogCaptureFixture) -> None:
    patches = Patches("x.db")
    patches._started, patches._unsaved_work = True, lambda: iter(["1 edit of 'plan'"])  # type: ignore[method-assign]
    said = (
        "Patches('x.db') was not closed and lost 1 edit of 'plan'; use 'async with', or await "
        "patches.close()"
    )
    with pytest.warns(ResourceWarning) as warned:
        patches.__del__()
    assert [str(each.message) for each in warned] == [said]
    assert [each.message for each in caplog.records if each.levelno == logging.ERROR] == [said]
    patches._closed = True


# ---- servers and files ---------------------------------------------------------------------------


async def test_18_no_auth(caplog: pytest.LogCaptureFixture) -> None:
    said = (
        "no auth given, so everything is refused; to try things out: create_server(auth=allow_all)"
    )
    async with TestServer(create_app()) as started:
        assert said in [each.message for each in caplog.records]
        with pytest.raises(ForbiddenError) as error:
            await settle(ws(started), "plan", "ot")
    assert said in message(error)


async def test_19_too_large(plan: Any) -> None:
    large = "x" * 4_300_000
    assert raised(OpsRefusedError, lambda: plan.change(lambda d: d.update(title=large))) == (
        "this change has 4,300,559 bytes, a server takes 4,194,304 (max_change_bytes); split it, "
        "or store the data elsewhere and its address here"
    )


async def test_20_a_file_of_the_server(tmp_path: Path) -> None:
    path = tmp_path / "k.db"
    async with TestServer(create_app(SqliteBackend(path), auth=allow_all)) as started:
        await settle(ws(started), "plan", "ot")
    before = path.read_bytes()
    with pytest.raises(StorageError) as error:
        async with Patches(path):
            pass
    assert message(error) == (
        f"{path} is a patches-server file; give the client its own: Patches('notes.db')"
    )
    assert path.read_bytes() == before


async def test_20_a_file_of_a_client(tmp_path: Path) -> None:
    path = tmp_path / "notes.db"
    async with Patches(path) as patches:
        await patches.open_doc("plan")
    runner = web.AppRunner(create_app(path, auth=allow_all))
    try:
        with pytest.raises(StorageError, match="is a client's file; give the server its own"):
            await runner.setup()
    finally:
        await runner.cleanup()
