"""The page, as people use it: two windows stay equal, whatever happens between them."""

from __future__ import annotations

import asyncio
import random
import re
from typing import Any

import pytest
from playwright.async_api import WebSocketRoute, expect

from patches import Patches, PatchesSync

pytestmark = pytest.mark.asyncio(loop_scope="session")

EDIT = """([chance, letters]) => {
  const area = document.getElementById('text');
  const at = Math.floor(chance * (area.value.length + 1));
  const end = Math.min(area.value.length, at + (letters ? 0 : 3));
  area.focus();
  area.setRangeText(letters, at, end, 'end');
  area.dispatchEvent(new InputEvent('input', { bubbles: true }));
}"""


async def cleared(*windows: Any) -> None:
    await windows[0].clear()
    for window in windows:
        await window.until_text("")
        await window.until_saved()


async def equal(*windows: Any) -> str:
    """Wait until the server has everything and all windows show the same; the text."""
    for window in windows:
        await window.until_saved()
    async with asyncio.timeout(10):
        while len(texts := {await each.text() for each in windows}) > 1:  # noqa: ASYNC110  # a poll
            await asyncio.sleep(0.02)  # a broadcast is on its way
    return str(texts.pop())


async def test_two_windows_that_type_at_once_end_equal_with_every_letter(window: Any) -> None:
    one, two = await window(), await window()
    await cleared(one, two)
    await asyncio.gather(one.type("the quick brown fox" * 3), two.type("JUMPS OVER 😀 IT " * 3))
    text = await equal(one, two)
    assert re.sub(r"[^a-z]", "", text) == "thequickbrownfox" * 3
    assert re.sub(r"[^A-Z😀]", "", text) == "JUMPSOVER😀IT" * 3


async def test_the_cursor_stays_at_its_letter_when_others_type(window: Any) -> None:
    one, two = await window(), await window()
    await cleared(one, two)
    await one.type("start end")
    await equal(one, two)
    await one.put_cursor(len("start"))
    await two.type("A long line before.\n", at=0)
    await two.type(" And after.", at=len("A long line before.\nstart end"))
    await equal(one, two)
    assert await one.cursor() == len("A long line before.\nstart")
    await one.type(" here")
    assert await equal(one, two) == "A long line before.\nstart here end And after."


async def test_a_window_goes_offline_is_edited_and_merges_when_it_is_back(window: Any) -> None:
    one, two = await window(), await window()
    await cleared(one, two)
    await one.type("middle")
    await equal(one, two)

    await one.switch_offline()
    await one.until_state("offline")
    await one.type("Offline ", at=0)
    await two.type(" online", at=len("middle"))
    await two.until_saved()
    assert (await one.text(), await two.text()) == ("Offline middle", "middle online")
    await expect(one.page.locator("#status")).to_have_text("Offline: kept in this browser")

    await one.switch_offline()
    assert await equal(one, two) == "Offline middle online"
    await expect(one.page.locator("#status")).to_have_text("Saved")


async def test_random_edits_in_three_windows_converge(window: Any) -> None:
    source = random.Random(11)
    windows = [await window() for _ in range(3)]
    await cleared(*windows)
    for step in range(120):
        each = source.choice(windows)
        letters = source.choice(["", "a", "bc\n", "😀", "d"])
        await each.page.evaluate(EDIT, [source.random(), letters])
        if step % 20 == 10:
            await source.choice(windows).switch_offline()
    for each in windows:
        if await each.page.get_attribute("#offline", "aria-checked") == "true":
            await each.switch_offline()
    assert await equal(*windows) == await equal(await window())


async def test_a_reload_keeps_what_was_not_sent(window: Any) -> None:
    one, two = await window(), await window()
    await cleared(one, two)
    await one.switch_offline()
    await one.type("written offline")
    await one.page.fill("#new-title", "Offline task")
    await one.page.press("#new-title", "Enter")
    await one.page.reload()
    await one.until_saved()
    assert await equal(one, two) == "written offline"
    await expect(two.page.locator(".title").last).to_have_value("Offline task")


async def another(window: Any) -> Any:
    """A second window of the same browser: it has the same storage."""
    page = await window.page.context.new_page()
    page.set_default_timeout(10_000)
    await page.goto(window.page.url)
    return type(window)(page)


async def test_a_window_that_is_closed_offline_leaves_its_work_to_the_next_one(window: Any) -> None:
    one, two = await window(), await window()
    await cleared(one, two)
    await one.type("middle")
    await equal(one, two)
    await one.switch_offline()
    await one.type("Kept ", at=0)
    await one.page.fill("#new-title", "Kept task")
    await one.page.press("#new-title", "Enter")
    three = await another(one)
    await three.until_saved()
    assert await three.text() == "middle", "the work of an open window is its own"
    await three.type(" and more", at=len("middle"))
    await one.page.close()
    await equal(two, three)

    four = await another(three)
    assert await equal(two, three, four) == "Kept middle and more"
    await expect(two.page.locator(".title").last).to_have_value("Kept task")
    await four.page.close()
    five = await another(three)
    assert await equal(two, three, five) == "Kept middle and more", "once"


async def test_a_duplicated_window_keeps_its_own_work(window: Any) -> None:
    one = await window()
    await cleared(one)
    await one.switch_offline()
    await one.type("first ")
    copied = await one.page.evaluate("JSON.stringify({ ...sessionStorage })")
    page = await one.page.context.new_page()
    await page.add_init_script(
        f"Object.assign(sessionStorage, Object.fromEntries(Object.entries({copied})))"
    )
    await page.goto(one.page.url)
    two = type(one)(page)
    await two.until_saved()
    await two.type("second")
    await two.until_saved()
    await one.switch_offline()
    text = await equal(one, two)
    assert sorted(text.split()) == ["first", "second"] or text in ("first second", "secondfirst ")


async def test_the_browsers_word_about_the_network_is_heard_at_once(window: Any) -> None:
    one = await window()
    await cleared(one)
    for _ in range(2):
        await one.page.context.set_offline(True)
        async with asyncio.timeout(1):
            await one.until_state("offline")
        await asyncio.sleep(2)  # attempts fail, and come less often
        await one.page.context.set_offline(False)
        async with asyncio.timeout(2):
            await one.until_saved()


async def test_a_dead_socket_is_replaced_when_the_window_is_shown_again(
    window: Any, server: Any, browser: Any
) -> None:
    one = await window()
    context = await browser.new_context()
    page = await context.new_page()
    sockets: list[WebSocketRoute] = []

    def goes_dead(client: WebSocketRoute) -> None:
        upstream = client.connect_to_server()
        sockets.append(client)
        is_first = len(sockets) == 1
        client.on_message(lambda message: None if dead and is_first else upstream.send(message))
        upstream.on_message(lambda message: None if dead and is_first else client.send(message))

    dead: list[bool] = []
    await page.route_web_socket(re.compile("/ws$"), goes_dead)
    await page.goto(server.url)
    two = type(one)(page)
    await two.until_saved()
    dead.append(True)
    await two.page.evaluate("dispatchEvent(new Event('focus'))")
    await two.type("x")
    await two.until_saved()
    assert len(sockets) == 2
    await context.close()


async def test_nothing_is_removed_below_what_is_not_there(window: Any) -> None:
    states = await (await window()).page.evaluate(
        """async () => {
          const { FieldsReplica } = await import('/fields-replica.js');
          const replica = new FieldsReplica(new EventTarget(), 'd');
          replica.load({ state: { a: { x: 1 }, n: 3 }, changes: [] });
          const remove = (path) => ({ op: 'remove', path, rev: 1, ts: 1 });
          for (const path of ['/b/c/d', '/n/x', '/a/y', '/gone']) {
            replica.apply({ ops: [remove(path)] });
          }
          const before = JSON.stringify(replica.state);
          replica.apply({ ops: [remove('/a/x')] });
          return [before, JSON.stringify(replica.state)];
        }"""
    )
    assert states == ['{"a":{"x":1},"n":3}', '{"a":{},"n":3}']


async def test_a_restart_of_the_server_loses_nothing(window: Any, server: Any) -> None:
    one, two = await window(), await window()
    await cleared(one, two)
    await one.type("before ")
    await equal(one, two)
    await server.stop()
    await one.until_state("offline")
    await one.type("while it was away ")
    await server.start()
    assert await equal(one, two) == "before while it was away "
    await two.type("after", at=len("before while it was away "))
    assert await equal(one, two) == "before while it was away after"
    assert await equal(await window(), one) == "before while it was away after"


async def test_a_commit_whose_answer_was_lost_is_not_applied_twice(
    window: Any, server: Any, browser: Any
) -> None:
    one = await window()
    await cleared(one)
    context = await browser.new_context()
    page = await context.new_page()
    sockets = 0

    def lose_the_first_answer(client: WebSocketRoute) -> None:
        nonlocal sockets
        sockets += 1
        upstream = client.connect_to_server()
        loses = sockets == 1
        commits: list[str] = []

        def to_server(message: str | bytes) -> None:
            found = re.search(r'"id":(\d+),"method":"commitChanges"', str(message))
            if found:
                commits.append(f'"id":{found[1]},')
            upstream.send(message)

        async def from_server(message: str | bytes) -> None:
            if loses and any(f"{commit}" in str(message) for commit in commits):
                await client.close()
                await upstream.close()
            else:
                client.send(message)

        client.on_message(to_server)
        upstream.on_message(from_server)

    await page.route_web_socket(re.compile("/ws$"), lose_the_first_answer)
    await page.goto(server.url)
    two = type(one)(page)
    await two.until_saved()
    await two.type("exactly once")
    assert await equal(two, one) == "exactly once"
    assert sockets == 2


async def test_undo_takes_back_ones_own_edits_whatever_others_did(window: Any) -> None:
    one, two = await window(), await window()
    await cleared(two, one)
    await one.type("mine ")
    await equal(one, two)
    await two.type("yours", at=len("mine "))
    await equal(one, two)
    await one.page.keyboard.press("Control+z")
    assert await equal(one, two) == "yours"
    await one.page.keyboard.press("Control+Shift+z")
    assert await equal(one, two) == "mine yours"


async def test_tasks_are_added_checked_renamed_moved_and_deleted_by_both(window: Any) -> None:
    one, two = await window(), await window()
    for _ in range(5):
        await one.page.locator(".remove").first.click()
    await two.until_tasks()
    for title in ("a", "b", "c"):
        await one.page.fill("#new-title", title)
        await one.page.press("#new-title", "Enter")
    await two.until_tasks("a", "b", "c")

    await asyncio.gather(
        one.page.locator(".task").nth(0).locator("[type=checkbox]").check(),
        two.page.locator(".title").nth(1).fill("B"),
    )
    for each in (one, two):
        await each.until_tasks("a", "B", "c")
        await expect(each.page.locator(".task").nth(0)).to_have_class(re.compile("done"))
        await expect(each.page.locator("#progress")).to_have_text("1 of 3 done")

    await one.page.locator(".grip").nth(2).press("ArrowUp")
    await two.until_tasks("a", "c", "B")
    await drag(two.page, 2, 0)
    await one.until_tasks("B", "a", "c")
    await one.page.locator(".remove").nth(1).click()
    await two.until_tasks("B", "c")


async def drag(page: Any, source: int, target: int) -> None:
    start = await page.locator(".grip").nth(source).bounding_box()
    end = await page.locator(".grip").nth(target).bounding_box()
    await page.mouse.move(start["x"] + 5, start["y"] + 5)
    await page.mouse.down()
    await page.mouse.move(end["x"] + 5, end["y"] - 4, steps=4)
    await page.mouse.up()


async def test_tasks_edited_offline_merge_field_by_field(window: Any) -> None:
    one, two = await window(), await window()
    await one.switch_offline()
    await one.page.locator(".title").nth(0).fill("Renamed offline")
    await two.page.locator(".task").nth(0).locator("[type=checkbox]").check()
    await two.page.locator(".remove").nth(1).click()
    await two.until_saved()
    await one.switch_offline()
    for each in (one, two):
        await expect(each.page.locator(".title").nth(0)).to_have_value("Renamed offline")
        await expect(each.page.locator("[type=checkbox]").nth(0)).to_be_checked()
        await expect(each.page.locator(".task")).to_have_count(4)


async def test_people_see_each_other_and_their_cursors(window: Any) -> None:
    one, two = await window(), await window()
    await one.page.click(".person.me")
    await one.page.fill("#name", "Ada <b>Lovelace</b>")
    await one.page.press("#name", "Enter")
    await one.put_cursor(3)
    other = two.page.locator(".person:not(.me)")
    await expect(other).to_have_attribute("aria-label", "Ada <b>Lovelace</b>")
    await expect(other).to_have_text("A<")
    cursor = two.page.locator(".cursor")
    await expect(cursor).to_have_text("Ada <b>Lovelace</b>")
    before = await cursor.bounding_box()
    await two.type("wider ", at=0)
    await two.page.wait_for_function(
        "left => document.querySelector('.cursor').getBoundingClientRect().left > left + 10",
        arg=before["x"],
    )
    await one.page.context.close()
    await expect(other).to_have_count(0)
    await expect(cursor).to_have_count(0)


async def test_a_window_that_opens_sees_cursors_where_they_are(window: Any) -> None:
    one = await window()
    await one.put_cursor(7)
    two = await window()
    await expect(two.page.locator(".cursor")).to_have_attribute("data-at", "7,7")
    await one.switch_offline()
    await two.type("typed meanwhile ", at=0)
    await two.until_saved()
    await two.put_cursor(3)
    await one.switch_offline()
    await equal(one, two)
    await expect(one.page.locator(".cursor")).to_have_attribute("data-at", "3,3")


async def test_a_python_client_and_a_window_see_each_other_come_and_go(
    window: Any, server: Any
) -> None:
    url = server.url.replace("http", "ws", 1) + "ws"
    async with Patches() as patches, PatchesSync(patches, url) as sync:
        await patches.open_doc("welcome/text")
        await sync.settled(10)
        one = await window()  # comes when the other is connected, and in no room yet
        other = one.page.locator(".person:not(.me)")
        state = {"name": "Program", "cursor": 2}
        async with sync.presence("welcome/text", state, text="/body") as room:
            seen = asyncio.Event()
            room.on_change(lambda _others: seen.set())
            await expect(other).to_have_attribute("aria-label", "Program")
            await expect(one.page.locator(".cursor")).to_have_attribute("data-at", "2,2")
            if not room.others:  # else what the window said before is known already
                async with asyncio.timeout(10):
                    await seen.wait()
            (person,) = room.others.values()
            assert person["name"] == await one.page.evaluate(
                "JSON.parse(sessionStorage.getItem('me')).name"
            )
        await expect(other).to_have_count(0)


async def test_the_cursor_others_see_is_where_it_is_once_all_is_saved(window: Any) -> None:
    one, two = await window(), await window()
    await cleared(one, two)
    await one.type("the end")
    await equal(one, two)
    typed = "quickly typed letters " * 2
    await asyncio.gather(one.type(typed, at=0), two.type("there", at=len("the end")))
    await equal(one, two)
    at = await one.cursor()
    assert at == len(typed)
    await expect(two.page.locator(".cursor")).to_have_attribute("data-at", f"{at},{at}")


async def test_a_task_deleted_by_key_leaves_the_focus_in_the_list(window: Any) -> None:
    one = await window()
    count = await one.page.locator(".task").count()
    await one.page.locator(".remove").nth(1).press("Enter")
    await expect(one.page.locator(".remove").nth(1)).to_be_focused()
    for left in range(count - 1, 0, -1):
        await expect(one.page.locator(".task")).to_have_count(left)
        await one.page.locator(".remove").last.press("Enter")
    await expect(one.page.locator("#new-title")).to_be_focused()


async def test_a_task_moves_between_two_that_were_added_at_once(window: Any) -> None:
    one, two = await window(), await window()
    for _ in range(5):
        await one.page.locator(".remove").first.click()
    await two.until_tasks()
    for each in (one, two):
        await each.switch_offline()
        await each.page.fill("#new-title", "same")
        await each.page.press("#new-title", "Enter")
    for each in (one, two):
        await each.switch_offline()
    for each in (one, two):
        await each.until_tasks("same", "same")
    await one.page.fill("#new-title", "between")
    await one.page.press("#new-title", "Enter")
    await one.page.locator(".grip").nth(2).press("ArrowUp")
    await two.until_tasks("same", "between", "same")


async def test_undo_of_tasks_leaves_what_others_did(window: Any) -> None:
    one, two = await window(), await window()
    before = [await each.input_value() for each in await one.page.locator(".title").all()]
    await expect(one.page.locator("#tasks-undo")).to_be_disabled()
    await one.page.fill("#new-title", "Mine")
    await one.page.press("#new-title", "Enter")
    await one.until_saved()
    await two.until_tasks(*before, "Mine")
    mine = one.page.locator(".task").last
    await mine.locator("input[type=checkbox]").check()
    await mine.locator(".title").fill("Mine and ours")
    await one.until_saved()
    await two.until_tasks(*before, "Mine and ours")
    await two.page.locator(".task").first.locator(".title").fill("Theirs")
    await two.until_saved()
    await one.until_tasks("Theirs", *before[1:], "Mine and ours")

    await mine.locator(".title").press("Control+z")
    await two.until_tasks("Theirs", *before[1:], "Mine")
    await expect(mine.locator("input[type=checkbox]")).to_be_checked()
    await one.page.click("#tasks-undo")
    await expect(mine.locator("input[type=checkbox]")).not_to_be_checked()
    await one.page.click("#tasks-redo")
    await expect(mine.locator("input[type=checkbox]")).to_be_checked()
    await one.page.click("#tasks-undo")
    await one.page.click("#tasks-undo")
    await two.until_tasks("Theirs", *before[1:])
    await expect(one.page.locator("#tasks-undo")).to_be_disabled()


async def test_the_buttons_undo_and_redo_typing(window: Any) -> None:
    one, two = await window(), await window()
    await cleared(one, two)
    await one.page.wait_for_timeout(800)  # else the typing is one step with the clearing
    await one.type("mine")
    await equal(one, two)
    await two.type("theirs ", at=0)
    await equal(one, two)
    await one.page.click("#text-undo")
    assert await equal(one, two) == "theirs "
    await one.page.click("#text-redo")
    assert await equal(one, two) == "theirs mine"
    await expect(one.page.locator("#text-redo")).to_be_disabled()
