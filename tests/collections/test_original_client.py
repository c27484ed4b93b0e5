"""Scenario 44: a client of @dabble/patches 0.28.1 follows a document as an LWW document.

By the model of that client in `tests/interop`, whose frames are checked against recorded ones.
"""

from __future__ import annotations

from tests.interop.world import World
from tests.support.collections_stage import DOC, Stage, until


async def test_scenario_44_it_mirrors_rows_and_its_field_write_commits(stage: Stage) -> None:
    ann = await stage.member()
    await ann.tasks.insert(id="a", title="a", votes=1)
    async with World(await stage.server.url()) as world:
        theirs = await world.original("theirs")
        await theirs.open(DOC, "lww")
        await until(lambda: theirs.has(DOC) and theirs.committed_rev(DOC) == 1)

        def is_equal() -> bool:
            shown = theirs.state(DOC)
            return bool(shown["tasks"] == ann.doc.state["tasks"])

        await until(is_equal)
        await ann.tasks.insert(id="b", title="b")
        await ann.tasks.update("a", votes=2)
        await until(is_equal)
        await ann.tasks.delete("b")
        await until(is_equal)
        theirs.change(DOC, {"op": "replace", "path": "/tasks/a/votes", "value": 7})
        await until(lambda: ann.tasks["a"]["votes"] == 7)
        await until(lambda: theirs.is_settled(DOC))
        assert is_equal()
        assert (await stage.rows("tasks"))["a"]["votes"] == 7
