"""How cost grows with keys, history, length of a text and number of clients. CPU time.

`python -m benchmarks.growth` prints a table per question; `QUICK=1` takes fewer rounds. A figure is
the smallest of a few rounds, and each row has the ratio to the first: flat is 1.0, linear is the
ratio of the sizes.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from functools import partial
from typing import Any

from patches import Document, Limits, Patches, PatchesSync
from patches.change import ChangeInput
from patches.testing.local_server import LocalServer
from patches_server import CallContext, LWWServer, MemoryBackend, OTServer, call_context

QUICK = bool(os.environ.get("QUICK"))
ROUNDS = 2 if QUICK else 5
EDITS = 200 if QUICK else 1_000
#: Nothing here may be refused for being too much.
LIMITS = Limits(max_pending_per_doc=None, max_pending_bytes_per_doc=None, max_doc_bytes=None)
Kind = type[OTServer] | type[LWWServer]
Measure = Callable[[int], Awaitable[float]]


async def main() -> None:
    """Print every table."""
    lengths = (10_000, 100_000, 500_000)
    await table("local edit (us), by keys, OT", (10, 1_000, 10_000), keys_on_client("ot"))
    await table("local edit (us), by keys, LWW", (10, 1_000, 10_000), keys_on_client("lww"))
    await table("local edit (us), by characters of a text", lengths, text_on_client("x"))
    await table("the same, with one emoji in it", lengths, text_on_client("x", "\U0001f600"))
    for name, server in (("OT", OTServer), ("LWW", LWWServer)):
        by_keys, by_history = partial(keys_on_server, server), partial(history_on_server, server)
        await table(f"commit on the server (us), by keys, {name}", (10, 1_000, 10_000), by_keys)
        await table(
            f"commit on the server (us), by history, {name}", (100, 1_000, 10_000), by_history
        )
    await table("commit on the server (us), by characters of a text", lengths, text_on_server)
    await table("commit to all (us), by clients on one document", (2, 4, 8, 16), clients)


async def table(title: str, sizes: Sequence[int], measure: Measure) -> None:
    """One question, its sizes, and what each costs."""
    print(f"\n{title}\n| size | cost | to the first |\n| --- | --- | --- |", flush=True)
    first = 0.0
    for size in sizes:
        cost = min([await measure(size) for _ in range(ROUNDS)])
        first = first or cost
        print(f"| {size:,} | {cost:.1f} | {cost / first:.2f} |", flush=True)


def keys_on_client(algorithm: str) -> Measure:
    """Edits of one field each, of an open document with `size` keys."""

    async def measure(size: int) -> float:
        async with Patches(limits=LIMITS) as patches:
            doc = await patches.open_doc("doc", algorithm=algorithm)
            doc.change(lambda draft: draft.update({f"key{n}": n for n in range(size)}))
            await doc.flush()
            return await edited(
                doc, lambda draft, number: draft.__setitem__(f"key{number % size}", -number)
            )

    return measure


def text_on_client(character: str, mark: str = "") -> Measure:
    """Edits of one character each, scattered over a text of `size` characters."""

    async def measure(size: int) -> float:
        async with Patches(limits=LIMITS) as patches:
            doc = await patches.open_doc("doc")
            whole = character * (size // 2) + mark + character * (size // 2)
            doc.change(lambda draft: draft.text("body").insert(0, whole))
            await doc.flush()
            return await edited(
                doc, lambda draft, number: draft.text("body").insert(number * 7919 % size, "a")
            )

    return measure


async def edited(doc: Document, edit: Callable[[Any, int], object]) -> float:
    """Microseconds of an edit, until it is stored."""
    start = time.process_time()
    for number in range(EDITS):
        doc.change(partial(flipped, edit, number))
    await doc.flush()
    return (time.process_time() - start) / EDITS * 1e6


def flipped(edit: Callable[[Any, int], object], number: int, draft: Any) -> None:
    """`edit(draft, number)`, for `partial`."""
    edit(draft, number)


def set_number(draft: Any, number: int) -> None:
    """Write one field."""
    draft["n"] = number


async def keys_on_server(kind: Kind, size: int) -> float:
    """Commits to a document with `size` keys."""
    state = {f"key{number}": number for number in range(size)}
    return await committed(
        kind,
        state,
        0,
        lambda number: {"op": "replace", "path": f"/key{number % size}", "value": number},
    )


async def history_on_server(kind: Kind, size: int) -> float:
    """Commits to a document with `size` changes before them."""
    return await committed(
        kind, {"n": 0}, size, lambda number: {"op": "replace", "path": "/n", "value": number}
    )


async def text_on_server(size: int) -> float:
    """Commits of one character each to a text of `size` characters."""
    return await committed(
        OTServer,
        {"text": {"ops": [{"insert": "x" * size + "\n"}]}},
        0,
        lambda number: {
            "op": "@txt",
            "path": "/text",
            "value": [{"retain": number * 7919 % size}, {"insert": "a"}],
        },
    )


async def committed(
    kind: Kind, state: Any, history: int, op: Callable[[int], dict[str, Any]]
) -> float:
    """Microseconds of a commit of one operation."""
    server = kind(MemoryBackend(), limits=LIMITS)
    with call_context(CallContext(client_id="a", connection_id="a")):
        first = [{"op": "replace", "path": "", "value": state}]
        if kind is LWWServer:  # where each key is a field
            first = [
                {"op": "replace", "path": f"/{key}", "value": value, "ts": 1}
                for key, value in state.items()
            ]
        await server.commit_changes("doc", [ChangeInput(id="first", ops=first, base_rev=0)])
        rev = 1
        for start in range(0, history, 100):
            changes = [
                ChangeInput(id=f"old{start + n}", ops=[op(n)], base_rev=rev) for n in range(100)
            ]
            await server.commit_changes("doc", changes)
            rev += 100
        changes = [
            ChangeInput(id=f"new{number}", ops=[op(number)], base_rev=rev + number)
            for number in range(EDITS)
        ]
        started = time.process_time()
        for change in changes:
            await server.commit_changes("doc", [change])
        return (time.process_time() - started) / EDITS * 1e6


async def clients(size: int) -> float:
    """Edits by one of `size` clients until all have them, in one process with the server."""
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(LocalServer())
        docs: list[Document] = []
        syncs: list[PatchesSync] = []
        for _ in range(size):
            patches = await stack.enter_async_context(Patches())
            sync = PatchesSync(patches, server.connection())
            syncs.append(await stack.enter_async_context(sync))
            docs.append(await patches.open_doc("doc"))
            await sync.settled()
        start = time.process_time()
        for number in range(EDITS // 4):
            docs[0].change(partial(flipped, set_number, number))
            await syncs[0].settled()
            for doc in docs:
                async for state in doc:
                    if state.get("n") == number:
                        break
        return (time.process_time() - start) / (EDITS // 4) * 1e6


if __name__ == "__main__":
    asyncio.run(main())
