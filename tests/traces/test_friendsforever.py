"""A recorded session of two authors at once, through the OT server and two OT clients.

The recording says, for each transaction, what its author had seen. The pump below is the
connection: it moves changes to the server and committed ones to an author exactly as far as that,
so each author types into the text that was on the screen then.

The quicker author's changes are committed before anything of the other, whose changes leave only
when the quicker one is about to see them. Both ways end at the recorded text but for one place. The
first author replaces the full stop after "90s" with ", huh?" while the second goes on behind it
with " The whole". Once the full stop is gone both stand at one place, and what is committed first
comes first. In the recording that is the first author's. If it is the second's, the positions that
the recording gives for the last letters of ", huh?" are those of another text: what is typed there
lands elsewhere, and nothing else differs.
"""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from patches import Patches
from patches.algorithms.ot import OTAlgorithm
from patches.documents.document import Document
from patches.model.codec import decode
from patches.text import text_of
from patches_server import CallContext, MemoryBackend, OTServer, call_context

DOC_ID = "friends"
#: The one place where the order of arrival decides: as recorded, and the other way round.
AT_THE_TIE = (
    "the 90s, huh? The whole scene is basically",
    "the 90s The whole , hh?uscene is basically",
)


@dataclass
class Author:
    """One client, and how far it has got."""

    name: str
    algorithm: OTAlgorithm
    doc: Document
    typed: int = 0  # own transactions
    committed: int = 0  # of them, at the server

    @property
    def text(self) -> str:
        return text_of(self.doc.state["text"]).removesuffix("\n")

    def type(self, edits: Sequence[tuple[int, int, str]]) -> None:
        with self.doc.edit() as draft:
            text = draft.text("text")
            for position, deleted, inserted in edits:
                text.replace(position, deleted, inserted)
        self.typed += 1


class Pump:
    """Moves as many changes as it is told, and never more."""

    def __init__(self, server: OTServer) -> None:
        self._server = server
        self.commits = 0

    async def commit(self, author: Author, count: int) -> None:
        """Bring the author's first `count` transactions to the server. The answer is held back:
        what is sent and not yet delivered is sent again, as after a lost answer."""
        if count <= author.committed:
            return
        await author.doc.flush()
        pending = (await author.algorithm.store.load_queue(DOC_ID)).pending
        assert pending
        beyond = author.typed - count
        with call_context(CallContext(client_id=author.name, connection_id=author.name)):
            await self._server.commit_changes(DOC_ID, pending[: len(pending) - beyond])
        author.committed = count
        self.commits += 1

    async def deliver(self, author: Author, seen: int, count: int) -> None:
        """Deliver what is committed, up to the other author's transaction number `count`."""
        await author.doc.flush()
        rows = await self._server.get_changes_since(DOC_ID, author.doc.committed_rev)
        prefix = []
        for row in rows:
            seen += row.client_id != author.name
            if seen > count:
                break
            prefix.append(row)
        await author.algorithm.apply_server_changes(DOC_ID, prefix, author.doc)


def seen_of_the_other(transactions: Sequence[dict[str, Any]]) -> list[int]:
    """For each transaction, how many of the other author's its author had seen when typing it."""
    known: list[tuple[int, int]] = []  # per transaction: how many of each author, with itself
    seen = []
    for transaction in transactions:
        counts = [
            max((known[parent][agent] for parent in transaction["parents"]), default=0)
            for agent in (0, 1)
        ]
        seen.append(counts[1 - transaction["agent"]])
        counts[transaction["agent"]] += 1
        known.append((counts[0], counts[1]))
    return seen


async def opened(patches: Patches, name: str) -> Author:
    algorithm = patches.algorithms["ot"]
    assert isinstance(algorithm, OTAlgorithm)
    return Author(name, algorithm, await patches.open_doc(DOC_ID))


@pytest.mark.parametrize("quicker", [0, 1], ids=["the first is quicker", "the second is quicker"])
async def test_two_authors_typing_at_once_end_at_the_recorded_text(
    traces_dir: Path, quicker: int
) -> None:
    path = traces_dir / "friendsforever.json.gz"
    if not path.exists():
        pytest.skip(f"no recording {path}")
    recording = decode(gzip.decompress(path.read_bytes()))
    transactions = recording["txns"]
    assert (recording["kind"], recording["numAgents"]) == ("concurrent", 2)
    server = OTServer(MemoryBackend())
    await server.change(DOC_ID, lambda patch: patch.add("", {"text": {"ops": [{"insert": "\n"}]}}))
    pump = Pump(server)
    async with Patches() as first_patches, Patches() as second_patches:
        authors = first, second = (
            await opened(first_patches, "first"),
            await opened(second_patches, "second"),
        )
        for author in authors:
            await author.algorithm.apply_server_changes(
                DOC_ID, await server.get_changes_since(DOC_ID, 0), author.doc
            )
        quick = authors[quicker]
        delivered = {first.name: 0, second.name: 0}
        for transaction, seen in zip(transactions, seen_of_the_other(transactions), strict=True):
            author, other = authors[transaction["agent"]], authors[1 - transaction["agent"]]
            if seen > delivered[author.name]:
                await pump.commit(quick, quick.typed)
                await pump.commit(other, other.typed if other is quick else seen)
                await pump.deliver(author, delivered[author.name], seen)
                delivered[author.name] = seen
            author.type(transaction["patches"])
        for author in authors:
            await pump.commit(author, author.typed)
        for author, other in ((first, second), (second, first)):
            await pump.deliver(author, delivered[author.name], other.typed)
        expected: str = recording["endContent"]
        assert expected.count(AT_THE_TIE[0]) == 1
        expected = expected.replace(AT_THE_TIE[0], AT_THE_TIE[quicker])
        assert first.text == expected
        assert second.text == expected
        assert not await first.algorithm.has_pending(DOC_ID)
        assert not await second.algorithm.has_pending(DOC_ID)
        stored = await server.get_changes_since(DOC_ID, 0)
        assert len(stored) == 1 + len(transactions)
        assert pump.commits > 1_000
