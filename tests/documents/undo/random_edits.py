"""Random edits of a document that has everything an edit can touch."""

from __future__ import annotations

import random
from typing import Any

LETTERS = "mnopqrst \n😀é"


def start(draft: Any) -> None:
    """What every document begins with."""
    draft.update(title="t", n=0, flags=0, items=[{"id": "a"}, {"id": "b"}], box={"x": {"y": 1}})


def start_text(draft: Any) -> None:
    """The text of an OT document."""
    draft.text("body").insert(0, "abcdefghijk")


def edit_field(draft: Any, dice: random.Random) -> None:
    """One edit of a field: written, counted, flagged, removed, made with what is above it."""
    key = dice.choice("pqr5")
    kind = dice.randrange(8)
    if kind == 0:
        draft[key] = dice.choice([1, "one", None, True, {"deep": [1]}, [], {}])
    elif kind == 1:
        draft.pop(key, None)
    elif kind == 2:
        draft.increment("n", dice.randrange(-3, 9))
    elif kind == 3:
        draft.set_bit("flags", dice.randrange(15), dice.random() < 0.5)
    elif kind == 4:
        draft.set_max("n", dice.randrange(20))
    elif kind == 5:
        draft["title"] = f"title {dice.randrange(5)}"
    elif kind == 6 and isinstance(draft["box"], dict):
        draft["box"][key] = {"inner": {"z": dice.randrange(3)}}
    else:
        draft["box"] = {"x": {"y": dice.randrange(3)}}


def edit_list(draft: Any, dice: random.Random) -> None:
    """One edit of a list: inserted, removed, changed inside, moved."""
    items = draft["items"]
    kind = dice.randrange(5)
    if kind <= 1 or not items:
        items.insert(
            dice.randrange(len(items) + 1), dice.choice([{"id": str(dice.random())}, {}, 7])
        )
    elif kind == 2:
        del items[dice.randrange(len(items))]
    elif kind == 3:
        items[dice.randrange(len(items))] = {"id": "changed"}
    else:
        items.move(dice.randrange(len(items)), dice.randrange(len(items)))


def edit_text(draft: Any, dice: random.Random) -> None:
    """One edit of the text: typed, deleted, replaced, formatted."""
    text = draft.text("body")
    length = len(text)
    at = dice.randrange(length + 1)
    kind = dice.randrange(5)
    if kind <= 1 or length < 3:
        text.insert(min(at, length), dice.choice(LETTERS) * dice.randrange(1, 4))
    elif kind == 2:
        at = dice.randrange(length - 2)
        text.delete(at, dice.randrange(1, 3))
    elif kind == 3:
        at = dice.randrange(length - 2)
        text.replace(at, 2, dice.choice(LETTERS))
    else:
        at = dice.randrange(length - 2)
        text.format(at, 2, {"bold": dice.choice([True, None])})
