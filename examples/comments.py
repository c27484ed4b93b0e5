"""Comments on a report by somebody who may read it, but not write it.

    python examples/comments.py

Threads are a document of their own, `report/comments`, with rights of its own. A comment stores
where it is as an anchor, and the words that it is about. A job of the server, which may write the
report, makes a mark of it: from then on the place is a part of the text.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from aiohttp import web

from patches import Document, Patches, PatchesSync
from patches_server import create_app


class Rights:
    """Who connects as `?who=reader` may write comments alone."""

    async def authenticate(self, request: web.Request) -> object:
        return request.query.get("who")

    async def can_access(
        self,
        principal: Any,
        doc_id: str,
        kind: str,
        method: str,
        params: Mapping[str, Any] | None,
    ) -> bool:
        return principal != "reader" or kind == "read" or doc_id.endswith("/comments")


@asynccontextmanager
async def server() -> AsyncIterator[str]:
    """A server that keeps everything in memory; its websocket address."""
    app = create_app(auth=Rights(), routes={"*/comments": "lww", "*": "ot"})
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"ws://127.0.0.1:{runner.addresses[0][1]}/ws"
    finally:
        await runner.cleanup()


def comment(report: Document, threads: Document, words: str, text: str) -> None:
    """Say something about words of the report."""
    body = "".join(op["insert"] for op in report.state["body"]["ops"])
    start = body.index(words)
    span = report.span("/body", start, start + len(words))
    thread = {"about": words, "place": span.to_json(), "says": [text], "marked": False}
    threads.change(lambda draft: draft.update({f"t{len(draft)}": thread}))


async def mark_comments(report: Document, threads: Document) -> None:
    """The job: make a mark of each new comment's place."""
    async for state in threads:
        for name, thread in state.items():
            if thread["marked"]:
                continue
            start, end = [await report.anchor_from(wire) for wire in thread["place"]]
            if start.index is not None and end.index is not None and start.index < end.index:
                with report.edit() as draft:
                    draft.text("body").mark(start.index, end.index - start.index, name)
            with threads.edit() as draft:
                draft[name]["marked"] = True


async def main() -> int:
    async with AsyncExitStack() as stack:
        url = await stack.enter_async_context(server())

        async def person(who: str) -> tuple[Document, Document, PatchesSync]:
            patches = await stack.enter_async_context(Patches(metadata={"author": who}))
            sync = await stack.enter_async_context(PatchesSync(patches, f"{url}?who={who}"))
            report = await patches.open_doc("report", algorithm="ot")
            return report, await patches.open_doc("report/comments", algorithm="lww"), sync

        report, _, author_sync = await person("author")
        report.change(lambda draft: draft.text("body").append("Sales went up by 300 %."))
        await author_sync.settled(30)
        job_report, job_threads, job_sync = await person("job")
        seen, threads, reader_sync = await person("reader")
        for sync in (job_sync, reader_sync):
            await sync.settled(30)
        job = asyncio.create_task(mark_comments(job_report, job_threads))

        comment(seen, threads, "300 %", "Really?")
        report.change(lambda draft: draft.text("body").insert(0, "Summary: "))
        async with asyncio.timeout(30):
            async for state in threads:
                if state and all(thread["marked"] for thread in state.values()):
                    break
            async for _ in report:
                if report.marks("/body"):
                    break
        job.cancel()
        await asyncio.wait([job])

        ((name, (span,)),) = report.marks("/body").items()
        print(f"{name} is about {span.text!r}: {threads.state[name]['says'][0]}")
        changes = await author_sync.connection.get_changes_since("report", 0)
        print("authors of the report:", sorted({str(each.metadata["author"]) for each in changes}))
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
