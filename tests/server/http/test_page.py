"""Pages that a server has beside its documents."""

from __future__ import annotations

from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from patches_server.http.page import add_page


@pytest.mark.parametrize(
    ("path", "status", "text"),
    [
        ("/", 200, "<title>Mine</title>"),
        ("/own.js", 200, "export {}"),
        ("/style.css", 200, "/* mine */"),
        ("/connection.js", 200, "class Connection"),
        ("/missing.js", 404, ""),
        ("/secret.txt", 404, ""),
        ("/..%2fsecret.js", 404, ""),
    ],
)
async def test_a_page_of_an_application_uses_the_modules_of_the_demonstration(
    tmp_path: Path, path: str, status: int, text: str
) -> None:
    folder = tmp_path / "page"
    folder.mkdir()
    (tmp_path / "secret.js").write_text("no")
    for name, content in (
        ("index.html", "<title>Mine</title>"),
        ("own.js", "export {}"),
        ("style.css", "/* mine */"),
        ("secret.txt", "no"),
    ):
        (folder / name).write_text(content)
    app = web.Application()
    add_page(app, folder)
    async with TestClient(TestServer(app)) as client:
        answer = await client.get(path)
        assert answer.status == status
        if status == 200:
            assert text in await answer.text()
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
            assert "default-src 'self'" in answer.headers["Content-Security-Policy"]
