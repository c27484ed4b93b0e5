"""The transform walk equals the plain pairwise walk, and skips pairs that cannot meet."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from patches.algorithms.ot import walk as walk_module
from patches.algorithms.ot.walk import TransformWalk
from patches.json_patch import apply_patch, transform_patch
from patches.model.json_values import Op


def plain_walk(
    queue: list[list[Op]], history: list[list[Op]]
) -> tuple[list[list[Op]], list[list[Op]]]:
    """`docs/internals/ot.md` 4, word for word: every history list meets every queue list."""
    queue = list(queue)
    advanced = []
    for ops in history:
        for at, entry in enumerate(queue):
            queue[at] = transform_patch(None, ops, entry)
            ops = transform_patch(None, entry, ops, other_ops_first=True)
            if [op["op"] for op in entry] == ["copy"] and not queue[at]:
                # what a copy that is dropped had put into a list goes with it
                if entry[0]["path"].rpartition("/")[2].isdecimal() and "obj" not in entry[0]:
                    gone: list[Op] = [{"op": "remove", "path": entry[0]["path"]}]
                    ops = [*ops, *transform_patch(None, ops, gone)]
        advanced.append(ops)
    return queue, advanced


def walk(queue: list[list[Op]], history: list[list[Op]]) -> tuple[list[list[Op]], list[list[Op]]]:
    moving = TransformWalk(queue)
    advanced = [moving.follow(ops) for ops in history]
    return [ops or [] for ops in moving.programs()], advanced


@pytest.mark.parametrize(
    ("foreign", "left"),
    [
        ({"op": "replace", "path": "/items/1", "value": 317}, 6),
        ({"op": "remove", "path": "/items/1"}, 5),
        ({"op": "replace", "path": "/a", "value": 317}, 7),
    ],
)
def test_a_copy_that_is_dropped_leaves_no_room_in_the_list(foreign: Op, left: int) -> None:
    """The next edit removes what its author saw: the element that had been the sixth."""
    state: Any = {"a": "A", "items": list("0123456789")}
    queue: list[list[Op]] = [
        [{"op": "copy", "from": "/items/1", "path": "/items/5"}],
        [{"op": "remove", "path": "/items/7"}],
    ]
    moved, _ = walk(queue, [[foreign]])
    assert moved[1] == [{"op": "remove", "path": f"/items/{left}"}]
    for ops in ([foreign], *moved):
        state = apply_patch(state, ops, strict=True)
    assert "6" not in state["items"]
    assert {"5", "7"} <= set(state["items"])


KEYS = ["a", "b", "l", "t", "0", "1", "-"]
pointers = st.lists(st.sampled_from(KEYS), max_size=3).map(
    lambda keys: "".join(f"/{key}" for key in keys)
)
list_pointers = st.integers(0, 4).map(lambda index: f"/l/{index}")
text_parts = st.lists(
    st.one_of(
        st.integers(1, 4).map(lambda n: {"retain": n}),
        st.integers(1, 3).map(lambda n: {"delete": n}),
        st.sampled_from(["x", "yz", "😀"]).map(lambda text: {"insert": text}),
        st.just({"insert": {"img": 1}}),
        st.just({"retain": 2, "attributes": {"b": True}}),
        st.just({"insert": "q", "attributes": {"b": True}}),
    ),
    min_size=1,
    max_size=3,
)
simple_text = st.tuples(st.integers(0, 6), st.sampled_from(["i", "jk", 1, 2])).map(
    lambda edit: [
        *([{"retain": edit[0]}] if edit[0] else []),
        {"insert": edit[1]} if isinstance(edit[1], str) else {"delete": edit[1]},
    ]
)


def op_strategies(paths: st.SearchStrategy[str]) -> st.SearchStrategy[Op]:
    return st.one_of(
        paths.map(lambda path: {"op": "replace", "path": path, "value": 1}),
        paths.map(lambda path: {"op": "add", "path": path, "value": 1}),
        paths.map(lambda path: {"op": "add", "path": path, "value": {}}),
        paths.map(lambda path: {"op": "add", "path": path, "value": 1, "soft": True}),
        paths.map(lambda path: {"op": "remove", "path": path}),
        paths.map(lambda path: {"op": "@inc", "path": path, "value": 1}),
        paths.map(lambda path: {"op": "test", "path": path, "value": 1}),
        st.tuples(paths, paths).map(lambda p: {"op": "move", "from": p[0], "path": p[1]}),
        st.tuples(paths, paths).map(lambda p: {"op": "copy", "from": p[0], "path": p[1]}),
        st.tuples(paths, text_parts).map(lambda p: {"op": "@txt", "path": p[0], "value": p[1]}),
        paths.map(lambda path: {"op": "replace", "path": path, "value": 2, "obj": True}),
        paths.map(lambda path: {"op": "remove", "path": path, "obj": True}),
    )


any_op = op_strategies(st.one_of(pointers, list_pointers))
list_op = op_strategies(st.one_of(list_pointers, list_pointers.map(lambda path: f"{path}/k")))
text_op = st.one_of(simple_text, text_parts).map(
    lambda parts: {"op": "@txt", "path": "/t", "value": parts}
)


def programs(op: st.SearchStrategy[Op], size: int) -> st.SearchStrategy[list[list[Op]]]:
    return st.lists(st.lists(op, min_size=1, max_size=2), max_size=size)


@pytest.mark.parametrize("op", [any_op, list_op, text_op], ids=["anything", "lists", "text"])
def test_the_walk_equals_the_plain_pairwise_walk(op: st.SearchStrategy[Op]) -> None:
    @settings(max_examples=400, deadline=None)
    @given(queue=programs(op, 6), history=programs(op, 5))
    def check(queue: list[list[Op]], history: list[list[Op]]) -> None:
        before = repr((queue, history))
        assert walk(queue, history) == plain_walk(queue, history)
        assert repr((queue, history)) == before

    check()


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("kind", ["typing", "listing"])
def test_long_queues_equal_the_plain_pairwise_walk(kind: str, seed: int) -> None:
    rng = random.Random(seed)
    make = typing_op if kind == "typing" else listing_op
    queue = [[make(rng, 60 + at)] for at in range(200)]
    history = [[make(rng, 60 + at)] for at in range(25)]
    assert walk(queue, history) == plain_walk(queue, history)


def listing_op(rng: random.Random, length: int) -> Op:
    """An edit of a list: elements put in and taken out, and edits of and inside them."""
    path = f"/l/{rng.randrange(length)}"
    return rng.choice(
        [
            {"op": "add", "path": path, "value": length},
            {"op": "remove", "path": path},
            {"op": "replace", "path": f"{path}/k", "value": length},
            {"op": "replace", "path": path, "value": length},
            {"op": "add", "path": f"{path}/k/{rng.randrange(3)}", "value": length},
            {"op": "add", "path": f"/l/{length}", "value": length},
        ]
    )


def typing_op(rng: random.Random, length: int) -> Op:
    """Typing in one place mostly, jumping sometimes; now and then something else."""
    kind = rng.random()
    at = rng.randrange(length)
    if kind < 0.6:
        return {"op": "@txt", "path": "/t", "value": [{"retain": at + 1}, {"insert": "x"}]}
    if kind < 0.8:
        return {"op": "@txt", "path": "/t", "value": [{"retain": at + 1}, {"delete": 1}]}
    if kind < 0.9:
        return {"op": "add", "path": f"/l/{rng.randrange(5)}", "value": at}
    return {"op": "replace", "path": rng.choice(["/t", "/x", "/l/1", ""]), "value": at}


def test_an_edit_that_comes_back_to_where_it_was_made_is_there() -> None:
    queue: list[list[Op]] = [[{"op": "add", "path": "/l/2", "value": 1}]]
    history: list[list[Op]] = [
        [{"op": "remove", "path": "/l/0"}],
        [{"op": "replace", "path": "/l/0", "value": 1}],
        [{"op": "add", "path": "/l/0", "value": 1}],
    ]
    assert walk(queue, history) == plain_walk(queue, history) == (queue, history)


@pytest.mark.interpreted
def test_pairs_that_cannot_meet_are_not_transformed(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = 0

    def counted(*args: Any, **options: Any) -> list[Op]:
        nonlocal calls
        calls += 1
        return transform_patch(*args, **options)

    monkeypatch.setattr(walk_module, "transform_patch", counted)
    queue: list[list[Op]] = [
        [{"op": "replace", "path": f"/mine/{at}x", "value": at}] for at in range(500)
    ]
    history: list[list[Op]] = [
        [{"op": "replace", "path": f"/theirs/{at}x", "value": at}] for at in range(500)
    ]
    history[250] = [{"op": "replace", "path": "/mine/7x", "value": "theirs"}]
    moving = TransformWalk(queue)
    for ops in history:
        moving.follow(ops)
    assert calls == 2
    assert moving.programs() == queue
    assert all(mine is given for mine, given in zip(moving.programs(), queue, strict=True))


def test_a_letter_and_a_counter_in_one_change_meet_by_their_places(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls = 0

    def counted(*args: Any, **options: Any) -> list[Op]:
        nonlocal calls
        calls += 1
        return transform_patch(*args, **options)

    monkeypatch.setattr(walk_module, "transform_patch", counted)
    rng = random.Random(3)

    def a_change() -> list[Op]:
        parts = [{"retain": rng.randrange(1, 900)}, {"insert": "x"}]
        return [
            {"op": "@txt", "path": "/t", "value": parts},
            {"op": "@inc", "path": "/n", "value": 1},
        ]

    queue, history = ([a_change() for _ in range(count)] for count in (200, 40))
    moving = TransformWalk(queue)
    advanced = [moving.follow(ops) for ops in history]
    assert calls == 0
    assert (moving.programs(), advanced) == plain_walk(queue, history)


def some_path(rng: random.Random) -> str:
    return rng.choice(
        [
            "/t",
            "/n",
            f"/l/{rng.randrange(4)}",
            f"/l/{rng.randrange(4)}/k",
            f"/b/{rng.choice('xyz')}",
            "".join(f"/{rng.choice(KEYS)}" for _ in range(rng.randint(1, 3))),
        ]
    )


def some_parts(rng: random.Random) -> list[Any]:
    parts: list[Any] = [{"retain": rng.randint(1, 6)}] if rng.random() < 0.8 else []
    kinds: list[Any] = [{"insert": "x"}, {"insert": "😀"}, {"delete": rng.randint(1, 3)}]
    kinds += [{"retain": 2, "attributes": {"b": True}}, {"retain": 1}, {"insert": {"img": 1}}]
    return parts + [rng.choice(kinds) for _ in range(rng.randint(1, 3))]


def some_op(rng: random.Random, *, plain: bool) -> Op:
    path = some_path(rng)
    names = ["@txt", "@txt", "@inc", "@max", "add", "remove", "replace"]
    if not plain:
        names += ["move", "copy", "test", "soft", "empty", "marked"]
    match rng.choice(names):
        case "@txt":
            return {"op": "@txt", "path": rng.choice(["/t", path]), "value": some_parts(rng)}
        case "remove":
            return {"op": "remove", "path": path}
        case ("move" | "copy") as name:
            return {"op": name, "from": some_path(rng), "path": path}
        case "soft":
            return {"op": "add", "path": path, "value": 1, "soft": True}
        case "empty":
            return {"op": "add", "path": path, "value": rng.choice([{}, []])}
        case "marked":
            return {"op": "remove", "path": path, "obj": True}
        case ("@inc" | "@max") as name:
            return {"op": name, "path": rng.choice(["/n", path]), "value": 1}
        case name:
            return {"op": name, "path": path, "value": rng.randrange(9)}


def some_programs(rng: random.Random, most: int, *, plain: bool) -> list[list[Op]]:
    return [
        [
            some_op(rng, plain=plain or rng.random() < 0.7)
            for _ in range(rng.choice([1, 1, 2, 2, 3, 4]))
        ]
        for _ in range(rng.randint(1, most))
    ]


@pytest.mark.parametrize("seed", range(5))
def test_random_programs_of_several_operations_equal_the_plain_pairwise_walk(seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(1_000):  # 200,000 were run once
        plain = rng.random() < 0.6
        queue, history = some_programs(rng, 5, plain=plain), some_programs(rng, 4, plain=plain)
        assert walk(queue, history) == plain_walk(queue, history), (queue, history)


def test_a_program_that_was_met_as_a_whole_is_not_met_again_by_its_parts() -> None:
    """The first history program makes it dependent, the second one takes that away again."""
    embed = {"insert": {"img": 1}}
    queue: list[list[Op]] = [
        [
            {"op": "@txt", "path": "/l/2", "value": [{"retain": 2}, embed, {"retain": 1}]},
            {"op": "add", "path": "/b/y", "value": 5},
            {"op": "@txt", "path": "/t", "value": [{"insert": "x"}, {"retain": 1}]},
        ]
    ]
    history: list[list[Op]] = [
        [{"op": "remove", "path": "/l/2"}, {"op": "replace", "path": "/l/2", "value": 1}],
        [
            {"op": "@txt", "path": "/t", "value": [{"retain": 5}, {"insert": "y"}]},
            {"op": "@txt", "path": "/l", "value": [embed, {"retain": 2, "attributes": {"b": 1}}]},
        ],
    ]
    assert walk(queue, history) == plain_walk(queue, history)


def test_a_walk_ends_when_its_checkpoint_raises() -> None:
    def end() -> None:
        raise TimeoutError

    removes: list[Op] = [{"op": "remove", "path": "/l/3"}, {"op": "remove", "path": "/l/4"}]
    moves: list[Op] = [{"op": "move", "from": "/l/1", "path": "/l/5"}] * 2
    moving = TransformWalk([removes], checkpoint=end)
    with pytest.raises(TimeoutError):
        moving.follow(moves)
