"""The server without a transport: sessions, calls, routes, rules and subscriptions.

Knows JSON-RPC by `patches_server.wire` alone, and no aiohttp.
"""

from patches_server.service.server import PatchesServer

__all__ = ["PatchesServer"]
