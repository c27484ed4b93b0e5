"""Ours: `create_app` on the server, `Patches` and `PatchesSync` in the client."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

from benchmarks.peers.common import (
    DocView,
    Edit,
    Wire,
    history,
    initial_state,
    until,
    wire_counters,
)
from patches import Document, Patches, PatchesSync
from patches.change import ChangeInput
from patches.model.json_values import Op
from patches_server import SERVER, CallContext, allow_all, call_context, create_app
from patches_server.cli.main import SWITCH_INTERVAL_S

BATCH = 200


def first_state() -> dict[str, Any]:
    """The document before the first edit."""
    return {**initial_state(), "text": {"ops": [{"insert": "\n"}]}}


def operations(edit: Edit) -> list[Op]:
    """An edit as JSON Patch, for seeding a server."""
    key, value = edit.counter
    ops: list[Op] = [{"op": "replace", "path": f"/{key}", "value": value}]
    if edit.field:
        ops.append({"op": "replace", "path": f"/{edit.field[0]}", "value": edit.field[1]})
    for place, part in (
        (edit.insert_text, edit.insert_text and {"insert": edit.insert_text[1]}),
        (edit.remove_text, edit.remove_text and {"delete": edit.remove_text[1]}),
    ):
        if place and part:
            parts = [{"retain": place[0]}, part] if place[0] else [part]
            ops.append({"op": "@txt", "path": "/text", "value": parts})
    return ops


async def start_server(params: dict[str, Any]) -> tuple[int, object]:
    """Serve; `params`: `dir`, `durability` (none: memory), `seed` (`{"doc", "count"}`)."""
    sys.setswitchinterval(SWITCH_INTERVAL_S)  # as the command does
    durability = params.get("durability")
    store = Path(params["dir"], "patches.db") if durability else "memory:"
    app = create_app(store, auth=allow_all, durability=durability or "full")
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    if seed := params.get("seed"):
        await _seed(app, seed["doc"], seed["count"])
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    return runner.addresses[0][1], runner


async def _seed(app: web.Application, doc_id: str, count: int) -> None:
    server = app[SERVER].router.services["ot"].documents
    edits: list[list[Op]] = [[{"op": "replace", "path": "", "value": first_state()}]]
    edits.extend(operations(edit) for edit in history(count))
    with call_context(CallContext(client_id="seed", connection_id="seed")):
        for start in [0, *range(1, len(edits), BATCH)]:
            part = edits[start : start + (BATCH if start else 1)]
            changes = [
                ChangeInput(id=f"seed-{start}-{number}", ops=ops, base_rev=start)
                for number, ops in enumerate(part)
            ]
            await server.commit_changes(doc_id, changes)


def counting_socket(wire: Wire) -> type[aiohttp.ClientWebSocketResponse]:
    """A websocket class that counts what passes."""

    class Counted(aiohttp.ClientWebSocketResponse):
        async def send_frame(self, message: bytes, *args: Any, **kwargs: Any) -> None:
            wire["out"] += len(message)
            wire["frames_out"] += 1
            await super().send_frame(message, *args, **kwargs)

        async def receive(  # as aiohttp has it
            self,
            timeout: float | None = None,  # noqa: ASYNC109 - the overridden signature
        ) -> aiohttp.WSMessage:
            message = await super().receive(timeout)
            if message.type is aiohttp.WSMsgType.TEXT:
                wire["in"] += len(message.data)
                wire["frames_in"] += 1
            return message

    return Counted


class Client:
    """One client; all its documents go over one socket."""

    def __init__(self, url: str) -> None:
        self.url = f"{url}/ws"
        self.wire = wire_counters()

    async def start(self) -> None:
        self.session = aiohttp.ClientSession(ws_response_class=counting_socket(self.wire))
        self.patches = Patches()
        self.sync = PatchesSync(self.patches, self.url, websocket={"session": self.session})
        await self.sync.connect()

    async def open(self, doc_id: str) -> DocView:
        doc = await self.patches.open_doc(doc_id)
        await until(lambda: doc.sync_status == "synced", 20_000, "open")
        return Doc(doc)

    async def offline(self) -> None:
        await self.sync.disconnect()

    async def online(self) -> None:
        await self.sync.connect()


class Doc:
    """One open document."""

    def __init__(self, doc: Document) -> None:
        self.doc = doc

    async def init(self) -> None:
        self.doc.apply([{"op": "replace", "path": "", "value": first_state()}])

    def ready(self) -> bool:
        return "c0" in self.doc.state and not self.pending()

    def edit(self, edit: Edit) -> None:
        def change(draft: Any) -> None:
            draft[edit.counter[0]] = edit.counter[1]
            if edit.field:
                draft[edit.field[0]] = edit.field[1]
            if edit.insert_item:
                draft["items"].insert(*edit.insert_item)
            if edit.remove_item is not None:
                del draft["items"][edit.remove_item]
            if edit.insert_text:
                draft.text("text").insert(*edit.insert_text)
            if edit.remove_text:
                draft.text("text").delete(*edit.remove_text)

        self.doc.change(change)

    def get(self, key: str) -> Any:
        return self.doc.state.get(key)

    def list_length(self) -> int:
        return len(self.doc.state["items"])

    def text_length(self) -> int:
        return sum(len(part["insert"]) for part in self.doc.state["text"]["ops"]) - 1

    def on_update(self, callback: Callable[[], None]) -> None:
        self.doc.on_update(lambda *_args: callback())

    def pending(self) -> bool:
        return self.doc.has_pending or bool(self.doc.unsaved)

    def state(self) -> Any:
        return self.doc.state
