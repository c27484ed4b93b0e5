"""`InsideCalls`: a whole client inside of the server's process, without a socket.

What it opens is a document as in any client, with undo, streams and presence; its frames go through
memory. Nothing of it is kept on disk: leaving it waits until everything is committed.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Protocol

from patches.client.patches import Patches
from patches.documents.document import Document
from patches.errors import NetworkError
from patches.net.connection import RpcConnection
from patches.net.streams import StreamTransport
from patches.runtime import Runtime
from patches.sync.patches_sync import PatchesSync
from patches_server.auth.access import SERVER_ITSELF
from patches_server.service.json_rpc import JsonRpcPeer


class _ConnectsPeers(Protocol):
    runtime: Runtime

    def connect(self, principal: object = None) -> JsonRpcPeer: ...


class InsideStream:
    """A connection to a peer in this process."""

    def __init__(self, peer: JsonRpcPeer) -> None:
        self._peer = peer

    async def send(self, frame: bytes) -> None:
        await self._peer.receive(frame)

    async def receive(self) -> bytes:
        frame = await self._peer.outbox.get()
        if frame is None:
            raise NetworkError("the server has closed the connection")
        return frame

    async def close(self) -> None:
        self._peer.end()


class InsideCalls:
    """`server.open`."""

    @asynccontextmanager
    async def open(
        self: _ConnectsPeers,
        doc_id: str,
        *,
        author: str | None = None,
        principal: object = SERVER_ITSELF,
        algorithm: str | None = None,
        type: Any = None,
    ) -> AsyncIterator[Document[Any]]:
        """A document, open in this process. Leaving it waits until its edits are committed.

        It has the rights of `principal`, without one all of them. `author` goes onto its changes.
        With `type` its state is of that type. Raises what the document's sync raises.
        """

        async def dial() -> InsideStream:
            return InsideStream(self.connect(principal))

        transport = StreamTransport(dial, name="in process", runtime=self.runtime)
        metadata = None if author is None else {"author": author}
        async with (
            Patches(metadata=metadata, runtime=self.runtime) as patches,
            PatchesSync(patches, RpcConnection(transport, url="in process:")) as sync,
        ):
            options: dict[str, Any] = {} if type is None else {"type": type}
            doc = await patches.open_doc(doc_id, algorithm=algorithm, **options)
            await sync.settled()
            yield doc
            await sync.settled()
