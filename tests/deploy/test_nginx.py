"""s70: the nginx configuration of the deployment guide serves page and websocket over TLS."""

from __future__ import annotations

import asyncio
import re
import shutil
import ssl
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import ClientSession
from aiohttp.test_utils import TestServer, unused_port

from patches import Patches, PatchesSync
from patches_server import allow_all, create_app

GUIDE = Path(__file__).parent.parent.parent / "docs" / "deploy.md"
NAME = "docs.example.org"


def configuration(folder: Path, port: int, backend: int) -> str:
    """The guide's blocks, with this test's ports and certificate."""
    blocks = re.findall(r"(?ms)^```nginx\n(.*?)^```", GUIDE.read_text("utf-8"))
    http = "\n".join(blocks)
    for named, here in (
        ("listen 443 ssl", f"listen 127.0.0.1:{port} ssl"),
        (f"/etc/letsencrypt/live/{NAME}/", f"{folder}/"),
        ("http://127.0.0.1:8000", f"http://127.0.0.1:{backend}"),
    ):
        assert named in http
        http = http.replace(named, here)
    paths = "\n".join(
        f"{kind}_temp_path {folder}/{kind};"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    return (
        f"daemon off;\nmaster_process off;\npid {folder}/pid;\nerror_log {folder}/errors;\n"
        f"events {{}}\nhttp {{\naccess_log off;\n{paths}\n{http}\n}}\n"
    )


def make_certificate(openssl: str, folder: Path) -> None:
    subprocess.run(
        [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
         "-subj", f"/CN={NAME}", "-addext", f"subjectAltName=DNS:{NAME}",
         "-keyout", folder / "privkey.pem", "-out", folder / "fullchain.pem"],
        check=True, capture_output=True,
    )  # fmt: skip


@pytest.fixture
async def proxied(tmp_path: Path) -> AsyncIterator[int]:
    """The port of an nginx in front of a server that serves the page."""
    nginx, openssl = shutil.which("nginx", path="/usr/sbin:/usr/bin"), shutil.which("openssl")
    if nginx is None or openssl is None:
        pytest.skip("nginx and openssl are not installed: apt-get install nginx-light openssl")
    make_certificate(openssl, tmp_path)
    async with TestServer(create_app(auth=allow_all, page=True)) as server:
        port = unused_port()
        assert server.port is not None
        (tmp_path / "nginx.conf").write_text(configuration(tmp_path, port, server.port))
        process = await asyncio.create_subprocess_exec(
            nginx, "-p", str(tmp_path), "-c", str(tmp_path / "nginx.conf"),
            stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        try:
            await listening(port, process)
            yield port
        finally:
            process.terminate()
            await process.wait()


async def listening(port: int, process: asyncio.subprocess.Process) -> None:
    async with asyncio.timeout(20):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                assert process.returncode is None
                await asyncio.sleep(0.05)
            else:
                writer.close()
                return


async def test_s70_page_and_websocket_are_served_over_tls(proxied: int, tmp_path: Path) -> None:
    trusted = ssl.create_default_context(cafile=str(tmp_path / "fullchain.pem"))
    async with (
        ClientSession() as session,
        session.get(f"https://127.0.0.1:{proxied}/", ssl=trusted, server_hostname=NAME) as answer,
    ):
        assert answer.status == 200
        assert "<title>" in await answer.text()
    origin = f"https://127.0.0.1:{proxied}"
    options = {"ssl": trusted, "server_hostname": NAME, "headers": {"Origin": origin}}
    url = f"wss://127.0.0.1:{proxied}/ws"
    async with Patches() as anna, Patches() as ben:
        async with (
            PatchesSync(anna, url, websocket=options) as annas,
            PatchesSync(ben, url, websocket=options) as bens,
        ):
            plan = await anna.open_doc("plan")
            same = await ben.open_doc("plan")
            await bens.settled()
            plan.change(lambda draft: draft.update(title="Over TLS"))
            await annas.settled()
            async with asyncio.timeout(20):
                async for state in same:  # a broadcast is not held back by the proxy
                    if state.get("title") == "Over TLS":
                        break


async def test_s70_pages_of_another_origin_are_refused_behind_the_proxy(
    proxied: int, tmp_path: Path
) -> None:
    trusted = ssl.create_default_context(cafile=str(tmp_path / "fullchain.pem"))
    async with (
        ClientSession() as session,
        session.get(
            f"https://127.0.0.1:{proxied}/ws", ssl=trusted, server_hostname=NAME,
            headers={"Origin": "https://elsewhere.example", "Connection": "Upgrade",
                     "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
                     "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="},
        ) as answer,
    ):  # fmt: skip
        assert answer.status == 403
