"""The command `patches-server token`: tokens for `--auth tokens`."""

from __future__ import annotations

import argparse
import asyncio
import logging
import re
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import platformdirs

from patches.errors import PatchesError
from patches.runtime import Millis, Runtime
from patches_server.auth.tokens import Rights, TokenAuth, TokenFile, parse_docs
from patches_server.service.server import PatchesServer

_log = logging.getLogger("patches_server.cli.tokens")

#: How soon a server notices that a token was revoked.
_LOOK_AGAIN_S: Final = 1.0
_UNITS: Final = {"m": 60, "h": 3_600, "d": 86_400}


def default_tokens() -> Path:
    """Where tokens are kept if nobody says: a file in the user's data directory."""
    return Path(platformdirs.user_data_dir("patches")) / "server-tokens.json"


async def close_revoked(server: PatchesServer, auth: TokenAuth) -> None:
    """Close the connections of tokens that are revoked while the server runs, until cancelled."""
    while True:
        await asyncio.sleep(_LOOK_AGAIN_S)
        try:
            gone = auth.refresh()
        except PatchesError as error:  # it cannot be read now: nobody gets more than before
            _log.warning("the tokens cannot be read: %s", error)
            continue
        for name in gone:
            server.revoke(principal=name)


def run_token(argv: Sequence[str], _default_store: str) -> int:
    """Make, list or revoke tokens."""
    parser = argparse.ArgumentParser(
        prog="patches-server token", description="Tokens for patches-server --auth tokens."
    )
    parser.add_argument(
        "--file", type=Path, default=default_tokens(), metavar="FILE",
        help="where they are kept (a file in your data directory)",
    )  # fmt: skip
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    create = commands.add_parser("create", help="make a token and print it, once")
    create.add_argument("name", metavar="NAME", help="who it is for: the id of its principal")
    create.add_argument(
        "--docs", type=_docs, action="append", required=True, metavar="PATTERN=RIGHTS",
        help="documents that it opens, r or rw; may be repeated, the first that matches counts",
    )  # fmt: skip
    create.add_argument(
        "--expires", type=_lifetime_s, default=_lifetime_s("90d"), metavar="TIME",
        help="how long it is good: 30m, 12h, 30d, or never (90d)",
    )  # fmt: skip
    commands.add_parser("list", help="list tokens; what they are is kept nowhere")
    revoke = commands.add_parser("revoke", help="forget a token: its connections are closed")
    revoke.add_argument("id", metavar="ID")
    options = parser.parse_args(argv)
    file = TokenFile(options.file)
    if options.command == "create":
        lifetime_s = options.expires
        expires_at = None if lifetime_s is None else Runtime().wall_ms() + lifetime_s * 1000
        token, secret = file.create(options.name, options.docs, expires_at=expires_at)
        sys.stderr.write(f"token {token.id} of {token.name}, good until {_day(expires_at)}:\n")
        sys.stdout.write(f"{secret}\n")
    elif options.command == "revoke":
        sys.stdout.write(f"token {options.id} of {file.revoke(options.id).name} is revoked\n")
    else:
        for each in file.read():
            docs = " ".join(f"{pattern}={rights}" for pattern, rights in each.docs)
            sys.stdout.write(f"{each.id}  {each.name}  until {_day(each.expires_at)}  {docs}\n")
    return 0


def _docs(text: str) -> tuple[str, Rights]:
    try:
        return parse_docs(text)
    except PatchesError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _lifetime_s(text: str) -> int | None:
    if text == "never":
        return None
    found = re.fullmatch(r"([1-9]\d{0,5})([mhd])", text)
    if found is None:
        raise argparse.ArgumentTypeError(f"a time is 30m, 12h, 30d or never, not {text!r}")
    return int(found[1]) * _UNITS[found[2]]


def _day(at_ms: Millis | None) -> str:
    if at_ms is None:
        return "it is revoked"
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M UTC")
