"""The server on aiohttp: the application, its websocket, admission, health and metrics.

Everything that knows aiohttp is here. What a call does is `patches_server.service`'s.
"""

from patches_server.http.app import SERVER, create_app

__all__ = ["SERVER", "create_app"]
