"""`python -m benchmarks.keystroke`: how much code one keystroke passes.

Counts the Python calls, functions and modules of this repository from an edit in one client to the
subscriber of another, over a server in the same process. Frames go through memory and the clock is
virtual, so the counts are the same on every machine.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, Final

from patches.client.patches import Patches
from patches.documents.document import Document
from patches.sync import PatchesSync
from patches.testing.local_server import LocalServer
from patches.testing.virtual_time import VirtualTimeLoop

ROOT: Final = Path(__file__).parents[1]
WARM_UP: Final = 20
ROUNDS: Final = 9
TEXT: Final = "The quick brown fox jumps over the lazy dog. "


@dataclass(frozen=True, slots=True)
class Passage:
    """What one keystroke has passed. A coroutine that goes on after a wait is called again."""

    calls: int
    functions: int
    modules: int


class Counter:
    """Counts what is called while it is on."""

    def __init__(self) -> None:
        self._calls: dict[CodeType, int] = {}
        self._ours: dict[str, bool] = {}

    def start(self) -> None:
        self._calls.clear()
        sys.setprofile(self._called)

    def stop(self) -> Passage:
        sys.setprofile(None)
        ours = {code: count for code, count in self._calls.items() if self._is_ours(code)}
        return Passage(sum(ours.values()), len(ours), len({code.co_filename for code in ours}))

    def by_module(self) -> list[tuple[int, str]]:
        """The calls of the last passage by module, most first."""
        modules: dict[str, int] = {}
        for code, count in self._calls.items():
            if self._is_ours(code):
                modules[code.co_filename] = modules.get(code.co_filename, 0) + count
        return sorted(
            ((count, str(Path(name).relative_to(ROOT))) for name, count in modules.items()),
            reverse=True,
        )

    def _called(self, frame: FrameType, event: str, _arg: Any) -> None:
        if event == "call":
            code = frame.f_code
            self._calls[code] = self._calls.get(code, 0) + 1

    def _is_ours(self, code: CodeType) -> bool:
        """Whether it is of the product: neither Python's nor the tests' own scaffolding."""
        name = code.co_filename
        if name not in self._ours:
            path = Path(name)
            parts = path.relative_to(ROOT).parts if path.is_relative_to(ROOT) else ()
            self._ours[name] = parts[:1] in (("patches",), ("patches_server",)) and (
                parts[1] != "testing"
            )
        return self._ours[name]


def measure(algorithm: str, *, on_last: Callable[[Counter], None] | None = None) -> Passage:
    """One keystroke of an OT text, or one write of an LWW field: the median of several."""
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(_measure(algorithm, on_last))


async def _measure(algorithm: str, on_last: Callable[[Counter], None] | None) -> Passage:
    doc_id = f"{algorithm}/keystroke"
    async with (
        LocalServer(routes={"*": algorithm}) as server,
        Patches(default_algorithm=algorithm) as here,
        Patches(default_algorithm=algorithm) as there,
        PatchesSync(here, server.connection()) as sync_here,
        PatchesSync(there, server.connection()) as sync_there,
    ):
        doc = await here.open_doc(doc_id)
        doc.set({"body": "", "n": 0})
        if algorithm == "ot":
            doc.change(lambda draft: draft.text("body").insert(0, TEXT))
        await sync_here.settled(10)
        other = await there.open_doc(doc_id)
        await sync_there.settled(10)
        counter = Counter()
        passages: list[Passage] = []
        for number in range(WARM_UP + ROUNDS):
            arrived = asyncio.get_running_loop().create_future()
            unsubscribe = other.on_update(_resolving(arrived, counter))
            counter.start()
            _press(doc, algorithm, number)
            passages.append(await arrived)
            unsubscribe()
            await sync_here.settled(10)
            await asyncio.sleep(1)
        if on_last is not None:
            on_last(counter)
        return sorted(passages[WARM_UP:], key=lambda passage: passage.calls)[ROUNDS // 2]


def _resolving(arrived: asyncio.Future[Passage], counter: Counter) -> Callable[[Any], None]:
    def updated(_state: Any) -> None:
        if not arrived.done():
            arrived.set_result(counter.stop())

    return updated


def _press(doc: Document, algorithm: str, number: int) -> None:
    if algorithm == "ot":
        doc.change(lambda draft: draft.text("body").insert(10 + number, "x"))
    else:
        doc.change(lambda draft: draft.update(n=number + 1))


def main() -> None:
    show = "--modules" in sys.argv
    print("algorithm  calls  functions  modules")
    for algorithm in ("ot", "lww"):
        lines: list[str] = []

        def note(counter: Counter, lines: list[str] = lines) -> None:
            lines += [f"    {count:4}  {name}" for count, name in counter.by_module()]

        passage = measure(algorithm, on_last=note)
        print(
            f"{algorithm:9}  {passage.calls:5}  {passage.functions:9}  {passage.modules:7}",
            *(lines if show else ()),
            sep="\n",
        )


if __name__ == "__main__":
    main()
