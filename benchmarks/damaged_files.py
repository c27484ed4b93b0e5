"""Client files with one flipped bit or one lost row: none may be silently wrong.

    python -m benchmarks.damaged_files --files 200

Each file is a copy of one that holds OT and LWW documents with committed and unsent work, a
quarantined change and a deletion that the server has not confirmed. Every second one gets a flipped
bit, the others lose a row. Then a client opens it: what it shows and what it would send must be
what was stored, or an error must be raised or told.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import shutil
import sqlite3
import tempfile
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from patches import Patches
from patches.algorithms.ot import OTAlgorithm
from patches.errors import PatchesError
from patches.model.change import Change, Snapshot
from patches.model.json_values import Op
from patches.options import DocOptions

OT_DOCS: Final = ("plan", "notes", "empty")
LWW_DOCS: Final = ("lww/board", "lww/form")
_OPTIONS: Final = DocOptions(max_payload_bytes=1_000_000)
_TABLES: Final = (
    *("ot_docs", "ot_snapshots", "ot_committed", "ot_pending", "ot_quarantine"),
    *("lww_docs", "lww_snapshots", "lww_rows", "lww_pieces"),
)


@dataclass(slots=True)
class Figures:
    """What the files have come to."""

    told: int = 0
    harmless: int = 0
    silently_wrong: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return (
            f"{self.told} told of, {self.harmless} harmless (nothing that is used was hit), "
            f"{len(self.silently_wrong)} silently wrong"
        )


def _set(name: str, value: Any) -> Op:
    return {"op": "replace", "path": f"/{name}", "value": value}


async def make(path: Path) -> None:
    """The file that is damaged."""
    async with Patches(store=path) as patches:
        for number, doc_id in enumerate((*OT_DOCS, *LWW_DOCS)):
            name = "lww" if doc_id in LWW_DOCS else "ot"
            doc = await patches.open_doc(doc_id, algorithm=name)
            algorithm = patches.algorithm_of(doc_id)
            if doc_id == "empty":
                continue
            state = {"title": "x" * 300, "number": number}
            await algorithm.install_snapshot(doc_id, Snapshot(state=state, rev=3), doc)
            for rev in range(4, 30):
                op = _set(f"field{rev}", f"value {rev} " * 5)
                if name == "lww":
                    op |= {"ts": 1_000 + rev, "rev": rev}
                change = Change(
                    id=f"c{rev}", ops=[op], base_rev=rev - 1, rev=rev, created_at=1, committed_at=1
                )
                await algorithm.apply_server_changes(doc_id, [change], doc)
            for edit in range(4):
                doc.apply([_set(f"unsent{edit}", "word " * 20)])
            await doc.flush()
            if name == "lww":
                await algorithm.next_batch(doc_id, doc, _OPTIONS)  # a piece that is being sent
                doc.apply([_set("later", 1)])
                await doc.flush()
        await patches.eject_pending_change("notes", await _second_pending(patches))
        await patches.open_doc("gone")
        await patches.delete_doc("gone")


async def _second_pending(patches: Patches) -> str:
    algorithm = patches.algorithms["ot"]
    assert isinstance(algorithm, OTAlgorithm)
    return (await algorithm.store.load_queue("notes")).pending[1].id


async def look(path: Path, errors: list[Exception]) -> dict[str, Any]:
    """All that a client shows of a file and would send from it."""
    patches = Patches(store=path)
    patches.on_error(lambda error, _context: errors.append(error))
    seen: dict[str, Any] = {}
    async with patches:
        seen["tracked"] = sorted(patches.tracked_docs)
        for name, algorithm in patches.algorithms.items():
            listed = await algorithm.list_docs(include_deleted=True)
            seen[name] = sorted((doc.doc_id, doc.deleted) for doc in listed)
        quarantined = await patches.list_quarantined_changes()
        seen["quarantine"] = sorted((e.doc_id, e.change_id, str(e.change.ops)) for e in quarantined)
        for doc_id in (*OT_DOCS, *LWW_DOCS):
            doc = await patches.open_doc(doc_id)
            batch = await patches.algorithm_of(doc_id).next_batch(doc_id, doc, _OPTIONS)
            seen[doc_id] = doc.state, doc.committed_rev, [(c.id, c.ops) for c in batch]
    return seen


def flip_a_bit(path: Path, rng: random.Random) -> str:
    """Flip one bit of the file."""
    data = bytearray(path.read_bytes())
    at, bit = rng.randrange(len(data)), rng.randrange(8)
    data[at] ^= 1 << bit
    path.write_bytes(data)
    return f"bit {bit} of byte {at}"


def drop_a_row(path: Path, rng: random.Random) -> str:
    """Delete one row of one table."""
    with closing(sqlite3.connect(path)) as db:
        while True:
            table = rng.choice(_TABLES)
            columns = [row[1] for row in db.execute(f"PRAGMA table_info({table})") if row[5]]
            keys = ", ".join(columns)
            rows = db.execute(f"SELECT {keys} FROM {table}").fetchall()  # noqa: S608  # constants
            if rows:
                break
        row = rng.choice(rows)
        where = " AND ".join(f"{column} = ?" for column in columns)
        db.execute(f"DELETE FROM {table} WHERE {where}", row)  # noqa: S608  # constants
        db.commit()
    return f"row {row} of {table}"


def _remove_logs(path: Path) -> None:
    """SQLite's own files beside one that could not be opened."""
    for name in ("-wal", "-shm", "-journal"):
        Path(f"{path}{name}").unlink(missing_ok=True)


async def run(folder: Path, *, files: int, seed: int) -> Figures:
    """Damage so many copies, and look at each."""
    figures, rng = Figures(), random.Random(seed)
    template, copy = folder / "template.db", folder / "copy.db"
    await make(template)
    shutil.copy(template, copy)
    expected = await look(copy, [])
    for number in range(files):
        shutil.copy(template, copy)
        what = (flip_a_bit, drop_a_row)[number % 2](copy, rng)
        errors: list[Exception] = []
        try:
            seen = await look(copy, errors)
        except PatchesError as error:
            errors.append(error)
        _remove_logs(copy)
        if errors:
            figures.told += 1
        elif seen == expected:
            figures.harmless += 1
        else:
            differing = [name for name in expected if seen.get(name) != expected[name]]
            figures.silently_wrong.append(f"{what}: {differing}")
    return figures


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        figures = await run(Path(folder), files=options.files, seed=options.seed)
    print(figures)
    for wrong in figures.silently_wrong:
        print(wrong)


if __name__ == "__main__":
    asyncio.run(main())
