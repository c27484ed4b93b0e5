"""Compressed changes: what the contract does not say."""

from __future__ import annotations

import pytest

from patches.errors import CorruptDataError
from patches.model import codec
from patches.model.change import Change
from patches.runtime import Runtime
from patches.testing.contracts.ot_server import NOW, a_change, append
from patches_server.ot import CompressedStore
from patches_server.stores.memory.backend import MemoryBackend

RUNTIME = Runtime(wall_ms=lambda: NOW)


async def test_a_log_may_be_partly_compressed() -> None:
    plain = MemoryBackend(runtime=RUNTIME).ot
    store = CompressedStore(plain)
    long_text = a_change(2, ops=[{"op": "add", "path": "/t", "value": "again " * 100}])
    await append(plain, "d", a_change(1))
    await append(store, "d", long_text, a_change(3))
    assert [c.ops for c in await store.list_changes("d")] == [
        a_change(1).ops,
        long_text.ops,
        a_change(3).ops,
    ]
    inner = await plain.list_changes("d")
    assert b"again" not in inner[1].encoded
    assert len(inner[1].encoded) < 300
    assert inner[2].encoded == a_change(3).encoded, "not worth compressing"
    assert (await store.load_snapshot("d")).changes[1].encoded == long_text.encoded


async def test_compressed_operations_that_are_damaged_are_told() -> None:
    plain = MemoryBackend(runtime=RUNTIME).ot
    wrong = a_change(1).to_wire() | {"ops": "compressed:AAAA"}
    await append(plain, "d", Change.from_encoded(codec.encode(wrong)))
    with pytest.raises(CorruptDataError, match="revision 1"):
        await CompressedStore(plain).list_changes("d")


async def test_a_wrapper_keeps_compare_and_set_of_branch_records() -> None:
    plain = MemoryBackend(runtime=RUNTIME).ot
    assert CompressedStore(plain).branches is plain.branches
