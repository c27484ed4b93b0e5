"""A service edits the documents that people edit: an agent that answers in the server's process.

    python examples/agent_edits_document.py

The agent listens to what is committed. Where somebody writes a question, it writes an answer, with
`change()` of the document server: no client, no socket, the same path and the same broadcast.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from aiohttp import web

from patches import Change, Patches, PatchesSync
from patches.json_patch import JSONPatch
from patches_server import SERVER, allow_all, create_app

ANSWERS = {"What is 6 times 7?": "42", "Who edits this?": "You and I."}


class Agent:
    """Answers questions in documents. Owned by the application, whose task it is."""

    def __init__(self, app: web.Application) -> None:
        self._documents = app[SERVER].router.services["ot"].documents
        self._asked: asyncio.Queue[tuple[str, str]] = asyncio.Queue()
        self._documents.on_changes_committed(self._committed)

    def _committed(self, doc_id: str, changes: Sequence[Change], *_: object) -> None:
        """Note the questions. This is called between a commit and its broadcast: no work here."""
        for change in changes:
            for op in change.ops:
                parts = op["path"].split("/")
                if len(parts) == 3 and parts[1] == "questions" and op.get("value") in ANSWERS:
                    self._asked.put_nowait((doc_id, op["value"]))

    async def run(self) -> None:
        """Answer, one question after the other."""
        while True:
            doc_id, question = await self._asked.get()
            answer = ANSWERS[question]

            def edit(patch: JSONPatch, question: str = question, answer: str = answer) -> None:
                patch.replace(f"/answers/{question}", answer)

            await self._documents.change(doc_id, edit, {"by": "agent"})


async def agent_lifetime(app: web.Application) -> AsyncIterator[None]:
    """Run the agent while the application runs."""
    task = asyncio.create_task(Agent(app).run(), name="agent")
    yield
    task.cancel()
    await asyncio.wait([task])


@asynccontextmanager
async def server() -> AsyncIterator[str]:
    """A server with the agent in it; its websocket address."""
    app = create_app(auth=allow_all)
    app.cleanup_ctx.append(agent_lifetime)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"ws://127.0.0.1:{runner.addresses[0][1]}/ws"
    finally:
        await runner.cleanup()


async def main() -> int:
    """Run the example; the exit status."""
    async with server() as url, Patches() as patches, PatchesSync(patches, url) as sync:
        doc = await patches.open_doc("faq")
        doc.set({"questions": {}, "answers": {}})
        await sync.settled(30)
        for number, question in enumerate(ANSWERS):
            doc.apply([{"op": "replace", "path": f"/questions/{number}", "value": question}])
        async with asyncio.timeout(30):
            async for state in doc:
                if len(state["answers"]) == len(ANSWERS):
                    break
        for question, answer in doc.state["answers"].items():
            print(f"{question} {answer}")
        return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
