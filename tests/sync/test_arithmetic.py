"""Increments end in a value, whatever others wrote, on OT and LWW documents alike."""

from __future__ import annotations

import pytest

from patches.model.json_values import MAX_DOUBLE, MAX_SAFE_INTEGER
from patches.testing.fixtures import ServerFixture

ALGORITHMS = pytest.mark.parametrize("doc_id", ["plan", "lww/plan"], ids=["ot", "lww"])


def algorithm_of(doc_id: str) -> str:
    return "lww" if doc_id.startswith("lww/") else "ot"


@ALGORITHMS
@pytest.mark.parametrize(
    ("start", "step", "total"),
    [
        (MAX_SAFE_INTEGER, 5, 9007199254740996),
        (-MAX_SAFE_INTEGER, -5, -9007199254740996),
        (1e308, 1e308, MAX_DOUBLE),
        (-1e308, -1e308, -MAX_DOUBLE),
    ],
)
async def test_a_sum_beyond_the_exact_integers_is_committed(
    doc_id: str, start: float, step: float, total: float
) -> None:
    async with ServerFixture() as server:
        ann = await server.client("ann")
        doc = await ann.open_doc(doc_id, algorithm=algorithm_of(doc_id))
        doc.change(lambda draft: draft.update(n=start))
        await server.settled(60)
        doc.change(lambda draft: draft.increment("n", step))
        assert doc.state == {"n": total}
        doc.change(lambda draft: draft.update(after=1))
        await server.settled(60)
        assert doc.state == await server.state(doc_id) == {"n": total, "after": 1}
        assert ann.errors == []


@ALGORITHMS
@pytest.mark.parametrize("step", [MAX_SAFE_INTEGER, 1e308])
async def test_two_clients_whose_sum_is_beyond_it_agree(doc_id: str, step: float) -> None:
    async with ServerFixture() as server:
        clients = [await server.client(name) for name in ("ann", "bob")]
        docs = [await c.open_doc(doc_id, algorithm=algorithm_of(doc_id)) for c in clients]
        docs[0].change(lambda draft: draft.update(n=0))
        await server.settled(60)
        for client in clients:
            await client.sync.disconnect()
        for doc in docs:
            doc.change(lambda draft: draft.increment("n", step))
            doc.change(lambda draft: draft.increment("n", step))
        for client in clients:
            await client.sync.connect()
        await server.settled(60)
        states = [doc.state for doc in docs]
        assert states == [await server.state(doc_id)] * 2
        assert states[0]["n"] == min(4.0 * step, MAX_DOUBLE)
        assert [client.errors for client in clients] == [[], []]
