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

from patches.testing.kill_rounds import BrokenPromiseError, KillRounds


def rounds_of(options: argparse.Namespace, folder: Path) -> KillRounds:
    """The servers and clients that are asked for."""
    clients, seed, durability = options.clients, options.seed, options.durability
    if options.store is None:
        return KillRounds(folder, clients=clients, seed=seed, durability=durability)
    from patches.testing.postgres_rounds import PostgresKillRounds  # needs an extra

    return PostgresKillRounds(
        folder, options.store, servers=options.servers, bus=options.bus, clients=clients, seed=seed
    )


async def run(rounds: int, clients: int, play: KillRounds) -> bool:
    """Whether all promises held."""
    start = time.monotonic()
    async with play:
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
    parser.add_argument(
        "--store", metavar="URL", help="an empty PostgreSQL database, in place of a SQLite file"
    )
    parser.add_argument("--servers", type=int, default=2, help="with --store: so many processes")
    parser.add_argument("--bus", default="postgres", help="with --store: postgres, redis://, none")
    options = parser.parse_args()
    logging.disable(logging.ERROR)  # clients say that the server is gone, over and over
    with tempfile.TemporaryDirectory() as folder:
        play = rounds_of(options, Path(folder))
        held = asyncio.run(run(options.rounds, options.clients, play))
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
