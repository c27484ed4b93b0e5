"""A chat with an assistant that runs on the server: its answer is shown word by word, then kept.

python examples/chat_assistant.py           a client, in this terminal
python examples/chat_assistant.py --page    the chat as a page
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Literal

from aiohttp import web

from patches import Patches, PatchesSync
from patches.algorithms.collections import (
    Collections,
    CollectionsAlgorithm,
    CollectionsDoc,
    EventStore,
)
from patches.errors import InvalidError
from patches_server import Principal, create_app
from patches_server.collections import CollectionsServer, Event, SQLiteEngine, collections
from patches_server.http.page import add_page

DOC = "user/ann"
PAGE = Path(__file__).with_name("web") / "chat"
ANSWER = "Milk, bread and a good book."
OTHERS = (
    "Good question. I would start with the smallest part that shows whether it works.",
    "Yes. And write it down where the others find it.",
    "I am only an example, and know four answers. This is one of them.",
)

home = Collections("home", version=1)


@home.store("chat_message", kind="event")
class ChatMessage:
    """One message. Users write their own; the assistant's come from the server."""

    role: Literal["user", "assistant"]
    content: str

    @staticmethod
    def validate_update(action: str, row: Mapping[str, Any]) -> None:
        """What a client may do, checked on both sides."""
        if action == "create" and row["role"] != "user":
            raise InvalidError("only user messages can be created")
        if action == "update":
            raise InvalidError("messages are created and deleted, not changed")


async def model(question: str) -> AsyncIterator[str]:
    """Stands for a language model."""
    answer = ANSWER if "buy" in question else OTHERS[len(question) % len(OTHERS)]
    for word in answer.split():
        await asyncio.sleep(0.06)
        yield word


def new_server(folder: str) -> CollectionsServer:
    """A server that answers each message of a user, also one that came while it was down."""
    server = CollectionsServer(home, engine=SQLiteEngine(folder))

    @server.on("chat_message", "create", durable="assistant")
    async def answer(event: Event) -> None:
        if event.row is None or event.row["role"] != "user":
            return
        stream = server.stream(event.doc_id, ChatMessage, role="assistant", content="")
        async with stream as message:
            async for word in model(str(event.row["content"])):
                await message.update(content=f"{message.content} {word}".strip())

    return server


class SignIn:
    """Whoever comes is taken for who they say they are. Do not copy this part."""

    async def authenticate(self, request: web.Request) -> Principal:
        return Principal(id=request.query["user"])

    async def can_access(self, principal: Principal, doc_id: str, *_: object) -> bool:
        return doc_id == f"user/{principal.id}"


@asynccontextmanager
async def serving(server: CollectionsServer, *, page: Path | None = None) -> AsyncIterator[str]:
    """Run the server, with a page if one is given; gives its websocket address."""
    app = create_app(
        auth=SignIn(), algorithms=[collections(server)], routes={"user/*": "collections"}
    )
    if page is not None:
        add_page(app, page)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"ws://127.0.0.1:{runner.addresses[0][1]}/ws"
    finally:
        await runner.cleanup()


async def show_page() -> int:
    """Serve the page until the program is stopped."""
    with tempfile.TemporaryDirectory() as folder:
        async with serving(new_server(folder), page=PAGE) as url:
            address = url.replace("ws:", "http:").partition("/ws")[0]
            print(f"{address}/ (Ctrl-C ends it)", flush=True)
            await asyncio.Event().wait()
    return 0


async def main() -> int:
    """Run the example; the exit status."""
    with tempfile.TemporaryDirectory() as folder:
        async with serving(new_server(folder)) as url, AsyncExitStack() as stack:
            patches = await stack.enter_async_context(
                Patches(algorithms=[CollectionsAlgorithm(home)])
            )
            await stack.enter_async_context(PatchesSync(patches, f"{url}?user=ann"))
            doc = await patches.open_doc(DOC, algorithm="collections")
            assert isinstance(doc, CollectionsDoc)
            messages = doc.store(ChatMessage)
            assert isinstance(messages, EventStore)
            newest = await messages.newest(50).load()
            try:
                messages.add(role="assistant", content="I am the assistant")
            except InvalidError as error:
                print(f"a forged answer: {error}")
            await messages.add(role="user", content="What shall I buy?")

            shown: list[str] = []
            async with asyncio.timeout(30):
                while True:
                    answers = [row for row in newest.rows if row["role"] == "assistant"]
                    if answers and str(answers[0]["content"]) not in shown[-1:]:
                        shown.append(str(answers[0]["content"]))
                    if shown[-1:] == [ANSWER] and not doc.is_partial(
                        ChatMessage, str(answers[0]["id"])
                    ):
                        break
                    await asyncio.sleep(0.01)
            print(f"the answer was shown {'in parts' if len(shown) > 2 else 'AT ONCE'}")
            for row in reversed(newest.rows):
                print(f"{row['role']}: {row['content']}")
            return 0 if len(shown) > 2 else 1


if __name__ == "__main__":
    try:
        sys.exit(asyncio.run(show_page() if "--page" in sys.argv[1:] else main()))
    except KeyboardInterrupt:
        pass
