"""The pages of the examples with collections, as people use them."""

from __future__ import annotations

import asyncio
import random
import re
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeAlias

import pytest
import pytest_asyncio
from playwright.async_api import Browser, BrowserContext, Page

from patches.algorithms.collections.ordering import rank_of
from patches.rows.condition_syntax import parse_condition

pytestmark = pytest.mark.asyncio(loop_scope="session")

EXAMPLES = Path(__file__).parent.parent.parent / "examples"
Open: TypeAlias = Callable[..., Awaitable[Page]]

RANKED = """() => [...document.querySelectorAll('.idea')].map((each) => ({
  title: each.querySelector('.title').textContent,
  votes: Number(each.querySelector('.votes').textContent),
  pending: each.classList.contains('pending'),
}))"""
MESSAGES = """() => [...document.querySelectorAll('.message')].map((each) => ({
  who: each.classList[1],
  text: each.querySelector('.content').textContent,
  partial: each.classList.contains('partial'),
}))"""


@asynccontextmanager
async def running(example: str) -> AsyncIterator[str]:
    """An example with its page; gives the page's address."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-W",
        "error",
        str(EXAMPLES / example),
        "--page",
        stdout=asyncio.subprocess.PIPE,
        cwd=EXAMPLES.parent,
    )
    try:
        assert process.stdout is not None
        async with asyncio.timeout(30):
            line = (await process.stdout.readline()).decode()
        found = re.match(r"http://[\d.:]+/", line)
        assert found is not None, line
        yield found[0]
    finally:
        process.terminate()
        async with asyncio.timeout(20):
            await process.communicate()


@pytest_asyncio.fixture(loop_scope="session")
async def opened(browser: Browser) -> AsyncIterator[Open]:
    """Opens a window. A script error in one fails the test."""
    errors: list[str] = []
    contexts: list[BrowserContext] = []

    async def open_page(url: str, **options: Any) -> Page:
        options.setdefault("viewport", {"width": 1280, "height": 800})
        context = await browser.new_context(**options)
        contexts.append(context)
        page = await context.new_page()
        page.set_default_timeout(10_000)
        page.on("pageerror", lambda error: errors.append(str(error)))
        await page.goto(url)
        await page.wait_for_selector("#status[data-state=saved]")
        return page

    yield open_page
    for context in contexts:
        await context.close()
    assert errors == []


async def ranked(page: Page) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = await page.evaluate(RANKED)
    return found


async def until(page: Page, condition: str, argument: Any = None) -> None:
    await page.wait_for_function(condition, arg=argument)


FIRST_IS = "title => document.querySelector('.idea .title')?.textContent === title"
HAS_ROWS = "count => document.querySelectorAll('.idea').length === count"


async def test_two_windows_follow_the_first_rows_while_people_vote(opened: Open) -> None:
    async with running("board.py") as url:
        ann, guest = await opened(f"{url}?user=ann"), await opened(f"{url}?user=guest")
        for page in (ann, guest):
            await until(page, HAS_ROWS, 20)
        await ann.fill("#new-title", "Rewrite it all")
        await ann.press("#new-title", "Enter")
        for page in (ann, guest):
            await until(page, FIRST_IS, "Rewrite it all")
        before = (await ranked(guest))[0]["votes"]
        await guest.click(".idea:first-child .vote")
        await until(
            ann,
            "count => Number(document.querySelector('.idea .votes').textContent) >= count",
            before + 1,
        )
        for page in (ann, guest):  # a window is exact, and stays in order
            for _ in range(5):
                votes = [row["votes"] for row in await ranked(page)]
                assert len(votes) == 20
                assert votes == sorted(votes, reverse=True)
                await asyncio.sleep(0.3)
        await guest.click("#more")
        await until(guest, HAS_ROWS, 40)


async def test_what_the_server_refuses_comes_back(opened: Open) -> None:
    async with running("board.py") as url:
        ann, guest = await opened(f"{url}?user=ann"), await opened(f"{url}?user=guest")
        await until(guest, HAS_ROWS, 20)
        await ann.fill("#new-title", "Keep me")
        await ann.press("#new-title", "Enter")
        await until(guest, FIRST_IS, "Keep me")
        await guest.hover(".idea:first-child")
        await guest.click(".idea:first-child .drop")
        await guest.wait_for_selector("#notice:not([hidden])")
        assert "only ann plans this board" in await guest.inner_text("#notice")
        await until(guest, FIRST_IS, "Keep me")
        await ann.hover(".idea:first-child")
        await ann.click(".idea:first-child .drop")
        await until(guest, "() => document.querySelector('.title').textContent !== 'Keep me'")


async def test_votes_that_were_made_offline_arrive_later(opened: Open) -> None:
    async with running("board.py") as url:
        ann, guest = await opened(f"{url}?user=ann"), await opened(f"{url}?user=guest")
        await until(guest, HAS_ROWS, 20)
        await ann.click("#offline")
        await ann.fill("#new-title", "Made on a train")
        await ann.press("#new-title", "Enter")
        await until(ann, FIRST_IS, "Made on a train")
        assert (await ranked(ann))[0]["pending"]
        assert "wait" in await ann.inner_text("#status-text")
        await asyncio.sleep(3)  # others vote meanwhile
        await ann.click("#offline")
        await ann.wait_for_selector("#status[data-state=saved]")
        titles = (
            "title => [...document.querySelectorAll('.title')].some(e => e.textContent === title)"
        )
        await until(guest, titles, "Made on a train")
        assert not any(row["pending"] for row in await ranked(ann))


async def test_an_answer_is_written_word_by_word_and_kept(opened: Open) -> None:
    async with running("chat_assistant.py") as url:
        one, two = await opened(url), await opened(url)
        await one.fill("#question", "What shall I buy?")
        await one.press("#question", "Enter")
        for page in (one, two):
            await page.wait_for_selector(".message.assistant.partial")
        await two.wait_for_selector(".message.assistant:not(.partial)")
        said = [
            {"who": "user", "text": "What shall I buy?", "partial": False},
            {"who": "assistant", "text": "Milk, bread and a good book.", "partial": False},
        ]
        for page in (one, two):
            await until(page, "() => !document.querySelector('.partial, .pending')")
            assert await page.evaluate(MESSAGES) == said
        await one.reload()
        await one.wait_for_selector(".message.assistant")
        assert await one.evaluate(MESSAGES) == said
        await two.hover(".message.user")
        await two.click(".message.user .drop")
        await until(one, "() => !document.querySelector('.message.user')")


SELECT = """async ([rows, queries]) => {
  const { select } = await import('/rows.js');
  return queries.map((query) => select(new Map(rows.map((row) => [row.id, row])), query));
}"""


async def test_rows_are_selected_as_the_library_selects_them(opened: Open) -> None:
    """Scenario 31, in the page's client."""
    source = random.Random(5)
    texts = ["", "a", "B", "ä", "z\U0001f600", "\ufb01", "ab", None]
    rows = [
        {
            "id": f"r{n:02}",
            "text": source.choice(texts),
            "count": source.choice([None, -1, 0, 2.5, 7]),
        }
        for n in range(40)
    ]

    def condition(depth: int) -> list[Any]:
        kind = source.choice(["=", "!=", "<", "<=", ">", ">=", "in", "prefix", "contains", "null"])
        if depth and source.random() < 0.5:
            kind = source.choice(["and", "or", "not"])
            return [kind, *(condition(depth - 1) for _ in range(1 if kind == "not" else 2))]
        column = "text" if kind in ("prefix", "contains") else source.choice(["text", "count"])
        value: Any = source.choice(["a", "B", "z", "\ufb01"] if column == "text" else [0, 2.5, 7])
        if kind == "null":
            return [kind, column]
        return [kind, column, [value, "ab" if column == "text" else -1] if kind == "in" else value]

    queries = [
        {
            "where": condition(2),
            "orderBy": [[source.choice(["text", "count"]), source.choice(["asc", "desc"])]],
        }
        for _ in range(200)
    ]
    expected = []
    for query in queries:
        holds = parse_condition(query["where"])
        rank = rank_of(tuple((name, way == "desc") for name, way in query["orderBy"]))
        found = [row for row in rows if holds.matches(row)]
        expected.append(sorted(found, key=lambda row: rank(str(row["id"]), row)))  # at once
    async with running("board.py") as url:
        page = await opened(url)
        assert await page.evaluate(SELECT, [rows, queries]) == expected
