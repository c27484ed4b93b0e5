"""Windows of a real Chromium on a real server process."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import TypeAlias

import pytest
import pytest_asyncio
from playwright.async_api import Browser, BrowserContext, Page, async_playwright

CHROMIUM_OPTIONS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
]


class Server:
    """The command, on a file; it can be stopped and started again where it was."""

    def __init__(self, store: Path) -> None:
        self._store = store
        self._port = "0"
        self._process: asyncio.subprocess.Process | None = None
        self.url = ""

    async def start(self) -> None:
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "patches_server",
            "--port",
            self._port,
            "--store",
            f"sqlite:///{self._store}",
            stdout=asyncio.subprocess.PIPE,
        )
        assert self._process.stdout is not None
        printed = ""
        async with asyncio.timeout(20):
            while "Ctrl-C" not in printed:
                line = await self._process.stdout.readline()
                assert line, "the server ended"
                printed += line.decode()
        found = re.search(r"http://[^\s:]+:(\d+)/", printed)
        assert found is not None
        self.url, self._port = found[0], found[1]

    async def stop(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.terminate()
            async with asyncio.timeout(20):
                await process.communicate()


class Window:
    """One window of the page, as somebody uses it."""

    def __init__(self, page: Page) -> None:
        self.page = page

    async def text(self) -> str:
        return await self.page.input_value("#text")

    async def put_cursor(self, position: int) -> None:
        await self.page.focus("#text")
        await self.page.evaluate(
            "at => document.getElementById('text').setSelectionRange(at, at)", position
        )

    async def cursor(self) -> int:
        found: int = await self.page.evaluate("document.getElementById('text').selectionStart")
        return found

    async def type(self, text: str, *, at: int | None = None) -> None:
        """Type letter by letter, where the cursor is or `at` a position."""
        if at is not None:
            await self.put_cursor(at)
        await self.page.focus("#text")
        await self.page.keyboard.type(text, delay=2)

    async def clear(self) -> None:
        await self.page.fill("#text", "")

    async def until_saved(self) -> None:
        await self.until_state("saved")

    async def until_state(self, state: str) -> None:
        await self.page.wait_for_function(
            "state => document.getElementById('status').dataset.state === state", arg=state
        )

    async def until_text(self, text: str) -> None:
        await self.page.wait_for_function(
            "text => document.getElementById('text').value === text", arg=text
        )

    async def until_tasks(self, *titles: str) -> None:
        await self.page.wait_for_function(
            "titles => JSON.stringify(titles) === JSON.stringify("
            "[...document.querySelectorAll('.title')].map(each => each.value))",
            arg=list(titles),
        )

    async def switch_offline(self) -> None:
        await self.page.click("#offline")


OpenWindow: TypeAlias = Callable[[], Awaitable[Window]]


@pytest_asyncio.fixture(loop_scope="session")
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    server = Server(tmp_path / "documents.db")
    await server.start()
    yield server
    await server.stop()


@pytest_asyncio.fixture(loop_scope="session", scope="session")
async def browser() -> AsyncIterator[Browser]:
    chromium = os.environ.get("PATCHES_CHROMIUM") or next(
        filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
    )
    if chromium is None:
        pytest.skip("no browser: install chromium, or set PATCHES_CHROMIUM to one")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium, args=CHROMIUM_OPTIONS)
        yield browser
        await browser.close()


@pytest_asyncio.fixture(loop_scope="session")
async def window(server: Server, browser: Browser) -> AsyncIterator[OpenWindow]:
    """Opens a window of the page that has everything. A script error in one fails the test."""
    errors: list[str] = []
    contexts: list[BrowserContext] = []

    async def opened() -> Window:
        context = await browser.new_context(viewport={"width": 1240, "height": 780})
        contexts.append(context)
        page = await context.new_page()
        page.set_default_timeout(10_000)
        page.on("pageerror", lambda error: errors.append(str(error)))
        await page.goto(server.url)
        window = Window(page)
        await window.until_saved()
        return window

    yield opened
    for context in contexts:
        await context.close()
    assert errors == []
