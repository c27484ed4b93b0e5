"""The server without a transport: sessions, calls, routes, rights and subscriptions."""

from patches_server.service.server import PatchesServer

__all__ = ["PatchesServer"]
