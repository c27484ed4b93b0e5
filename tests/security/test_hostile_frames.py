"""Recorded frames, mutated: each is answered as the tables say, and so is the next honest one."""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path
from typing import Any, Final

import pytest

from patches.limits import Limits
from patches.testing.conformance import case_files

CONFORMANCE: Final = Path(__file__).parent.parent / "conformance"
FRAMES: Final = 4_000
ODD_VALUES: Final[tuple[Any, ...]] = (
    *(None, True, False, 0, -1, 1.5, -0.0, 2**53, 10**18, 1e300),
    *("", "x", "/a/b", "\ud83d", "__proto__", "lww/x", "é" * 300),
    *([], {}, [[]], {"a": 1}, [None]),
)
ODD_KEYS: Final = ("ts", "from", "soft", "value", "rev", "batchId", "id", "x")
#: What a server may say to anything at all.
CODES: Final = {-32700, -32600, -32000, 400, 404, 409, 410, 413}


def recorded_frames() -> list[Any]:
    frames = []
    for path in case_files("transcripts", default=CONFORMANCE, pattern="*.jsonl"):
        for text in path.read_text(encoding="utf-8").splitlines():
            line = json.loads(text)
            if line.get("dir") == "c2s" and "frame" in line and len(text) < 4_000:
                frames.append(line["frame"])
    return frames


def mutated(source: random.Random, value: Any) -> Any:
    if source.random() < 0.08:
        return source.choice(ODD_VALUES)
    if isinstance(value, dict):
        members = {
            key: mutated(source, member) if source.random() < 0.5 else member
            for key, member in value.items()
            if source.random() > 0.04
        }
        if source.random() < 0.05:
            members[source.choice(ODD_KEYS)] = source.choice(ODD_VALUES)
        return members
    if isinstance(value, list):
        items = [mutated(source, item) if source.random() < 0.5 else item for item in value]
        return [*items, source.choice(items)] if items and source.random() < 0.05 else items
    return value


def broken(source: random.Random, text: str) -> str:
    at = source.randrange(len(text))
    return text[:at] + source.choice('{}[]",:0-\\') + text[at + 1 :]


@pytest.mark.parametrize("seed", [1, 2])
async def test_mutated_frames_are_answered_and_change_nothing_else(serve: Any, seed: int) -> None:
    source = random.Random(seed)
    frames = recorded_frames()
    connect = await serve(limits=Limits(requests_per_s=None, commit_bytes_per_s=None))
    peer, honest = connect(), connect()
    change = {"id": "kept", "ops": [{"op": "replace", "path": "/a", "value": 1}]}
    await honest.result("commitChanges", "honest/doc", [change])
    codes: Counter[int] = Counter()
    for number in range(FRAMES):
        frame = mutated(source, source.choice(frames))
        if isinstance(frame, dict) and source.random() < 0.8:
            frame["id"] = number
        text = json.dumps(frame)
        await peer.send(broken(source, text) if source.random() < 0.05 else text)
        if number % 50 == 0:
            await honest.result("getChangesSince", "honest/doc", 0)
    await peer.send({"id": "last", "method": "getDoc", "params": ["honest/doc"]})
    assert "result" in await peer.answer("last")
    for answer in peer.unread():
        if "error" in answer:
            codes[answer["error"]["code"]] += 1
            assert answer["error"]["message"] != "Server error", answer
            assert "Traceback" not in json.dumps(answer)
    assert codes.keys() <= CODES
    assert len(codes) > 4, "the mutations reach little"
    [kept] = await honest.result("getChangesSince", "honest/doc", 0)
    assert kept["id"] == "kept"
