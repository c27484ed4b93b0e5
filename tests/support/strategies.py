"""Hypothesis strategies: JSON documents, operations on them, rich texts and changes to them.

    @given(st.data())
    def test_undo(data: st.DataObject) -> None:
        document = data.draw(documents())
        ops = data.draw(patches_for(document))

Documents have a few fixed keys, lists and texts, so that operations of two parties often meet.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

from hypothesis import strategies as st

from patches.errors import PatchError
from patches.json_patch import ABSENT, apply_patch, bitmask, pointer
from patches.json_patch.pointer import escape
from patches.model.json_values import Json, Op
from patches.text import Delta, DeltaOp, op_length, text_ops_of

#: Characters of all widths in UTF-16 and UTF-8, and a combining one.
CHARACTERS: Final = "ab \n\u00e9e\u0301\u6f22\U0001f600\U0001d11e"
#: The halves of 😀, which an edit that cuts one in two leaves behind.
HALVES: Final = "\ud83d\ude00"
KEYS: Final = ("a", "b", "c/d", "e~f", "0", "")
NAMES: Final = (
    "add", "remove", "replace", "copy", "move", "test", "@inc", "@bit", "@max", "@min", "@txt",
)  # fmt: skip


def texts(*, halves: bool = False, max_size: int = 8) -> st.SearchStrategy[str]:
    """Short texts with emoji; with `halves` also lone surrogates."""
    return st.text(st.sampled_from(CHARACTERS + (HALVES if halves else "")), max_size=max_size)


def numbers() -> st.SearchStrategy[float]:
    """Numbers as JSON has them, small ones and the largest that are exact."""
    return st.one_of(
        st.integers(-20, 20),
        st.sampled_from([0.5, -1.25, 2.0, 1e21, 2**53 - 1, -(2**53 - 1)]),
    )


def scalars() -> st.SearchStrategy[Json]:
    """JSON values that hold no others."""
    return st.one_of(st.none(), st.booleans(), numbers(), texts(max_size=3))


def json_values(max_leaves: int = 6) -> st.SearchStrategy[Json]:
    """Any JSON value, not deep."""
    return st.recursive(
        scalars(),
        lambda inner: st.one_of(
            st.lists(inner, max_size=4), st.dictionaries(st.sampled_from(KEYS), inner, max_size=4)
        ),
        max_leaves=max_leaves,
    )


def documents() -> st.SearchStrategy[Json]:
    """Documents with members, lists of items, numbers and texts."""
    item = st.fixed_dictionaries(
        {"n": numbers()}, optional={"label": texts(), "tags": st.lists(scalars(), max_size=3)}
    )
    return st.fixed_dictionaries(
        {},
        optional={
            "items": st.lists(item, max_size=4),
            "list": st.lists(scalars(), max_size=4),
            "count": numbers(),
            "flags": st.integers(0, 2**15 - 1),
            "text": text_values(),
            "map": st.dictionaries(st.sampled_from(KEYS), json_values(), max_size=4),
            "any": json_values(),
        },
    )


def attributes(*, removals: bool = False) -> st.SearchStrategy[dict[str, Json] | None]:
    """How text is formatted; with `removals` also what a change takes off."""
    values = st.sampled_from([True, "x", 7, None] if removals else [True, "x", 7])
    some = st.dictionaries(st.sampled_from(["bold", "link"]), values, min_size=1)
    return st.one_of(st.none(), st.none(), some)


def contents(*, halves: bool = False) -> st.SearchStrategy[str | dict[str, Json]]:
    """What an insert holds: text, or now and then an embed."""
    text = texts(halves=halves).filter(bool)
    return st.one_of(text, text, text, st.sampled_from([{"image": "p.png"}, {"mention": 7}]))


@st.composite
def text_documents(draw: st.DrawFn, *, halves: bool = False, plain: bool = False) -> list[DeltaOp]:
    """The ops of a text that ends in a newline; with `plain` without formatting and embeds."""
    delta = Delta()
    for _ in range(draw(st.integers(0, 4))):
        if plain:
            delta.insert(draw(texts(halves=halves)))
        else:
            delta.insert(draw(contents(halves=halves)), draw(attributes()))
    return delta.insert("\n").ops


def text_values() -> st.SearchStrategy[dict[str, Json]]:
    """A text as a document holds it."""
    return text_documents().map(lambda ops: {"ops": ops})


@st.composite
def changes(
    draw: st.DrawFn, length: int, *, halves: bool = False, plain: bool = False, overrun: int = 0
) -> list[DeltaOp]:
    """A change to a text of `length` units, which may cut pairs, and run past the end a little."""
    delta, left = Delta(), length + overrun
    for _ in range(draw(st.integers(0, 5))):
        kind = draw(st.sampled_from(["insert", "retain", "delete"]))
        if kind == "insert":
            content = draw(texts(halves=halves) if plain else contents(halves=halves))
            delta.insert(content, None if plain else draw(attributes()))
        elif left:
            units = draw(st.integers(1, left))
            left -= units
            if kind == "delete":
                delta.delete(units)
            else:
                delta.retain(units, None if plain else draw(attributes(removals=True)))
    return delta.ops


def pointers_of(document: Json, path: str = "") -> Iterator[str]:
    """The pointers of all values in a document, the root's first. Texts count as one value."""
    yield path
    if isinstance(document, dict) and not _is_text(document):
        for key, value in document.items():
            yield from pointers_of(value, f"{path}/{escape(key)}")
    elif isinstance(document, list):
        for index, value in enumerate(document):
            yield from pointers_of(value, f"{path}/{index}")


def _is_text(value: Json) -> bool:
    return isinstance(value, dict) and set(value) == {"ops"} and isinstance(value["ops"], list)


@st.composite
def paths(draw: st.DrawFn, document: Json) -> str:
    """A pointer to a value of the document, or beside one: a new key, an index, the end."""
    path = draw(st.sampled_from(list(pointers_of(document))))
    kind = draw(st.integers(0, 5))
    if kind < 4:
        return path
    key = draw(st.sampled_from([*map(escape, KEYS), "-", "1", "2", "new"]))
    return f"{path}/{key}" if kind == 4 else f"{path.rpartition('/')[0]}/{key}"


@st.composite
def operations(draw: st.DrawFn, document: Json, *, names: tuple[str, ...] = NAMES) -> Op:
    """One operation on the document; it may fail, but is one that a client could send."""
    name, path = draw(st.sampled_from(names)), draw(paths(document))
    op: Op = {"op": name, "path": path}
    if name in ("move", "copy"):
        op["from"] = draw(paths(document).filter(bool))
    elif name in VALUES:
        op["value"] = draw(VALUES[name]())
    elif name == "@txt":
        found = pointer.value_at(document, path)
        ops = text_ops_of(found) or () if _is_text(found) else ()
        op["value"] = draw(changes(sum(map(op_length, ops)), overrun=1))
    elif name == "test":
        found = pointer.value_at(document, path)
        op["value"] = found if found is not ABSENT and draw(st.booleans()) else draw(scalars())
    if name in ("add", "replace", "copy") and draw(st.integers(0, 9)) == 0:
        op["soft"] = True
    return op


#: The values of those operations whose value does not depend on what they find.
VALUES: Final[dict[str, Callable[[], st.SearchStrategy[Any]]]] = {
    "add": json_values,
    "replace": json_values,
    "@inc": numbers,
    "@bit": lambda: st.builds(bitmask, st.integers(0, 14), st.booleans()),
    "@max": lambda: st.one_of(numbers(), texts(max_size=3)),
    "@min": lambda: st.one_of(numbers(), texts(max_size=3)),
}


@st.composite
def patches_for(
    draw: st.DrawFn, document: Json, *, max_size: int = 5, names: tuple[str, ...] = NAMES
) -> list[Op]:
    """Operations that apply in turn, each without an error (nor a failing `test`)."""
    ops: list[Op] = []
    for _ in range(draw(st.integers(0, max_size))):
        op = draw(operations(document, names=names))
        try:
            after = apply_patch(document, [op], strict=True)
        except PatchError:
            continue
        if after is ABSENT:
            continue
        document = after
        ops.append(op)
    return ops
