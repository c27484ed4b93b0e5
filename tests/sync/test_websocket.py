"""Two clients and the real server, over real sockets and files."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from aiohttp.test_utils import TestServer

from patches import Patches, PatchesSync
from patches.errors import InvalidRequestError, NetworkError
from patches_server.auth.access import allow_all
from patches_server.http.app import create_app


@pytest.mark.parametrize("doc_id", ["notes/a", "lww/a"])
async def test_two_clients_converge_over_sockets_and_files(tmp_path: Path, doc_id: str) -> None:
    algorithm = "lww" if doc_id.startswith("lww/") else "ot"
    app = create_app(f"sqlite:///{tmp_path / 'server.db'}", auth=allow_all)
    async with TestServer(app) as server:
        url = str(server.make_url("/ws")).replace("http", "ws", 1)
        async with (
            Patches(store=tmp_path / "ann.db") as anns,
            Patches(store=tmp_path / "bob.db") as bobs,
            PatchesSync(anns, url) as anns_sync,
            PatchesSync(bobs, url) as bobs_sync,
        ):
            ann = await anns.open_doc(doc_id, algorithm=algorithm)
            bob = await bobs.open_doc(doc_id, algorithm=algorithm)
            for number in range(10):
                ann.apply([{"op": "replace", "path": f"/ann{number}", "value": number}])
                bob.apply([{"op": "replace", "path": f"/bob{number}", "value": number}])
            await anns_sync.settled(10)
            await bobs_sync.settled(10)
            for doc in (ann, bob):
                async with asyncio.timeout(10):
                    async for state in doc:
                        if len(state) == 20:
                            break
            assert ann.state == bob.state
        async with Patches(store=tmp_path / "ann.db") as again:
            reopened = await again.open_doc(doc_id)
            assert reopened.state == bob.state


async def test_entering_without_a_server_raises_and_leaves_nothing_running(
    unused_tcp_port: int,
) -> None:
    async with Patches() as patches:
        sync = PatchesSync(patches, f"ws://127.0.0.1:{unused_tcp_port}/ws")
        with pytest.raises(NetworkError):
            await sync.__aenter__()
        assert not sync.state.connected


def test_what_is_neither_a_url_nor_a_connection_is_refused_at_once() -> None:
    with pytest.raises(InvalidRequestError, match="a url or a PatchesConnection"):
        PatchesSync(Patches(), 5)  # type: ignore[arg-type]  # that is the point
