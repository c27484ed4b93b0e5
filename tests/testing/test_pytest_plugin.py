"""The fixtures, used as a user's tests do, and in a pytest of its own."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from patches import Patches, PatchesSync
from patches.errors import ForbiddenError, NetworkError
from patches.testing.clock import NEW_YEAR, FakeClock
from patches.testing.fixtures import ClientFixture, PatchesClient, ServerFixture

Pair = tuple[ClientFixture, ClientFixture]


def put(**members: Any) -> Any:
    return lambda draft: draft.update(members)


async def test_a_pair_shares_documents(patches_server: ServerFixture, patches_pair: Pair) -> None:
    ann, bob = patches_pair
    for algorithm in ("ot", "lww"):
        doc_id = f"{algorithm}/a"
        anns = await ann.open_doc(doc_id, algorithm=algorithm)
        bobs = await bob.open_doc(doc_id, algorithm=algorithm)
        anns.change(put(a=1))
        bobs.change(put(b=2))
        await patches_server.settled()
        assert anns.state == bobs.state == await patches_server.state(doc_id) == {"a": 1, "b": 2}
        assert await patches_server.rev(doc_id) == 2


@pytest.mark.parametrize("algorithm", ["ot", "lww"])
async def test_an_answer_that_is_lost_applies_nothing_twice(
    patches_server: ServerFixture, patches_pair: Pair, patches_clock: FakeClock, algorithm: str
) -> None:
    ann, bob = patches_pair
    anns = await ann.open_doc(f"{algorithm}/a", algorithm=algorithm)
    bobs = await bob.open_doc(f"{algorithm}/a", algorithm=algorithm)
    await patches_server.settled()
    ann.link.lose_answer("commitChanges")
    anns.change(lambda draft: draft.increment("n"))
    await patches_server.settled()
    assert ann.link.attempts == 2
    assert anns.state == bobs.state == {"n": 1}


async def test_time_stands_still_until_it_is_moved(
    patches_clock: FakeClock, patches_client: PatchesClient
) -> None:
    ann = await patches_client()
    doc = await ann.open_doc("a")
    with ann.link.down():
        doc.change(put(a=1))
        await doc.flush()
        await patches_clock.advance(60)
        assert ann.link.attempts > 3
        assert await ann.patches.algorithm_of("a").has_pending("a")
    await patches_clock.advance(40)
    assert not await ann.patches.algorithm_of("a").has_pending("a")
    assert patches_clock.wall_ms == NEW_YEAR + 100_000


async def test_a_frame_that_is_held_arrives_later(
    patches_server: ServerFixture, patches_pair: Pair
) -> None:
    ann, bob = patches_pair
    anns = await ann.open_doc("a")
    bobs = await bob.open_doc("a")
    await patches_server.settled()
    with bob.link.held("to_client"):
        anns.change(put(a=1))
        await ann.sync.settled()
        assert bobs.state == {}
    await patches_server.settled()
    assert bobs.state == {"a": 1}


@pytest.mark.parametrize("lose", [False, True])
async def test_a_restart_keeps_what_was_committed(
    patches_server: ServerFixture, patches_pair: Pair, patches_clock: FakeClock, lose: bool
) -> None:
    ann, bob = patches_pair
    anns = await ann.open_doc("a")
    anns.change(put(a=1))
    await patches_server.settled()
    anns.change(put(b=2))
    await patches_server.restart(lose=lose)
    bobs = await bob.open_doc("a")
    await patches_server.settled()
    assert bobs.state == anns.state == {"a": 1, "b": 2}


async def test_a_server_that_is_stopped_is_unreachable(
    patches_server: ServerFixture, patches_client: PatchesClient
) -> None:
    await patches_server.stop()
    with pytest.raises(NetworkError):
        await patches_client()
    await patches_server.start()


async def test_a_client_with_a_file_comes_back_with_its_work(
    patches_server: ServerFixture, patches_client: PatchesClient, tmp_path: Path
) -> None:
    ann = await patches_client(store=tmp_path / "ann.db", connect=False)
    (await ann.open_doc("a")).change(put(a=1))
    await ann.restart()
    doc = await ann.open_doc("a")
    assert doc.state == {"a": 1}
    await patches_server.settled()
    assert await patches_server.state("a") == {"a": 1}


async def test_a_websocket_reaches_the_same_documents(
    patches_server: ServerFixture, patches_client: PatchesClient
) -> None:
    near = await patches_client("near")
    far = await patches_client("far", websocket=True)
    (await near.open_doc("a")).change(put(a=1))
    docs = [await client.open_doc("a") for client in (near, far)]
    await patches_server.settled()
    async with Patches() as patches, PatchesSync(patches, await patches_server.url()) as sync:
        docs.append(await patches.open_doc("a"))
        await sync.settled(10)
        assert [doc.state for doc in docs] == [{"a": 1}] * 3
    await patches_server.restart()
    async with Patches() as patches, PatchesSync(patches, await patches_server.url()):
        pass  # the address has stayed


async def test_an_edit_of_the_server_reaches_the_clients(
    patches_server: ServerFixture, patches_pair: Pair
) -> None:
    docs = [await client.open_doc("a") for client in patches_pair]
    await patches_server.settled()
    await patches_server.change("a", lambda patch: patch.replace("/a", 1))
    await patches_server.settled()
    assert [doc.state for doc in docs] == [{"a": 1}] * 2


class TestRights:
    """A server of one's own: `patches_server_options`, overridden."""

    @pytest.fixture
    def patches_server_options(self) -> dict[str, object]:
        async def can_access(
            principal: object, doc_id: str, kind: str, method: str, params: object
        ) -> bool:
            return kind == "read" or principal == "ann"

        return {"auth": can_access}

    async def test_a_client_is_who_the_test_says(
        self, patches_server: ServerFixture, patches_client: PatchesClient
    ) -> None:
        ann = await patches_client("ann", principal="ann")
        bob = await patches_client("bob", principal="bob")
        (await ann.open_doc("a")).change(put(a=1))
        await patches_server.settled()
        (await bob.open_doc("a")).change(put(b=2))
        with pytest.raises(ForbiddenError):
            await asyncio.wait_for(bob.sync.settled(), 10)
        assert isinstance(bob.errors[0], ForbiddenError)
        assert await patches_server.state("a") == {"a": 1}


A_USERS_TEST = """
import pytest
{mark}
async def test_a_pair(patches_server, patches_pair, patches_clock):
    first, second = patches_pair
    doc = await first.open_doc("a")
    first.link.cut()
    doc.change(lambda draft: draft.update(title="A"))
    other = await second.open_doc("a")
    await patches_server.settled()
    assert other.state == {{"title": "A"}}

def test_without_the_fixtures():
    pass
"""


@pytest.mark.parametrize(
    ("mark", "options"),
    [
        ("@pytest.mark.asyncio", ["-o", "asyncio_mode=strict"]),
        ("", ["-o", "asyncio_mode=auto"]),
        ("", ["-o", "asyncio_mode=auto", "-p", "no:aiohttp"]),
    ],
    ids=["strict", "auto", "without-pytest-aiohttp"],
)
def test_the_fixtures_work_in_a_suite_of_a_user(
    tmp_path: Path, mark: str, options: list[str]
) -> None:
    (tmp_path / "test_user.py").write_text(A_USERS_TEST.format(mark=mark))
    (tmp_path / "pytest.ini").write_text(
        "[pytest]\nfilterwarnings = error\nasyncio_default_fixture_loop_scope = function\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=tmp_path,
    )
    assert "2 passed" in done.stdout, done.stdout + done.stderr


def test_loading_the_plugin_does_not_load_the_server() -> None:
    program = (
        "import sys, patches.testing.pytest_plugin\n"
        "heavy = ('patches_server', 'aiohttp.web_', 'sqlite3')\n"
        "print([name for name in sys.modules if name.startswith(heavy)])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "[]"
