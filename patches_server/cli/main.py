"""The command `patches-server`: the server from a terminal."""

from __future__ import annotations

import argparse
import asyncio
import importlib
import logging
import os
import signal
import sqlite3
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import platformdirs
from aiohttp import web

from patches import __version__
from patches.algorithms.replay import Actions
from patches.errors import PatchesError
from patches.limits import Limits
from patches_server.auth.access import Auth, allow_all
from patches_server.auth.tokens import TokenAuth
from patches_server.cli.config import run_config, run_init_config, settings_for
from patches_server.cli.listening import UNIX, UsageError, listen
from patches_server.cli.logs import set_up_logs
from patches_server.cli.maintenance import COMMANDS
from patches_server.cli.tokens import close_revoked, default_tokens
from patches_server.collections import CollectionsServer
from patches_server.collections.algorithm import collections
from patches_server.documents.services import ServedAlgorithm
from patches_server.http.app import SERVER, create_app
from patches_server.replay.algorithm import replay
from patches_server.service.admission import checked_origins, is_loopback
from patches_server.service.router import parse_route
from patches_server.stores.url import sqlite_path, sqlite_url, without_password

_log = logging.getLogger("patches_server.cli.main")

#: For the interpreter's switch between threads.
SWITCH_INTERVAL_S: Final = 0.001
_OK: Final = 0
_FAILED: Final = 1
#: How long a peer may take to send a whole HTTP request, and be idle between two.
_REQUEST_TIMEOUT_S: Final = 10.0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; its exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments and arguments[0] in COMMANDS:
        try:
            return COMMANDS[arguments[0]](arguments[1:], default_store())
        except (PatchesError, OSError, sqlite3.Error) as exc:
            sys.stderr.write(f"patches-server {arguments[0]}: {exc}\n")
            return _FAILED
    try:
        if arguments and arguments[0] == "init-config":
            return run_init_config(_parser(), arguments[1:])
        if arguments and arguments[0] == "config":
            return run_config(_parser(), arguments[1:])
        given = arguments[1:] if arguments and arguments[0] == "serve" else arguments
        options, limits = settings_for(_parser(), given, os.environ)
    except (PatchesError, OSError) as exc:
        sys.stderr.write(f"patches-server: {exc}\n")
        return _FAILED
    quiet = logging.INFO if options.log_format else logging.WARNING
    set_up_logs(options.log_format or "text", level=logging.DEBUG if options.verbose else quiet)
    try:
        # The thread that writes a file gives way at every statement, and would then wait for its
        # turn for as long as the loop is busy, at most this long.
        sys.setswitchinterval(SWITCH_INTERVAL_S)
        return asyncio.run(_serve(options, limits))
    except (UsageError, PatchesError) as exc:
        sys.stderr.write(f"patches-server: {exc}\n")
        return _FAILED
    except KeyboardInterrupt:  # before the signal handlers were there
        return _OK


def default_store() -> str:
    """The URL of the store in the user's data directory."""
    return sqlite_url(Path(platformdirs.user_data_dir("patches")) / "server.db")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="patches-server",
        description="Serve collaborative JSON documents over websockets, at /ws.",
        epilog="Store URLs: memory:, sqlite:///relative/path.db, sqlite:////absolute/path.db, "
        "postgresql://user@host/database. "
        "Without --route, documents whose id starts with lww/ are LWW, all others OT; a document "
        "keeps the algorithm it was made with. More commands look after a store: "
        "patches-server backup FILE, doctor, export, import, migrate, new-epoch, token (see their "
        "--help). "
        "patches-server init-config writes a file of settings, config show prints those in effect.",
    )
    parser.add_argument(
        "--config",
        metavar="FILE",
        help="settings (patches-server.toml in this folder, if there is one); see init-config",
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        help="address to listen on, or unix:PATH for a unix socket (%(default)s)",
    )
    parser.add_argument(
        "--port", type=_port, default=8000, help="port, 0 for any free one (%(default)s)"
    )
    parser.add_argument(
        "--store", metavar="URL", help="where documents are kept (a file in your data directory)"
    )
    parser.add_argument(
        "--create-dirs",
        action="store_true",
        help="make the folder of the store if there is none",
    )
    parser.add_argument(
        "--route",
        metavar="PATTERN=ALGORITHM",
        dest="routes",
        type=_route,
        action="append",
        default=[],
        help="algorithm (ot, lww, replay) of new documents with such an id; * stands for "
        "anything; may be repeated, the first that matches counts; with --collections also "
        "collections",
    )
    parser.add_argument(
        "--actions",
        metavar="MODULE:NAME",
        help="the actions of replay documents, in your code, to be run here; without them whoever "
        "commits an action has run it, and is trusted with what it did",
    )
    parser.add_argument(
        "--collections",
        metavar="MODULE:NAME",
        help="a CollectionsServer in your code, with its engine and rules: serve such documents",
    )
    parser.add_argument(
        "--auth",
        metavar="CHOICE",
        help="who may do what: allow-all, tokens (see patches-server token), or MODULE:NAME of a "
        "provider in your code; needed on any address but this machine's own",
    )
    parser.add_argument(
        "--tokens",
        metavar="FILE",
        type=Path,
        default=default_tokens(),
        help="where the tokens of --auth tokens are kept (a file in your data directory)",
    )
    parser.add_argument(
        "--allow-origin",
        metavar="ORIGIN",
        dest="origins",
        type=_origin,
        action="append",
        default=[],
        help="let pages of this origin connect, beside the server's own; may be repeated",
    )
    parser.add_argument(
        "--durability",
        choices=("full", "relaxed"),
        default="full",
        help="relaxed commits faster, and may lose the newest commits when the machine loses power "
        "(%(default)s)",
    )
    parser.add_argument(
        "--bus",
        metavar="CHOICE",
        help="what carries hints between servers of one PostgreSQL database: postgres (the default "
        "there), redis://host:port, or none: the database is polled each second",
    )
    parser.add_argument(
        "--migrate",
        action="store_true",
        help="bring an older PostgreSQL schema up to date before serving",
    )
    parser.add_argument("--no-page", action="store_true", help="do not serve the page at /")
    parser.add_argument(
        "--no-relay", action="store_true", help="do not pass presence messages between connections"
    )
    parser.add_argument(
        "--metrics",
        action="store_true",
        help="serve figures for Prometheus at /metrics; needs the extra patches-sync[metrics]",
    )
    parser.add_argument(
        "--log-format",
        choices=("text", "json"),
        help="log life events too, as text or one JSON object a line; ids, never content",
    )
    parser.add_argument("-v", "--verbose", action="store_true", help="log what happens")
    return parser


def _port(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"a port is a number from 0 to 65535: {text!r}")
    return int(text)


def _route(text: str) -> tuple[str, str]:
    try:
        return parse_route(text)
    except PatchesError as exc:
        raise argparse.ArgumentTypeError(str(exc)) from None


def _origin(text: str) -> str:
    try:
        checked_origins(text)
    except PatchesError as exc:
        raise argparse.ArgumentTypeError(str(exc)) from None
    return text


def _auth(choice: str | None, host: str, tokens: Path) -> Auth:
    if choice == "allow-all":
        return allow_all
    if choice == "tokens":
        return TokenAuth(tokens)
    if choice is None:
        if is_loopback(host) or host.startswith(UNIX):
            return allow_all
        raise UsageError(
            f"{host} can be reached from other machines: say who may do what with "
            f"--auth MODULE:NAME, or --auth allow-all"
        )
    if ":" not in choice:
        raise UsageError(f"--auth takes allow-all, tokens or MODULE:NAME, not {choice!r}")
    found = _imported("--auth", choice)
    try:
        provider: Auth = found() if isinstance(found, type) else found
    except TypeError as exc:  # it wants arguments
        raise UsageError(f"--auth {choice}: {exc}; name one that is made already") from exc
    return provider


def _imported(option: str, choice: str) -> Any:
    module, colon, name = choice.partition(":")
    if not colon:
        raise UsageError(f"{option} takes MODULE:NAME, not {choice!r}")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as exc:
        raise UsageError(f"{option} {choice}: {exc}") from exc


def _algorithms(options: argparse.Namespace) -> list[ServedAlgorithm]:
    """Replay, if there are actions or a route, and collections, if there is a server of them."""
    found: list[ServedAlgorithm] = []
    if options.actions is not None:
        actions = _imported("--actions", options.actions)
        if not isinstance(actions, Actions):
            raise UsageError(
                f"--actions {options.actions}: expected patches.algorithms.replay.Actions"
            )
        found.append(replay(actions))
    elif any(algorithm == "replay" for _, algorithm in options.routes):
        found.append(replay())
    if options.collections is not None:
        documents = _imported("--collections", options.collections)
        if not isinstance(documents, CollectionsServer):
            raise UsageError(
                f"--collections {options.collections}: expected a "
                "patches_server.collections.CollectionsServer"
            )
        found.append(collections(documents))
    return found


async def _serve(options: argparse.Namespace, limits: Limits | None) -> int:
    auth = _auth(options.auth, options.host, options.tokens)
    store = default_store() if options.store is None else options.store
    app = create_app(
        store,
        auth=auth,
        routes=options.routes,
        limits=limits,
        algorithms=_algorithms(options),
        allowed_origins=options.origins,
        relay=not options.no_relay,
        page=not options.no_page,
        durability=options.durability,
        metrics=options.metrics,
        bus=options.bus,
        may_migrate=options.migrate,
    )
    stop = asyncio.Event()
    watching: asyncio.Task[None] | None = None
    _stop_on_signals(stop)
    runner = web.AppRunner(
        app,
        access_log=None,  # a query string may hold a token
        shutdown_timeout=5.0,
        keepalive_timeout=_REQUEST_TIMEOUT_S,
    )
    try:
        may_create = options.create_dirs or options.store is None
        await _start(runner, store, may_create=may_create)
        await listen(runner, options.host, options.port)
        _announce(runner, store, options, open_to_all=auth is allow_all)
        address = runner.addresses[0]
        port = address[1] if isinstance(address, tuple) else None
        _log.info("serving", extra={"host": options.host, "port": port})
        if isinstance(auth, TokenAuth):
            watching = asyncio.create_task(close_revoked(app[SERVER], auth))
        await stop.wait()
        _log.info("stopping")
    finally:
        if watching is not None:
            watching.cancel()
        await runner.cleanup()
    return _OK


def _stop_on_signals(stop: asyncio.Event) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        try:
            loop.add_signal_handler(number, stop.set)
        except NotImplementedError:  # Windows: Ctrl-C raises KeyboardInterrupt instead
            return


async def _start(runner: web.AppRunner, store: str, *, may_create: bool) -> None:
    try:
        path = sqlite_path(store)
        if path is not None:
            _check_folder(Path(path), may_create=may_create)
        await runner.setup()
    except OSError as exc:
        raise UsageError(
            f"cannot use the store {without_password(store)}: {exc.strerror or exc}"
        ) from exc


def _check_folder(file: Path, *, may_create: bool) -> None:
    if may_create:
        file.parent.mkdir(parents=True, exist_ok=True)
    elif not file.parent.is_dir():
        raise UsageError(
            f"cannot use the store {file}: there is no folder {file.parent}; --create-dirs makes it"
        )


def _announce(
    runner: web.AppRunner, store: str, options: argparse.Namespace, *, open_to_all: bool
) -> None:
    lines = [f"Patches server on {without_password(store)}"]
    if options.host.startswith(UNIX):
        lines.append(f"Clients connect to ws+unix://{Path(options.host[5:]).absolute()}:/ws")
    else:
        host, port = runner.addresses[0][:2]
        shown = f"[{host}]" if ":" in host else host
        if not options.no_page:
            lines.append(f"Open http://{shown}:{port}/ in two browser windows")
        lines.append(f"Clients connect to ws://{shown}:{port}/ws")
    if open_to_all:
        where = "everybody on this machine" if is_loopback(options.host) else "everybody"
        if options.host.startswith(UNIX):
            where = "everybody who may open the socket"
        lines.append(f"Nothing is protected: {where} may read and change everything")
    lines.append("Ctrl-C stops it")
    sys.stdout.write("\n".join(lines) + "\n")
    sys.stdout.flush()
