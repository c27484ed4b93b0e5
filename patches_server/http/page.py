"""Pages: the demonstration page, or a page of an application's own beside its modules."""

from __future__ import annotations

from functools import partial
from importlib import resources
from pathlib import Path
from typing import Final

from aiohttp import web

_POLICY: Final = "default-src 'self'; connect-src 'self' ws: wss:; frame-ancestors 'none'"
_TYPES: Final = {
    "html": "text/html",
    "css": "text/css",
    "js": "text/javascript",
    "svg": "image/svg+xml",
}


def add_page(app: web.Application, folder: Path | None = None) -> None:
    """Serve the demonstration page at `/`, or the page of `folder`.

    Its `index.html` may use the files beside it, and the modules and styles of the demonstration
    page: a file of the folder comes before one of the same name there.
    """
    app.router.add_get("/", partial(_file, folder))
    app.router.add_get("/{file:[a-z0-9-]+[.](?:css|js|svg)}", partial(_file, folder))


async def _file(folder: Path | None, request: web.Request) -> web.Response:
    name = request.match_info.get("file", "index.html")
    modules = resources.files("patches_server").joinpath("demo", "web")
    for source in (modules.joinpath(name),) if folder is None else (folder / name, modules / name):
        if source.is_file():
            break
    else:
        raise web.HTTPNotFound
    headers = {
        "Cache-Control": "no-cache",
        "X-Content-Type-Options": "nosniff",
        "Content-Security-Policy": _POLICY,
    }
    return web.Response(
        body=source.read_bytes(),
        content_type=_TYPES[name.rpartition(".")[2]],
        charset="utf-8",
        headers=headers,
    )
