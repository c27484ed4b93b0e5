"""Random edits by several clients whose sockets are cut, and whether all end equal to the server.

    python -m tests.interop.soak --rounds 50                      # LWW, the original's client
    python -m tests.interop.soak --rounds 20 --algorithm ot --ours 1
    python -m tests.interop.soak --rounds 50 --answer-ms 50       # answers are applied late

Each round is a fresh document in a server of this process. LWW is compared strictly: what every
store and every open document holds. Whoever is left with unsent work reconnects, as its user would
(`docs/internals/sync.md` 12.1).
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
from dataclasses import dataclass, field

from patches.errors import PatchError
from patches.model.json_values import Json, Op
from patches.text import text_of, utf16_length
from tests.interop.peers import Peer
from tests.interop.serving import in_process
from tests.interop.world import World

_WORDS = ("ab", "c", "d e", "é", "😀")


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One kind of soak."""

    algorithm: str = "lww"
    originals: int = 3
    ours: int = 0
    edits: int = 60
    cuts: bool = True
    answer_ms: float = 0.0
    #: So many of the LWW edits change nothing, and are answered from what is there.
    idle: float = 0.0


@dataclass(slots=True, kw_only=True)
class Author:
    """Edits one peer's document at random, and counts what must be there in the end."""

    peer: Peer
    doc_id: str
    random: random.Random
    inserted: list[str] = field(default_factory=list)
    added: int = 0

    def edit_ot(self) -> None:
        """Numbers that add up, list elements that nobody removes, text that nobody deletes."""
        peer, rng = self.peer, self.random
        mark = f"{peer.name}-{len(self.inserted)}"
        kind = rng.choice(("list", "list", "text", "inc", "note"))
        if kind == "list":
            state = peer.state(self.doc_id)
            place = rng.randint(0, len(_list_of(state)))
            peer.change(self.doc_id, {"op": "add", "path": f"/list/{place}", "value": mark})
            self.inserted.append(mark)
        elif kind == "text":
            words = rng.choice(_WORDS)
            length = _text_length(peer.state(self.doc_id))
            retain = rng.randint(0, max(0, length - 1))
            delta: list[Op] = [{"retain": retain}] if retain else []
            value = [*delta, {"insert": words}]
            peer.change(self.doc_id, {"op": "@txt", "path": "/text", "value": value})
        elif kind == "inc":
            # Amounts that differ: of two equal edits, the original takes one that is not stored yet
            # for one that is, when it loads the document again (`docs/internals/ot.md` 8.6).
            amount = rng.randint(1, 10**6)
            peer.change(self.doc_id, {"op": "@inc", "path": "/n", "value": amount})
            self.added += amount
        else:
            peer.change(
                self.doc_id, {"op": "replace", "path": f"/notes/{rng.randint(0, 3)}", "value": mark}
            )

    def edit_lww(self, idle: float) -> None:
        """Fields that several write, parents over children, and deltas of which some do nothing."""
        peer, rng = self.peer, self.random
        if rng.random() < idle:
            peer.change(self.doc_id, {"op": "@max", "path": "/most", "value": -1})
            return
        field_ = f"/f{rng.randint(0, 2)}"
        number = rng.randint(0, 30)
        ops: list[Op] = rng.choice(
            [
                [{"op": "@inc", "path": "/n", "value": 1}],
                [{"op": "@inc", "path": "/n", "value": 1}],
                [{"op": "replace", "path": field_, "value": number}],
                [{"op": "replace", "path": field_, "value": number}],
                [{"op": "remove", "path": field_}],
                [{"op": "@max", "path": "/most", "value": number}],
                [{"op": "replace", "path": "/o", "value": {"a": number}}],
                [{"op": "replace", "path": "/o/b", "value": number}],
            ]
        )
        if ops[0]["op"] == "remove" and field_[1:] not in _dict_of(peer.state(self.doc_id)):
            return
        if ops[0]["path"] == "/o/b" and "o" not in _dict_of(peer.state(self.doc_id)):
            return
        peer.change(self.doc_id, *ops)
        self.added += ops[0]["op"] == "@inc"


def _dict_of(state: Json) -> dict[str, Json]:
    return state if isinstance(state, dict) else {}


def _list_of(state: Json) -> list[Json]:
    value = _dict_of(state).get("list")
    return value if isinstance(value, list) else []


def _text_length(state: Json) -> int:
    return utf16_length(text_of(_dict_of(state).get("text") or ()))


async def soak(world: World, doc_id: str, setting: Setting, seed: int) -> list[str]:
    """One round. What is wrong in the end; empty if nothing is."""
    rng = random.Random(seed)
    for _ in range(setting.originals):
        await world.original(seed=seed, answer_s=setting.answer_ms / 1000)
    for _ in range(setting.ours):
        await world.ours()
    start: list[Op] = [{"op": "replace", "path": f"/{name}", "value": 0} for name in ("n", "most")]
    if setting.algorithm == "ot":
        value = {"list": [], "text": {"ops": [{"insert": "\n"}]}, "n": 0, "notes": {}}
        start = [{"op": "replace", "path": "", "value": value}]
    first = world.peers[0]
    await first.open(doc_id, setting.algorithm)
    first.change(doc_id, *start)
    await world.settle(doc_id)
    for peer in world.peers[1:]:
        await peer.open(doc_id, setting.algorithm)
    await world.until(lambda: all(peer.committed_rev(doc_id) > 0 for peer in world.peers))
    authors = [Author(peer=peer, doc_id=doc_id, random=rng) for peer in world.peers]
    for _ in range(setting.edits):
        author = rng.choice(authors)
        try:
            if setting.algorithm == "ot":
                author.edit_ot()
            else:
                author.edit_lww(setting.idle)
        except PatchError:
            continue  # it did not apply to what is shown: nothing was made of it
        await asyncio.sleep(rng.choice((0, 0, 0.001, 0.003)))
        if setting.cuts and rng.random() < 0.06:
            rng.choice(authors).peer.drop()
    found = await world.differences(doc_id, setting.algorithm)
    state, _ = await world.server_state(doc_id, setting.algorithm)
    added = sum(author.added for author in authors)
    if _dict_of(state).get("n") != added:
        found.append(f"{added} were added, the server counts {_dict_of(state).get('n')}")
    inserted = sorted(mark for author in authors for mark in author.inserted)
    if inserted != sorted(map(str, _list_of(state))):
        found.append(f"inserted {inserted}, the server has {_list_of(state)}")
    return found


async def rounds(setting: Setting, count: int, seed: int) -> dict[int, list[str]]:
    """So many rounds on one server; what was wrong, by seed."""
    wrong: dict[int, list[str]] = {}
    async with in_process() as url:
        for number in range(seed, seed + count):
            async with World(url) as world:
                prefix = "lww/" if setting.algorithm == "lww" else ""
                try:
                    found = await soak(world, f"{prefix}soak-{number}", setting, number)
                except TimeoutError:
                    found = ["it did not come to rest"]
                if found:
                    wrong[number] = found
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser(description="Soak a server with the original's client.")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--algorithm", choices=("ot", "lww"), default="lww")
    parser.add_argument("--originals", type=int, default=3)
    parser.add_argument("--ours", type=int, default=0)
    parser.add_argument("--edits", type=int, default=60)
    parser.add_argument("--answer-ms", type=float, default=0.0)
    parser.add_argument("--idle", type=float, default=0.0)
    parser.add_argument("--no-cuts", action="store_true")
    given = parser.parse_args()
    setting = Setting(
        algorithm=given.algorithm,
        originals=given.originals,
        ours=given.ours,
        edits=given.edits,
        cuts=not given.no_cuts,
        answer_ms=given.answer_ms,
        idle=given.idle,
    )
    wrong = asyncio.run(rounds(setting, given.rounds, given.seed))
    for number, found in wrong.items():
        sys.stdout.write(f"seed {number}: {'; '.join(found)[:400]}\n")
    sys.stdout.write(f"{len(wrong)} of {given.rounds} rounds went wrong\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
