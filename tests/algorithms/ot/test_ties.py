"""Two insertions at one place end in one order, whichever of the two is moved behind the other.

For every queue `P` and history `F` of insertions and removals, in texts and in lists:
`apply(apply(s, P), F') == apply(apply(s, F), P')`, where the walk gives `P'` and `F'`.
"""

from __future__ import annotations

import random
from typing import Any, Final

import pytest

from patches.algorithms.ot.walk import TransformWalk
from patches.json_patch import apply_patch
from patches.model.json_values import Json, Op
from patches.text import text_of, utf16_length
from tests.support.ot_scene import Client, Server

KINDS: Final = (["text"], ["list"], ["text", "list"])
PAIRS = 700  # 20,000 of each kind were run once


def applied(state: Json, programs: list[list[Op]]) -> Json:
    for ops in programs:
        state = apply_patch(state, ops, strict=True)
    return state


def walked(queue: list[list[Op]], history: list[list[Op]]) -> tuple[list[list[Op]], list[list[Op]]]:
    walk = TransformWalk(queue)
    advanced = [walk.follow(ops) for ops in history]
    return [ops or [] for ops in walk.programs()], advanced


def list_edit(rng: random.Random, items: list[Json]) -> Op:
    if items and rng.random() < 0.4:
        return {"op": "remove", "path": f"/l/{rng.randrange(len(items))}"}
    return {
        "op": "add",
        "path": f"/l/{rng.randint(0, len(items))}",
        "value": rng.randrange(100, 999),
    }


def text_edit(rng: random.Random, length: int) -> Op:
    at = rng.randint(0, length)
    parts: list[Json] = [{"retain": at}] if at else []
    if at == length or rng.random() < 0.6:
        parts.append(rng.choice([{"insert": "x"}, {"insert": "y😀"}, {"insert": {"img": 1}}]))
    if at < length and rng.random() < 0.6:
        parts.append({"delete": rng.randint(1, min(3, length - at))})
    elif at < length and rng.random() < 0.3:
        parts.append({"retain": 1, "attributes": {"b": rng.random() < 0.5}})
    return {"op": "@txt", "path": "/t", "value": parts}


def programs(rng: random.Random, state: Json, kinds: list[str]) -> list[list[Op]]:
    made: list[list[Op]] = []
    for _ in range(rng.randint(1, 4)):
        ops: list[Op] = []
        for _ in range(rng.randint(1, 2)):
            if rng.choice(kinds) == "list":
                op = list_edit(rng, state["l"])
            else:
                op = text_edit(rng, text_units(state["t"]) - 1)
            state = apply_patch(state, [op], strict=True)
            ops.append(op)
        made.append(ops)
    return made


def text_units(text: Any) -> int:
    return sum(
        utf16_length(op["insert"]) if isinstance(op["insert"], str) else 1 for op in text["ops"]
    )


@pytest.mark.parametrize("kinds", KINDS, ids="-".join)
def test_both_orders_of_two_sides_end_at_one_state(kinds: list[str]) -> None:
    rng = random.Random("-".join(kinds))
    for _ in range(PAIRS):
        state = {
            "l": list(range(rng.randint(0, 4))),
            "t": {"ops": [{"insert": "abcd"[: rng.randint(0, 4)] + "\n"}]},
        }
        queue, history = programs(rng, state, kinds), programs(rng, state, kinds)
        behind, ahead = walked(queue, history)
        one_way = applied(applied(state, queue), ahead)
        other_way = applied(applied(state, history), behind)
        assert one_way == other_way, (state, queue, history)


def typed(at: int, *, insert: str = "", delete: int = 0) -> Op:
    parts: list[Json] = [{"retain": at}] if at else []
    parts += [{"insert": insert}] if insert else []
    parts += [{"delete": delete}] if delete else []
    return {"op": "@txt", "path": "/t", "value": parts}


async def both_shown(start: Json, mine: list[Op], theirs: list[Op]) -> Json:
    """What a client that made `mine` offline and the server show; they must agree."""
    server = Server().make(start)
    client = await Client().open()
    await client.pull(server)
    for op in mine:
        await client.edit(op)
    for op in theirs:
        server.edit(op)
    await client.pull(server)
    await client.push(server)
    assert client.doc.state == server.state
    return server.state


@pytest.mark.parametrize(
    ("start", "mine", "theirs", "expected"),
    [
        (
            "abcd",
            [typed(2, insert="X"), typed(2, delete=1)],
            [typed(2, insert="Y")],
            "abYcd",
        ),
        (
            "abcd",
            [
                *(typed(2 + at, insert=letter) for at, letter in enumerate("hello")),
                *(typed(at, delete=1) for at in (6, 5, 4, 3, 2)),
                *(typed(2 + at, insert=letter) for at, letter in enumerate("bye")),
            ],
            [typed(2, insert="YES")],
            "abYESbyecd",
        ),
    ],
    ids=["a letter taken back", "a word retyped"],
)
async def test_removing_what_one_typed_leaves_what_another_put_there(
    start: str, mine: list[Op], theirs: list[Op], expected: str
) -> None:
    state = await both_shown({"t": {"ops": [{"insert": f"{start}\n"}]}}, mine, theirs)
    assert text_of(state["t"]) == f"{expected}\n"


async def test_removing_an_element_one_added_leaves_what_another_added_there() -> None:
    mine: list[Op] = [
        {"op": "add", "path": "/l/2", "value": "X"},
        {"op": "remove", "path": "/l/2"},
    ]
    theirs: list[Op] = [{"op": "add", "path": "/l/2", "value": "Y"}]
    state = await both_shown({"l": ["a", "b", "c", "d"]}, mine, theirs)
    assert state["l"] == ["a", "b", "Y", "c", "d"]


async def test_committed_text_is_first_and_a_pending_element_is_first() -> None:
    state = await both_shown(
        {"l": [], "t": {"ops": [{"insert": "\n"}]}},
        [typed(0, insert="mine"), {"op": "add", "path": "/l/0", "value": "mine"}],
        [typed(0, insert="theirs"), {"op": "add", "path": "/l/0", "value": "theirs"}],
    )
    assert text_of(state["t"]) == "theirsmine\n"
    assert state["l"] == ["mine", "theirs"]
