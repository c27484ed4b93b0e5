"""`patches.blocking`: documents without `async`, from scripts, threads and running loops."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from patches.blocking import Client, connect
from patches.blocking.loop_thread import LoopThread
from patches.errors import (
    DocumentClosedError,
    NetworkError,
    PatchError,
    PatchesError,
    WrongLoopError,
    WrongThreadError,
)
from patches_server import allow_all, create_app

SOON_S = 10.0


@pytest.fixture
def url() -> Iterator[str]:
    """A real server in a thread of its own."""
    thread = LoopThread()
    runner = thread.call(lambda: web.AppRunner(create_app(auth=allow_all)))

    async def start() -> str:
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        return f"ws://127.0.0.1:{runner.addresses[0][1]}/ws"

    yield thread.run(start)
    thread.run(runner.cleanup)
    thread.stop()


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    with connect(store=tmp_path / "notes.db") as connected:
        yield connected


def count(draft: Any) -> None:
    draft["n"] = draft.get("n", 0)


def test_two_clients_and_a_server(url: str, tmp_path: Path) -> None:
    with connect(url, store=tmp_path / "a.db") as ann, connect(url) as ben:
        plan = ann.open_doc("plan")
        plan.change(lambda draft: draft.update(title="Plan", items=[]))
        with plan.edit() as draft:
            draft["items"].append(1)
        plan.apply([{"op": "add", "path": "/items/-", "value": 2}])
        ann.settled(SOON_S)
        assert not plan.has_pending
        assert plan.sync_status == "synced"
        assert ann.state.connected
        assert ann.synced["plan"].committed_rev == plan.committed_rev
        seen = ben.open_doc("plan")
        states = seen.states(timeout=SOON_S)
        last = next(state for state in states if state == {"title": "Plan", "items": [1, 2]})
        plan.set({"title": "Done"})
        plan.settled(SOON_S)
        assert last != next(state for state in states if state == {"title": "Done"})
    assert plan.is_closed
    with connect(store=tmp_path / "a.db") as again:  # offline, from the file
        assert again.open_doc("plan").state == {"title": "Done"}


def test_offline(client: Client) -> None:
    doc = client.open_doc("plan", algorithm="lww")
    assert (doc.id, doc.algorithm, doc.state) == ("plan", "lww", {})
    doc.change(lambda draft: draft.update(n=1))
    doc.flush()
    assert doc.has_pending
    assert not client.state.connected
    with pytest.raises(NetworkError, match="no server"):
        client.settled()
    doc.close()
    with pytest.raises(DocumentClosedError):
        doc.change(count)
    assert doc.is_closed
    assert client.tracked_docs == {"plan"}
    client.untrack_docs(["plan"])
    assert client.open_doc("plan").state == {}


def test_an_attempt_that_fails_raises_and_leaves_no_thread(unused_tcp_port: int) -> None:
    before = threading.active_count()
    with pytest.raises(NetworkError, match="nothing listens"):
        connect(f"ws://127.0.0.1:{unused_tcp_port}/ws")
    assert threading.active_count() == before
    with Client(f"ws://127.0.0.1:{unused_tcp_port}/ws") as client:
        refused = threading.Event()
        client.on_error(lambda _error, _context: refused.set())
        client.connect(background=True)
        assert refused.wait(SOON_S)
        client.open_doc("plan").change(lambda draft: draft.update(n=1))
        with pytest.raises(TimeoutError):
            client.settled(0.05)
        with pytest.raises(NetworkError):
            client.settled(offline="raise")


def test_46_from_a_script_from_a_running_loop_and_from_eight_threads(url: str) -> None:
    with connect(url) as client:
        doc = client.open_doc("n")
        doc.set({"n": 0})

        async def cell() -> None:  # as a notebook runs it: under a loop
            for _ in range(50):
                doc.change(lambda draft: draft.increment("n"))

        asyncio.run(cell())

        def edit(_number: int) -> None:
            for _ in range(50):
                doc.change(lambda draft: draft.increment("n"))

        with ThreadPoolExecutor(8) as threads:
            list(threads.map(edit, range(8)))
        client.settled(SOON_S)
        with connect(url) as other:
            assert next(s for s in other.open_doc("n").states(SOON_S) if s == {"n": 450})


def test_what_an_edit_raises_is_raised_here(client: Client) -> None:
    doc = client.open_doc("plan")
    doc.set({"items": []})
    with pytest.raises(ZeroDivisionError):
        doc.change(lambda draft: 1 / 0)
    with pytest.raises(PatchError):
        doc.apply([{"op": "add", "path": "/a", "value": {1, 2}}])

    def edit_in_two_ways() -> None:
        with doc.edit() as draft:
            draft["items"].append(1)
            doc.change(lambda other: other["items"].append(2))

    with pytest.raises(PatchError, match="changed while it was being edited"):
        edit_in_two_ways()
    assert doc.state == {"items": [2]}


def test_subscribers_run_one_at_a_time_and_may_use_the_client(client: Client) -> None:
    doc = client.open_doc("plan")
    threads: set[str] = set()
    seen: list[Any] = []
    done = threading.Event()

    def echo(state: Any) -> None:
        threads.add(threading.current_thread().name)
        seen.append(state)
        if state == {"n": 1}:
            doc.change(lambda draft: draft.update(n=2))
        if state == {"n": 2}:
            raise RuntimeError("a subscriber's own failure")
        if state == {"n": 3}:
            done.set()

    unsubscribe = doc.subscribe(echo)
    doc.change(lambda draft: draft.update(n=1))
    assert next(state for state in doc.states(SOON_S) if state == {"n": 2})
    doc.change(lambda draft: draft.update(n=3))
    assert done.wait(SOON_S)
    assert threads == {"patches subscribers"}
    assert seen == [{}, {"n": 1}, {"n": 2}, {"n": 3}]
    unsubscribe()
    doc.change(lambda draft: draft.update(n=4))
    doc.flush()
    assert seen[-1] == {"n": 3}


def test_states_end_in_time_and_with_the_document(client: Client) -> None:
    doc = client.open_doc("plan")
    started = time.monotonic()
    assert list(doc.states(timeout=0.05)) == [{}]
    assert time.monotonic() - started >= 0.05
    threading.Timer(0.05, doc.close).start()
    assert list(doc.states(timeout=SOON_S)) == [{}]


def test_a_closed_client_says_so(tmp_path: Path) -> None:
    client = connect()
    doc = client.open_doc("plan")
    client.close()
    client.close()
    with pytest.raises(PatchesError, match="closed"):
        client.open_doc("other")
    with pytest.raises(WrongLoopError, match="ended"):
        doc.change(count)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_after_a_fork_a_child_has_to_connect_again(client: Client) -> None:
    doc = client.open_doc("plan")
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            doc.change(count)
        except WrongThreadError as exc:
            os.write(writer, str(exc).encode())
        finally:
            os._exit(0)
    os.close(writer)
    os.waitpid(child, 0)
    assert b"connect again in the child" in os.read(reader, 200)
    os.close(reader)
    doc.change(count)


def test_at_the_end_of_a_program_an_open_client_is_closed(tmp_path: Path) -> None:
    program = (
        "import sys\n"
        "from patches.blocking import connect\n"
        "client = connect(store=sys.argv[1])\n"
        "client.open_doc('plan').change(lambda draft: draft.update(n=1))\n"
    )
    path = tmp_path / "notes.db"
    ended = subprocess.run(
        [sys.executable, "-W", "always::ResourceWarning", "-c", program, str(path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert "was not closed; use 'with connect(...)', or close()" in ended.stderr
    assert "Traceback" not in ended.stderr
    with connect(store=path) as client:
        assert client.open_doc("plan").state == {"n": 1}
