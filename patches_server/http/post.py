"""`POST /rpc`: one call of JSON-RPC, for programs that have no socket and follow nothing.

The peer is admitted, signed in, and held to rights, limits and rates as one with a socket is. It is
not present to others, and cannot subscribe.
"""

from __future__ import annotations

from typing import Final

from patches.errors import UnavailableError
from patches_server.service.fanout.outbox import Outbox
from patches_server.service.json_rpc import JsonRpcPeer, render
from patches_server.service.methods import SIGNAL
from patches_server.service.server import PatchesServer

#: Methods that mean something only where notifications can be sent.
_NEED_A_STREAM: Final = frozenset({"subscribe", "unsubscribe", SIGNAL})


async def answer_call(server: PatchesServer, principal: object, frame: bytes) -> bytes | None:
    """Carry out the call of a frame. Returns the frame that answers it, with its result or its
    error; `None` for a notification.

    Raises `UnavailableError` while the server closes, or if the peer is signed out meanwhile.
    """
    outbox = Outbox(server.limits, render)
    session = server.open_session(principal, outbox, is_present=False)
    peer = JsonRpcPeer(session, refused=_NEED_A_STREAM)
    try:
        if not await peer.receive(frame) and outbox.closing is None:
            return None
        answer = await outbox.get()
        if answer is None:
            closing = outbox.closing
            raise UnavailableError("the call was cut off" if closing is None else closing.reason)
        return answer
    finally:
        peer.end()
