"""A client's file that is set back to an older copy: what was sent already counts once."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from patches import Patches, PatchesSync
from patches.testing.local_server import LocalServer


@pytest.mark.parametrize("doc_id", ["plan", "lww/plan"])
async def test_an_increment_in_an_older_copy_of_the_file_counts_once(
    tmp_path: Path, doc_id: str
) -> None:
    algorithm = "lww" if doc_id.startswith("lww/") else "ot"
    path, copy = tmp_path / "client.db", tmp_path / "copy.db"
    async with LocalServer() as server:
        async with Patches(store=path) as patches:
            doc = await patches.open_doc(doc_id, algorithm=algorithm)
            async with PatchesSync(patches, server.connection()) as sync:
                doc.change(lambda draft: draft.update(n=10))
                await sync.settled(10)
            doc.change(lambda draft: draft.increment("n"))
            await doc.flush()
        shutil.copy(path, copy)
        async with Patches(store=path) as patches:
            doc = await patches.open_doc(doc_id)
            doc.change(lambda draft: draft.increment("n"))
            async with PatchesSync(patches, server.connection()) as sync:
                await sync.settled(10)
            assert doc.state == {"n": 12}
        shutil.copy(copy, path)
        async with Patches(store=path) as patches:
            doc = await patches.open_doc(doc_id)
            async with PatchesSync(patches, server.connection()) as sync:
                await sync.settled(10)
                assert doc.state == {"n": 12}
