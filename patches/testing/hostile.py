"""Hostile frames, from a seed: recorded ones that were tampered with, and generated operations.

    for frame in hostile_frames(seed, 1_000, recorded):
        await session.receive(frame)

They find out what a server does with anything but what a client would send.
"""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Iterator, Sequence
from typing import Any, Final

#: Documents that generated frames are about; recorded ones name others.
DOC_IDS: Final = ("fuzz", "fuzz/2", "lww/fuzz", "lww/fuzz/2")
METHODS: Final = (
    *("subscribe", "unsubscribe", "getDoc", "getChangesSince"),
    *("commitChanges",) * 12,
    *("deleteDoc", *("undeleteDoc",) * 5, "listVersions"),
    *("createVersion", "updateVersion", "getVersionState", "getVersionChanges"),
    *("getStateBeforeVersion", "listBranches", "createBranch", "updateBranch", "deleteBranch"),
    *("mergeBranch", "peer-signal", "__init__", "constructor", ""),
)
OPS: Final = (
    *("add", "remove", "replace", "move", "copy", "test", "@inc", "@bit", "@max", "@min", "@txt"),
    *("explode", "", "__proto__"),
)
SEGMENTS: Final = (
    *("a", "b", "list", "text", "n", "0", "1", "-", "-1", "01", "1e3", "\u0661", "9" * 20, ""),
    *("~0", "~1", "~", "~2", "__proto__", "constructor", "prototype", "toString", "\ud83d", "\0"),
    *("\u00e9", "%", "_", "'; DROP TABLE ot_changes; --", "x" * 300),
)
#: What JSON text cannot be written as a Python value; put in place of `"<raw N>"`.
RAW: Final = (
    *("NaN", "-Infinity", "1e999", "-0", "1" * 400, "1" * 5_000, '"\\ud83d"', '"\\u0000"'),
    *("[" * 70 + "]" * 70, "[" * 400 + "]" * 400, "[" * 3_000 + "]" * 3_000, '{"a":' * 200),
    *("'x'", "undefined", "01", "+1", ".5", "tru", '"\\x"', '"\n"', '{"a":1,"a":[]}'),
)
_BYTES: Final = (b'"', b"{", b"}", b"[", b"]", b",", b":", b"\\", b"\x00", b"\xff", b"\xed\xa0\x80")


def hostile_frames(seed: int, count: int, recorded: Sequence[Any]) -> Iterator[bytes]:
    """`count` frames; the same for the same arguments.

    `recorded` are honest requests, decoded, or a text for what was no JSON.
    """
    rng = random.Random(seed)
    for _ in range(count):
        kind = rng.random()
        if kind < 0.45:
            yield _encoded(_tampered(rng, copy.deepcopy(rng.choice(recorded))), rng)
        elif kind < 0.6:
            yield _garbled(rng, _encoded(rng.choice(recorded), rng))
        else:
            yield _encoded(_generated(rng), rng)


def _generated(rng: random.Random) -> Any:
    method = rng.choice(METHODS)
    doc_id: Any = rng.choice(DOC_IDS) if rng.random() < 0.9 else _nasty(rng)
    params: list[Any] = [doc_id]
    if method == "commitChanges":
        params.append([_change(rng) for _ in range(rng.choice((1, 1, 1, 2, 5)))])
        if rng.random() < 0.1:
            params.append({rng.choice(("forceCommit", "allowRootReplace", "x")): _nasty(rng)})
    elif rng.random() < 0.6:
        params.append(rng.choice((0, 1, 5, {}, {"rev": 1}, {"name": "v"}, _nasty(rng))))
    frame = {"jsonrpc": "2.0", "id": rng.randrange(1_000), "method": method, "params": params}
    return _tampered(rng, frame) if rng.random() < 0.2 else frame


def _change(rng: random.Random) -> Any:
    change: dict[str, Any] = {
        "id": f"c{rng.randrange(100_000)}",
        "ops": [_op(rng) for _ in range(rng.choice((0, 1, 1, 2, 4)))],
    }
    for name, values in (
        ("baseRev", (0, 1, 2, 3, 10**6)),
        ("rev", (0, 1, 7)),
        ("createdAt", (0, 1, 10**15)),
        ("batchId", ("b1",)),
    ):
        if rng.random() < 0.4:
            change[name] = rng.choice(values) if rng.random() < 0.95 else _nasty(rng)
    return change


def _op(rng: random.Random) -> Any:
    names = OPS[:-3] if rng.random() < 0.95 else OPS
    op: dict[str, Any] = {"op": rng.choice(names), "path": _path(rng)}
    if op["op"] in ("move", "copy"):
        op["from"] = _path(rng)
    elif op["op"] == "@txt":
        op["value"] = [_text_part(rng) for _ in range(rng.randrange(4))]
    elif op["op"] != "remove":
        plain = rng.choice((1, -5, 2.5, 7, "x", [], [1, 2, 3], {"a": {"b": 1}}))
        op["value"] = plain if rng.random() < 0.9 else _nasty(rng)
    if rng.random() < 0.1:
        op[rng.choice(("ts", "soft", "rev", "from", "value"))] = _nasty(rng)
    return op


def _text_part(rng: random.Random) -> Any:
    kind = rng.choice(("insert", "retain", "delete"))
    plain = "ab\ud83d" if kind == "insert" else rng.choice((0, 1, 3, 2**31 - 1))
    return {kind: plain if rng.random() < 0.8 else _nasty(rng)}


def _path(rng: random.Random) -> Any:
    if rng.random() < 0.05:
        return _nasty(rng)
    some = SEGMENTS[:6] if rng.random() < 0.85 else SEGMENTS
    return "".join(f"/{rng.choice(some)}" for _ in range(rng.choice((0, 1, 1, 1, 2, 2, 3))))


def _nasty(rng: random.Random) -> Any:
    some: tuple[Any, ...] = (
        *(None, True, False, 0, -1, 1.5, 1e300, 2**31, 2**53, 2**63, -(2**64), "", "\0", "\ud83d"),
        *([], {}, [[]], [None], {"": None}, {"__proto__": {"x": 1}}, {"ops": [{"insert": 1}]}),
        *("x" * 600, "/", "__proto__", "__init__", "a" * 5_000, ["fuzz"] * 50),
    )
    if rng.random() < 0.3:
        return f"<raw {rng.randrange(len(RAW))}>"
    return rng.choice(some)


def _tampered(rng: random.Random, frame: Any) -> Any:
    """The frame with one to three of its values replaced, removed, renamed or doubled."""
    for _ in range(rng.randrange(1, 4)):
        places = list(_places(frame))
        if not places:
            return _nasty(rng)
        container, key = rng.choice(places)
        kind = rng.randrange(6)
        if kind == 0:
            del container[key]
        elif kind == 1 and isinstance(container, dict):
            container[str(_nasty(rng))] = container.pop(key)
        elif kind == 2 and isinstance(container, list):
            container *= 2
        elif kind == 3:
            container[key] = [container[key]]
        else:
            container[key] = _nasty(rng)
    return frame


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    items: Any = ()
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list):
        items = enumerate(value[:50])
    for key, child in items:
        yield value, key
        yield from _places(child)


def _encoded(frame: Any, rng: random.Random) -> bytes:
    if isinstance(frame, str) and rng.random() < 0.9:
        text = frame  # recorded as it was
    else:
        text = json.dumps(frame, separators=(",", ":"), ensure_ascii=rng.random() < 0.5)
    if "<raw " in text:
        for index, raw in enumerate(RAW):
            text = text.replace(f'"<raw {index}>"', raw)
    return text.encode("utf-8", "surrogatepass")


def _garbled(rng: random.Random, data: bytes) -> bytes:
    """The frame with some bytes flipped, cut out, doubled or put in."""
    garbled = bytearray(data)
    for _ in range(rng.randrange(1, 6)):
        at = rng.randrange(len(garbled) + 1)
        kind = rng.randrange(5)
        if kind == 0 and at < len(garbled):
            garbled[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            del garbled[at : at + rng.randrange(1, 20)]
        elif kind == 2:
            garbled[at:at] = rng.choice(_BYTES)
        elif kind == 3:
            garbled[at:at] = garbled[at : at + rng.randrange(1, 60)]
        else:
            garbled[at:at] = rng.choice(RAW).encode()
    return bytes(garbled)
