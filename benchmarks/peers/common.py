"""What the Python side of the comparison shares: random numbers, edits, statistics, `/proc`.

The random numbers and the edits are those of `node/common.mjs`: every peer gets the same work.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

Random = Callable[[], float]
Wire = dict[str, int]


def wire_counters() -> Wire:
    """Bytes and frames in and out, as a client counts them."""
    return {"in": 0, "out": 0, "frames_in": 0, "frames_out": 0}


def mulberry32(seed: int) -> Random:
    """Tommy Ettinger's mulberry32: the same numbers as the JavaScript side draws."""
    mask = 0xFFFFFFFF
    state = seed & mask

    def draw() -> float:
        nonlocal state
        state = (state + 0x6D2B79F5) & mask
        mixed = ((state ^ (state >> 15)) * (1 | state)) & mask
        mixed = ((mixed + (((mixed ^ (mixed >> 7)) * (61 | mixed)) & mask)) & mask) ^ mixed
        return ((mixed ^ (mixed >> 14)) & mask) / 4294967296

    return draw


@dataclass(slots=True)
class Edit:
    """One edit: the author's counter, and at most one other thing."""

    counter: tuple[str, int]
    field: tuple[str, Any] | None = None
    insert_item: tuple[int, Any] | None = None
    remove_item: int | None = None
    insert_text: tuple[int, str] | None = None
    remove_text: tuple[int, int] | None = None


class DocView(Protocol):
    """An open document of any peer."""

    async def init(self) -> None: ...
    def ready(self) -> bool: ...
    def edit(self, edit: Edit) -> None: ...
    def get(self, key: str) -> Any: ...
    def list_length(self) -> int: ...
    def text_length(self) -> int: ...
    def on_update(self, callback: Callable[[], None]) -> None: ...
    def pending(self) -> bool: ...
    def state(self) -> Any: ...


class PeerClient(Protocol):
    """A client of any peer; `wire` counts what goes over its socket."""

    wire: Wire

    async def start(self) -> None: ...
    async def open(self, doc_id: str) -> DocView: ...
    async def offline(self) -> None: ...
    async def online(self) -> None: ...


def make_edit(kind: str, draw: Random, key: str, seq: int, view: DocView) -> Edit:
    """The next edit of an author."""
    edit = Edit(counter=(key, seq))
    if kind == "text":
        length = view.text_length()
        if length > 2000 and draw() < 0.5:
            edit.remove_text = (int(draw() * (length - 4)), 3)
        else:
            edit.insert_text = (int(draw() * (length + 1)), "abcdefgh"[: 1 + int(draw() * 3)])
    elif kind == "json":
        chance = draw()
        if chance < 0.2:
            length = view.list_length()
            if length > 100:
                edit.remove_item = int(draw() * length)
            else:
                item = {"id": f"{key}-{seq}", "done": False}
                edit.insert_item = (int(draw() * (length + 1)), item)
        elif chance < 0.4:
            edit.field = (f"f{int(draw() * 10)}", f"{key}-{seq}")
    return edit  # kind "counter": paths of their own, nothing to transform


def initial_state() -> dict[str, Any]:
    """The document before the first edit, without its text."""
    counters = {f"c{number}": 0 for number in range(8)}
    fields = {f"f{number}": "" for number in range(10)}
    return {"items": [], "m": "", **counters, **fields}


def history(count: int, seed: int = 7) -> Iterator[Edit]:
    """The edits that W4 opens a document after: mostly typing in bursts, some fields."""
    draw = mulberry32(seed)
    length = cursor = 0
    for number in range(count):
        chance = draw()
        edit = Edit(counter=("c0", number + 1))
        if chance < 0.2:
            edit.field = (f"k{int(draw() * 100)}", number)
        else:
            if draw() < 0.03:
                cursor = int(draw() * (length + 1))
            if draw() < 0.15 and cursor > 2:
                edit.remove_text = (cursor - 2, 2)
                cursor -= 2
                length -= 2
            else:
                typed = "lorem ipsum"[: 1 + int(draw() * 4)]
                edit.insert_text = (cursor, typed)
                cursor += len(typed)
                length += len(typed)
        yield edit


def now_ms() -> float:
    """Milliseconds of a steady clock."""
    return time.perf_counter() * 1000


def percentile(values: list[float], percent: int) -> float | None:
    """The value below which `percent` of them lie."""
    if not values:
        return None
    ordered = sorted(values)
    return round(ordered[min(len(ordered) - 1, len(ordered) * percent // 100)], 3)


def cpu_seconds(pid: int) -> float:
    """User and system time of a process so far."""
    stat = Path(f"/proc/{pid}/stat").read_text()
    fields = stat[stat.rindex(")") + 2 :].split()
    return (int(fields[11]) + int(fields[12])) / 100


def rss_mib(pid: int) -> float:
    """Resident memory of a process."""
    found = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found.group(1)) / 1024


async def until(condition: Callable[[], object], limit_ms: float, what: str) -> None:
    """Wait, looking every millisecond. Raises `TimeoutError`, naming `what`."""
    end = now_ms() + limit_ms
    while not condition():
        if now_ms() > end:
            raise TimeoutError(what)
        await asyncio.sleep(0.001)


def canonical(value: Any) -> str:
    """JSON whose members are sorted."""
    return json.dumps(value, sort_keys=True)


def report(figures: dict[str, Any]) -> None:
    """One line of JSON for the process that started this one."""
    print(json.dumps(figures), flush=True)
