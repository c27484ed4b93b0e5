"""The dict and the list of a draft behave like Python's and write operations that lead there."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from patches.documents.draft import DraftDict, DraftList, record
from patches.errors import InvalidValueError, PatchError
from patches.json_patch import apply_patch
from patches.model.json_values import json_equal

Edit = Callable[[Any], object]


def applied(state: Any, edit: Edit) -> Any:
    """The state after the recorded operations; the draft must have read the same at its end."""
    untouched = copy.deepcopy(state)
    seen: list[Any] = []

    def whole(draft: Any) -> None:
        edit(draft)
        seen.append(copy.deepcopy(draft._plain()))

    ops = record(state, whole)
    assert state == untouched, "the state was changed"
    result = apply_patch(state, ops, strict=True)
    assert json_equal(seen[0], result), (seen[0], result, ops)
    assert list_of_keys(seen[0]) == list_of_keys(result), "members in another order"
    return result


def list_of_keys(value: Any) -> Any:
    if isinstance(value, dict):
        return [(key, list_of_keys(member)) for key, member in value.items()]
    return [list_of_keys(item) for item in value] if isinstance(value, list) else None


# ---- operations --------------------------------------------------------------------------------


def ops_case(name: str, state: Any, edit: Edit, *ops: dict[str, Any]) -> Any:
    return pytest.param(state, edit, list(ops), id=name)


def op(name: str, path: str, *value: Any, **fields: Any) -> dict[str, Any]:
    return {"op": name, "path": path, **({"value": value[0]} if value else {}), **fields}


def set_item(key: Any, value: Any) -> Edit:
    return lambda draft: draft.__setitem__(key, value)


@pytest.mark.parametrize(
    ("state", "edit", "ops"),
    [
        ops_case("set a member", {}, set_item("a", 1), op("replace", "/a", 1)),
        ops_case("set by attribute", {}, lambda d: setattr(d, "a", 1), op("replace", "/a", 1)),
        ops_case("set an empty container", {}, set_item("a", {}), op("replace", "/a", {})),
        ops_case(
            "escape",
            {"a/b": {}},
            lambda d: set_item("c~d", 1)(d["a/b"]),
            op("replace", "/a~1b/c~0d", 1),
        ),
        ops_case("delete a member", {"a": 1}, lambda d: d.__delitem__("a"), op("remove", "/a")),
        ops_case("delete by attribute", {"a": 1}, lambda d: delattr(d, "a"), op("remove", "/a")),
        ops_case(
            "update",
            {},
            lambda d: d.update({"a": 1}, b=2),
            op("replace", "/a", 1),
            op("replace", "/b", 2),
        ),
        ops_case("|=", {}, lambda d: d.__ior__({"a": 1}), op("replace", "/a", 1)),
        ops_case(
            "+= of a member",
            {"l": [1]},
            lambda d: exec("d['l'] += [2]; d.l += [3]", {"d": d}),
            op("add", "/l/1", 2),
            op("add", "/l/2", 3),
        ),
        ops_case(
            "|= and += of an element",
            {"l": [{}, [1]]},
            lambda d: exec("d.l[0] |= {'a': 1}; d.l[1] += [2]", {"d": d}),
            op("replace", "/l/0/a", 1),
            op("add", "/l/1/1", 2),
        ),
        ops_case("setdefault, a list", {}, lambda d: d.setdefault("a", []), op("add", "/a", [])),
        ops_case(
            "setdefault, a value",
            {},
            lambda d: d.setdefault("a", 1),
            op("replace", "/a", 1, soft=True),
        ),
        ops_case(
            "setdefault, a number as key",
            {},
            lambda d: d.setdefault("1", []),
            op("replace", "/1", [], soft=True),
        ),
        ops_case("setdefault, present", {"a": None}, lambda d: d.setdefault("a", 1)),
        ops_case("append", {"l": [1]}, lambda d: d.l.append(2), op("add", "/l/1", 2)),
        ops_case(
            "append an empty dict",
            {"l": []},
            lambda d: d.l.append({}),
            op("add", "/l/0", None),
            op("replace", "/l/0", {}),
        ),
        ops_case("insert", {"l": [1]}, lambda d: d.l.insert(0, 2), op("add", "/l/0", 2)),
        ops_case(
            "insert far beyond the end",
            {"l": [1]},
            lambda d: d.l.insert(9, 2),
            op("add", "/l/1", 2),
        ),
        ops_case(
            "set an element", {"l": [1]}, lambda d: set_item(-1, [])(d.l), op("replace", "/l/0", [])
        ),
        ops_case("pop an element", {"l": [1, 2]}, lambda d: d.l.pop(), op("remove", "/l/1")),
        ops_case(
            "sort", {"l": [3, 1, 2]}, lambda d: d.l.sort(), op("move", "/l/2", **{"from": "/l/0"})
        ),
        ops_case("sorted already", {"l": [1, 2]}, lambda d: d.l.sort()),
        ops_case("clear a list", {"l": [1, 2]}, lambda d: d.l.clear(), op("replace", "/l", [])),
        ops_case(
            "clear a dict", {"o": {"a": 1, "b": 2}}, lambda d: d.o.clear(), op("replace", "/o", {})
        ),
        ops_case(
            "clear the document",
            {"a": 1, "b": 2},
            lambda d: d.clear(),
            op("remove", "/a"),
            op("remove", "/b"),
        ),
        ops_case("increment", {}, lambda d: d.increment("n"), op("@inc", "/n", 1)),
        ops_case(
            "increment an element",
            {"l": [1]},
            lambda d: d.l.increment(-1, 2),
            op("@inc", "/l/0", 2),
        ),
        ops_case("decrement", {"n": 1}, lambda d: d.decrement("n", 3), op("@inc", "/n", -3)),
        ops_case("set_max", {}, lambda d: d.set_max("n", 5), op("@max", "/n", 5)),
        ops_case(
            "set_min of text", {"n": "b"}, lambda d: d.set_min("n", "a"), op("@min", "/n", "a")
        ),
        ops_case("set_bit", {}, lambda d: d.set_bit("n", 3, True), op("@bit", "/n", 8)),
        ops_case("unset a bit", {}, lambda d: d.set_bit("n", 3, False), op("@bit", "/n", 262144)),
        ops_case(
            "move a member",
            {"a": 1},
            lambda d: d.move("a", "b"),
            op("move", "/b", **{"from": "/a"}),
        ),
        ops_case(
            "move by pointers",
            {"a": [1, 2], "o": {}},
            lambda d: d.move("/a/0", "/o/k"),
            op("move", "/o/k", **{"from": "/a/0"}),
        ),
        ops_case(
            "move by keys",
            {"a": [{"k": 1}]},
            lambda d: d.move(("a", 0, "k"), "k"),
            op("move", "/k", **{"from": "/a/0/k"}),
        ),
        ops_case("move to where it is", {"l": [1, 2]}, lambda d: d.l.move(1, 1)),
        ops_case(
            "copy", {"a": {"k": 1}}, lambda d: d.copy("a", "b"), op("copy", "/b", **{"from": "/a"})
        ),
        ops_case(
            "replace a slice",
            {"l": [1, 2, 3]},
            lambda d: set_item(slice(1, 3), [9])(d.l),
            op("replace", "/l/1", 9),
            op("remove", "/l/2"),
        ),
        ops_case(
            "a slice of the same values",
            {"l": [1, 2]},
            lambda d: set_item(slice(None), [1, 2])(d.l),
        ),
        ops_case("read only", {"a": {"b": [1]}}, lambda d: (d.a.b[0], len(d.a), d == {})),
    ],
)
def test_an_edit_writes_these_operations(state: Any, edit: Edit, ops: list[Any]) -> None:
    assert record(state, edit) == ops
    applied(state, edit)


# ---- behaviour ---------------------------------------------------------------------------------


def test_a_draft_reads_what_was_written() -> None:
    def edit(draft: Any) -> None:
        draft.title = "Plan"
        assert draft["title"] == draft.title == "Plan"
        draft.sections = [{"id": 1}]
        draft.sections[0].id = 2
        assert draft.sections == [{"id": 2}]
        draft.increment("n", 2)
        draft.increment("n", 3)
        assert draft.n == 5
        assert list(draft) == ["title", "sections", "n"]
        del draft.title
        assert "title" not in draft
        assert draft.get("title", 7) == 7
        assert not hasattr(draft, "title")

    assert applied({"title": "Old"}, edit) == {"sections": [{"id": 2}], "n": 5}


def test_a_part_stays_the_same_element_when_the_list_shifts() -> None:
    def edit(draft: Any) -> None:
        second = draft.l[1]
        draft.l.insert(0, {"id": "new"})
        draft.l.move(2, 0)
        second["seen"] = True
        draft.move("l", "m")
        second.n = 1
        assert draft.m[0] is second

    result = applied({"l": [{"id": 0}, {"id": 1}]}, edit)
    assert result["m"][0] == {"id": 1, "seen": True, "n": 1}


@pytest.mark.parametrize(
    "remove",
    [
        lambda d: d.l.pop(0),
        lambda d: d.l.clear(),
        lambda d: d.__delitem__("l"),
        lambda d: d.update(l=[]),
        lambda d: d.l.__setitem__(0, 1),
        lambda d: d.copy("n", "l"),
        lambda d: d.move("n", "l"),
    ],
    ids=["popped", "cleared", "deleted", "replaced", "overwritten", "copied over", "moved over"],
)
def test_writing_to_a_part_that_left_the_document_is_refused(remove: Edit) -> None:
    def edit(draft: Any) -> None:
        part = draft.l[0]
        remove(draft)
        assert part.id == 1, "it can still be read"
        part.id = 2

    with pytest.raises(PatchError, match="removed from the document"):
        record({"l": [{"id": 1}, 2], "n": 1}, edit)


def test_a_draft_as_a_value_is_stored_as_its_plain_value() -> None:
    def edit(draft: Any) -> None:
        draft.a.x = 2
        draft.b = draft.a
        draft.c = [draft.a, {"k": draft.l}]
        draft.a.x = 3
        assert draft.b == {"x": 2}

    result = applied({"a": {"x": 1}, "l": [1]}, edit)
    assert result == {"a": {"x": 3}, "l": [1], "b": {"x": 2}, "c": [{"x": 2}, {"k": [1]}]}


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy])
def test_a_copied_draft_is_plain_values_of_the_callers_own(copied: Callable[[Any], Any]) -> None:
    copies: list[Any] = []

    def edit(draft: Any) -> None:
        draft.l.append(2)
        copies.extend((copied(draft), copied(draft.l)))
        copies[0]["l"][0]["k"] = 2

    assert applied({"l": [{"k": 1}]}, edit) == {"l": [{"k": 1}, 2]}
    assert copies == [{"l": [{"k": 2}, 2]}, [{"k": 1}, 2]]
    assert type(copies[1]) is list


def test_what_is_popped_is_a_plain_copy_of_the_callers_own() -> None:
    state = {"l": [{"id": [1]}], "m": {"k": {"x": 1}}}

    def edit(draft: Any) -> None:
        item = draft.l.pop()
        item["id"].append(2)
        draft.back = item
        member = draft.m.pop("k")
        member["x"] = 2
        assert draft.m.pop("k", None) is None

    assert applied(state, edit) == {"l": [], "m": {}, "back": {"id": [1, 2]}}


def test_the_callers_value_can_change_later_without_the_document_changing() -> None:
    tags = ["a"]
    ops = record({}, lambda draft: draft.update(tags=tags))
    tags.append("b")
    assert ops == [op("replace", "/tags", ["a"])]


def test_equality_is_json_equality() -> None:
    def edit(draft: Any) -> None:
        assert draft.l != [1]
        assert draft.l == [True]
        assert 1 not in draft.l
        assert draft.l.count(True) == 1
        assert draft.o == {"n": 1.0}
        assert draft.l != "no"

    record({"l": [True], "o": {"n": 1}}, edit)


def test_attributes_do_not_hide_methods() -> None:
    def edit(draft: Any) -> None:
        with pytest.raises(AttributeError, match=r"draft\['update'\]"):
            draft.update = 1
        with pytest.raises(AttributeError, match="no member 'nope'"):
            draft.nope  # noqa: B018  # the read is the point
        with pytest.raises(AttributeError):
            del draft.nope
        draft["update"] = 1
        draft._id = 2
        assert (draft["update"], draft._id) == (1, 2)

    applied({}, edit)


@pytest.mark.parametrize(
    ("edit", "error"),
    [
        (lambda d: d["nope"], KeyError),
        (lambda d: d.__delitem__("nope"), KeyError),
        (lambda d: d.pop("nope"), KeyError),
        (lambda d: d.l[5], IndexError),
        (lambda d: d.l.pop(5), IndexError),
        (lambda d: d.l["0"], TypeError),
        (lambda d: d.l[True], TypeError),
        (lambda d: d.l.remove(9), ValueError),
        (lambda d: d.l.__setitem__(slice(0, 2, 2), [1, 2]), ValueError),
        (lambda d: setattr(d.l, "x", 1), AttributeError),
        (lambda d: d.increment("s"), PatchError),
        (lambda d: d.increment("n", True), PatchError),
        (lambda d: d.increment("n", math.nan), PatchError),
        (lambda d: d.increment("n", 2**53), PatchError),
        (lambda d: d.set_max("l", 1), PatchError),
        (lambda d: d.set_max("n", None), PatchError),
        (lambda d: d.set_bit("n", 15, True), PatchError),
        (lambda d: d.text("n"), PatchError),
        (lambda d: d.move("o", "/o/inside"), PatchError),
        (lambda d: d.move("nope", "x"), KeyError),
        (lambda d: d.move("s", "/nope/x"), KeyError),
        (lambda d: d.move("s", "/l/9"), IndexError),
        (lambda d: d.l.move(0, 2), IndexError),
        (lambda d: d.copy("nope", "x"), KeyError),
        (lambda d: d.copy("s", ()), PatchError),
    ],
)
def test_an_impossible_edit_raises_as_python_does_and_writes_nothing(
    edit: Edit, error: type[Exception]
) -> None:
    state = {"l": [1, 2], "s": "text", "n": 1, "o": {}}

    def attempt(draft: Any) -> None:
        with pytest.raises(error):
            edit(draft)

    assert record(state, attempt) == []
    assert applied(state, attempt) == state


def a_cycle() -> list[Any]:
    cycle: list[Any] = [1]
    cycle.append(cycle)
    return cycle


@pytest.mark.parametrize(
    ("value", "path"),
    [
        (math.nan, "/o/k"),
        ([1, math.inf], "/o/k/1"),
        ({"a": b"bytes"}, "/o/k/a"),
        ({"a/b": {1}}, "/o/k/a~1b"),
        ({1: 2}, "/o/k"),
        (2**53, "/o/k"),
        (object(), "/o/k"),
        (a_cycle(), "/o/k/1"),
    ],
)
def test_a_value_that_is_not_json_is_refused_with_its_path(value: Any, path: str) -> None:
    def edit(draft: Any) -> None:
        with pytest.raises(InvalidValueError) as caught:
            draft.o["k"] = value
        assert caught.value.path == path
        with pytest.raises(InvalidValueError):
            draft.l.extend([1, value])
        with pytest.raises(InvalidValueError):
            draft.l[0:0] = [1, value]
        with pytest.raises(InvalidValueError):
            draft.setdefault("new", value)

    assert record({"o": {}, "l": []}, edit) == []


def test_text_and_numbers_of_other_classes_are_stored_plain() -> None:
    class Name(str):
        __slots__ = ()

        def __str__(self) -> str:
            return "something else"

    ops = record({}, lambda draft: draft.update({Name("a"): Name("x")}))
    assert ops == [op("replace", "/a", "x")]
    assert type(ops[0]["value"]) is str


# ---- beside Python's own -----------------------------------------------------------------------

values = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from(["", "x", "a/b"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abcd"), inner, max_size=3)
    ),
    max_leaves=6,
)
indices = st.integers(-4, 4)
slices = st.builds(
    slice, st.none() | indices, st.none() | indices, st.sampled_from([None, 1, 2, -1])
)
list_edits = st.one_of(
    st.tuples(st.just("append"), values),
    st.tuples(st.just("insert"), indices, values),
    st.tuples(st.just("__setitem__"), indices, values),
    st.tuples(st.just("__setitem__"), slices, st.lists(values, max_size=3)),
    st.tuples(st.just("__delitem__"), indices | slices),
    st.tuples(st.just("extend"), st.lists(values, max_size=3)),
    st.tuples(st.just("__iadd__"), st.lists(values, max_size=2)),
    st.tuples(st.just("pop"), indices),
    st.tuples(st.just("reverse")),
    st.tuples(st.just("clear")),
)
dict_edits = st.one_of(
    st.tuples(st.just("__setitem__"), st.sampled_from("abcd"), values),
    st.tuples(st.just("__delitem__"), st.sampled_from("abcd")),
    st.tuples(st.just("pop"), st.sampled_from("abcd")),
    st.tuples(st.just("setdefault"), st.sampled_from("abcd"), values),
    st.tuples(st.just("update"), st.dictionaries(st.sampled_from("abcd"), values, max_size=2)),
    st.tuples(st.just("popitem")),
    st.tuples(st.just("clear")),
)
steps = st.lists(
    st.tuples(st.lists(st.integers(0, 3), max_size=3), list_edits, dict_edits), max_size=8
)


def descend(value: Any, way: list[int]) -> Any:
    """A container somewhere below: the same one in a draft and in plain values."""
    for turn in way:
        inner = [
            key
            for key in (value if isinstance(value, (dict, DraftDict)) else range(len(value)))
            if isinstance(value[key], (dict, list, DraftDict, DraftList))
        ]
        if not inner:
            break
        value = value[inner[turn % len(inner)]]
    return value


def perform(target: Any, list_edit: Any, dict_edit: Any) -> type[Exception] | None:
    is_list = isinstance(target, (list, DraftList))
    name, *arguments = copy.deepcopy(list_edit if is_list else dict_edit)
    try:
        getattr(target, name)(*arguments)
    except (IndexError, KeyError, ValueError) as exc:
        return type(exc)
    return None


@settings(max_examples=300, deadline=None)
@given(state=st.dictionaries(st.sampled_from("abcd"), values, max_size=4), steps=steps)
def test_any_edits_do_what_they_do_to_plain_values(state: Any, steps: Any) -> None:
    model = copy.deepcopy(state)

    def edit(draft: Any) -> None:
        for way, list_edit, dict_edit in steps:
            raised = perform(descend(draft, way), list_edit, dict_edit)
            assert raised == perform(descend(model, way), list_edit, dict_edit)
            assert json_equal(draft._plain(), model)

    assert json_equal(applied(state, edit), model)


@settings(max_examples=100, deadline=None)
@given(items=st.lists(st.integers(0, 30), max_size=25), reverse=st.booleans())
def test_sorting_is_stable_and_moves_no_more_than_needed(items: list[int], reverse: bool) -> None:
    pairs = [{"n": n, "at": at} for at, n in enumerate(items)]

    def edit(draft: Any) -> None:
        draft.l.sort(key=lambda item: item.n, reverse=reverse)

    wanted = sorted(pairs, key=lambda item: item["n"], reverse=reverse)
    assert applied({"l": pairs}, edit) == {"l": wanted}
    assert len(record({"l": pairs}, edit)) <= max(0, len(items) - 1)


def test_a_large_new_order_is_one_new_list() -> None:
    items = [{"n": n} for n in range(1_000)]
    ops = record({"l": items}, lambda draft: draft.l.reverse())
    assert ops == [op("replace", "/l", items[::-1])]


@settings(max_examples=150, deadline=None)
@given(data=st.data(), state=st.dictionaries(st.sampled_from("abcd"), values, min_size=1))
def test_moves_and_copies_lead_where_the_draft_says(data: st.DataObject, state: Any) -> None:
    def edit(draft: Any) -> None:
        for _ in range(data.draw(st.integers(1, 3))):
            way = st.lists(st.integers(0, 3), max_size=2)
            source, target = descend(draft, data.draw(way)), descend(draft, data.draw(way))
            if not len(source):
                continue
            key = data.draw(
                st.sampled_from(
                    list(source) if isinstance(source, DraftDict) else list(range(len(source)))
                )
            )
            place = data.draw(
                st.sampled_from("abe")
                if isinstance(target, DraftDict)
                else st.integers(0, len(target))
            )
            steps = [*way_to(draft, source), key], [*way_to(draft, target), place]
            try:
                data.draw(st.sampled_from([draft.move, draft.copy]))(*steps)
            except (PatchError, IndexError, KeyError):
                continue

    applied(state, edit)


def way_to(draft: Any, part: Any) -> list[str]:
    path: str = part._path()
    return path.split("/")[1:]


def test_a_copy_of_an_element_to_its_own_index_is_written_as_an_insert() -> None:
    ops = record({"l": [1, 2]}, lambda draft: draft.copy("/l/1", "/l/1"))
    assert ops == [{"op": "add", "path": "/l/1", "value": 2}]  # a transform keeps it


@pytest.mark.parametrize(
    ("edit", "copied"),
    [
        (lambda d: d.copy("/m", "/c"), {"op": "copy", "from": "/m", "path": "/c"}),
        (
            lambda d: (d.m.k.insert(0, 1), d.copy("/m", "/c")),
            {"op": "replace", "path": "/c", "value": {"k": [1, 0]}},
        ),
        (
            lambda d: (d.l[0].k.append(1), d.l.insert(0, 9), d.copy("/l/1", "/l/0")),
            {"op": "add", "path": "/l/0", "value": {"k": [1]}},
        ),
        (
            lambda d: (d.m.k.insert(0, 1), d.move("/m", "/n"), d.copy("/n", "/c")),
            {"op": "replace", "path": "/c", "value": {"k": [1, 0]}},
        ),
        (
            lambda d: (d.update(x=1), d.copy("/m", "/c")),
            {"op": "copy", "from": "/m", "path": "/c"},
        ),
        (
            lambda d: (d.m.update(s=1), d.copy("/m/s", "/c")),
            {"op": "copy", "from": "/m/s", "path": "/c"},
        ),
    ],
    ids=["untouched", "written below", "a shifted element", "moved since", "beside", "a scalar"],
)
def test_a_container_written_to_before_it_is_copied_goes_as_its_value(
    edit: Any, copied: dict[str, Any]
) -> None:
    ops = record({"m": {"k": [0]}, "l": [{"k": []}]}, edit)
    assert ops[-1] == copied


def test_a_list_document_takes_a_new_order_of_many_moves_element_by_element() -> None:
    ops = record(list(range(600)), lambda draft: draft.reverse())
    assert all(op["path"] for op in ops)
    assert apply_patch(list(range(600)), ops, strict=True) == list(range(600))[::-1]
    sorted_ops = record(list(range(600))[::-1], lambda draft: draft.sort())
    assert all(op["op"] == "replace" and op["path"] for op in sorted_ops)
