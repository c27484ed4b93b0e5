"""The commands `patches-server export` and `import`: one document to a file, and back."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO

from patches_server.auth.access import allow_all
from patches_server.http.app import create_server


def run_export(argv: Sequence[str], default_store: str) -> int:
    """Write a document to a file."""
    parser = argparse.ArgumentParser(
        prog="patches-server export",
        description="Write a document with its history to a file, also while the server runs.",
    )
    _add_store(parser)
    parser.add_argument("doc_id", metavar="DOC")
    parser.add_argument("file", metavar="FILE", nargs="?", help="standard output without it")
    parser.add_argument(
        "--no-history", action="store_true", help="the state alone, without changes and versions"
    )
    options = parser.parse_args(argv)
    store = options.store or default_store
    if options.file is None:
        asyncio.run(_export(store, options.doc_id, not options.no_history, sys.stdout.buffer))
        return 0
    target = Path(options.file)
    # A file that could not be written whole must not look like one that was.
    partial = target.with_name(f".{target.name}.part")
    try:
        with partial.open("wb") as file:
            asyncio.run(_export(store, options.doc_id, not options.no_history, file))
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
    sys.stderr.write(f"{options.doc_id} is in {target}, {target.stat().st_size:,} bytes\n")
    return 0


def run_import(argv: Sequence[str], default_store: str) -> int:
    """Make a document of a file."""
    parser = argparse.ArgumentParser(
        prog="patches-server import",
        description="Make a document of a file that export wrote. Nothing is stored of a file "
        "that was cut or altered.",
    )
    _add_store(parser)
    parser.add_argument("file", metavar="FILE", help="- is standard input")
    parser.add_argument("--as", dest="doc_id", metavar="DOC", help="another id than that in it")
    parser.add_argument(
        "--restore",
        action="store_true",
        help="if the document exists, give it the exported state by an ordinary edit",
    )
    options = parser.parse_args(argv)
    with ExitStack() as stack:
        file: IO[bytes] = sys.stdin.buffer
        if options.file != "-":
            file = stack.enter_context(Path(options.file).open("rb"))
        store = options.store or default_store
        doc_id = asyncio.run(_import(store, file, options.doc_id, restores=options.restore))
    sys.stderr.write(f"{doc_id} is imported\n")
    return 0


def _add_store(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--store", metavar="URL", help="the server's store (the file in your data directory)"
    )


async def _export(store: str, doc_id: str, history: bool, file: IO[bytes]) -> None:
    async with create_server(store, auth=allow_all) as server:
        async for line in server.export(doc_id, history=history):
            file.write(line)
    file.flush()


async def _import(store: str, file: IO[bytes], doc_id: str | None, *, restores: bool) -> str:
    async with create_server(store, auth=allow_all) as server:
        return await server.import_doc(
            file, doc_id=doc_id, on_exists="restore" if restores else "error"
        )
