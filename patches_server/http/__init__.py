"""The server on aiohttp: the application, its websocket, health and metrics."""

from patches_server.http.app import SERVER, create_app

__all__ = ["SERVER", "create_app"]
