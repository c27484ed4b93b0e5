"""Connections to a server: JSON-RPC over a transport, websockets, and what a custom one offers.

Moves frames and calls. Knows no document: what is in a call is the coordinator's.
"""

from patches.net.connection import (
    CommitAnswer,
    PatchesConnection,
    RpcConnection,
    WebSocketConnection,
)
from patches.net.streams import Stream, StreamTransport
from patches.net.transport import Transport, TransportState
from patches.net.websocket import WebSocketOptions, WebSocketTransport

__all__ = [
    "CommitAnswer",
    "PatchesConnection",
    "RpcConnection",
    "Stream",
    "StreamTransport",
    "Transport",
    "TransportState",
    "WebSocketConnection",
    "WebSocketOptions",
    "WebSocketTransport",
]
