"""Kill a real server again and again under load, and count what is lost.

    python -m benchmarks.kill_rounds --rounds 200
    python -m benchmarks.kill_rounds --rounds 20 --clients 5 --seed 7 --durability relaxed

Each round is described in `patches/testing/kill_rounds.py`. The program ends with status 1 at the
first broken promise. The seed decides when the server dies and what is edited; how far the server
has come by then is the machine's affair, so a run does not repeat exactly.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
import tempfile
import time
from pathlib import Path

from patches.stores.sqlite.database import Durability
from patches.testing.kill_rounds import BrokenPromiseError, KillRounds


async def run(rounds: int, clients: int, seed: int, durability: Durability, folder: Path) -> bool:
    """Whether all promises held."""
    start = time.monotonic()
    async with KillRounds(folder, clients=clients, seed=seed, durability=durability) as play:
        while play.figures.rounds < rounds:
            try:
                await play.round()
            except BrokenPromiseError as exc:
                print(f"round {play.figures.rounds}: {exc}\nafter {play.figures}", flush=True)
                return False
            if play.figures.rounds % 10 == 0 or play.figures.rounds == rounds:
                print(f"{time.monotonic() - start:7.1f} s  {play.figures}", flush=True)
        figures = play.figures
    print(
        f"\n{figures.rounds} rounds of kill -9, {figures.kills} kills under {clients} clients: "
        f"{figures.acked} changes acknowledged, 0 lost, 0 applied twice, 0 unequal documents"
    )
    return True


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--clients", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--durability", choices=("full", "relaxed"), default="full")
    options = parser.parse_args()
    logging.disable(logging.ERROR)  # clients say that the server is gone, over and over
    with tempfile.TemporaryDirectory() as folder:
        held = asyncio.run(
            run(options.rounds, options.clients, options.seed, options.durability, Path(folder))
        )
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
