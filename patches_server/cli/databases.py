"""The commands for a PostgreSQL database: `patches-server migrate` and `new-epoch`."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence

from patches.errors import InvalidRequestError
from patches_server.stores.url import is_postgres, open_backend


def run_migrate(argv: Sequence[str], _default_store: str) -> int:
    """Bring the schema of a database up to date; with `--check`, 1 if it is not."""
    parser = argparse.ArgumentParser(
        prog="patches-server migrate",
        description="Bring the tables of a PostgreSQL database to what this version needs. Servers "
        "may be running: those of the previous version go on.",
    )
    _add_store(parser)
    parser.add_argument(
        "--check", action="store_true", help="only list what is missing; exit status 1 if anything"
    )
    options = parser.parse_args(argv)
    url = _database(options.store)
    from patches_server.stores.postgres.migrations import migrate, missing  # needs an extra

    if options.check:
        left = asyncio.run(missing(url))
        sys.stdout.writelines(f"missing: {name}\n" for name in left)
        return 1 if left else 0
    done = asyncio.run(migrate(url))
    sys.stdout.writelines(f"applied: {name}\n" for name in done)
    if not done:
        sys.stdout.write("nothing to do\n")
    return 0


def run_new_epoch(argv: Sequence[str], _default_store: str) -> int:
    """Let clients load their documents anew, as after a dump was restored."""
    parser = argparse.ArgumentParser(
        prog="patches-server new-epoch",
        description="Part of restoring a PostgreSQL database from a dump: documents get other "
        "tokens, so that clients which are ahead of the dump load them anew and keep their unsent "
        "work. Stop the servers first.",
    )
    _add_store(parser)
    options = parser.parse_args(argv)
    url = _database(options.store)
    from patches_server.stores.postgres.identity import new_epoch  # needs an extra
    from patches_server.stores.postgres.migrations import on_one_connection

    sys.stdout.write(f"epoch {asyncio.run(on_one_connection(url, new_epoch))}\n")
    return 0


def _add_store(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--store", metavar="URL", required=True, help="postgresql://host/database")


def _database(url: str) -> str:
    if not is_postgres(url):
        raise InvalidRequestError(f"only PostgreSQL has this command, postgresql://…: {url!r}")
    open_backend(url)  # says which extra is missing
    return url
