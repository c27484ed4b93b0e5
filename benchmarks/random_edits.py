"""Random edits of every kind, and an account of what the documents must hold after them.

Most of a document is anybody's to overwrite and delete. Some of it is not, and shows what became of
each edit: a counter and a last word per author, which nobody else touches, and a counter that all
share. List elements, and some characters of the text, are all different, so that one that was
applied twice is seen.
"""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, Final, TypeAlias

from patches import Document

Edit: TypeAlias = Callable[[Any, random.Random, str], object]  # of a draft; the mark is unique

_KEYS: Final = "abcdefgh"
_MOST_ELEMENTS: Final = 30
_MOST_CHARACTERS: Final = 1_200
#: Characters for private use, two UTF-16 units each: every one is typed once.
_FIRST_OWN: Final = "\U000f0000"
_ALL_OWN: Final = 0x1FFFE  # of them there are so many, less two
_OWN: Final = 2_600  # so many each for 50 authors


class Account:
    """What all authors have done to one document, as far as it must be seen in the end."""

    def __init__(self) -> None:
        self.edits = 0
        self.counted: Counter[str] = Counter()
        self.last: dict[str, str] = {}

    def faults(self, state: Any) -> Iterator[str]:
        """What a state that should hold everything does not hold, or holds twice."""
        total = sum(self.counted.values())
        if state.get("count", 0) != total:
            yield f"count is {state.get('count')}, expected {total}"
        for author, counted in self.counted.items():
            if state.get(f"count-{author}") != counted:
                got = state.get(f"count-{author}")
                yield f"the counter of {author} is {got}, expected {counted}"
        for author, word in self.last.items():
            if state.get(f"last-{author}") != word:
                yield f"the last word of {author} is {state.get(f'last-{author}')}, expected {word}"
        yield from _twice("element", state.get("elements", []))
        text = "".join(op["insert"] for op in state.get("text", {}).get("ops", []))
        yield from _twice("character", [char for char in text if char >= _FIRST_OWN])


def _twice(what: str, items: list[Any]) -> Iterator[str]:
    for item, times in Counter(items).items():
        if times > 1:
            yield f"{what} {item!r} is there {times} times"


class Author:
    """One client's hand: makes edits, and enters them in the documents' accounts."""

    def __init__(
        self, number: int, chance: random.Random, accounts: dict[str, Account], *, moves: bool
    ) -> None:
        self.name = f"a{number}"
        #: Texts merge in OT documents only. Moves are by choice there: see `benchmarks.soak`.
        self._moves = moves
        self._edits = {"lww": (*_COMMON, _move), "ot": (*_COMMON, *_TEXT, *(moves * (_move,)))}
        self._chance = chance
        self._accounts = accounts
        self._marks = (f"{self.name}.{made}" for made in itertools.count())

    def edit(self, doc: Document) -> None:
        """Make one random edit of a document."""
        mark = next(self._marks)
        account = self._accounts[doc.id]
        kind = self._chance.random()
        if kind < 0.25:
            with doc.edit() as draft:
                draft.increment(f"count-{self.name}")
                draft.increment("count")
            account.counted[self.name] += 1
        elif kind < 0.35:
            doc.change(lambda draft: draft.update({f"last-{self.name}": mark}))
            account.last[self.name] = mark
        elif kind < 0.40:
            doc.set(_rearranged(doc.state, self._chance, mark))
        elif kind < 0.45:
            moves = self._moves or doc.algorithm == "lww"
            doc.apply(_ops(doc.state, self._chance, mark, moves=moves))
        else:
            with doc.edit() as draft:
                for _ in range(self._chance.choice((1, 1, 1, 3))):
                    self._chance.choice(self._edits[doc.algorithm])(draft, self._chance, mark)
                    mark = next(self._marks)
        account.edits += 1


def own_character(mark: str) -> str:
    """The character that only the edit with this mark types."""
    author, number = mark.removeprefix("a").split(".")
    return chr(ord(_FIRST_OWN) + (int(author) * _OWN + int(number) % _OWN) % _ALL_OWN)


# ---- edits of a draft ----------------------------------------------------------------------------


def _set(draft: Any, chance: random.Random, mark: str) -> None:
    draft[chance.choice(_KEYS)] = chance.choice(
        (mark, len(mark), 0.5, True, None, {"by": mark}, [mark])
    )


def _delete(draft: Any, chance: random.Random, mark: str) -> None:
    draft.pop(chance.choice(_KEYS), None)


def _nest(draft: Any, chance: random.Random, mark: str) -> None:
    box = draft.setdefault("box", {})
    box.setdefault(chance.choice(_KEYS), {})[chance.choice(_KEYS)] = mark


def _empty(draft: Any, chance: random.Random, mark: str) -> None:
    if chance.random() < 0.3:
        draft["box"] = {}
    elif "box" in draft:
        draft["box"].pop(chance.choice(_KEYS), None)


def _number(draft: Any, chance: random.Random, mark: str) -> None:
    draft.set_max("most", chance.randrange(1_000_000))
    draft.set_min("least", -chance.randrange(1_000_000))
    draft.set_bit("bits", chance.randrange(15), chance.random() < 0.5)


def _element(draft: Any, chance: random.Random, mark: str) -> None:
    elements = draft.setdefault("elements", [])
    elements.insert(chance.randint(0, len(elements)), mark)
    while len(elements) > _MOST_ELEMENTS:
        del elements[chance.randrange(len(elements))]


def _move(draft: Any, chance: random.Random, mark: str) -> None:
    elements = draft.get("elements")
    if elements:
        elements.move(chance.randrange(len(elements)), chance.randrange(len(elements)))


def _write(draft: Any, chance: random.Random, mark: str) -> None:
    text = draft.text("text")
    end = len(text) - 1
    text.insert(chance.randint(0, end), chance.choice(("a", "naïve ", "two\nlines", mark)))
    if end > _MOST_CHARACTERS:
        start = chance.randrange(end - 100)
        text.delete(start, 100)


def _format(draft: Any, chance: random.Random, mark: str) -> None:
    text = draft.text("text")
    end = len(text) - 1
    if end > 10:
        start = chance.randrange(end - 8)
        text.format(start, 8, {"bold": chance.choice((True, None))})


def _type_once(draft: Any, chance: random.Random, mark: str) -> None:
    text = draft.text("text")
    text.insert(chance.randint(0, len(text) - 1), own_character(mark))


_COMMON: Final[tuple[Edit, ...]] = (_set, _delete, _nest, _empty, _number, _element)
_TEXT: Final[tuple[Edit, ...]] = (_write, _format, _type_once, _type_once)


# ---- edits by whole states and by operations -----------------------------------------------------


def _rearranged(state: Any, chance: random.Random, mark: str) -> dict[str, Any]:
    elements = list(state.get("elements", []))
    if elements and chance.random() < 0.5:
        elements.pop(chance.randrange(len(elements)))
    elements.insert(chance.randint(0, len(elements)), mark)
    return {**state, "elements": elements, chance.choice(_KEYS): {"set": [mark]}}


def _ops(state: Any, chance: random.Random, mark: str, *, moves: bool) -> list[dict[str, Any]]:
    key, other = chance.sample(_KEYS, 2)
    ops: list[dict[str, Any]] = [{"op": "replace", "path": f"/{key}", "value": mark}]
    ops.append({"op": "test", "path": f"/{key}", "value": mark})
    if moves:
        ops.append({"op": chance.choice(("copy", "move")), "from": f"/{key}", "path": f"/{other}"})
        if "box" in state:
            ops.append({"op": "copy", "from": "/box", "path": f"/{key}"})
    return ops
