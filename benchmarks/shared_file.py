"""Several real processes on one client file: nothing is lost, each author's order is kept.

    python -m benchmarks.shared_file --processes 3 --edits 2000

Every process opens the same two documents (one OT, one LWW) through one SQLite file and makes its
edits: each counts, appends to a list (OT) or sets fields of its own (LWW), and types one letter
into a shared text (OT). Modes: all online, all offline until the end, and mixed (one online, the
others coming and going). Then all connect, and the time is taken until every process is settled.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from patches import Patches, PatchesSync
from patches.documents.document import Document
from patches.testing.server_process import ServerProcess

MODES: Final = ("online", "offline", "mixed")
OT_DOC: Final = "shared"
LWW_DOC: Final = "lww/shared"
_PATIENCE_S: Final = 300.0


@dataclass(frozen=True, slots=True)
class Figures:
    """What one run came to."""

    mode: str
    edits: int
    editing_s: float
    settling_s: float

    def __str__(self) -> str:
        rate = self.edits / self.editing_s
        return (
            f"{self.mode}: {self.edits} edits in {self.editing_s:.1f} s ({rate:.0f}/s), "
            f"settled {self.settling_s:.1f} s after the last"
        )


async def edit(author: str, ot: Document, lww: Document, count: int, rng: random.Random) -> None:
    """One process's edits, some of them before the one before is stored."""
    for number in range(count):

        def write(draft: Any, number: int = number) -> None:
            draft.increment("n")
            draft.log.append([author, number])
            draft.text("text").insert(rng.randrange(draft.n), "x")

        ot.change(write)

        def set_field(draft: Any, number: int = number) -> None:
            draft.increment("n")
            draft[f"{author}-{number % 20}"] = number

        lww.change(set_field)
        if rng.random() < 0.2:
            await ot.flush()
            await lww.flush()
        else:
            await asyncio.sleep(0)
    await ot.flush()
    await lww.flush()


async def work(path: str, url: str, author: str, count: int, mode: str) -> None:
    """What a process does. It says when it has edited, and is told when all have."""
    rng = random.Random(author)
    errors: list[str] = []
    async with Patches(store=path) as patches:
        patches.on_error(lambda error, context: errors.append(f"{error!r} {context}"))
        sync = PatchesSync(patches, url)
        sync.on_error(lambda error, context: errors.append(repr(error)))
        ot = await patches.open_doc(OT_DOC)
        lww = await patches.open_doc(LWW_DOC, algorithm="lww")
        if author == "p0":
            ot.set({"n": 0, "log": [], "text": {"ops": [{"insert": "\n"}]}})
            await ot.flush()
        if mode == "online" or (mode == "mixed" and author == "p0"):
            await sync.connect()
        coming_and_going, done = None, asyncio.Event()
        if mode == "mixed" and author != "p0":
            coming_and_going = asyncio.create_task(_come_and_go(sync, rng, done))
        _say("ready")
        await asyncio.to_thread(sys.stdin.readline)
        await edit(author, ot, lww, count, rng)
        _say("edited")
        await asyncio.to_thread(sys.stdin.readline)
        if coming_and_going is not None:
            done.set()
            await coming_and_going
        await sync.connect(background=True)
        await sync.settled(_PATIENCE_S)
        _say(json.dumps([ot.committed_rev, lww.committed_rev]))
        revs = json.loads(await asyncio.to_thread(sys.stdin.readline))
        async with asyncio.timeout(_PATIENCE_S):  # a broadcast may still be on its way
            for doc, rev in zip((ot, lww), revs, strict=True):
                while doc.committed_rev < rev:  # noqa: ASYNC110  # a poll: other processes tell nobody
                    await asyncio.sleep(0.02)  # an echo updates nothing that could be awaited
        _say(json.dumps({"ot": ot.state, "lww": lww.state, "errors": errors}))
        await sync.disconnect()


async def _come_and_go(sync: PatchesSync, rng: random.Random, done: asyncio.Event) -> None:
    while not done.is_set():
        await sync.connect(background=True)
        await asyncio.sleep(rng.uniform(0.05, 0.5))
        await sync.disconnect()
        await asyncio.sleep(rng.uniform(0.05, 0.5))


def _say(text: str) -> None:
    print(text, flush=True)  # read by the process that started this one


async def run(folder: Path, mode: str, processes: int, count: int) -> Figures:
    """One run. Raises `AssertionError` when anything is lost, doubled or out of order."""
    authors = [f"p{number}" for number in range(processes)]
    async with (
        ServerProcess(f"sqlite:///{folder / 'server.db'}") as server,
        AsyncExitStack() as ends,
    ):
        workers = []
        for author in authors:  # the first makes the documents
            path = str(folder / "client.db")
            workers.append(await _start(ends, path, server.url, author, count, mode))
            await _each_says(workers[-1:], "ready")
        started = time.perf_counter()
        _tell(workers)
        await _each_says(workers, "edited")
        edited = time.perf_counter()
        _tell(workers)
        revs = [json.loads(await _line(worker)) for worker in workers]
        settled = time.perf_counter()
        _tell(workers, json.dumps([max(of_doc) for of_doc in zip(*revs, strict=True)]))
        results = [json.loads(await _line(worker)) for worker in workers]
        for worker in workers:
            assert await worker.wait() == 0
    check(results, authors, count)
    return Figures(mode, 2 * processes * count, edited - started, settled - edited)


async def _start(
    ends: AsyncExitStack, path: str, url: str, author: str, count: int, mode: str
) -> asyncio.subprocess.Process:
    worker = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "benchmarks.shared_file", "--work", author, "--file", path),
        *("--url", url, "--edits", str(count), "--modes", mode),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=1 << 26,
        cwd=Path(__file__).parent.parent,
    )

    async def end() -> None:
        if worker.returncode is None:
            worker.kill()
        await worker.wait()

    ends.push_async_callback(end)
    return worker


def check(results: Sequence[Mapping[str, Any]], authors: Sequence[str], count: int) -> None:
    """All have the same, all of it, in each author's order."""
    first = results[0]
    for result in results:
        assert not result["errors"], result["errors"][:3]
        for name in ("ot", "lww"):
            mine, other = result[name], first[name]
            differing = [key for key in {**mine, **other} if mine.get(key) != other.get(key)]
            assert not differing, f"copies of the {name} document differ at {differing}"
    ot, lww = first["ot"], first["lww"]
    total = len(authors) * count
    assert ot["n"] == total, f"{ot['n']} of {total} increments of the OT document"
    assert lww["n"] == total, f"{lww['n']} of {total} increments of the LWW document"
    text = "".join(part["insert"] for part in ot["text"]["ops"])
    assert text.count("x") == total, f"{text.count('x')} of {total} letters"
    for author in authors:
        numbers = [number for name, number in ot["log"] if name == author]
        assert len(numbers) == len(set(numbers)), f"{author}: some came twice"
        assert len(numbers) == count, f"{author}: {len(numbers)} of {count} entries"
        moved = [at for at in range(1, count) if numbers[at] < numbers[at - 1]]
        assert not moved, f"{author}: out of order at {moved[:5]}: {numbers[moved[0] - 2 :][:5]}"
        for number in range(max(0, count - 20), count):
            assert lww[f"{author}-{number % 20}"] == number


def _tell(workers: Sequence[asyncio.subprocess.Process], line: str = "go") -> None:
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write(f"{line}\n".encode())


async def _each_says(workers: Sequence[asyncio.subprocess.Process], word: str) -> None:
    for worker in workers:
        line = await _line(worker)
        assert line.strip() == word, f"expected {word!r}, got {line[:200]!r}"


async def _line(worker: asyncio.subprocess.Process) -> str:
    assert worker.stdout is not None
    async with asyncio.timeout(2 * _PATIENCE_S):
        return (await worker.stdout.readline()).decode()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--processes", type=int, default=3)
    parser.add_argument("--edits", type=int, default=2_000, help="of each process, per document")
    parser.add_argument("--modes", default=",".join(MODES))
    parser.add_argument("--work", help=argparse.SUPPRESS)
    parser.add_argument("--file", help=argparse.SUPPRESS)
    parser.add_argument("--url", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        asyncio.run(work(options.file, options.url, options.work, options.edits, options.modes))
        return
    for mode in options.modes.split(","):
        with tempfile.TemporaryDirectory() as folder:
            figures = run(Path(folder), mode, options.processes, options.edits)
            _say(str(asyncio.run(figures)))


if __name__ == "__main__":
    main()
