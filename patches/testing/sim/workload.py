"""What the users of a run do: a script made from the seed, and the hands that carry it out.

The script does not depend on the faults, so that a class of faults can be switched off and the
rest stays as it was. Each action draws its details from a random source of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from random import Random
from typing import Any, Final

from patches.model.json_values import Op
from patches.testing.sim.config import Config

_DAY_S: Final = 86_400.0

#: Kinds of actions and how often each is chosen.
_EDITS_OT: Final = {
    "note": 14, "log": 8, "count": 6, "type": 12, "erase": 5, "halves": 1, "items": 14,
    "tree": 12, "parent": 3, "numbers": 5, "large": 1, "burst": 2, "set_aside": 1,
}  # fmt: skip
_EDITS_LWW: Final = {
    "mark": 14, "count": 8, "flat": 16, "tree": 14, "parent": 5, "numbers": 6, "burst": 2,
}  # fmt: skip
_LIFE: Final = {
    "offline": 4, "close": 2, "open": 3, "untrack": 1, "version": 1, "pause": 3,
}  # fmt: skip
_FAMILY_LIFE: Final = {kind: weight for kind, weight in _LIFE.items() if kind != "version"}
_MORTAL: Final = {"delete": 3, "undelete": 4}
_BRANCHING: Final = {"branch": 2, "merge": 3}
#: Per class of `FAULTS`: what its users do besides, and how often per 100 actions.
_BESIDES: Final = {
    "presence": (("presence",), 6),
    "undo": (("undo", "undo", "create"), 8),
    "refusing": (("vetoed",), 6),
    "rebirth": (("remake", "remake", "delete_offline", "delete_and_open"), 6),
    "close_edits": (("front", "mistype", "mistype", "cell", "cell"), 30),
    "wide": (("wide",), 4),
}
#: What is done to documents that may be deleted, alone.
_TO_MORTALS: Final = frozenset({"create", "remake", "delete_offline", "delete_and_open"})

_WORDS: Final = (
    "plan",
    "ärger",
    "東京",
    "😀",
    "e\u0301",
    "a\U0001f468\u200d\U0001f469b",
    "\n",
    "x",
)


@dataclass(frozen=True, slots=True)
class Action:
    """One thing that a user does."""

    number: int
    at_s: float
    client: int
    kind: str
    doc_id: str
    seed: str

    def random(self) -> Random:
        """The source of this action's details."""
        return Random(self.seed)  # a simulation, not a secret

    def __str__(self) -> str:
        return f"#{self.number} {self.kind} {self.doc_id}"


def script(config: Config, family_edits: Mapping[str, int] | None = None) -> list[Action]:
    """All actions of a run, in order of time. `family_edits`: those of documents beside OT and LWW,
    and how often each is chosen.
    """
    of_family = dict.fromkeys(config.family_ids)
    random = config.stream("work")
    actions: list[Action] = []
    now_s = 1.0
    for number in range(config.actions):
        doc_id = random.choice(config.doc_ids)
        kinds = {**(_EDITS_LWW if doc_id.startswith("lww/") else _EDITS_OT), **_LIFE}
        if doc_id in of_family:
            kinds = {**(family_edits or {}), **_FAMILY_LIFE}
        if "mortal" in doc_id:
            kinds |= _MORTAL
        if doc_id == "branched":
            kinds |= _BRANCHING
        kind = random.choices(list(kinds), list(kinds.values()))[0]
        client = random.randrange(config.clients)
        now_s += random.expovariate(1 / 0.4)
        if kind == "pause":
            now_s += random.choice((30.0, 400.0, 2_400.0))
        if number not in config.without_actions:
            seed = f"{config.seed}:action:{number}"
            actions.append(Action(number, now_s, client, kind, doc_id, seed))
    actions += _besides(config, now_s)
    return sorted(actions, key=lambda action: (action.at_s, action.number))


def _besides(config: Config, until_s: float) -> Iterator[Action]:
    """What users do in some runs, each class from a source of its own."""
    for place, (fault, (kinds, per_100)) in enumerate(_BESIDES.items(), start=1):
        if fault not in config.faults:
            continue
        random = config.stream(f"work:{fault}")
        for count in range(max(2, config.actions * per_100 // 100)):
            number, at_s = place * 100_000 + count, random.uniform(1, until_s)
            client, kind = random.randrange(config.clients), random.choice(kinds)
            docs = config.mortal_ids if kind in _TO_MORTALS else config.doc_ids
            if docs and number not in config.without_actions:
                seed, doc_id = f"{config.seed}:action:{number}", random.choice(docs)
                yield Action(number, at_s, client, kind, doc_id, seed)


def offline_time_s(random: Random) -> float:
    """How long a client stays offline: mostly seconds, now and then days."""
    return random.choices(
        (random.uniform(0.5, 20), random.uniform(60, 7_200), random.uniform(1, 40) * _DAY_S),
        (10, 4, 1),
    )[0]


# ---- edits -----------------------------------------------------------------------------------

#: An edit gets the draft, its random source, and a character that occurs nowhere else.
Edit = Callable[[Any, Random, str], None]


def marker(number: int, kind: str) -> str:
    """A private character that occurs nowhere else.

    In text it is one of a single UTF-16 unit: two edits at one offset may end up inside each other
    (`docs/internals/reliability.md` 6.7), which would tear a pair apart.
    """
    in_text = kind in ("note", "front")
    return chr(0xE000 + number % 6_400) if in_text else chr(0xF0000 + number)


def first_state(doc_id: str) -> dict[str, Any]:
    """What a document starts as."""
    shared: dict[str, Any] = {
        "count": 0, "flags": 0, "high": 0, "low": 0, "tree": {"a": {"b": {}}, "c": {}},
        "table": {},
    }  # fmt: skip
    if doc_id.startswith("lww/"):
        return {**shared, "marks": {}, "f0": "", "f1": ""}
    text = {"ops": [{"insert": "\n"}]}
    return {**shared, "notes": text, "body": text, "log": [], "items": ["first"]}


def _note(draft: Any, random: Random, mark: str) -> None:
    text = draft.text("notes")
    text.insert(random.randrange(len(text)) if len(text) else 0, mark)


def _log(draft: Any, random: Random, mark: str) -> None:
    log = draft["log"]
    if random.random() < 0.7:
        log.append(mark)
    else:
        log.insert(random.randint(0, len(log)), mark)


def _mark(draft: Any, random: Random, mark: str) -> None:
    draft["marks"][mark] = random.randrange(100)


def _count(draft: Any, random: Random, mark: str) -> None:
    draft.increment("count", 1)


def _type(draft: Any, random: Random, mark: str) -> None:
    text = draft.text("body")
    text.insert(random.randint(0, max(0, len(text) - 1)), random.choice(_WORDS))


def _erase(draft: Any, random: Random, mark: str) -> None:
    text = draft.text("body")
    if len(text) > 2:
        start = random.randrange(len(text) - 2)
        text.delete(start, random.randint(1, min(6, len(text) - 1 - start)))


def _items(draft: Any, random: Random, mark: str) -> None:
    items = draft["items"]
    how = random.choice(("insert", "insert", "remove", "move", "copy", "replace"))
    if how == "insert" or not len(items):
        items.insert(random.randint(0, len(items)), {"n": random.randrange(100)})
        return
    place, other = random.randrange(len(items)), random.randrange(len(items))
    if how == "remove":
        del items[place]
    elif how == "replace":
        items[place] = random.randrange(1000)
    elif how == "move":
        draft.move(f"/items/{place}", f"/items/{other}")
    else:
        draft.copy(f"/items/{place}", f"/items/{other}")


def _tree(draft: Any, random: Random, mark: str) -> None:
    node = draft["tree"]
    for _ in range(random.randint(0, 2)):
        below = [key for key in node if isinstance(node[key], type(node))]
        if not below:
            break
        node = node[random.choice(below)]
    key = random.choice("abcdx")
    how = random.random()
    if how < 0.25 and key in node:
        del node[key]
    elif how < 0.4:
        node.setdefault(key, {"soft": random.randrange(100)})
    elif how < 0.7:
        node[key] = random.choice((None, True, "s", 1.5, [], {"deep": {"er": 1}}))
    else:
        node[key] = {}


def _parent(draft: Any, random: Random, mark: str) -> None:
    draft["tree"] = {"a": {"b": {"new": random.randrange(100)}}, "c": {}}


def _numbers(draft: Any, random: Random, mark: str) -> None:
    how = random.choice(("bit", "max", "min"))
    if how == "bit":
        draft.set_bit("flags", random.randrange(15), random.random() < 0.5)
    elif how == "max":
        draft.set_max("high", random.randrange(1000))
    else:
        draft.set_min("low", -random.randrange(1000))


def _large(draft: Any, random: Random, mark: str) -> None:
    word = random.choice(("long ", "lang 😀 "))
    draft.text("body").insert(0, word * random.randint(800, 2_000))


def _flat(draft: Any, random: Random, mark: str) -> None:
    draft[random.choice(("f0", "f1"))] = mark


def _front(draft: Any, random: Random, mark: str) -> None:
    """At the very place where others write, too."""
    if random.random() < 0.5 and "notes" in draft:
        draft.text("notes").insert(0, mark)
    elif "log" in draft:
        draft["log"].insert(0, mark)
    else:
        draft["marks"][mark] = 0


def _cell(draft: Any, random: Random, mark: str) -> None:
    """A key of an object that looks like the index of a list."""
    draft["table"][cell_of(mark)] = mark


def _wide(draft: Any, random: Random, mark: str) -> None:
    """More than one commit carries, and an increment with it."""
    if "body" in draft:
        draft.text("body").insert(0, "wide " * random.randint(1_000, 2_000))
    else:
        draft["wide"] = {}
        for number in range(random.randint(60, 120)):
            draft["wide"][f"field {number}"] = "x" * 40
    draft.increment("count", 1)


def _vetoed(draft: Any, random: Random, mark: str) -> None:
    """What the server's validation refuses."""
    draft["vetoed"] = mark


def cell_of(mark: str) -> str:
    """The key of a cell that holds this and nothing else, ever."""
    return str(ord(mark) - 0xF0000 + 10)


def mistyped(draft: Any, random: Random) -> Callable[[Any], object]:
    """Write something where others write, too; what is returned takes it back."""
    how = random.choice(("text", "list", "key", "key"))
    if how == "text" and "notes" in draft:
        slip = random.choice(("x", "slip", "hello"))
        draft.text("notes").insert(0, slip)
        return lambda after: after.text("notes").delete(0, len(slip))
    if how == "list" and "log" in draft:
        draft["log"].insert(0, "slip")
        return lambda after: after["log"].pop(0)
    key = str(random.randrange(3))
    draft["table"][key] = "slip"
    return lambda after: after["table"].pop(key, None)


EDITS: Final[dict[str, Edit]] = {
    "note": _note,
    "log": _log,
    "mark": _mark,
    "count": _count,
    "type": _type,
    "erase": _erase,
    "items": _items,
    "tree": _tree,
    "parent": _parent,
    "numbers": _numbers,
    "large": _large,
    "flat": _flat,
    "front": _front,
    "cell": _cell,
    "wide": _wide,
    "vetoed": _vetoed,
}
#: Edits whose effect nobody takes back: each is there exactly once in the end.
LASTING: Final = frozenset({"note", "log", "mark", "count", "front", "cell"})
#: Edits that count one up in `/count`.
COUNTING: Final = frozenset({"count", "wide"})


def halves(random: Random) -> list[Op]:
    """Half a surrogate pair typed into the body: what some editors send."""
    half = random.choice(("\ud83d", "\ude00"))
    return [{"op": "@txt", "path": "/body", "value": [{"insert": half}]}]


def undoable(doc_id: str, random: Random) -> list[Op]:
    """An edit that its user takes back soon after."""
    if doc_id.startswith("lww/") or random.random() < 0.3:
        return [
            {"op": "replace", "path": f"/tree/{random.choice('abuv')}", "value": {"un": "done"}}
        ]
    if random.random() < 0.5:
        return [{"op": "add", "path": "/items/0", "value": "a slip"}]
    return [{"op": "@txt", "path": "/body", "value": [{"insert": "slip \U0001f600 "}]}]
