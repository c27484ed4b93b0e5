"""Kill -9 of a real server under load, and proof that the rounds would see a loss."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from patches.testing.kill_rounds import BrokenPromiseError, KillRounds, check_file

ROUNDS = 10


@pytest.fixture
def _quiet() -> Iterator[None]:
    """Clients log that the server is gone, over and over."""
    logging.disable(logging.ERROR)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.usefixtures("_quiet")
async def test_nothing_acknowledged_is_lost_or_doubled_by_kill_9_under_load(tmp_path: Path) -> None:
    async with KillRounds(tmp_path, clients=20, seed=3, load_s=0.4) as play:
        for _ in range(ROUNDS):
            await play.round()
    assert play.figures.kills >= ROUNDS
    assert play.figures.acked > 10 * ROUNDS, "there was load"
    assert play.figures.unanswered > 0, "some commits were cut off by a kill"


SABOTAGE = {
    "DELETE FROM ot_changes WHERE rev = (SELECT max(rev) FROM ot_changes)": "head",
    "DELETE FROM lww_change_ids": "change ids are missing",
    "UPDATE ot_changes SET change = x'7b7d' WHERE rev = 1": "checksum",
    "DELETE FROM ot_changes WHERE rev = 2": "revisions 2 to 2 are missing",
}


@pytest.mark.usefixtures("_quiet")
async def test_the_rounds_would_see_a_loss(tmp_path: Path) -> None:
    async with KillRounds(tmp_path, clients=3, seed=1) as play:
        await play.round()
        acked = play.acked()
    assert any(doc_id.startswith("ot/") and ids for doc_id, ids in acked.items())
    check_file(tmp_path / "server.db", acked)
    for number, (sabotage, message) in enumerate(SABOTAGE.items()):
        copy = tmp_path / f"{number}.db"
        with closing(sqlite3.connect(tmp_path / "server.db")) as conn:
            conn.execute("VACUUM INTO ?", (str(copy),))
        with closing(sqlite3.connect(copy)) as conn, conn:
            conn.execute(sabotage)
        with pytest.raises(BrokenPromiseError, match=message):
            check_file(copy, acked)
